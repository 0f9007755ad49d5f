"""The clairvoyant fleet: the least cost of any fleet of these pools that knows the whole trace beforehand.

**What it must carry.** Time is cut into windows of one minute. In each, the instances must have the capacity for the
window's work, counted with that window's own prompt and answer lengths (`gpu_fleet.backtest.trace_demand`). Inside a
window the work flows like a fluid: no request waits, and no instance is idle for lack of one. A real fleet needs
headroom for both, so it costs more.

**Why a minute.** It is the scaler's own step, EC2 bills an instance for at least 60 s
(https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-on-demand-instances.html), and it is longer than the SLO lets a
request wait. Within shorter windows a fleet could follow single bursts, which nothing that boots can.

**Is it a lower bound?** For one pool, yes: for every policy whose capacity is constant within each minute and which
serves every request, except for work carried over a minute's edge. Requests in service at the edge (seconds' worth, at
most the SLO's time to first token plus an answer's length) may be finished by the next minute's instances. The bound
does not get this allowance; it matters only where a minute's peak is cut off at both sides. For several pools, a
window's demand is taken in the measure of the pool in which it is least: for any split x_p of the window,
sum n_p * T_p >= min_p D_p, where D_p is its work in pool p's own typical requests and T_p that pool's throughput. So
the bound is at or below the exact figure, and exact where lengths do not vary. Lengths are not matched to pools within
a window.

**Attainment.** By default every request is served. `may_fail` leaves out that share of all requests, where this saves
most. This is exact except for the last window cut, which is taken in part, so that the figure stays a lower bound. The
fleet with boot time always serves all requests.

**Constraints.** The clairvoyant fleet also keeps the pools' minima and maxima, each pool's own vCPU quota, and the
service's floor (`availability.min_instances`, except in minutes without a request if the policy lets the service
sleep). It ignores zones, spot interruptions (the price is the pool's mean price), capacity errors, drains, and a quota
that several pools share; each would make it dearer.

**Boot.** An instance is paid from its order, `boot_seconds` before it serves, and may be kept through a quiet time if
that is cheaper than another boot. The first minute's instances were ordered before the trace began, as for every
contender. One pool splits into levels: the k-th instance is needed whenever k or more are, and each gap between two
such times is bridged if it is no longer than the boot. This is exact, since cost and constraint are both sums over
levels (the up-steps of a step function are those of its level sets). For several pools, dynamic programming over the
counts of all pools is exact too. If that would be too much work, the answer is the best fleet with one pool or more
fixed at its minimum, and `exact` is false.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.backtest.cheapest_path import Runs, States, cheapest_path
from gpu_fleet.backtest.fleet_problem import ROUNDING_SLACK, Counts, FleetProblem, instances_needed
from gpu_fleet.backtest.mix_frontier import Cuts, ServedWindows, cuts, mix_frontier, most_saved_usd
from gpu_fleet.backtest.trace_demand import Floats, TraceDemand
from gpu_fleet.scaling.service import Service

MOST_WORK = 2_000_000_000
"""States times runs that the dynamic program may visit: about ten seconds on one core."""


@dataclass(frozen=True, slots=True, eq=False)
class CheapestFleet:
    """The least cost, and counts that achieve it."""

    usd: float
    counts: Mapping[str, Counts]
    """Serving instances of each pool in each window: shape (windows,)."""
    billed_seconds: Mapping[str, float]
    """Paid instance-seconds of each pool, boots included."""
    short_windows: int
    """Windows whose demand exceeds what all pools at their maximum carry; the fleet is at its maximum there."""
    exact: bool = True


def without_boot(
    service: Service, demand: TraceDemand, pools: Sequence[str] | None = None, may_fail: float = 0.0
) -> CheapestFleet:
    """Return the cheapest fleet if instances started at once and cost only while they serve.

    `pools` names the pools that may serve (default: all that reach the SLO); the others stay at their minimum.
    `may_fail` is the share of all requests that may be left out. Raises ValueError for an unknown pool and for a share
    outside 0 to 1.
    """
    if not 0 <= may_fail < 1:
        raise ValueError(f"may_fail: must be 0 or more and below 1 (got {may_fail})")
    problem = FleetProblem.of(service, demand, pools)
    counts = np.empty((len(problem.work_rps), len(problem.pools)), dtype=np.int64)
    possible_cuts: list[Cuts] = []
    for floor in np.unique(problem.floor):
        windows = problem.floor == floor
        work_rps = problem.work_rps[windows]
        frontier = mix_frontier(problem.pools, int(floor), problem.peak_rps)
        choice = frontier.cheapest(work_rps)
        counts[windows] = frontier.counts[choice]
        if may_fail > 0:
            served = ServedWindows(choice, work_rps, demand.requests[windows], demand.seconds[windows])
            possible_cuts.append(cuts(frontier, served))
    saved_usd = most_saved_usd(possible_cuts, may_fail * float(demand.requests.sum())) if possible_cuts else 0.0
    at_once = replace(problem, pools=tuple(replace(pool, launch_usd=0.0) for pool in problem.pools))
    return _fleet(at_once, counts, dict.fromkeys((pool.name for pool in problem.pools), 0.0), saved_usd)


def with_boot(
    service: Service, demand: TraceDemand, boot_seconds: float | None = None, pools: Sequence[str] | None = None
) -> CheapestFleet:
    """Return the cheapest fleet that pays for its launches, and for its instances from their order, `boot_seconds`
    before they serve.

    `boot_seconds` holds for every pool (default: each pool's `lead_seconds`); `pools` as in `without_boot`. Raises
    ValueError for an unknown pool and for a negative time.
    """
    if boot_seconds is not None and boot_seconds < 0:
        raise ValueError(f"boot_seconds: must not be negative (got {boot_seconds})")
    problem = FleetProblem.of(service, demand, pools)
    lead = {p.name: p.lead_seconds if boot_seconds is None else boot_seconds for p in service.pools}
    if len(problem.free_pools) <= 1 and all(pool.rps > 0 for pool in problem.free_pools):
        return _fleet(problem, _counts_by_level(problem, lead), lead)
    return _fleet_by_path(problem, lead)


def cost_usd(
    service: Service, demand: TraceDemand, counts: Mapping[str, Counts], boot_seconds: float | Mapping[str, float]
) -> float:
    """Return the cost of a schedule: each second that an instance serves, and boot and launch before each increase.

    `counts` as in `CheapestFleet`. The first window's instances were ordered before the trace began: of the boot before
    an increase at second t, only min(t, boot) lies within it. Of the instances that leave, the newest leave first,
    which is cheapest.
    """
    lead = boot_seconds if isinstance(boot_seconds, Mapping) else dict.fromkeys(counts, boot_seconds)
    pools = {pool.name: pool for pool in service.pools}
    return sum(
        pools[name].usd_per_hour / 3600 * _billed_seconds(demand, of_pool, lead[name])
        + pools[name].launch_usd * _launches(of_pool)
        for name, of_pool in counts.items()
    )


def _fleet(
    problem: FleetProblem, counts: Counts, boot_seconds: Mapping[str, float], saved_usd: float = 0.0
) -> CheapestFleet:
    """Return the fleet with these counts: shape (windows, pools)."""
    capacity = counts @ problem.instance_rps
    billed = {
        pool.name: _billed_seconds(problem.demand, counts[:, i], boot_seconds[pool.name])
        for i, pool in enumerate(problem.pools)
    }
    launch_usd = sum(pool.launch_usd * _launches(counts[:, i]) for i, pool in enumerate(problem.pools))
    return CheapestFleet(
        usd=sum(pool.usd_per_second * billed[pool.name] for pool in problem.pools) + launch_usd - saved_usd,
        counts={pool.name: counts[:, i] for i, pool in enumerate(problem.pools)},
        billed_seconds=billed,
        short_windows=int((capacity < problem.work_rps * (1 - ROUNDING_SLACK)).sum()),
    )


def _starts(demand: TraceDemand) -> Floats:
    return np.concatenate(([0.0], np.cumsum(demand.seconds)[:-1]))


def _launches(counts: Counts) -> int:
    """Return the instances ordered; those of the first window were there before."""
    return int(np.maximum(np.diff(counts), 0).sum())


def _billed_seconds(demand: TraceDemand, counts: Counts, boot_seconds: float) -> float:
    ups = np.maximum(np.diff(counts, prepend=counts[:1]), 0)
    return float((counts * demand.seconds).sum() + (ups * np.minimum(_starts(demand), boot_seconds)).sum())


# With boot, one free pool: each level of its count is a problem of its own.


def _counts_by_level(problem: FleetProblem, lead: Mapping[str, float]) -> Counts:
    """Return the cheapest counts when at most one pool's may vary: shape (windows, pools)."""
    counts = np.empty((len(problem.work_rps), len(problem.pools)), dtype=np.int64)
    fixed = [pool for pool in problem.pools if not pool.is_free]
    fixed_count = sum(pool.at_least for pool in fixed)
    left_rps = np.maximum(problem.work_rps - sum(pool.at_least * pool.rps for pool in fixed), 0.0)
    for i, pool in enumerate(problem.pools):
        needed = np.full(len(problem.work_rps), pool.at_least)
        if pool.is_free:
            needed = np.maximum(np.maximum(needed, instances_needed(left_rps, pool.rps)), problem.floor - fixed_count)
        counts[:, i] = _bridged(np.minimum(needed, pool.at_most), problem.demand, lead[pool.name] + pool.worth_seconds)
    return counts


def _bridged(needed: Counts, demand: TraceDemand, longest_seconds: float) -> Counts:
    """Return the counts with every gap filled that is no longer: an idle instance costs no more than another launch."""
    starts = _starts(demand)
    ends = starts + demand.seconds
    deltas = np.zeros(len(needed) + 1, dtype=np.int64)
    for level in range(int(needed.min()) + 1, int(needed.max()) + 1):
        on = np.flatnonzero(needed >= level)
        before_gap, after_gap = on[:-1], on[1:]
        short = (after_gap - before_gap > 1) & (starts[after_gap] - ends[before_gap] <= longest_seconds)
        np.add.at(deltas, before_gap[short] + 1, 1)
        np.add.at(deltas, after_gap[short], -1)
    return needed + np.cumsum(deltas[:-1])


# With boot, several free pools: dynamic programming over the counts of all.


def _fleet_by_path(problem: FleetProblem, lead: Mapping[str, float]) -> CheapestFleet:
    floor = int(problem.floor.max(initial=0))
    sizes = [pool.most_useful(floor, problem.peak_rps) - pool.at_least + 1 for pool in problem.pools]
    run_starts = _run_starts(problem)
    if math.prod(sizes) * len(run_starts) > MOST_WORK:
        return _fleet_with_one_pool_fixed(problem, lead)
    counts = np.array(list(itertools.product(*(range(size) for size in sizes))), dtype=np.int64)
    counts += np.array([pool.at_least for pool in problem.pools])
    price = np.array([pool.usd_per_second for pool in problem.pools])
    states = States(
        shape=np.array(sizes, dtype=np.int64),
        capacity_rps=counts.astype(np.float64) @ problem.instance_rps,
        instances=counts.sum(axis=1),
        usd_per_second=counts.astype(np.float64) @ price,
    )
    starts = _starts(problem.demand)
    edges = np.append(starts, starts[-1] + problem.demand.seconds[-1])
    begins, ends = edges[run_starts], np.append(edges[run_starts[1:]], edges[-1])
    boots = np.array([lead[pool.name] for pool in problem.pools])
    runs = Runs(
        work_rps=np.minimum(problem.work_rps[run_starts] * (1 - ROUNDING_SLACK), states.capacity_rps.max()),
        floor=problem.floor[run_starts],
        seconds=ends - begins,
        boot_usd=price * np.minimum(begins[:, None], boots) + np.array([pool.launch_usd for pool in problem.pools]),
    )
    repeats = np.diff(np.append(run_starts, len(problem.work_rps)))
    return _fleet(problem, np.repeat(counts[cheapest_path(states, runs)], repeats, axis=0), lead)


def _run_starts(problem: FleetProblem) -> NDArray[np.intp]:
    """Return the windows at which the demand changes."""
    changes = (np.diff(problem.work_rps) != 0) | (np.diff(problem.floor) != 0)
    return np.flatnonzero(np.concatenate(([True], changes)))


def _fleet_with_one_pool_fixed(problem: FleetProblem, lead: Mapping[str, float]) -> CheapestFleet:
    """Return the best of the fleets in which one more pool keeps its minimum: there are too many counts to try."""
    fleets: list[CheapestFleet] = []
    for i, pool in enumerate(problem.pools):
        if not pool.is_free:
            continue
        smaller = problem.with_minimum_of(i)
        if not smaller.free_pools:
            continue
        fleets.append(
            _fleet_by_path(smaller, lead)
            if len(smaller.free_pools) > 1
            else _fleet(smaller, _counts_by_level(smaller, lead), lead)
        )
    return replace(min(fleets, key=lambda fleet: (fleet.short_windows, fleet.usd)), exact=False)
