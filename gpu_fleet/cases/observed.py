"""The complete observation for a case's short form.

Values that a case leaves out are computed so that the observation is consistent: loads from arrivals, or arrivals from
loads, by the pool's own curve (`gpu_fleet.scaling.service.Pool`); the desired count from the instances; weights from
the ready instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.cases.given import Given, GivenPool, MissingSignal
from gpu_fleet.scaling.observation import (
    CapacityError,
    Instance,
    JobQueue,
    Observation,
    Phase,
    PoolObservation,
    Reading,
)
from gpu_fleet.scaling.policy import LoadUnit, Policy, Workload
from gpu_fleet.scaling.service import Pool, Service

NOW = 1_767_787_200.0
"""Time at which every case is decided: Wednesday, 2026-01-07, 12:00 UTC."""
ZONES = ("us-east-1a", "us-east-1b")
"""Zones of a case without a stack."""

_DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class _Clock:
    """When the observation is made, how old its readings are, and which are missing."""

    now: float
    age_seconds: float
    missing: frozenset[MissingSignal]

    def reading(self, value: float | None, signal: MissingSignal | None = None) -> Reading | None:
        """Return a value as a reading; None if there is no value or its signal is missing."""
        return None if value is None or signal in self.missing else Reading(value, self.now - self.age_seconds)


def observation(service: Service, given: Given, now: float) -> Observation:
    """Return the complete observation at `now` for a short form."""
    clock = _Clock(now, given.age_seconds, frozenset(given.missing))
    policy, reading = service.policy, clock.reading
    values = {pool.name: given.pools.get(pool.name, GivenPool()) for pool in service.pools}
    work = {pool.name: _work_rps(pool, values[pool.name]) for pool in service.pools}
    arrivals = given.arrivals_rps
    if arrivals is None and policy.workload is Workload.INFERENCE:
        arrivals = sum(value for value in work.values() if value is not None)
    shares = _shares(service, values)
    pools: dict[str, PoolObservation] = {}
    for pool in service.pools:
        value = values[pool.name]
        rate_rps = value.rate_rps
        if rate_rps is None and arrivals is not None:
            rate_rps = arrivals * shares[pool.name]
        errors = (CapacityError("", now),) if pool.name in given.capacity_errors else ()
        pools[pool.name] = _pool_observation(pool, value, rate_rps, policy, clock, errors)
    jobs = given.jobs
    return Observation(
        pools=pools,
        arrivals_rps=reading(arrivals, MissingSignal.ARRIVALS),
        burst_rps=reading(given.burst_rps, MissingSignal.BURST),
        engine_rps=reading(arrivals, MissingSignal.BURST),
        matched_rps=reading(arrivals, MissingSignal.BURST),
        rejected_rps=reading(given.rejected_rps),
        input_tokens=reading(given.input_tokens or policy.request.input_tokens, MissingSignal.TOKENS),
        output_tokens=reading(given.output_tokens or policy.request.output_tokens, MissingSignal.TOKENS),
        jobs=JobQueue(jobs.waiting, jobs.oldest_seconds, jobs.mean_job_seconds) if jobs else None,
    )


def _pool_observation(
    pool: Pool,
    value: GivenPool,
    rate_rps: float | None,
    policy: Policy,
    clock: _Clock,
    capacity_errors: tuple[CapacityError, ...],
) -> PoolObservation:
    reading = clock.reading
    load = _load(pool, value, rate_rps, policy)
    running = None
    if policy.load.unit is LoadUnit.CONCURRENCY and load is not None:
        running = max(0.0, load - value.waiting)
    instances = _instances(pool, value, policy, clock.now, reading(load, MissingSignal.LOAD))
    return PoolObservation(
        desired=sum(i.phase is not Phase.DRAINING for i in instances) if value.desired is None else value.desired,
        min_size=pool.min_instances,
        max_size=pool.max_instances,
        weight=(100 if value.ready else 0) if value.weight is None else value.weight,
        instances=instances,
        on_demand_base=pool.on_demand_base if pool.spot_percent else None,
        load=reading(load, MissingSignal.LOAD),
        running=reading(running, MissingSignal.LOAD),
        waiting=reading(value.waiting, MissingSignal.LOAD),
        rate_rps=reading(rate_rps, MissingSignal.RATE),
        response_time_seconds=reading(value.response_time_seconds, MissingSignal.RESPONSE_TIME),
        ttft_seconds=reading(value.ttft_seconds, MissingSignal.TTFT),
        cpu_percent=reading(value.cpu_percent, MissingSignal.NODE),
        memory_percent=reading(value.memory_percent, MissingSignal.NODE),
        gpu_percent=reading(value.gpu_percent, MissingSignal.NODE),
        kv_cache_percent=reading(value.kv_cache_percent, MissingSignal.NODE),
        network_latency_seconds=reading(value.network_latency_seconds, MissingSignal.NODE),
        capacity_errors=capacity_errors,
        refreshing=value.refreshing,
    )


def _work_rps(pool: Pool, value: GivenPool) -> float | None:
    """Return the requests per second that a pool completes at the given load; None without a load.

    At the share x of its capacity an instance completes x*s/(1 + (s-1)*x) of its throughput
    (`gpu_fleet.scaling.profile`).
    """
    if value.load_percent is not None:
        x = value.load_percent / 100
    elif value.load is not None and value.ready:
        x = value.load / value.ready / pool.capacity
    else:
        return None
    return value.ready * pool.throughput_rps * x * pool.slowdown / (1 + (pool.slowdown - 1) * x)


def _shares(service: Service, values: Mapping[str, GivenPool]) -> dict[str, float]:
    """Return each pool's share of the arrivals: by weight, or without weights by the throughput of ready instances."""
    has_weights = any(value.weight is not None for value in values.values())
    sizes: dict[str, float] = {}
    for pool in service.pools:
        value = values[pool.name]
        sizes[pool.name] = float(value.weight or 0) if has_weights else value.ready * pool.throughput_rps
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


