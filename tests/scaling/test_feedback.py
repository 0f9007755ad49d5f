"""What head-room may miss, corrected by the share of requests that the engines measured as late."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling import feedback
from gpu_fleet.scaling.feedback import LEAST, LONGEST_SECONDS, MOST, RATE, RESERVE
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import FeedbackMemory

START, MAY_FAIL = 0.0025, 0.005
TARGET = RESERVE * MAY_FAIL


def corrected(memory, late, at, weight=1.0):
    return feedback.correct(memory, START, MAY_FAIL, Reading(late, at), weight)


def known(allowance, at=60.0):
    return FeedbackMemory(allowance, at)


def test_it_begins_with_what_the_policy_lets_forecasts_miss():
    assert feedback.correct(FeedbackMemory(), START, MAY_FAIL, None, 1.0).allowance == START


def test_minutes_without_anything_late_let_head_room_miss_more():
    assert corrected(known(0.01), 0.0, 120.0).allowance == pytest.approx(0.01 * math.exp(RATE), rel=1e-4)


def test_a_late_minute_takes_it_back_by_how_far_it_is_over_the_target():
    """A tenth of the minute was late, 25 times the target: 24 good minutes are gone."""
    assert corrected(known(0.01), 0.1, 120.0).allowance == pytest.approx(0.01 * math.exp(-24 * RATE), rel=1e-3)


def test_one_minute_never_takes_more_than_a_fifth():
    assert corrected(known(0.01), 1.0, 120.0, weight=3.0).allowance == pytest.approx(0.01 * math.exp(-0.2), rel=1e-4)


def test_a_minute_counts_by_its_demand_over_the_mean_at_most_threefold():
    light, heavy, heaviest = (corrected(known(0.01), 0.02, 120.0, weight).allowance for weight in (0.5, 3.0, 30.0))
    assert light > heavy == heaviest


def test_a_minute_is_learnt_from_once():
    once = corrected(known(0.01), 0.1, 120.0)
    assert corrected(once, 0.1, 120.0) == once


def test_without_a_measure_nothing_moves():
    assert feedback.correct(known(0.01), START, MAY_FAIL, None, 1.0) == known(0.01)


def test_time_counts_and_not_the_number_of_evaluations():
    """Twelve measures of 10 s move it as far as two of a minute."""
    fine = coarse = known(0.01, 0.0001)
    for at in range(10, 130, 10):
        fine = corrected(fine, 0.0, float(at))
    for at in (60.0, 120.0):
        coarse = corrected(coarse, 0.0, at)
    assert fine.allowance == pytest.approx(coarse.allowance, rel=1e-3)


def test_after_a_gap_the_newest_measure_speaks_for_three_minutes_at_most():
    day_later = corrected(known(0.01), 0.0, 86400.0)
    assert day_later.allowance == pytest.approx(0.01 * math.exp(RATE * LONGEST_SECONDS / 60), rel=1e-4)


def test_in_the_long_run_the_share_that_is_late_is_the_target():
    """A service that misses a third of what its head-room may miss."""
    memory, late = FeedbackMemory(), []
    for minute in range(20_000):
        late.append((memory.allowance or START) / 3)
        memory = corrected(memory, late[-1], 60.0 * (minute + 1))
    assert sum(late[5000:]) / len(late[5000:]) == pytest.approx(TARGET, rel=0.02)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 50)), max_size=200))
def test_it_stays_within_its_bounds(minutes):
    memory = FeedbackMemory()
    for i, (late, weight) in enumerate(minutes):
        memory = corrected(memory, late, 60.0 * (i + 1), weight)
        assert LEAST <= memory.allowance <= MOST
