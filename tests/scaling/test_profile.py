"""The share of the load and the share of the work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.profile import load_share, work_share

shares = st.floats(0, 1)
slowdowns = st.floats(1, 20)


def test_half_the_load_does_three_quarters_of_the_work_at_slowdown_three() -> None:
    assert work_share(0.5, 3) == pytest.approx(0.75)
    assert load_share(0.75, 3) == pytest.approx(0.5)


def test_shares_outside_0_to_1_are_clipped() -> None:
    assert work_share(1.7, 3) == load_share(1.7, 3) == 1
    assert work_share(-0.1, 3) == load_share(-0.1, 3) == 0


@given(shares, slowdowns)
def test_load_share_undoes_work_share(x: float, slowdown: float) -> None:
    assert load_share(work_share(x, slowdown), slowdown) == pytest.approx(x, abs=1e-9)
