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
