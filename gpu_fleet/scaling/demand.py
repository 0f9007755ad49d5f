"""The demand on a service now: load, work, backlog and burst, from what was seen.

Load is measured in the policy's unit, work in typical requests per second, the one measure in which pools of
different GPUs compare. With the unit `concurrency` an instance that holds x*C requests does the share
x*s/(1+(s-1)*x) of its throughput (`gpu_fleet.scaling.profile`), not the share x: at s = 3, half the requests in flight
are three quarters of the work. A controller that mistook one for the other would take too many instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.model import response_time, utilization
from gpu_fleet.scaling.observation import Observation, PoolObservation, current
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.profile import work_share
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import DemandMemory, Point

WEIGHT_HALF_LIFE_SECONDS = 900.0
LEAST_WEIGHT, MOST_WEIGHT = 0.5, 3.0
DISPERSION_KEPT = 0.97
"""One sample a minute: half of what is known comes from the last 23 minutes."""
MOST_DISPERSED = 50.0
SATURATED = 0.95
"""From this share of C on, work done says nothing about work demanded."""
WAKING_SECONDS = 180.0
"""Requests that found no target count as demand for so long."""


@dataclass(frozen=True, slots=True)
class Demand:
    """The demand on the service."""

    rps: float | None
    """Work, typical requests per second; None where neither arrivals nor load were seen."""
    at: float
    """End of the interval it was measured over."""
    fresh: bool
    """New since the last evaluation."""
    counted: bool
    """Whether it comes from arrivals; else from the work done, which is a floor when instances are full."""
    backlog: float
    """Requests that the engines hold back, as typical requests."""
    rejected_rps: float
    """Requests per second that found no target, lately."""
    idle: bool
    """Nothing arrives and nothing is in service, and the heartbeat says so."""
    burst: Point | None
    """The newest 10 seconds, where they are far above the minute."""
    utilization: float | None
    """Load of the ready instances, in full ones; what must fit the rest when some leave."""
    response_time: float | None
    """The article's T."""
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
            rejected_rps=0.0,
            idle=False,
            burst=None,
            utilization=None,
            response_time=None,
            loads={},
        )

    @property
    def known_rps(self) -> float:
        """The demand, or where it is not known the requests that found no target."""
        return self.rps if self.rps is not None else self.rejected_rps


@dataclass(slots=True)
class _Carried:
    """What the ready instances carry, summed up pool by pool."""

    loads: dict[str, float | None] = field(default_factory=dict)
    work_rps: float = 0.0
    saturated: bool = False
    missing: bool = False
    """The load of a pool with ready instances is not known."""
    instance_loads: list[float] = field(default_factory=list)
    instance_queues: list[float] = field(default_factory=list)
    capacities: list[float] = field(default_factory=list)


def measure(context: Context) -> tuple[Demand, DemandMemory]:
    """Measure the demand, and learn what a request costs and how bursty arrivals are."""
    memory = context.state.demand
    carried = _carried(context)
    arrivals, arrived_at = _arrivals(context)
    weight = _request_weight(context, carried, arrivals)
    memory = replace(_disperse(context, arrivals, arrived_at), request_weight=weight)
    rps, at = _demanded(context.seen, carried, arrivals, arrived_at, weight)
    u = utilization(carried.instance_loads, carried.capacities) if not carried.missing else None
    backlog = sum(context.value(view.waiting) or 0.0 for view in context.seen.pools.values()) * weight
    rejected = context.value(context.seen.rejected_rps) or 0.0
    series = context.state.forecast.series
    demand = Demand(
        rps=rps,
        at=at,
        fresh=rps is not None and (not series or at > series[-1].at),
        counted=arrivals is not None,
        backlog=backlog,
        rejected_rps=current(context.seen.rejected_rps, context.now, WAKING_SECONDS) or 0.0,
        idle=arrivals == 0 and not any(carried.loads.values()) and backlog == 0 and not rejected,
        burst=_burst(context, memory, arrivals),
        utilization=u,
        response_time=response_time(carried.instance_queues, carried.capacities) if u is not None else None,
        loads=carried.loads,
    )
    return demand, memory


def pool_load(context: Context, pool: Pool, view: PoolObservation) -> float | None:
    """Total load of a pool: the engines' own count, else Little's law from the load balancer.

    Little's law takes the mean response time, but at least the time a lone request needs: TargetResponseTime ends at
    the first header (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html),
    and a streamed answer goes on long after it.
    """
    load = context.value(view.load)
    if load is not None:
        return load
    rate = context.value(view.rate_rps)
    if rate is None:
        return None
    match context.policy.load.unit:
        case LoadUnit.REQUESTS:
            return rate
        case LoadUnit.CONCURRENCY:
            seconds = context.value(view.response_time_seconds) or 0.0
            return rate * max(seconds, pool.service_seconds / pool.slowdown)


