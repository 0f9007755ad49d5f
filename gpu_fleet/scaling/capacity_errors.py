"""Pools and zones where AWS had no such instance: marked, avoided for a while, and tried again.

Users complain of cluster autoscalers that retry the same group for ever, or never come back to it
(docs/complaints.md). Karpenter avoids an offering for 3 minutes; here the time starts at the policy's `avoid_seconds`
and doubles with each error in a row, up to an hour, and one launch that works clears the mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling import learning
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.missing import shortage
from gpu_fleet.scaling.observation import Phase, PoolObservation
from gpu_fleet.scaling.policy import CapacityErrors
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import Mark, PoolState

LONGEST_SECONDS = 3600.0


def mark(policy: CapacityErrors, remembered: PoolState, seen: PoolObservation, now: float) -> PoolState:
    """Update the pool's marks by the errors and launches seen."""
    if not remembered.marks and not seen.capacity_errors:
        return remembered
    marks = {(m.zone, m.spot): m for m in remembered.marks if now < m.until + LONGEST_SECONDS}
    newest = remembered.marked_at
    for error in sorted(seen.capacity_errors, key=lambda e: e.at):
        if error.at <= remembered.marked_at:
            continue
        newest = max(newest, error.at)
        key = (error.zone, error.spot)
        errors = marks[key].errors + 1 if key in marks else 1
        seconds = min(LONGEST_SECONDS, policy.avoid_seconds * 2 ** (errors - 1))
        marks[key] = Mark(error.zone, error.at + seconds, errors, error.spot)
    for instance in (i for i in seen.those(Phase.STARTING, Phase.READY) if i.since > newest):
        marks.pop((instance.zone, instance.spot), None)
        marks.pop(("", instance.spot), None)
    return replace(remembered, marks=tuple(marks.values()), marked_at=newest)


def blocked(pool: Pool, remembered: PoolState, now: float) -> bool:
    """Whether no zone of the pool is worth trying now; only a pool all of spot is blocked by the marks of spot."""
    spot = pool.spot_percent >= 100
    marked = {m.zone for m in remembered.marks if m.until > now and m.spot is spot}
    return "" in marked or (bool(pool.zones) and marked >= set(pool.zones)) or (bool(marked) and not pool.zones)


def on_demand_base(pool: Pool, seen: PoolObservation, remembered: PoolState, lead_seconds: float, now: float) -> int:
    """On-demand instances before the spot share: the pool's own base, and whatever spot does not deliver.

    Spot counts by READY, as in SkyServe, with 1.5 lead times of patience for instances that boot. A pool of 10 with
    half on spot and 2 spot instances that do not come gets a base of 2, so that the group's next launches are
    on-demand; when spot is back, the base is the pool's own again.
    """
    wanted = int((seen.desired - pool.on_demand_base) * pool.spot_percent / 100)
    if wanted <= 0:
        return pool.on_demand_base
    good = sum(
        1
        for i in seen.instances
        if i.spot and (i.phase is Phase.READY or (i.phase is Phase.STARTING and now - i.since <= 1.5 * lead_seconds))
    )
    short = max(0, wanted - good)
    late = any(i.spot and i.phase is Phase.STARTING and now - i.since > 1.5 * lead_seconds for i in seen.instances)
    if short and (late or any(m.spot and m.until > now for m in remembered.marks)):
        return pool.on_demand_base + short
    return pool.on_demand_base


def changed_base(context: Context, pool: Pool, seen: PoolObservation) -> int | None:
    """`on_demand_base`, or None where it stays or the pool has no spot."""
    if pool.spot_percent <= 0:
        return None
    lead_seconds = learning.lead_seconds(pool, context.state)
    base = on_demand_base(pool, seen, context.state.pool(pool.name), lead_seconds, context.now)
    return base if base != seen.on_demand_base else None


def mark_pools(context: Context) -> Mapping[str, PoolState]:
    """Bring every pool's marks, and the ages of its unfilled orders, up to now."""
    pools = dict(context.state.pools)
    for pool, view in context.pools():
        marked = mark(context.policy.capacity_errors, pools[pool.name], view, context.now)
        pools[pool.name] = replace(marked, short=shortage(marked.short, view, context.now))
    return pools
