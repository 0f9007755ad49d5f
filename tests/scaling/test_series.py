"""What series of readings say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling import series as series_of
from gpu_fleet.scaling.observation import Reading

MINUTE = 1_000_000_020.0
"""The end of a minute."""


def series(*values: float, end: float = MINUTE, step: float = 60) -> tuple[Reading, ...]:
    """Readings that end at `end`, the last value newest."""
    return tuple(Reading(v, end - step * (len(values) - 1 - i)) for i, v in enumerate(values))


def test_no_requests_under_a_live_heartbeat_are_zero():
    assert series_of.rates((), series(2)) == series(0)


def test_no_requests_and_no_heartbeat_are_unknown():
    assert series_of.rates((), ()) == ()


def test_requests_without_a_heartbeat_count():
    assert series_of.rates(series(120), ()) == series(2)


def test_each_minute_is_zero_missing_or_counted_by_itself():
    count = (Reading(60, MINUTE - 120),)
    heartbeat = (Reading(1, MINUTE - 120), Reading(1, MINUTE))
    assert series_of.rates(count, heartbeat) == (Reading(1, MINUTE - 120), Reading(0, MINUTE))


def test_an_old_value_is_missing():
    assert series_of.newest(series(5), oldest=MINUTE + 1) is None
    assert series_of.newest(series(5), oldest=MINUTE) == Reading(5, MINUTE)


def test_a_minute_that_just_ended_does_not_look_like_a_fall():
    # 10 rps, then 3.3 because two of three load balancer nodes have not reported yet.
    assert series_of.settled(series(10, 3.3), now=MINUTE + 20, oldest=0) == Reading(10, MINUTE - 60)


def test_a_fall_is_believed_once_its_minute_has_settled():
    assert series_of.settled(series(10, 3.3), now=MINUTE + 60, oldest=0) == Reading(3.3, MINUTE)


def test_a_rise_is_believed_at_once():
    assert series_of.settled(series(10, 30), now=MINUTE + 1, oldest=0) == Reading(30, MINUTE)


def test_a_lone_minute_that_just_ended_speaks():
    assert series_of.settled(series(4), now=MINUTE + 1, oldest=0) == Reading(4, MINUTE)


def test_a_minute_further_back_does_not_stand_in_for_an_unsettled_one():
    gap = (Reading(10, MINUTE - 180), Reading(3, MINUTE))
    assert series_of.settled(gap, now=MINUTE + 1, oldest=0) == Reading(3, MINUTE)


def test_a_stale_minute_does_not_stand_in_for_an_unsettled_one():
    assert series_of.settled(series(10, 3), now=MINUTE + 1, oldest=MINUTE - 30) == Reading(3, MINUTE)


def test_a_sum_over_pools_knows_only_what_all_know():
    assert series_of.total([series(1, 2), series(10)]) == series(12)
    assert series_of.total([series(1, 2), ()]) == ()
    assert series_of.total([]) == ()


def test_a_history_adds_up_what_is_known():
    assert series_of.sum_of_known([series(1, 2), series(10)]) == series(1, 12)


def test_the_newest_minute_of_a_fine_series_is_averaged():
    fine = series(100, 1, 2, 3, 4, 5, 6, step=10)
    assert series_of.last_minute(fine, oldest=0) == Reading(3.5, MINUTE)
    assert series_of.last_minute(fine, oldest=MINUTE + 1) is None
    assert series_of.last_minute((), oldest=0) is None


def test_a_share_is_the_sum_over_the_sum():
    """1 late of 10 and 0 of 90 are 1 %, not the mean of 10 % and 0."""
    few, many = (series(10), series(1)), (series(90), series(0))
    assert series_of.minute_share([few, many], oldest=0) == Reading(0.01, MINUTE)


def test_a_share_is_of_the_newest_minute():
    whole, part = series(100, *[10] * 6, step=10), series(100, 0, 0, 1, 2, 0, 0, step=10)
    assert series_of.minute_share([(whole, part)], oldest=MINUTE) == Reading(0.05, MINUTE)
    assert series_of.minute_share([(whole, part)], oldest=MINUTE + 1) is None


def test_a_share_needs_both_counts():
    """A count that is missing is not zero: the period is left out, and the one before speaks."""
    assert series_of.minute_share([(series(10), ())], oldest=0) is None
    assert series_of.minute_share([((), ())], oldest=0) is None
    assert series_of.minute_share([], oldest=0) is None
    assert series_of.minute_share([(series(10, 10), series(2, end=MINUTE - 60))], 0) == Reading(0.2, MINUTE - 60)
    assert series_of.minute_share([(series(10), ()), (series(10), series(1))], 0) == Reading(0.1, MINUTE)


def test_of_nothing_there_is_no_share():
    assert series_of.minute_share([(series(0), series(0))], oldest=0) is None
    # Late first tokens are counted before their requests end.
    assert series_of.minute_share([(series(2), series(3))], oldest=0) == Reading(1.0, MINUTE)


def test_a_burst_is_what_piles_up():
    # 10 rps ended while 60 more came in within 10 s than went out: 16 rps.
    assert series_of.burst(Reading(10, MINUTE), series(300, 360, step=10), oldest=0) == Reading(16, MINUTE)


def test_what_ended_in_those_ten_seconds_goes_before_the_minutes_mean():
    # 7 rps ended and 30 more are in flight: 10 rps came, whatever the minute before had.
    finished = series(9, 7, step=10)
    assert series_of.burst(Reading(12, MINUTE), series(300, 330, step=10), 0, finished) == Reading(10, MINUTE)
    assert series_of.burst(None, series(300, 330, step=10), 0, finished) == Reading(10, MINUTE)


def test_what_ended_earlier_does_not_stand_for_the_newest_ten_seconds():
    finished = series(9, 7, step=10, end=MINUTE - 10)
    assert series_of.burst(Reading(12, MINUTE), series(300, 330, step=10), 0, finished) == Reading(15, MINUTE)


def test_a_queue_that_empties_is_a_lull_and_never_negative():
    assert series_of.burst(Reading(10, MINUTE), series(300, 250, step=10), oldest=0) == Reading(5, MINUTE)
    assert series_of.burst(Reading(10, MINUTE), series(300, 100, step=10), oldest=0) == Reading(0, MINUTE)


@pytest.mark.parametrize(
    ("arrivals", "in_flight"),
    [
        (None, series(300, 360, step=10)),
        (Reading(10, MINUTE), ()),
        (Reading(10, MINUTE), series(300, step=10)),
        (Reading(10, MINUTE), series(300, 360, step=30)),
        (Reading(10, MINUTE), series(300, 360, step=10, end=MINUTE - 500)),
    ],
)
def test_without_fresh_fine_data_no_burst_is_known(arrivals, in_flight):
    assert series_of.burst(arrivals, in_flight, oldest=MINUTE - 180) is None


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=8),
    st.floats(0, 300),
)
def test_a_settled_rate_is_one_that_was_read_and_never_below_the_newest(values, age):
    readings = series(*values)
    now = MINUTE + age
    settled = series_of.settled(readings, now, oldest=now - 180)
    assert (settled is None) == (age > 180)
    if settled is not None:
        assert settled in readings[-2:]
        assert settled.value >= readings[-1].value
