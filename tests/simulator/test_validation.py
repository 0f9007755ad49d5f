"""The simulator agrees with queueing theory, and with published measurements as far as its model can."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulator.validation import erlang_c, published, theory, whole_steps

CHECKS = list(theory(requests=1_000_000, seed=1))

ALLOWED = {"share": 0.015, "mean": 0.04, "99 %": 0.06}
"""Sampling error of a million requests by the quantity's first word; at a use of 0.9 their waits are correlated."""


def test_erlang_c_has_its_known_values() -> None:
    assert erlang_c(1, 0.8) == pytest.approx(0.8)
    # Two servers, 1.5 erlangs: C = (a^2/2) / (1 - a/2) * p0 with p0 = (1 - rho)/(1 + rho) = 1/7.
    assert erlang_c(2, 1.5) == pytest.approx(1.125 / 0.25 / 7)


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: f"{c.case}: {c.quantity}")
def test_the_simulator_agrees_with_queueing_theory(check) -> None:
    assert check.error < next(limit for word, limit in ALLOWED.items() if check.quantity.startswith(word))


def test_the_checks_together_show_no_bias() -> None:
    signed = [check.simulated / check.expected - 1 for check in CHECKS]
    assert abs(sum(signed) / len(signed)) < 0.01


def test_leaving_out_step_boundaries_costs_less_than_a_step_to_first_token_and_little_else() -> None:
    step = 0.02 + 48 * 0.0006
    for check in whole_steps(requests=3_000):
        if "first token" in check.quantity:
            assert 0 < check.expected - check.simulated < step, check
        else:
            assert check.error < 0.01, check


def test_a_fitted_engine_reproduces_published_times(shared: Path) -> None:
    fits = list(published(shared / "profiles"))
    assert len(fits) == 10
    for fit in fits:
        assert fit.rows >= 11
        assert fit.errors["time per token"].mean() < 0.035, fit.name
        assert fit.errors["time per token"].max() < 0.08, fit.name
        assert fit.errors["end to end"].mean() < 0.04, fit.name
        assert fit.errors["time to first token"].mean() < 0.21, fit.name
