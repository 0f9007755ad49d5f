"""The demo boots by phases: instances publish them, the scaler learns them, and launches are paid."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from gpu_fleet.replay.demo import DemoOptions, DemoResult, play, prepare
from gpu_fleet.replay.demo_traffic import TrafficOptions
from gpu_fleet.scaling.boot import NODE_PHASES, LastBoot
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from lambdas.scaler import handler


@pytest.fixture(scope="module")
def learnt(root: Path, small_package: None) -> tuple[DemoResult, dict[str, LastBoot], dict[str, list[float]]]:
    """A demo long enough for boots of eleven minutes, the newest boot by pool, and the leads that were learnt."""
    boots: dict[str, LastBoot] = {}
    leads: dict[str, list[float]] = {}

    def remembering(service: Service, observation: Observation, state: State, now: float) -> Decision:
        decision = decide(service, observation, state, now)
        for name, pool in decision.state.pools.items():
            if pool.boot is not None and pool.boot.told:
                boots[name], leads[name] = pool.boot, list(pool.leads)
        return decision

    with patch.object(handler, "decide", remembering):
        plan = prepare(root, DemoOptions(traffic=TrafficOptions(peak_instances=6, minutes=18), seed=3))
        return play(plan), boots, leads


def test_the_scaler_learns_the_phases_that_the_instances_publish(learnt) -> None:
    result, boots, leads = learnt
    assert boots
    for name, boot in boots.items():
        of_pool = result.plan.hardware[name]
        expected = [kind.boot.by_phase for kind in of_pool.values()]
        told = {phase: boot.by_phase[phase] for phase in NODE_PHASES}
        assert any(told == pytest.approx({p: phases[p] for p in NODE_PHASES}, abs=0.1) for phases in expected)
        assert sum(boot.by_phase.values()) == pytest.approx(boot.seconds)
        assert boot.seconds == pytest.approx(sum(leads[name][-1:]), abs=60)


def test_a_boot_takes_as_long_as_its_phases_and_what_the_load_balancer_takes(learnt) -> None:
    """The scaler looks once a minute, so it sees the end up to a minute late."""
    result, boots, _ = learnt
    for name, boot in boots.items():
        expected = max(kind.boot.seconds for kind in result.plan.hardware[name].values())
        assert expected - 30 <= boot.seconds <= expected + 61


def test_launches_are_paid_beside_the_instances_hours(learnt) -> None:
    ours = learnt[0].replay
    prices = {kind.launch_usd for types in learnt[0].plan.hardware.values() for kind in types.values()}
    assert ours.launches > 0
    assert min(prices) * ours.launches <= ours.launch_usd + 1e-9 <= max(prices) * ours.launches + 2e-9
    assert ours.launch_usd < ours.cost_usd