def _load(pool: Pool, value: GivenPool, rate_rps: float | None, policy: Policy) -> float | None:
    """Return the pool's load: as given, or the load at its rate by the inverse of the curve in `_work_rps`.

    f = rate / throughput gives x = f / (s - (s-1)*f); above its throughput an instance has all slots in use.
    """
    if value.load is not None:
        return value.load
    if value.load_percent is not None:
        x = value.load_percent / 100
    elif rate_rps is None or policy.workload is Workload.TRAINING:
        return None
    elif not value.ready:
        return 0.0
    else:
        f = rate_rps / (value.ready * pool.throughput_rps)
        denominator = pool.slowdown - (pool.slowdown - 1) * f
        max_x = max(1.0, pool.slots / pool.capacity) if policy.load.unit is LoadUnit.CONCURRENCY else 2.0
        x = min(max_x, f / denominator) if denominator > 0 else max_x
    total = x * pool.capacity * value.ready
    return total + (value.waiting if policy.load.unit is LoadUnit.CONCURRENCY and value.load_percent is None else 0.0)


def _instances(pool: Pool, value: GivenPool, policy: Policy, now: float, load: Reading | None) -> tuple[Instance, ...]:
    """Return the pool's instances; `load` is the whole pool's."""
    launched = NOW - 60 * value.starting_for_minutes
    counts = {
        Phase.READY: value.ready,
        Phase.STARTING: value.starting if launched <= now else 0,
        Phase.UNHEALTHY: value.unhealthy,
        Phase.DRAINING: value.draining,
    }
    instance_load = None if load is None else Reading(load.value / max(1, value.ready), load.at)
    zones = pool.zones or ZONES
    is_training = policy.workload is Workload.TRAINING
    instances: list[Instance] = []
    for phase, count in counts.items():
        ready = phase is Phase.READY
        since = launched if phase is Phase.STARTING else NOW - _DAY_SECONDS
        for i in range(count):
            busy = is_training and ready and i < value.busy
            instances.append(
                Instance(
                    id=f"{pool.name}-{phase}-{i}",
                    type=pool.types[0],
                    zone=zones[i % len(zones)],
                    phase=phase,
                    since=since,
                    spot=ready and i < value.spot,
                    ready_at=None if phase is Phase.STARTING else since + pool.lead_seconds,
                    load=instance_load if ready else None,
                    jobs=(policy.training.jobs_per_instance if busy else 0) if is_training and ready else None,
                    remaining_seconds=value.remaining_seconds if busy else None,
                )
            )
    return tuple(instances)
