"""What rivals see: stale is missing, an alarm counts each minute once and no gap."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.backtest.rivals.rival_signals import (
    Periods,
    ReadyHistory,
    Signal,
    arrivals,
    concurrency,
    fresh,
    of_a_full_instance,
    per_instance,
)
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import LoadUnit


def test_a_stale_reading_is_missing_and_not_the_last_known_value(desk: Any) -> None:
    service = desk.service()
    assert fresh(service, Reading(5.0, 0.0), 180.0) == Reading(5.0, 0.0)  # stale after 180 s by default
    assert fresh(service, Reading(5.0, 0.0), 181.0) is None
    assert fresh(service, None, 0.0) is None


def test_concurrency_counts_what_waits_and_is_as_old_as_its_older_half(desk: Any) -> None:
    pool = desk.seen(100.0, running=6.0, waiting=2.0).pools["l40s"]
    assert concurrency(desk.service(), pool) == Reading(8.0, 100.0)


def test_concurrency_falls_back_to_the_load_only_where_load_is_counted_in_requests(desk: Any) -> None:
    pool = desk.seen(100.0, load=Reading(7.0, 90.0)).pools["l40s"]
    assert concurrency(desk.service(), pool) == Reading(7.0, 90.0)
    assert concurrency(desk.service(load={"unit": "requests_per_second"}), pool) is None


def test_the_mean_per_instance_needs_an_instance(desk: Any) -> None:
    service = desk.service()
    seen = desk.seen(0.0, ready=4, starting=3, running=20.0).pools["l40s"]
    assert per_instance(service, seen, Signal.CONCURRENCY) == Reading(5.0, 0.0)  # 20 over 4 ready, not over 7
    assert per_instance(service, desk.seen(0.0, ready=0, running=20.0).pools["l40s"], Signal.CONCURRENCY) is None
    assert per_instance(service, desk.seen(0.0, ready=2).pools["l40s"], Signal.REQUESTS) is None


def test_arrivals_are_the_services_before_the_pools(desk: Any) -> None:
    seen = desk.seen(0.0, rate=4.0)
    assert arrivals(seen, seen.pools["l40s"]) == Reading(4.0, 0.0)


@pytest.mark.parametrize(
    ("signal", "unit", "full"),
    [
        (Signal.CONCURRENCY, LoadUnit.CONCURRENCY, 10.0),
        (Signal.CONCURRENCY, LoadUnit.REQUESTS, 20.0),  # Little: 2 requests a second, each 10 s in service
        (Signal.REQUESTS, LoadUnit.CONCURRENCY, 2.0),
        (Signal.GPU, LoadUnit.CONCURRENCY, 100.0),
    ],
)
def test_a_full_instance_in_each_signal(desk: Any, signal: Signal, unit: LoadUnit, full: float) -> None:
    assert of_a_full_instance(desk.pool(), signal, unit) == full


def test_a_total_is_of_those_that_were_ready_when_it_was_measured(desk: Any) -> None:
    then = ReadyHistory()
    few, many = desk.seen(0.0, ready=6).pools["l40s"], desk.seen(200.0, ready=40).pools["l40s"]
    then.see(few, 0.0)
    then.see(many, 200.0)
    # A mean of 100, times the 40 of now. Its minute's middle is 190: 6 were ready then, and 40 from 200 on.
    assert then.total(many, Reading(4000.0, 220.0)) == Reading(600.0, 220.0)
    assert then.total(many, Reading(4000.0, 230.0)) == Reading(4000.0, 230.0)
    assert then.total(many, Reading(4000.0, -500.0)) == Reading(600.0, -500.0)
    assert then.total(many, None) is None
    assert then.total(desk.seen(300.0, ready=0).pools["l40s"], Reading(4000.0, 300.0)) is None


def test_a_minute_counts_once_however_often_it_is_read() -> None:
    minutes = Periods(60.0)
    for at in range(10, 190, 10):  # sliding minutes, each 10 s: those that end at 10, 70 and 130 do not overlap
        minutes.see(Reading(float(at), float(at)))
    points = minutes.newest(3)
    assert points is not None
    assert [point.at for point in points] == [10.0, 70.0, 130.0]
    assert minutes.newest(4) is None


def test_a_gap_is_not_enough_data() -> None:
    minutes = Periods(60.0)
    for at in (60.0, 120.0, 240.0):
        minutes.see(Reading(1.0, at))
    assert minutes.newest(2) is None  # 120 and 240: the minute between is missing
    minutes.see(Reading(1.0, 300.0))
    minutes.see(None)
    assert minutes.newest(2) is not None
    assert minutes.newest(3) is None


@settings(deadline=None)
@given(st.lists(st.floats(0, 2000), max_size=60).map(sorted), st.integers(1, 15))
def test_periods_never_overlap_and_never_skip_one(times: list[float], count: int) -> None:
    minutes = Periods(60.0)
    for at in times:
        minutes.see(Reading(1.0, at))
    points = minutes.newest(count)
    if points is not None:
        assert len(points) == count
        assert all(b.at - a.at >= 59.0 for a, b in itertools.pairwise(points))
        assert points[-1].at - points[0].at < 60.0 * (count - 0.5)
