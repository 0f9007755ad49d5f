"""The share that forecasts may miss, corrected by what became of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.feedback import LEAST, MOST, RATE, correct
from scaling.state import Point, State

TARGET = 0.0025
STEADY = State(series=(Point(0, 10.0),))


def test_a_missed_minute_makes_the_model_more_careful():
    after = correct(STEADY, TARGET, 10.0, 9.0, fresh=True)
    assert after.allowance == pytest.approx(LEAST)
    loose = State(series=STEADY.series, allowance=0.02)
    assert correct(loose, TARGET, 10.0, 9.0, fresh=True).allowance == pytest.approx(
        0.02 + RATE * (TARGET - 1), abs=1e-5
    )


def test_minutes_that_were_carried_let_it_go_on_with_less():
    state = STEADY
    for _ in range(1000):
        state = correct(state, TARGET, 10.0, 20.0, fresh=True)
    assert state.allowance > 2 * TARGET


def test_old_data_corrects_nothing():
    assert correct(STEADY, TARGET, 10.0, 1.0, fresh=False).allowance == TARGET


def test_in_the_long_run_the_share_missed_is_the_target():
    """A world that misses in proportion to the allowance: the rule settles where what is missed is what may be."""
    state, missed, debt = STEADY, 0, 0.0
    for _ in range(20000):
        debt += 0.3 * (state.allowance or TARGET)  # real misses are three in ten of those allowed
        miss = debt >= 1
        debt -= miss
        missed += miss
        state = correct(state, TARGET, 10.0, 9.0 if miss else 20.0, fresh=True)
    assert missed / 20000 == pytest.approx(TARGET, rel=0.25)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=50))
def test_the_allowance_stays_within_its_bounds(world):
    state = STEADY
    for asked, ready in world:
        state = correct(state, TARGET, asked, ready, fresh=True)
        assert LEAST <= state.allowance <= MOST


def moved(state, asked, ready):
    return correct(state, TARGET, asked, ready, fresh=True).allowance


def test_a_missed_minute_counts_by_its_demand_over_the_mean_of_the_series():
    """10 rps where 20 is the mean are half a minute missed."""
    uneven = State(series=(Point(0, 5.0), Point(60, 15.0), Point(120, 40.0)), allowance=0.02)
    assert moved(uneven, 10.0, 9.0) == pytest.approx(0.02 + RATE * (TARGET - 0.5), abs=1e-6)


def test_one_minute_counts_for_three_at_most():
    loose = State(series=STEADY.series, allowance=MOST)
    assert moved(loose, 100.0, 9.0) == pytest.approx(MOST + RATE * (TARGET - 3), abs=1e-6)


def test_capacity_that_just_carried_the_demand_missed_nothing():
    assert moved(STEADY, 10.0, 10.0) > TARGET


def test_the_first_value_of_all_is_its_own_mean():
    assert moved(State(allowance=0.02), 10.0, 9.0) == pytest.approx(0.02 + RATE * (TARGET - 1), abs=1e-6)


def test_hours_of_nothing_leave_no_mean_to_count_a_miss_by():
    silent = State(series=(Point(0, 0.0), Point(60, 0.0)), allowance=0.02)
    assert moved(silent, 1.0, 0.0) == pytest.approx(0.02 + RATE * TARGET, abs=1e-6)


def test_a_service_of_less_than_a_request_a_second_misses_like_any_other():
    small = State(series=(Point(0, 0.5),), allowance=0.02)
    assert moved(small, 0.5, 0.0) == pytest.approx(0.02 + RATE * (TARGET - 1), abs=1e-6)
