"""The article's U, T and R: what they are computed from, and what they decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling import decide as steps
from gpu_fleet.scaling import figures, requirement, window
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.demand import Demand, measure
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.observation import PoolObservation, Reading
from tests.scaling.builders import NOW, pool, pool_seen, remembered, seen, service

LIVED = remembered(at=NOW - 60, since=NOW - 7200, request_weight=1.0, dispersion=1.0)
BY_THRESHOLD = {"slo": None, "sizing": {"mode": "threshold", "target_utilization": 0.8}}
MODES: dict[str, dict[str, Any]] = {"threshold": BY_THRESHOLD, "slo": {}}


def two(load: float, arrivals: float, **changes: Any) -> Decision:
    """Two pools of three, one of which answers slowly."""
    views: dict[str, PoolObservation] = {
        name: pool_seen(3, load=load / 2, weight=500, response_time_seconds=Reading(seconds, NOW))
        for name, seconds in (("l4", 4.0), ("l40s", 1.0))
    }
    svc = service(pool("l4"), pool("l40s", on_demand_usd_per_hour=0.9), horizontal={
        "scale_in_stabilization_seconds": 0}, **changes)  # fmt: skip
    return decide(svc, seen(arrivals=arrivals, pools=views), LIVED, NOW)


def test_the_worked_example() -> None:
    """Five that may be used to 80 %, with a tolerance of 5 %: U_max = 4.2. Work for 4.5 full ones is R = 1.07."""
    fleet = Fleet((), {}, {}, {}, 8.0, 8.0, 2.0)
    u = figures.work_utilization(9.0, fleet)
    assert u == pytest.approx(4.5)
    assert figures.work_ratio(u, fleet, 5) == pytest.approx(4.5 / 4.2)
    assert figures.work_ratio(u, replace(fleet, standing_rps=0.0), 5) == float("inf")


@given(
    st.sampled_from(sorted(MODES)), st.integers(1, 8), st.integers(0, 4), st.floats(0, 30), st.floats(0, 400),
    st.none() | st.floats(0, 100), st.floats(0, 20),
)  # fmt: skip
def test_r_above_1_is_scaling_out(
    mode: str, ready: int, starting: int, arrivals: float, load: float, gpu: float | None, tolerance: float
) -> None:
    settings = MODES[mode] | {"thresholds": {"gpu_percent": 80}, "horizontal": {"tolerance_percent": tolerance}}
    view = pool_seen(ready, starting=starting, load=load, gpu_percent=None if gpu is None else Reading(gpu, NOW))
    decision = decide(service(**settings), seen(arrivals=arrivals, pools={"l4": view}), LIVED, NOW)
    assert decision.signals.ratio is not None
    assert (decision.signals.ratio > 1) == ("guard.out" in decision.codes)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_u_decides(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    before = two(30, 3.0, **MODES[mode])
    assert "guard.out" not in before.codes
    monkeypatch.setattr(figures, "utilization", lambda *_: 999.0)
    assert "guard.out" in two(30, 3.0, **MODES[mode]).codes


@pytest.mark.parametrize("mode", sorted(MODES))
def test_r_decides(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    for module in (window, requirement):
        monkeypatch.setattr(module, "work_ratio", lambda *_: 999.0)
    decision = two(30, 3.0, **MODES[mode])
    assert decision.signals.ratio == 999.0
    assert "guard.out" in decision.codes


def test_t_chooses_the_balancing_in_mode_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    """T above the target utilisation: response times count, and the slow pool loses traffic."""

    def slow(context: Any) -> tuple[Demand, Any]:
        demand, memory = measure(context)
        return replace(demand, response_time=999.0), memory

    by_threshold, by_slo = two(30, 3.0, **BY_THRESHOLD), two(30, 3.0)
    assert by_threshold.targets["l4"].weight == by_threshold.targets["l40s"].weight == 500
    monkeypatch.setattr(steps, "measure", slow)
    decision = two(30, 3.0, **BY_THRESHOLD)
    assert "routing.slow" in decision.codes
    assert decision.targets["l4"].weight < decision.targets["l40s"].weight
    assert two(30, 3.0).codes == by_slo.codes  # reported only


def test_a_measured_load_above_the_target_scales_out_in_mode_threshold() -> None:
    """Four with 72 in service, C = 20: U = 3.6 of 3.2, though arrivals alone would need two."""
    settings = {"slo": None, "sizing": {"target_utilization": 0.8}}
    decision = decide(service(**settings), seen(arrivals=2.0, pools={"l4": pool_seen(4, load=72)}), LIVED, NOW)
    assert decision.targets["l4"].desired == 5
    assert decision.signals.ratio == pytest.approx(3.6 / 3.2 / 1.05)


def test_what_waits_is_no_load_over_its_limit() -> None:
    settings = {"slo": None, "sizing": {"target_utilization": 0.9, "drain_backlog_seconds": 1e6}}
    view = pool_seen(4, load=400, running=Reading(64.0, NOW), waiting=Reading(336.0, NOW))
    decision = decide(service(**settings), seen(arrivals=2.0, pools={"l4": view}), LIVED, NOW)
    assert decision.targets["l4"].desired == 4
