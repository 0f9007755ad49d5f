"""The handler against the embedded cloud and the model in the simulator alone decide the same, minute by minute.

Both see the same requests, the same delays of CloudWatch and the same boots. One thing may differ: which of several
equally loaded instances leaves depends on their ids. The cloud's burst alarms, which would wake the handler between
minutes, are off: the simulator runs the model only once a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import patch

import pytest

from gpu_fleet.backtest.ours import Ours
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.replay import Opening, Replay, ReplayResult, replay_cloud, service_hardware
from gpu_fleet.replay.hardware import preferred
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision, PoolTarget
from gpu_fleet.scaling.observation import Observation, Reading
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from gpu_fleet.simulator import drive
from gpu_fleet.simulator.simulated_fleet import BootTime, MachineModel
from gpu_fleet.simulator.world import World, WorldOptions
from gpu_fleet.traffic import Trace, crop, hour, read, scale_to
from lambdas.scaler import handler

BOOT_SECONDS = 108.0
JOINS_AFTER_SECONDS = 11.0
"""From the scaler's call, beside the boot: a second until the group acts, and 10 s from registration to the first
health check."""
READY = {"l4": 1, "l40s": 2}

Shares = dict[str, tuple[int, int]]
"""Desired count and weight by pool."""


class Remembering(Ours):
    """The model, with a memory of its decisions."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: list[Shares] = []
        self.late_shares: list[Reading | None] = []

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        targets = super().decide(service, observation, now)
        self.late_shares.append(observation.late_share)
        self.decisions.append({name: (target.desired, target.weight) for name, target in targets.items()})
        return targets


def replayed(root: Path, trace: Trace) -> tuple[ReplayResult, list[Reading | None]]:
    """Return the replay, and the share of late requests that the handler saw at each decision."""
    late_shares: list[Reading | None] = []

    def remembering(service: Service, observation: Observation, state: State, now: float) -> Decision:
        late_shares.append(observation.late_share)
        return decide(service, observation, state, now)

    settings, _ = read_stack(root, "local")
    hardware = service_hardware(settings, "chat", read_library(root))
    with replay_cloud("local", root, boot_seconds=BOOT_SECONDS) as cloud:
        watch = cloud.client("cloudwatch")
        alarms = [alarm["AlarmName"] for alarm in watch.describe_alarms()["MetricAlarms"]]
        watch.disable_alarm_actions(AlarmNames=alarms)
        with (
            patch.object(handler, "decide", remembering),
            Replay(cloud, "chat", trace, hardware, Opening(READY)) as run,
        ):
            return run.run(), late_shares


def simulated(root: Path, trace: Trace, replay: ReplayResult, service: Service) -> tuple[Remembering, drive.RunResult]:
    settings, _ = read_stack(root, "local")
    hardware = service_hardware(settings, "chat", read_library(root))
    world = World(
        service,
        trace,
        {name: preferred(hardware, name).profile for name in hardware},
        initial=READY,
        machines=MachineModel(BootTime(BOOT_SECONDS + JOINS_AFTER_SECONDS)),
        options=WorldOptions(
            start=replay.start,
            initial_weights={name: pool.weight for name, pool in replay.minutes[0].pools.items()},
        ),
    )
    model = Remembering()
    return model, drive.run(world, model)


def agree(root: Path, trace: Trace, service: Service) -> None:
    real, late_shares = replayed(root, trace)
    model, world = simulated(root, trace, real, service)
    assert real.failures == ()
    decided = [
        {name: (target["desired"], target["weight"]) for name, target in one.targets.items()} for one in real.decisions
    ]
    assert len({tuple(one.items()) for one in decided}) > 5, "the run must contain changes"
    for minute, (ours, theirs) in enumerate(zip(decided, model.decisions, strict=True), 1):
        assert ours == theirs, f"minute {minute}"
    assert any(reading and reading.value for reading in late_shares), "some requests must miss the SLO"
    assert late_shares == model.late_shares
    assert (real.requests, real.slo_attainment, real.lost) == (world.requests, world.slo_attainment, world.lost)
    # The cloud's instances come a second later, and leave after their agent has twice found them idle.
    assert real.cost_usd == pytest.approx(world.cost_usd, rel=0.02)


def test_on_the_generated_hour_they_decide_the_same(root, service):
    trace = crop(hour(3 * service.pools[1].throughput_rps, seed=1).sample(1), 0, 26 * 60)
    assert isinstance(trace, Trace)
    agree(root, trace, service)


def test_on_recorded_traffic_they_decide_the_same(root, service, shared):
    recorded = crop(read(shared / "traces/azure_llm_2023_conv.csv"), 0, 36 * 60)
    trace = scale_to(recorded, 3 * service.pools[1].throughput_rps)
    assert isinstance(trace, Trace)
    agree(root, trace, service)


@pytest.fixture
def service(root: Path) -> Service:
    from gpu_fleet.config.composition import services

    settings, document = read_stack(root, "local")
    return next(one for one in services(settings, read_library(root), document) if one.name == "chat")
