"""Chart builders as functions: what of the data is in the chart."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from gpu_fleet.reports import charts


def rows(chart, layer: int = 0) -> list[dict]:
    """The values that a layer draws; altair puts equal data where all layers find it."""
    spec = chart.spec
    name = (spec["layer"][layer].get("data") or spec["data"]).get("name")
    data = spec["layer"][layer].get("data") or spec["data"]
    return spec["datasets"][name] if name else data["values"]


def size(chart) -> int:
    return len(json.dumps(chart.spec))


def test_a_move_between_pools_is_kept_though_the_total_stays():
    at = np.arange(20_160) * 60.0
    moved = (at >= 7777 * 60) & (at < 7787 * 60)
    frame = {
        "at_seconds": np.repeat(at, 2),
        "pool": ["a", "b"] * len(at),
        "ready": np.column_stack([np.where(moved, 0, 1), np.where(moved, 1, 0)]).ravel(),
        "desired": np.ones(2 * len(at)),
    }
    drawn = pl.DataFrame(rows(charts.pools(frame)))
    times = set(drawn["at"].to_list())
    assert {0, 7776 * 60_000, 7777 * 60_000, 7786 * 60_000, 7787 * 60_000, 20_159 * 60_000} == times
    assert len(drawn) == 2 * len(times)


def test_two_weeks_of_minutes_stay_a_small_chart_and_keep_their_peak():
    random = np.random.default_rng(1)
    at = np.arange(20_160) * 60.0
    demand = random.random(len(at)) * 10
    demand[12_345] = 99.0
    chart = charts.demand_and_capacity({"at_seconds": at, "demand": demand, "capacity": demand + 1})
    assert size(chart) < 250_000
    assert max(row["demand"] for row in rows(chart)) == 99


def test_weights_that_never_change_are_drawn_by_their_ends():
    frame = {"at_seconds": np.repeat(np.arange(1000.0), 2), "pool": ["a", "b"] * 1000, "weight": [70, 30] * 1000}
    assert len(rows(charts.weights(frame))) == 4


def test_a_missing_latency_stays_missing():
    chart = charts.latency({"at_seconds": [0.0, 60, 120], "ttft_seconds": [0.5, None, 0.7]}, 1.0, log=False)
    assert [row["ttft_seconds"] for row in rows(chart)] == [0.5, None, 0.7]


def test_frames_and_mappings_draw_the_same():
    data = {"at_seconds": [0.0, 60.0], "rps": [1.0, 2.0]}
    assert charts.rate(data).spec == charts.rate(pl.DataFrame(data)).spec


@pytest.mark.parametrize(("first", "is_date"), [(0.0, False), (1_780_000_000.0, True)])
def test_times_since_the_epoch_read_as_dates_and_others_from_the_start(first, is_date):
    at = first + np.arange(10) * 60
    text = json.dumps(charts.rate({"at_seconds": at, "rps": np.ones(10)}).spec)
    assert ("%Y-%m-%d" in text) is is_date