def _carried(context: Context) -> _Carried:
    carried = _Carried()
    for pool, view in context.pools():
        ready = view.ready_count
        load = carried.loads[pool.name] = pool_load(context, pool, view)
        if ready == 0:
            continue
        if load is None:
            carried.missing = True
            continue
        correction = context.correction(pool)
        capacity = pool.capacity * correction
        each = load / ready
        running, waiting = context.value(view.running), context.value(view.waiting) or 0.0
        share = (min(each, running / ready) if running is not None else each) / capacity
        carried.saturated = carried.saturated or share >= SATURATED or waiting > ready
        carried.work_rps += ready * pool.throughput_rps * correction * work_share(share, pool.slowdown)
        queue = (running if running is not None else load) + waiting
        carried.instance_loads += [each] * ready
        carried.instance_queues += [queue / ready] * ready
        carried.capacities += [capacity] * ready
    return carried


def _arrivals(context: Context) -> tuple[float | None, float]:
    """Requests per second of the service, the load balancer's own count first, and the end of that interval."""
    seen = context.seen
    value = context.value(seen.arrivals_rps)
    if value is not None and seen.arrivals_rps is not None:
        return value + (context.value(seen.rejected_rps) or 0.0), seen.arrivals_rps.at
    rates = [view.rate_rps for _, view in context.pools()]
    known = [rate for rate in rates if rate is not None and context.value(rate) is not None]
    if not known or len(known) < sum(1 for _, view in context.pools() if view.ready_count):
        return None, 0.0
    return sum(rate.value for rate in known), min(rate.at for rate in known)


def _request_weight(context: Context, carried: _Carried, arrivals: float | None) -> float:
    """Work of a request, moved towards work done over arrivals where instances were not full."""
    weight = context.state.demand.request_weight
    if not arrivals or arrivals < 0 or carried.missing or carried.saturated or carried.work_rps <= 0:
        return weight
    keep = 0.5 ** (max(0.0, min(context.now - context.state.at, 600.0)) / WEIGHT_HALF_LIFE_SECONDS)
    return weight * keep + min(MOST_WEIGHT, max(LEAST_WEIGHT, carried.work_rps / arrivals)) * (1 - keep)


def _demanded(
    seen: Observation, carried: _Carried, arrivals: float | None, arrived_at: float, weight: float
) -> tuple[float | None, float]:
    """Arrivals times the work of a request; the work done where no arrivals were seen.

    Work done is bounded by what the instances could do. So where arrivals are known, they alone are the demand. The
    larger of the two would not do either: requests that queue up within seconds look, averaged over the minute, like
    steady work of a fuller batch.
    """
    if arrivals is not None:
        return arrivals * weight, arrived_at
    known = [view.load.at for name, view in seen.pools.items() if view.load and carried.loads[name] is not None]
    load_at = max(known, default=0.0)
    if not carried.missing and load_at > 0:
        return carried.work_rps, load_at
    return None, 0.0


def _disperse(context: Context, arrivals: float | None, arrived_at: float) -> DemandMemory:
    """Burstiness: compare each 10 seconds with the minute that they turn out to be part of.

    (count - expected)^2 / expected has the mean 1 for a Poisson process. The minute is seen a minute or two later
    than its newest 10 seconds; compared with an older minute, every rise would pass for a burst.
    """
    memory, reading = context.state.demand, context.seen.burst_rps
    waiting = [p for p in memory.newest if p.at > memory.dispersed_at]
    newest = current(reading, context.now, 120.0)
    if newest is not None and reading is not None:
        last = waiting[-1].at if waiting else memory.dispersed_at
        if reading.at > last:
            waiting.append(Point(reading.at, newest))
    dispersion, compared_at = memory.dispersion, memory.dispersed_at
    for point in (p for p in waiting if p.at <= arrived_at):
        compared_at = point.at
        expected = 10 * (arrivals or 0.0)
        if expected >= 1 and point.at > arrived_at - 60:
            sample = min(MOST_DISPERSED, (10 * point.rps - expected) ** 2 / expected)
            old = 1.0 if dispersion is None else dispersion
            dispersion = old * DISPERSION_KEPT + sample * (1 - DISPERSION_KEPT)
    kept = tuple(p for p in waiting if p.at > compared_at)[-5:]
    return replace(memory, newest=kept, dispersed_at=compared_at, dispersion=dispersion)


def _burst(context: Context, memory: DemandMemory, arrivals: float | None) -> Point | None:
    """The newest 10 seconds, where they are far above the minute.

    A count of n has a standard deviation of sqrt(n) even when nothing happens, so a burst must also stand out of the
    noise: at 0.5 rps, 5 requests are expected in 10 s, and only 5 + 4*sqrt(5) = 14 are a burst, not 8.
    """
    reading = context.seen.burst_rps
    newest = current(reading, context.now, 60.0)
    if newest is None or arrivals is None or reading is None:
        return None
    expected, count = 10 * arrivals, 10 * newest
    noise = 4 * (max(1.0, memory.dispersion or 1.0) * max(expected, 1.0)) ** 0.5
    if newest > context.policy.burst.factor * arrivals and count - expected > noise:
        return Point(reading.at, newest * memory.request_weight)
    return None
