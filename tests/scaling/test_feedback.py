"""The share that forecasts may miss, corrected by what became of it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling import feedback
from gpu_fleet.scaling.feedback import LEAST, MOST, RATE, late_share
from gpu_fleet.scaling.state import Point, State
from tests.scaling.builders import remembered

TARGET = 0.0025
STEADY = remembered(series=(Point(0, 10.0),))


def note(state, asked, late):
    mean = state.forecast.mean_rps(otherwise=asked)
    return replace(state, feedback=feedback.note(state.feedback, asked, mean, late))


def correct(state, target, *, young):
    return replace(state, feedback=feedback.correct(state.feedback, target, young=young))


def after(state, asked, late, young=False):
    """The state once the minute has been learnt from."""
    return correct(note(state, asked, late), TARGET, young=young)


def moved(state, asked, late, young=False):
    return after(state, asked, late, young).feedback.allowance


def with_allowance(allowance, *rps):
    return remembered(series=tuple(Point(60 * i, value) for i, value in enumerate(rps)), allowance=allowance)


def test_a_late_minute_makes_the_model_more_careful():
    assert moved(STEADY, 10.0, 1.0) == pytest.approx(LEAST)
    assert moved(with_allowance(0.02, 10.0), 10.0, 1.0) == pytest.approx(0.02 + RATE * (TARGET - 1), abs=1e-6)


def test_a_target_below_the_least_is_kept_to():
    assert correct(remembered(allowance=0.0005, late=1.0), 0.0005, young=False).feedback.allowance == 0.0005


def test_a_minute_that_is_late_in_part_counts_in_part():
    assert moved(with_allowance(0.02, 10.0), 10.0, 0.25) == pytest.approx(0.02 + RATE * (TARGET - 0.25), abs=1e-6)


def test_minutes_that_were_carried_let_it_go_on_with_less():
    state = STEADY
    for _ in range(1000):
        state = after(state, 10.0, 0.0)
    assert state.feedback.allowance > 2 * TARGET


def test_a_minute_is_learnt_from_once():
    once = after(STEADY, 10.0, 0.0)
    assert once.feedback.allowance == pytest.approx(TARGET + RATE * TARGET, abs=1e-6)
    assert correct(once, TARGET, young=False) == once


def test_a_service_without_a_minute_begins_at_the_target():
    assert correct(State(), TARGET, young=True).feedback.allowance == TARGET


def test_calm_hours_of_a_young_service_do_not_make_it_careless():
    state = STEADY
    for _ in range(1000):
        state = after(state, 10.0, 0.0, young=True)
    assert state.feedback.allowance == TARGET
    assert moved(state, 10.0, 1.0, young=True) == pytest.approx(LEAST)


def test_in_the_long_run_the_share_that_is_late_is_the_target():
    """A world that is late in proportion to the allowance: the rule settles where what is late is what may be."""
    state, minutes, debt = STEADY, 0, 0.0
    for _ in range(20000):
        debt += 0.3 * (state.feedback.allowance or TARGET)  # real misses are three in ten of those allowed
        late = debt >= 1
        debt -= late
        minutes += late
        state = after(state, 10.0, float(late))
    assert minutes / 20000 == pytest.approx(TARGET, rel=0.25)


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1), st.booleans()), max_size=50))
def test_the_allowance_stays_within_its_bounds(world):
    state = STEADY
    for asked, late, young in world:
        state = after(state, asked, late, young)
        assert LEAST <= state.feedback.allowance <= (TARGET if young else MOST)


def test_a_late_minute_counts_by_its_demand_over_the_mean_of_the_series():
    """10 rps where 20 is the mean are half a minute."""
    uneven = with_allowance(0.02, 5.0, 15.0, 40.0)
    assert moved(uneven, 10.0, 1.0) == pytest.approx(0.02 + RATE * (TARGET - 0.5), abs=1e-6)


def test_one_minute_counts_for_three_at_most():
    assert note(STEADY, 100.0, 1.0).feedback.late == 3.0
    assert note(STEADY, 29.0, 1.0).feedback.late == pytest.approx(2.9)


def test_the_first_value_of_all_is_its_own_mean():
    assert moved(remembered(allowance=0.02), 10.0, 1.0) == pytest.approx(0.02 + RATE * (TARGET - 1), abs=1e-6)


def test_hours_of_nothing_leave_no_mean_to_count_a_late_minute_by():
    assert moved(with_allowance(0.02, 0.0, 0.0), 1.0, 1.0) == pytest.approx(0.02 + RATE * TARGET, abs=1e-6)


def test_a_service_of_less_than_a_request_a_second_is_late_like_any_other():
    assert moved(with_allowance(0.02, 0.5), 0.5, 1.0) == pytest.approx(0.02 + RATE * (TARGET - 1), abs=1e-6)


# --- how late a minute was ---


def test_nothing_is_late_where_what_stands_carries_the_demand():
    assert late_share(10.0, 10.0, 0.0, 2.0) == 0.0
    assert late_share(0.0, 0.0, 0.0, 2.0) == 0.0


@pytest.mark.parametrize(
    ("asked", "late"),
    # 2 s allowed: 3 % too much make 1.8 s in a minute; 10 % pass the limit after 20 s, 30 % after 6.7, twice after 2.
    [(10.3, 0.0), (11.0, 2 / 3), (13.0, 1 - 20 / 3 / 60), (20.0, 1 - 2 / 60)],
)
def test_the_fuller_a_minute_is_the_more_of_it_is_late(asked, late):
    assert late_share(asked, 10.0, 0.0, 2.0) == pytest.approx(late)


def test_where_nothing_stands_everything_is_late():
    assert late_share(1.0, 0.0, 0.0, 2.0) == 1.0


def test_a_backlog_longer_than_the_limit_makes_all_late_even_as_it_shrinks():
    assert late_share(5.0, 10.0, 21.0, 2.0) == 1.0
    assert late_share(5.0, 10.0, 20.0, 2.0) == 0.0


def test_without_an_slo_a_minute_that_is_too_full_is_late_as_a_whole_and_a_backlog_says_nothing():
    assert late_share(10.1, 10.0, 0.0, 0.0) == 1.0
    assert late_share(9.0, 10.0, 500.0, 0.0) == 0.0


@given(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e5), st.floats(0, 100))
def test_the_late_share_is_a_share_and_grows_with_what_is_asked(asked, ready, backlog, limit):
    share = late_share(asked, ready, backlog, limit)
    assert 0 <= share <= late_share(asked * 1.5 + 1, ready, backlog, limit) <= 1
