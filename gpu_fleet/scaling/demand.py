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

from gpu_fleet.scaling import arrival_counts
from gpu_fleet.scaling.arrival_counts import LONGEST_STEP_SECONDS, ArrivalRates, kept
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.model import response_time, utilization
from gpu_fleet.scaling.observation import Observation, PoolObservation, current
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.profile import work_share
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import DemandMemory, Point

WEIGHT_HALF_LIFE_SECONDS = 900.0
LEAST_WEIGHT, MOST_WEIGHT = 0.02, 50.0
YOUNG_SECONDS = 300.0
"""Where only the weight tells how many answers a request asks for, its first value counts for so long."""
WEIGHT_STEP = 3.0
"""A minute counts for no more than three times the weight known, and for no less than a third."""
SATURATED = 0.95
"""From this share of C on, work done says nothing about work demanded."""
STEADY = 0.1
"""While more than this share of a pool's instances join or leave, its load says little about one request."""
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
    steady: bool = True
    """The load of each pool was counted at about as many instances as are ready."""
    instance_loads: list[float] = field(default_factory=list)
    instance_queues: list[float] = field(default_factory=list)
    capacities: list[float] = field(default_factory=list)


def measure(context: Context) -> tuple[Demand, DemandMemory]:
    """Measure the demand, and learn what a request costs and how bursty arrivals are."""
    carried = _carried(context)
    arrived, memory = arrival_counts.count(context, full=carried.saturated)
    memory = _weigh(context, memory, carried, arrived)
    weight = memory.request_weight
    rps, at = _demanded(context.seen, carried, arrived, weight)
    u = utilization(carried.instance_loads, carried.capacities) if not carried.missing else None
    backlog = sum(context.value(view.waiting) or 0.0 for view in context.seen.pools.values()) * weight
    rejected = context.value(context.seen.rejected_rps) or 0.0
    series = context.state.forecast.series
    nothing_comes = arrived.rps == 0 and not arrived.counted_rps
    demand = Demand(
        rps=rps,
        at=at,
        fresh=rps is not None and (not series or at > series[-1].at),
        counted=arrived.rps is not None,
        backlog=backlog,
        rejected_rps=current(context.seen.rejected_rps, context.now, WAKING_SECONDS) or 0.0,
        idle=nothing_comes and not any(carried.loads.values()) and backlog == 0 and not rejected,
        burst=arrival_counts.burst(context, memory),
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
        running, waiting = context.value(view.running), context.value(view.waiting) or 0.0
        served = min(load, running) if running is not None else load
        share = served / view.counted_at / capacity
        carried.saturated = carried.saturated or share >= SATURATED or waiting > view.counted_at
        carried.work_rps += view.counted_at * pool.throughput_rps * correction * work_share(share, pool.slowdown)
        carried.steady = carried.steady and abs(view.counted_at - ready) <= STEADY * ready
        queue = (running if running is not None else load) + waiting
        carried.instance_loads += [load / ready] * ready
        carried.instance_queues += [queue / ready] * ready
        carried.capacities += [capacity] * ready
    return carried


def _weigh(context: Context, memory: DemandMemory, carried: _Carried, arrived: ArrivalRates) -> DemandMemory:
    """Work of a request, moved towards work done over arrivals where instances were not full.

    The engines' own count is of the same minute as the work. Where they have none, the weight also stands for what one
    request of the load balancer asks of them, which may be far from 1: a young service takes the mean of its first
    minutes. Full instances may raise it while their queue does not shrink: then what they did is a floor of what came.
    """
    queue, before = _queue(context), memory.queue
    memory = replace(memory, queue=queue or before)
    weight, counted = memory.request_weight, context.value(context.seen.engine_rps)
    requests = arrived.rps if counted is None else counted
    if not requests or requests < 0 or carried.missing or not carried.steady or carried.work_rps <= 0:
        return memory
    sample = min(WEIGHT_STEP * weight, max(weight / WEIGHT_STEP, carried.work_rps / requests))
    seconds = max(0.0, min(context.now - context.state.at, LONGEST_STEP_SECONDS))
    if carried.saturated:
        if sample <= weight or queue is None or before is None or queue.rps < before.rps:
            return memory
        learnt = 1 - kept(queue.at - before.at, YOUNG_SECONDS)
    else:
        learnt = 1 - kept(seconds, WEIGHT_HALF_LIFE_SECONDS)
    if counted is None:
        learnt = max(learnt, seconds / (YOUNG_SECONDS + context.now - context.state.since))
    moved = min(MOST_WEIGHT, max(LEAST_WEIGHT, weight + (sample - weight) * learnt))
    return replace(memory, request_weight=moved)


def _queue(context: Context) -> Point | None:
    """Requests that wait in the engines, at the end of the newest minute that tells."""
    waiting = [view.waiting for view in context.seen.pools.values() if context.value(view.waiting) is not None]
    known = [reading for reading in waiting if reading is not None]
    return Point(max(r.at for r in known), sum(r.value for r in known)) if known else None


def _demanded(seen: Observation, carried: _Carried, arrived: ArrivalRates, weight: float) -> tuple[float | None, float]:
    """Arrivals times the work of a request; the work done where no arrivals were seen.

    Work done is bounded by what the instances could do. So where arrivals are known, they alone are the demand. The
    larger of the two would not do either: requests that queue up within seconds look, averaged over the minute, like
    steady work of a fuller batch.
    """
    if arrived.rps is not None:
        return arrived.rps * weight, arrived.at
    known = [view.load.at for name, view in seen.pools.items() if view.load and carried.loads[name] is not None]
    load_at = max(known, default=0.0)
    if not carried.missing and load_at > 0:
        return carried.work_rps, load_at
    return None, 0.0
