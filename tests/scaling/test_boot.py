"""Boots by phases, as they are told and learnt."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpu_fleet.cli.explain import sentences
from gpu_fleet.scaling import learning, record
from gpu_fleet.scaling.boot import NODE_PHASES, Boot, BootPhase, LastBoot
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.observation import Phase, Reading
from gpu_fleet.scaling.record import Record
from gpu_fleet.scaling.state import PoolState, State
from infra.instance.node import boot_phases
from tests.scaling.builders import NOW, instances, pool_seen, seen, service

TOLD = {"running": 30.0, "agent": 60.0, "image": 310.0, "weights": 120.0, "engine": 106.0}
ORDERED_AT = NOW - 650


def starting():
    return replace(pool_seen(0), instances=instances(1, Phase.STARTING, "n", since=ORDERED_AT))


def ready(phases=None, at=NOW):
    """The instance at NOW, with phases that CloudWatch has as of `at`."""
    readings = {phase: Reading(value, at) for phase, value in (phases or {}).items()}
    one = instances(1, Phase.READY, "n", since=ORDERED_AT, ready_at=NOW)
    return replace(pool_seen(0), instances=one, boot_seconds=readings)


def launched():
    """What is remembered of the pool at NOW, when its instance has just become ready."""
    remembered = learning.learn_leads(PoolState(), starting(), NOW - 60)
    return learning.learn_leads(remembered, ready(), NOW)


def test_an_instance_times_what_the_model_calls_its_phases():
    assert tuple(phase.value for phase in NODE_PHASES) == boot_phases.PHASES


def test_the_lead_time_that_is_learnt_is_the_sum_of_the_phases():
    """The last phase is what the instance cannot know: the hook, and the load balancer's checks."""
    remembered = learning.learn_leads(launched(), ready(TOLD), NOW + 60)
    (lead,) = remembered.leads
    phases = remembered.boot.by_phase
    assert list(phases) == list(BootPhase)
    assert phases[BootPhase.HEALTHY] == 650 - sum(TOLD.values()) == 24
    assert sum(phases.values()) == lead == 650


def test_phases_are_awaited_after_a_launch_and_not_longer_than_needed():
    remembered = launched()
    assert remembered.boot == LastBoot(NOW, 650, {})
    assert remembered.boot.wanted
    assert learning.learn_leads(remembered, ready(), NOW + 60).boot.wanted
    assert not learning.learn_leads(remembered, ready(TOLD), NOW + 60).boot.wanted
    gone = learning.learn_leads(remembered, ready(), NOW + 300).boot
    assert (gone.wanted, gone.by_phase) == (False, {})


def test_phases_of_a_boot_before_this_one_are_not_taken_for_its_own():
    remembered = learning.learn_leads(launched(), ready(TOLD, at=ORDERED_AT - 1), NOW + 60)
    assert remembered.boot.told == {}


def test_a_phase_that_was_not_told_is_no_phase_of_no_seconds():
    told = {phase: TOLD[phase] for phase in ("image", "engine")}
    phases = learning.learn_leads(launched(), ready(told), NOW + 60).boot.by_phase
    assert phases == {"image": 310, "engine": 106, "healthy": 234}


def test_nothing_is_awaited_of_instances_that_were_always_there():
    assert learning.learn_leads(PoolState(), pool_seen(3), NOW).boot is None


def test_a_boot_takes_the_sum_of_its_phases():
    assert Boot(**TOLD, healthy=24).seconds == 650
    assert Boot(**TOLD, healthy=24).by_phase == {**TOLD, "healthy": 24}


def explained(boot: LastBoot | None, now: float = NOW) -> list[str]:
    svc, view = service(), seen(pools={"l4": pool_seen(2, load=20)})
    decision = decide(svc, view, State(pools={"l4": PoolState(boot=boot)}), now)
    one = record.load(Record, record.dump(Record(svc, view, State(), now, decision)))
    return [line for line in sentences(one) if "booted" in line]


def test_explain_tells_a_boot_by_its_phases():
    (line,) = explained(LastBoot(NOW - 60, 650, TOLD, wanted=False))
    assert line == "  l4: booted in 650 s: running 30, agent 60, image 310, weights 120, engine 106, healthy 24"


def test_explain_tells_the_whole_of_a_boot_whose_phases_are_not_known():
    assert explained(LastBoot(NOW - 60, 650, {})) == ["  l4: booted in 650 s"]


@pytest.mark.parametrize("boot", [None, LastBoot(NOW - 601, 650, TOLD, wanted=False)], ids=["none", "long ago"])
def test_explain_tells_no_other_boot(boot):
    assert explained(boot) == []
