"""The shipped stack whose types change in place, in the demo: replayed, reported and drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_fleet.replay.demo import DemoOptions, DemoResult, play, prepare
from gpu_fleet.replay.demo_traffic import TrafficOptions
from gpu_fleet.reports.demo_page import demo_page, instances_chart, opening_sentence, static_name, summary
from gpu_fleet.reports.demo_picture import demo_picture

SMALL, LARGE = "g6.xlarge", "g6e.xlarge"
OPTIONS = DemoOptions("vertical", traffic=TrafficOptions(minutes=16), boot_seconds=60)


@pytest.fixture(scope="module")
def result(root: Path, small_package: None) -> DemoResult:
    """The first minutes of the generated hour, with boots of a minute."""
    return play(prepare(root, OPTIONS))


def test_large_instances_take_the_place_of_small_ones_and_no_request_is_lost(result: DemoResult) -> None:
    ours = result.replay
    types = [dict(minute.pools["gpu"].ready_by_type) for minute in ours.minutes]
    assert set(types[0]) == {SMALL}
    assert set(types[-1]) == {LARGE}
    assert (ours.lost, ours.rejected, ours.failures) == (0, 0, ())
    (change,) = ours.type_changes
    assert (change.pool, change.types, change.status) == ("gpu", (LARGE, "g6e.2xlarge"), "Successful")
    assert change.ended is not None
    assert 60 <= change.began < change.ended < ours.span_seconds
    assert "vertical.refresh" in ours.codes


def test_each_minutes_capacity_and_cost_are_those_of_its_types(result: DemoResult) -> None:
    (pool,) = result.plan.service.pools
    (large,) = pool.alternatives
    first, last = result.replay.minutes[0], result.replay.minutes[-1]
    assert first.capacity_rps == pytest.approx(first.pools["gpu"].ready * pool.throughput_rps)
    assert last.capacity_rps == pytest.approx(last.pools["gpu"].ready * large.throughput_rps)
    assert first.usd_per_hour == pytest.approx(first.pools["gpu"].ready * pool.on_demand_usd_per_hour)
    running = last.pools["gpu"].ready + last.pools["gpu"].starting + last.pools["gpu"].draining
    assert last.usd_per_hour == pytest.approx(running * large.on_demand_usd_per_hour)


def test_the_report_shows_types_and_the_refresh(result: DemoResult) -> None:
    chart = instances_chart(result)
    assert "by type" in chart.title
    drawn = str(chart.spec)
    assert f"refresh to {LARGE}" in drawn
    assert all(type_ in drawn for type_ in (SMALL, LARGE))
    text = summary(result)
    assert f"an instance refresh began to bring {LARGE}/g6e.2xlarge into gpu; after" in text
    assert text in demo_page(result)
    assert f" {SMALL}; an instance takes 60 s" in opening_sentence(result.plan)


def test_the_static_fleet_is_of_the_types_that_cost_least(result: DemoResult) -> None:
    (pool,) = result.plan.service.pools
    (large,) = pool.alternatives
    static = result.static
    assert static_name(result) == f"static peak, {static.count} {LARGE}"
    assert static.count * large.throughput_rps * 0.8 >= result.plan.traffic.peak_rps
    hours = result.plan.traffic.trace.span_seconds / 3600
    assert static.cost_usd == pytest.approx(static.count * large.on_demand_usd_per_hour * hours)


def test_the_picture_shows_types_and_the_refresh(result: DemoResult) -> None:
    svg = demo_picture(result, ".svg").decode()
    assert f"refresh to {LARGE}" in svg
    assert svg.count(f">{LARGE}<") == 1
