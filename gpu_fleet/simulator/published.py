"""What AWS would show of the simulated service: facts of its groups, and metric series as late as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling.assembly import PoolFacts, PoolSeries, ServiceFacts, ServiceSeries
from gpu_fleet.scaling.observation import Instance, Reading
from gpu_fleet.scaling.series import Series
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.pool_window import PoolWindow
from gpu_fleet.simulator.simulated_fleet import SimulatedGroup
from gpu_fleet.simulator.telemetry import FINE_SECONDS, Minute, Sample, Telemetry

Groups = Mapping[str, SimulatedGroup]

ERRORS_KEPT = 100
"""Capacity errors of a group that are shown, the newest; the handler reads no more activities than that."""


def facts(groups: Groups, start: float) -> ServiceFacts:
    """What the APIs would say now; `start` of the run in seconds since the epoch."""
    return ServiceFacts({name: _pool_facts(group, start) for name, group in groups.items()})


def _pool_facts(group: SimulatedGroup, start: float) -> PoolFacts:
    return PoolFacts(
        desired=group.desired,
        min_size=group.pool.min_instances,
        max_size=group.pool.max_instances,
        weight=group.weight,
        instances=tuple(
            Instance(
                id=machine.id,
                type=machine.type,
                zone=machine.zone,
                phase=machine.phase,
                since=start + machine.launched_at,
                spot=machine.spot,
                ready_at=machine.ready_at,
            )
            for machine in group.machines.values()
        ),
        on_demand_base=group.on_demand_base if group.pool.spot_percent else None,
        capacity_errors=tuple(group.errors[-ERRORS_KEPT:]),
        zones=group.pool.zones,
    )


def series(
    service: Service, groups: Groups, telemetry: Telemetry, now: float, *, history: bool, instance_loads: bool
) -> ServiceSeries:
    """What CloudWatch would show at `now`. `history` and `instance_loads` are read only when wanted, as by the scaler.

    503s are shown only where the service can sleep: elsewhere the scaler does not query them.
    """
    readable = _Readable(
        telemetry,
        now,
        oldest=now - service.policy.load.stale_after_seconds,
        balancer=telemetry.balancer_minutes(now),
        engine=telemetry.engine_minutes(now),
        samples=telemetry.samples(now),
    )
    loads = _instance_loads(telemetry, now) if instance_loads else {}
    return ServiceSeries(
        pools={
            name: replace(_pool_series(readable, p, _by_id(group, loads)), boot=_boot(group))
            for p, (name, group) in enumerate(groups.items())
        },
        rejected=_rejected(readable.balancer) if service.may_be_empty else None,
        history_rps=telemetry.history(now) if history else (),
    )


@dataclass(frozen=True, slots=True)
class _Readable:
    """What can be read of the telemetry at `now`, the same for every pool."""

    telemetry: Telemetry
    now: float
    oldest: float
    balancer: tuple[Minute, ...]
    engine: tuple[Minute, ...]
    samples: tuple[Sample, ...]


def _pool_series(readable: _Readable, p: int, of_instance: Mapping[str, Mapping[str, Series]]) -> PoolSeries:
    telemetry, now, oldest = readable.telemetry, readable.now, readable.oldest
    balancer, samples = readable.balancer, readable.samples
    lengths = telemetry.lengths(now, p, oldest)
    counts = ((minute.at, minute.window.pools[p].routed) for minute in balancer)
    refusals = ((minute.at, minute.window.pools[p].rejected_queue_full) for minute in balancer)
    return PoolSeries(
        requests=tuple(Reading(count, at) for at, count in counts if count),
        heartbeat=tuple(Reading(1.0, minute.at) for minute in balancer if minute.heartbeat[p]),
        refused=tuple(Reading(count, at) for at, count in refusals if count),
        response_time=_latest(balancer, p, lambda window: window.response_mean_seconds),
        publishers=_sums(samples, p, "pool_targets"),
        running=_sums(samples, p, "pool_running"),
        waiting=_sums(samples, p, "pool_waiting"),
        finished=_sums(samples, p, "pool_ended", FINE_SECONDS),
        input_tokens=(lengths[0],) if lengths else (),
        output_tokens=(lengths[1],) if lengths else (),
        judged=_sums(samples, p, "pool_ended"),
        late=_sums(samples, p, "pool_late"),
        ttft=_latest(readable.engine, p, lambda window: window.ttft.quantile(0.95)),
        gpu=_latest(readable.engine, p, lambda window: window.busy_percent),
        kv_cache=_if_known(telemetry.kv_cache_percent(now, p, oldest)),
        of_instance=of_instance,
    )


def _latest(minutes: Sequence[Minute], p: int, value: Callable[[PoolWindow], float | None]) -> Series:
    """The newest minute in which the pool has a value: the assembly looks at no other."""
    for minute in reversed(minutes):
        found = value(minute.window.pools[p])
        if found is not None:
            return (Reading(found, minute.at),)
    return ()


def _sums(samples: Sequence[Sample], p: int, gauge: str, seconds: float = 1.0) -> Series:
    """Sums over the targets, every 10 s; samples in which no target published are left out."""
    return tuple(
        Reading(getattr(sample.gauges, gauge)[p] / seconds, sample.at)
        for sample in samples
        if sample.gauges.pool_targets[p]
    )


def _boot(group: SimulatedGroup) -> dict[str, Series]:
    return {phase: (reading,) for phase, reading in group.booted.items()}


def _rejected(balancer: Sequence[Minute]) -> Series:
    counts = (
        (minute.at, minute.window.unrouted + sum(pool.rejected_no_target for pool in minute.window.pools))
        for minute in balancer
    )
    return tuple(Reading(count, at) for at, count in counts if count)


def _instance_loads(telemetry: Telemetry, now: float) -> dict[int, Reading]:
    """By instance of the simulation: mean of its gauges over the newest complete minute."""
    end, samples = telemetry.samples_of_minute(now)
    seen: dict[int, list[float]] = {}
    for sample in samples:
        gauges = sample.gauges
        values = gauges.running + gauges.waiting
        for number, value in zip(gauges.instance.astype(int).tolist(), values.tolist(), strict=True):
            seen.setdefault(number, []).append(value)
    return {number: Reading(sum(values) / len(values), end) for number, values in seen.items()}


def _by_id(group: SimulatedGroup, loads: Mapping[int, Reading]) -> dict[str, Mapping[str, Series]]:
    return {
        machine.id: {"load": (loads[machine.number],)}
        for machine in group.machines.values()
        if machine.number is not None and machine.number in loads
    }


def _if_known(reading: Reading | None) -> Series:
    return () if reading is None else (reading,)
