"""What rivals see: stale is missing, minutes are complete or not there, windows end at the newest reading."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.contenders.signals import (
    Periods,
    Signal,
    Sliding,
    arrivals,
    concurrency,
    fresh,
    of_a_full_instance,
    per_instance,
)
from scaling.observation import Reading
from scaling.policy import LoadUnit


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
    assert concurrency(desk.service(load={"unit": "gpu_utilization"}), pool) is None


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
        (Signal.CONCURRENCY, LoadUnit.GPU, 20.0),  # Little: 2 requests a second, each 10 s in service
        (Signal.REQUESTS, LoadUnit.CONCURRENCY, 2.0),
        (Signal.GPU, LoadUnit.CONCURRENCY, 100.0),
    ],
)
def test_a_full_instance_in_each_signal(desk: Any, signal: Signal, unit: LoadUnit, full: float) -> None:
    assert of_a_full_instance(desk.pool(), signal, unit) == full


def test_a_period_is_the_mean_of_its_readings_and_counts_when_it_is_over() -> None:
    minutes = Periods(60.0)
    for at, value in ((70.0, 1.0), (80.0, 2.0), (110.0, 6.0)):
        minutes.see(Reading(value, at))
    assert minutes.newest(1) is None  # (60, 120] is still open
    minutes.see(Reading(3.0, 120.0))
    assert minutes.newest(1) == (Reading(3.0, 120.0),)  # (1 + 2 + 6 + 3) / 4
    minutes.see(Reading(9.0, 130.0))
    assert minutes.newest(1) == (Reading(3.0, 120.0),)
    minutes.see(Reading(9.0, 190.0))  # closes (120, 180]
    assert minutes.newest(2) == (Reading(3.0, 120.0), Reading(9.0, 180.0))


def test_a_gap_is_not_enough_data_and_a_repeated_reading_is_one() -> None:
    minutes = Periods(60.0)
    for at in (60.0, 60.0, 120.0, 240.0):
        minutes.see(Reading(1.0, at))
    assert minutes.newest(2) is None  # 120 and 240: the minute between is missing
    minutes.see(Reading(1.0, 300.0))
    assert minutes.newest(2) is not None
    assert minutes.newest(3) is None


def test_a_window_ends_at_the_newest_reading_however_late_that_is() -> None:
    window = Sliding(60.0)
    assert window.mean() is None
    for at, value in ((0.0, 1.0), (30.0, 2.0), (60.0, 6.0)):
        window.see(Reading(value, at))
    assert window.mean() == 4.0  # (0, 60]: 2 and 6; the one at 0 is out
    assert window.mean(6.0) == 6.0


@given(st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 100)), max_size=30))
def test_a_window_lies_within_what_was_seen_and_old_readings_change_nothing(points: list[tuple[float, float]]) -> None:
    window, seen, newest = Sliding(60.0), [], -1.0
    for at, value in points:
        window.see(Reading(value, at))
        if at > newest:
            newest = at
            seen.append(value)
    mean = window.mean()
    assert (mean is None) == (not seen)
    if mean is not None:
        assert min(seen) - 1e-9 <= mean <= max(seen) + 1e-9
