"""What is asked of the service now: load, work, backlog and burst, from what was seen.

Load is measured in the policy's unit, work in typical requests per second, the one measure in which pools of
different GPUs compare. With the unit `concurrency` an instance that holds x*C requests does the share
x*s/(1+(s-1)*x) of its throughput (`gpu_fleet.scaling.profile`), not the share x: at s = 3, half the requests in flight
are three quarters of the work. A controller that takes them for half kills too many instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

from gpu_fleet.scaling.model import ratio, response_time, utilization
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit, Policy
from gpu_fleet.scaling.profile import work_share
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import Point, State

WEIGHT_HALF_LIFE_SECONDS = 900.0
LEAST_WEIGHT, MOST_WEIGHT = 0.5, 3.0
DISPERSION_KEPT = 0.97
"""A sample a minute: half of what is known is from the last 23 minutes."""
MOST_DISPERSED = 50.0
SATURATED = 0.95
"""From this share of C on, work done says nothing about work asked for."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the service."""

    rps: float | None
    """Work asked for, typical requests per second; None where neither arrivals nor load were seen."""
    at: float
    """End of the interval it was measured over."""
    fresh: bool
    """New since the last evaluation."""
    counted: bool
    """Whether it comes from arrivals; else from the work done, which is a floor when instances are full."""
    backlog: float
    """Requests that the engines hold back, as typical requests."""
    idle: bool
    """Nothing arrives and nothing is in service, and the heartbeat says so."""
    burst: Point | None
    """The newest 10 seconds, where they are far above the minute."""
    utilization: float | None
    """U."""
    response_time: float | None
    """T."""
    ratio: float | None
    """R."""
    loads: Mapping[str, float | None]
    """Load of each pool, in the policy's unit."""

    @classmethod
    def unknown(cls, now: float) -> Self:
        """Nothing seen."""
        return cls(
            rps=None,
            at=now,
            fresh=False,
            counted=False,
            backlog=0.0,
            idle=False,
            burst=None,
            utilization=None,
            response_time=None,
            ratio=None,
            loads={},
        )


def current(reading: Reading | None, now: float, stale_after_seconds: float) -> float | None:
    """The reading's value, or None where it is missing, stale, or from the future (a clock that jumped)."""
    if reading is None or now - reading.at > stale_after_seconds or reading.at > now + 60:
        return None
    return reading.value


def ready_count(pool: PoolObservation) -> int:
    """Instances that count as capacity."""
    return len(pool.those(Phase.READY))


def pool_load(pool: Pool, seen: PoolObservation, policy: Policy, now: float) -> float | None:
    """Total load of a pool: the engines' own count, else Little's law from the load balancer.

    Little's law takes the mean response time, but at least the time a lone request needs: TargetResponseTime ends at
    the first header (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html),
    and a streamed answer goes on long after it.
    """
    stale = policy.load.stale_after_seconds
    load = current(seen.load, now, stale)
    if load is not None:
        return load
    rate = current(seen.rate_rps, now, stale)
    if rate is None:
        return None
    match policy.load.unit:
        case LoadUnit.REQUESTS:
            return rate
        case LoadUnit.TOKENS:
            return rate * (policy.request.input_tokens + policy.request.output_tokens)
        case LoadUnit.CONCURRENCY:
            seconds = current(seen.response_time_seconds, now, stale) or 0.0
            return rate * max(seconds, pool.service_seconds / pool.slowdown)
        case LoadUnit.GPU | LoadUnit.KV_CACHE:
            return None


def measure(service: Service, seen: Observation, state: State, now: float) -> tuple[Demand, State]:
    """What is asked of the service, and what was learnt of its requests."""
    policy = service.policy
    stale = policy.load.stale_after_seconds
    mean_units = policy.load.unit in {LoadUnit.GPU, LoadUnit.KV_CACHE}
    loads: dict[str, float | None] = {}
    work, saturated, missing = 0.0, False, False
    instance_loads: list[float] = []
    instance_queues: list[float] = []
    capacities: list[float] = []
    for pool in service.pools:
        view = seen.pools[pool.name]
        ready = ready_count(view)
        load = pool_load(pool, view, policy, now)
        loads[pool.name] = load
        if ready == 0:
            continue
        if load is None:
            missing = True
            continue
        correction = state.pools[pool.name].correction if pool.name in state.pools else 1.0
        capacity = pool.capacity * correction
        each = load if mean_units else load / ready
        held = current(view.running, now, stale)
        waiting = current(view.waiting, now, stale) or 0.0
        share = (min(each, held / ready) if held is not None and not mean_units else each) / capacity
        saturated = saturated or share >= SATURATED or waiting > ready
        work += ready * pool.throughput_rps * correction * work_share(share, pool.slowdown)
        queue = (held if held is not None else load) + waiting if not mean_units else load * ready
        instance_loads += [each] * ready
        instance_queues += [queue / ready] * ready
        capacities += [capacity] * ready

    arrivals, arrived_at = _arrivals(service, seen, now, stale)
    weight = state.request_weight
    if arrivals is not None and arrivals > 0 and not missing and not saturated and capacities and work > 0:
        keep = 0.5 ** (max(0.0, min(now - state.at, 600.0)) / WEIGHT_HALF_LIFE_SECONDS)
        weight = weight * keep + min(MOST_WEIGHT, max(LEAST_WEIGHT, work / arrivals)) * (1 - keep)
    rps, at = _work_asked_for(arrivals, arrived_at, weight, None if missing else work, seen, loads)
    u = utilization(instance_loads, capacities) if not missing else None
    limit = len(capacities) * policy.sizing.target_utilization
    backlog = sum(current(v.waiting, now, stale) or 0.0 for v in seen.pools.values()) * weight
    state = _disperse(seen, arrivals, arrived_at, state, now)
    burst = _burst(policy, seen, arrivals, state, now, weight)
    known = [load for load in loads.values() if load is not None]
    idle = arrivals == 0 and not any(known) and backlog == 0 and not (current(seen.rejected_rps, now, stale) or 0.0)
    demand = Demand(
        rps=rps,
        at=at,
        fresh=rps is not None and (not state.series or at > state.series[-1].at),
        counted=arrivals is not None,
        backlog=backlog,
        idle=idle,
        burst=burst,
        utilization=u,
        response_time=response_time(instance_queues, capacities) if u is not None else None,
        ratio=ratio(u, limit) if u is not None else None,
        loads=loads,
    )
    return demand, replace(state, request_weight=weight)


