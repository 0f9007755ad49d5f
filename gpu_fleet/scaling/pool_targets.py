"""The target of each pool: how far its count may move in this run, or that it is held."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gpu_fleet.scaling import capacity_errors
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.continuity import is_extra
from gpu_fleet.scaling.counts import Counts
from gpu_fleet.scaling.decision import PoolTarget, Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.leaving import Shrink, Wish, relieve, shrink
from gpu_fleet.scaling.observation import Phase, PoolObservation
from gpu_fleet.scaling.policy import SizingMode
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import GuardMemory
from gpu_fleet.scaling.window import Band
from gpu_fleet.scaling.zones import Zones

EVERYBODY = 10**6
"""Instances that may leave a service that sleeps."""


@dataclass(frozen=True, slots=True)
class PoolTargets:
    """The target of each pool, weights as they are."""

    by_pool: Mapping[str, PoolTarget]
    reasons: tuple[Reason, ...]
    memory: GuardMemory


def step(context: Context, counts: Counts, band: Band, demand: Demand) -> PoolTargets:
    """Move each pool towards its count, within the policy's steps and what may leave."""
    fleet, asleep = counts.fleet, context.state.zero.asleep
    spare_rps = fleet.ready_rps - (0.0 if asleep else band.in_rps)
    fits = EVERYBODY if asleep else _fits(context, demand)
    zones = Zones.of(0 if asleep else context.policy.availability.min_zones, context.seen.pools.values())
    guard, extra, wants_loads = context.state.guard, is_extra(context.state, context.now), False
    loads_wanted_since = context.now if guard.loads_wanted_since is None else min(context.now, guard.loads_wanted_since)
    reasons: list[Reason] = []
    targets: dict[str, PoolTarget] = {}
    for pool, view in context.pools():
        want = _within(pool, view, counts.by_pool[pool.name] + fleet.lost[pool.name])
        desired, take = view.desired, ()
        if want > view.desired:
            desired = min(want, view.desired + context.policy.horizontal.max_step_out)
        elif not extra:
            wish = Wish(
                by=view.desired - want,
                must=_over(pool, view),
                spare_rps=spare_rps,
                instance_rps=fleet.worth[pool.name],
                fits=fits,
                waited_seconds=context.now - loads_wanted_since,
            )
            leave = shrink(context, pool, view, wish, zones) if wish.by else relieve(context, pool, view, zones)
            serving = sum(1 for i in view.those(Phase.READY) if i.id in leave.take)
            spare_rps -= serving * fleet.worth[pool.name]
            fits -= serving
            zones = leave.zones
            wants_loads = wants_loads or leave.wants_loads
            reasons += leave.reasons
            desired, take = _after(view, leave), leave.take
        base = capacity_errors.changed_base(context, pool, desired, take)
        targets[pool.name] = PoolTarget(desired=desired, weight=view.weight, take=take, on_demand_base=base)
    if not extra:  # a run in between takes nothing, so it cannot tell
        guard = replace(guard, loads_wanted_since=loads_wanted_since if wants_loads else None)
    return PoolTargets(targets, tuple(reasons), guard)


def hold(context: Context) -> PoolTargets:
    """Keep counts and weights as they are, within the bounds."""
    zones = Zones.of(context.policy.availability.min_zones, context.seen.pools.values())
    extra = is_extra(context.state, context.now)
    reasons: list[Reason] = []
    targets: dict[str, PoolTarget] = {}
    for pool, view in context.pools():
        over = _over(pool, view)
        if over and not extra:
            wish = Wish(by=over, must=over, instance_rps=pool.throughput_rps)
            leave = shrink(context, pool, view, wish, zones)
            zones = leave.zones
            reasons += leave.reasons
            targets[pool.name] = PoolTarget(desired=_after(view, leave), weight=view.weight, take=leave.take)
        else:
            desired = max(view.desired, _within(pool, view, 0))
            targets[pool.name] = PoolTarget(desired=desired, weight=view.weight)
    return PoolTargets(targets, tuple(reasons), context.state.guard)


def _after(view: PoolObservation, leave: Shrink) -> int:
    return view.desired - len(leave.take) - leave.drop


def _fits(context: Context, demand: Demand) -> int:
    """How many serving instances may leave so that their load still fits the rest: load * N/(N-1)."""
    if demand.utilization is None:
        return 0
    policy = context.policy
    ready = sum(view.ready_count for view in context.seen.pools.values())
    limit = policy.sizing.target_utilization if policy.sizing_mode is SizingMode.THRESHOLD else 1.0
    return ready - max(1, math.ceil(demand.utilization / limit)) if ready else 0


def _within(pool: Pool, view: PoolObservation, count: int) -> int:
    """The count within the policy's bounds, and these within the group's, the only ones that AWS knows."""
    return max(view.min_size, min(view.max_size, max(pool.min_instances, min(pool.max_instances, count))))


def _over(pool: Pool, view: PoolObservation) -> int:
    """Instances above the pool's maximum, as after a change of the policy's bounds."""
    return max(0, view.desired - _within(pool, view, view.desired))
