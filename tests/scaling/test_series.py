"""What series of readings say."""

from __future__ import annotations

import numpy as np
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


def fine(*values: float, end: float = MINUTE) -> tuple[Reading, ...]:
    return series(*values, end=end, step=10)


def arrived(in_flight, finished, publishers):
    """What arrived at the engines, by 10 s, where nothing waits."""
    waiting = tuple(Reading(0.0, reading.at) for reading in in_flight)
    return series_of.engine_arrivals(in_flight, waiting, finished, publishers)


def test_what_arrives_is_what_ends_plus_what_piles_up():
    # 7 rps ended and 30 more are in flight: 10 rps came.
    assert arrived(fine(300, 330), fine(9, 7), fine(4, 4)) == fine(10)
    assert arrived(fine(300, 250), fine(9, 5), fine(4, 4)) == fine(0)


@pytest.mark.parametrize("publishers", [(4, 5), (5, 4), ()])
def test_an_instance_that_has_joined_or_left_does_not_pass_for_requests(publishers):
    assert arrived(fine(300, 360), fine(9, 9), fine(*publishers)) == ()


def test_what_arrived_is_unknown_where_the_engines_do_not_tell_what_ended():
    assert arrived(fine(300, 360), (), fine(4, 4)) == ()
    assert arrived(fine(300, 360), fine(9, 7, end=MINUTE - 10), fine(4, 4)) == ()


def test_one_period_may_be_missing_between_two_counts_and_no_more():
    assert arrived(series(300, 360, step=20), fine(7), series(4, 4, step=20)) == fine(10)
    assert arrived(series(300, 360, step=30), fine(7), series(4, 4, step=30)) == ()


@given(st.lists(st.integers(0, 500), min_size=8, max_size=8), st.integers(0, 500), st.integers(1, 9))
def test_over_a_minute_the_engines_count_just_what_arrived(came, before, publishers):
    """Whatever ends when: 10 seconds of arrivals, and a third of what is in flight ends in each period."""
    in_flight, finished = [float(before)], [0.0]
    for count in came:
        ended = (in_flight[-1] + count) // 3
        in_flight.append(in_flight[-1] + count - ended)
        finished.append(ended / 10)
    found = arrived(fine(*in_flight), fine(*finished), fine(*[publishers] * 9))
    assert [reading.value for reading in found] == pytest.approx([count / 10 for count in came])
    minute = series_of.minute_of([found, found], MINUTE)
    assert minute is not None
    assert minute.value == pytest.approx(2 * sum(came[-6:]) / 60)


def test_a_minute_is_known_by_half_of_its_periods():
    assert series_of.minute_of([fine(1, 2, 3)], MINUTE) == Reading(2, MINUTE)
    assert series_of.minute_of([fine(1, 2)], MINUTE) is None
    assert series_of.minute_of([fine(1, 2, 3), fine(7, 8)], MINUTE) is None
    assert series_of.minute_of([fine(9, 9, 9, 1, 2, 3, 9, 9, end=MINUTE + 20)], MINUTE) == Reading(5.5, MINUTE)
    assert series_of.minute_of([], MINUTE) is None


def test_dispersion_is_the_unbiased_variance_over_the_mean():
    # counts of 80, 100 and 120: variance 400 over n - 1
    assert series_of.dispersion(fine(8, 10, 12), MINUTE) == Reading(4, MINUTE)
    assert series_of.dispersion(fine(10, 12), MINUTE) is None
    assert series_of.dispersion(fine(0.05, 0.1, 0.1), MINUTE) is None


def test_poisson_arrivals_have_a_dispersion_of_one_on_average():
    random = np.random.default_rng(5)
    found = [series_of.dispersion(fine(*random.poisson(80, 6) / 10), MINUTE) for _ in range(3000)]
    mean = sum(reading.value for reading in found if reading) / len(found)
    assert mean == pytest.approx(1.0, abs=4 * (2 / 5 / 3000) ** 0.5)


def test_ten_seconds_that_some_have_not_reported_wait():
    ten = fine(10, 10, 10, 10, 4)
    assert series_of.complete_until(ten, MINUTE + 5) == MINUTE - 10
    assert series_of.complete_until(ten, MINUTE + 30) == MINUTE
    assert series_of.complete_until(fine(10, 10, 10, 11, 12), MINUTE + 5) == MINUTE


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