def _arrivals(service: Service, seen: Observation, now: float, stale: float) -> tuple[float | None, float]:
    """Requests per second of the service, the load balancer's own count first, and when that was."""
    value = current(seen.arrivals_rps, now, stale)
    if value is not None and seen.arrivals_rps is not None:
        rejected = current(seen.rejected_rps, now, stale) or 0.0
        return value + rejected, seen.arrivals_rps.at
    rates = [seen.pools[p.name].rate_rps for p in service.pools]
    known = [r for r in rates if r is not None and current(r, now, stale) is not None]
    if not known or len(known) < sum(1 for p in service.pools if ready_count(seen.pools[p.name])):
        return None, 0.0
    return sum(r.value for r in known), min(r.at for r in known)


def _work_asked_for(
    arrivals: float | None,
    arrived_at: float,
    weight: float,
    work: float | None,
    seen: Observation,
    loads: Mapping[str, float | None],
) -> tuple[float | None, float]:
    """Arrivals times the work of a request; the work done where no arrivals were seen.

    The work done is what the instances could do, and no more; so where arrivals are known, they alone say what was
    asked. Nor would the larger of the two do: requests that queue up within seconds look, averaged over the minute,
    like steady work of a fuller batch.
    """
    load_at = max(
        (v.load.at for n, v in seen.pools.items() if v.load is not None and loads[n] is not None), default=0.0
    )
    if arrivals is not None:
        return arrivals * weight, arrived_at
    if work is not None and load_at > 0:
        return work, load_at
    return None, 0.0


def _disperse(seen: Observation, arrivals: float | None, arrived_at: float, state: State, now: float) -> State:
    """Burstiness: each 10 seconds held against the minute that they turn out to be part of.

    (count - expected)^2 / expected is 1 in the mean for a Poisson process. The minute is seen a minute or two later
    than its newest 10 seconds; held against an older minute, every rise would pass for a burst.
    """
    waiting = [p for p in state.newest if p.at > state.dispersed_at]
    newest = current(seen.burst_rps, now, 120.0)
    if newest is not None and seen.burst_rps is not None:
        last = waiting[-1].at if waiting else state.dispersed_at
        if seen.burst_rps.at > last:
            waiting.append(Point(seen.burst_rps.at, newest))
    dispersion, held = state.dispersion, state.dispersed_at
    for point in (p for p in waiting if p.at <= arrived_at):
        held = point.at
        expected = 10 * (arrivals or 0.0)
        if expected >= 1 and point.at > arrived_at - 60:
            sample = min(MOST_DISPERSED, (10 * point.rps - expected) ** 2 / expected)
            old = 1.0 if dispersion is None else dispersion
            dispersion = old * DISPERSION_KEPT + sample * (1 - DISPERSION_KEPT)
    kept = tuple(p for p in waiting if p.at > held)[-5:]
    return replace(state, newest=kept, dispersed_at=held, dispersion=dispersion)


def _burst(
    policy: Policy, seen: Observation, arrivals: float | None, state: State, now: float, weight: float
) -> Point | None:
    """The newest 10 seconds, where they are far above the minute.

    A count of n has a standard deviation of sqrt(n) even when nothing happens, so a burst must also stand out of the
    noise: at 0.5 rps, 5 requests are expected in 10 s, and only 5 + 4*sqrt(5) = 14 are a burst, not 8.
    """
    newest = current(seen.burst_rps, now, 60.0)
    if newest is None or arrivals is None or seen.burst_rps is None:
        return None
    expected, count = 10 * arrivals, 10 * newest
    noise = 4 * (max(1.0, state.dispersion or 1.0) * max(expected, 1.0)) ** 0.5
    if newest > policy.burst.factor * arrivals and count - expected > noise:
        return Point(seen.burst_rps.at, newest * weight)
    return None
