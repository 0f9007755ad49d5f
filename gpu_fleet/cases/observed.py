"""The whole observation that a case's short form stands for.

What a case does not say is filled in so that the whole is consistent: loads from arrivals, or arrivals from loads, by
the pool's own curve (`gpu_fleet.scaling.service.Pool`), the desired count from the instances, weights from what is
ready.
"""

from __future__ import annotations

from collections.abc import Mapping

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
"""When every case is decided: Wednesday, 2026-01-07, 12:00 UTC."""
ZONES = ("us-east-1a", "us-east-1b")
"""Zones of a case that names no stack."""


def observation(service: Service, given: Given, now: float) -> Observation:
    """The whole observation that a short form stands for, as it would be seen at `now`."""
    at = now - given.age_seconds
    policy = service.policy
    values = {pool.name: given.pools.get(pool.name, GivenPool()) for pool in service.pools}
    work = {pool.name: _work_rps(pool, values[pool.name], policy) for pool in service.pools}
    arrivals = given.arrivals_rps
    if arrivals is None and policy.workload is Workload.INFERENCE:
        arrivals = sum(value for value in work.values() if value is not None)
    shares = _shares(service, values)
    missing = set(given.missing)

    def reading(value: float | None, signal: MissingSignal | None = None) -> Reading | None:
        return None if value is None or signal in missing else Reading(value, at)

    seen = {}
    for one in service.pools:
        value = values[one.name]
        rate = value.rate_rps
        if rate is None and arrivals is not None:
            rate = arrivals * shares[one.name]
        load = _load(one, value, rate, policy)
        concurrency = policy.load.unit is LoadUnit.CONCURRENCY and load is not None
        instances = _instances(one, value, policy, now, reading(load, MissingSignal.LOAD))
        seen[one.name] = PoolObservation(
            desired=sum(i.phase is not Phase.DRAINING for i in instances) if value.desired is None else value.desired,
            min_size=one.min_instances,
            max_size=one.max_instances,
            weight=(100 if value.ready else 0) if value.weight is None else value.weight,
            instances=instances,
            on_demand_base=one.on_demand_base if one.spot_percent else None,
            load=reading(load, MissingSignal.LOAD),
            running=reading(
                max(0.0, load - value.waiting) if concurrency and load is not None else None, MissingSignal.LOAD
            ),
            waiting=reading(value.waiting, MissingSignal.LOAD),
            rate_rps=reading(rate, MissingSignal.RATE),
            response_time_seconds=reading(value.response_time_seconds, MissingSignal.RESPONSE_TIME),
            ttft_seconds=reading(value.ttft_seconds, MissingSignal.TTFT),
            cpu_percent=reading(value.cpu_percent, MissingSignal.NODE),
            memory_percent=reading(value.memory_percent, MissingSignal.NODE),
            gpu_percent=reading(value.gpu_percent, MissingSignal.NODE),
            kv_cache_percent=reading(value.kv_cache_percent, MissingSignal.NODE),
            network_latency_seconds=reading(value.network_latency_seconds, MissingSignal.NODE),
            capacity_errors=(CapacityError("", now),) if one.name in given.capacity_errors else (),
            refreshing=value.refreshing,
        )
    jobs = given.jobs
    return Observation(
        pools=seen,
        arrivals_rps=reading(arrivals, MissingSignal.ARRIVALS),
        burst_rps=reading(given.burst_rps, MissingSignal.BURST),
        rejected_rps=reading(given.rejected_rps),
        input_tokens=reading(given.input_tokens or policy.request.input_tokens, MissingSignal.TOKENS),
        output_tokens=reading(given.output_tokens or policy.request.output_tokens, MissingSignal.TOKENS),
        jobs=JobQueue(jobs.waiting, jobs.oldest_seconds, jobs.mean_job_seconds) if jobs else None,
    )


def _work_rps(pool: Pool, value: GivenPool, policy: Policy) -> float | None:
    """Requests per second that a pool completes at the load given; None where none is given.

    At the share x of its capacity an instance completes x*s/(1 + (s-1)*x) of its throughput
    (`gpu_fleet.scaling.profile`).
    """
    if value.load_percent is not None:
        x = value.load_percent / 100
    elif value.load is not None and value.ready:
        per_instance = value.load if policy.load.unit in (LoadUnit.GPU, LoadUnit.KV_CACHE) else value.load / value.ready
        x = per_instance / pool.capacity
    else:
        return None
    return value.ready * pool.throughput_rps * x * pool.slowdown / (1 + (pool.slowdown - 1) * x)


def _shares(service: Service, values: Mapping[str, GivenPool]) -> dict[str, float]:
    """Share of the arrivals of each pool: by its weight, or without any weight by what its ready instances carry."""
    sizes = {}
    given = any(v.weight is not None for v in values.values())
    for one in service.pools:
        value = values[one.name]
        sizes[one.name] = float(value.weight or 0) if given else value.ready * one.throughput_rps
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


def _load(pool: Pool, value: GivenPool, rate_rps: float | None, policy: Policy) -> float | None:
    """The pool's load: as given, else what its rate comes to by the curve of `_work_rps`, turned round.

    f = rate / throughput gives x = f / (s - (s-1)*f); beyond what an instance can complete it holds all its slots.
    """
    percents = policy.load.unit in (LoadUnit.GPU, LoadUnit.KV_CACHE)
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
        room = pool.slowdown - (pool.slowdown - 1) * f
        most = max(1.0, pool.slots / pool.capacity) if policy.load.unit is LoadUnit.CONCURRENCY else 2.0
        x = min(most, f / room) if room > 0 else most
    total = x * pool.capacity * (1 if percents else value.ready)
    return total + (value.waiting if policy.load.unit is LoadUnit.CONCURRENCY and value.load_percent is None else 0.0)


def _instances(pool: Pool, value: GivenPool, policy: Policy, now: float, load: Reading | None) -> tuple[Instance, ...]:
    zones = pool.zones or ZONES
    ordered = NOW - 60 * value.starting_for_minutes
    each = load
    if load is not None and policy.load.unit not in (LoadUnit.GPU, LoadUnit.KV_CACHE):
        each = Reading(load.value / max(1, value.ready), load.at)
    made: list[Instance] = []
    ready_since = NOW - 86400
    for phase, count in (
        (Phase.READY, value.ready),
        (Phase.STARTING, value.starting),
        (Phase.UNHEALTHY, value.unhealthy),
        (Phase.DRAINING, value.draining),
    ):
        for i in range(count):
            starting = phase is Phase.STARTING
            if starting and ordered > now:
                continue
            ready = phase is Phase.READY
            training = policy.workload is Workload.TRAINING and ready
            busy = training and i < value.busy
            made.append(
                Instance(
                    id=f"{pool.name}-{phase}-{i}",
                    type=pool.types[0],
                    zone=zones[i % len(zones)],
                    phase=phase,
                    since=ordered if starting else ready_since,
                    spot=ready and i < value.spot,
                    ready_at=None if starting else ready_since + pool.lead_seconds,
                    load=each if ready else None,
                    jobs=(policy.training.jobs_per_instance if busy else 0) if training else None,
                    remaining_seconds=value.remaining_seconds if busy else None,
                )
            )
    return tuple(made)
