"""Orders that a group cannot fill: where its launches fail is marked, avoided for a while, and tried again.

Why they fail makes no difference: what cannot be launched now is no capacity to come, and other pools carry the demand.
Users complain of cluster autoscalers that retry the same group for ever, or never come back to it
(docs/complaints.md). Karpenter avoids an offering for 3 minutes; here the time starts at the policy's `avoid_seconds`
and doubles with each error in a row, up to an hour, and one launch that works clears the mark.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from gpu_fleet.scaling import learning
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.missing import shortage
from gpu_fleet.scaling.observation import CapacityError, Instance, Phase, PoolObservation
from gpu_fleet.scaling.policy import CapacityErrors
from gpu_fleet.scaling.purchase import base_for, on_demand_count
from gpu_fleet.scaling.reasons import mix as reasons
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import Mark, PoolState
from gpu_fleet.scaling.zones import zones_of

LONGEST_SECONDS = 3600.0
LAUNCHED_SECONDS = 30.0
"""An instance that boots for this long was launched: one whose disk cannot be decrypted is gone after some seconds."""


def mark(policy: CapacityErrors, remembered: PoolState, seen: PoolObservation, now: float) -> PoolState:
    """Update the pool's marks by the errors and launches seen.

    Errors seen together are one try: a group tries each zone, and each missing instance, on its own.
    """
    if not remembered.marks and not seen.capacity_errors:
        return remembered
    marks = {(m.zone, m.spot): m for m in remembered.marks if now < m.until + LONGEST_SECONDS}
    errors = sorted((e for e in seen.capacity_errors if e.at > remembered.marked_at), key=lambda e: e.at)
    for (zone, spot), error in {(e.zone, spot): e for e in errors for spot in _markets(e)}.items():
        count = marks[zone, spot].errors + 1 if (zone, spot) in marks else 1
        seconds = min(LONGEST_SECONDS, policy.avoid_seconds * 2 ** (count - 1))
        marks[zone, spot] = Mark(zone, error.at + seconds, count, spot, error.why, error.booted)
    newest = max([remembered.marked_at, *(e.at for e in errors)])
    for instance in seen.those(Phase.STARTING, Phase.READY):
        if instance.since > newest:
            for key in ((instance.zone, instance.spot), ("", instance.spot)):
                if key in marks and _works(instance, marks[key], now):
                    del marks[key]
    return replace(remembered, marks=tuple(marks.values()), marked_at=newest)


def _markets(error: CapacityError) -> tuple[bool, ...]:
    return (False, True) if error.spot is None else (error.spot,)


def _works(instance: Instance, mark: Mark, now: float) -> bool:
    """Whether the instance shows that what the mark says is over."""
    return instance.phase is Phase.READY or (not mark.booted and now - instance.since >= LAUNCHED_SECONDS)


def open_zones(pool: Pool, seen: PoolObservation, remembered: PoolState, now: float) -> set[str]:
    """The zones in which the pool's next instances may be launched; "" where the zones are not known.

    What a pool all of spot lacks comes on demand, so it is open where either can be had. Any other pool needs
    on-demand instances for its share, and is closed where these cannot be launched.
    """
    if seen.launch_suspended:
        return set()
    marks = {(m.zone, m.spot) for m in remembered.marks if m.until > now}
    markets = (False, True) if pool.spot_percent >= 100 else (False,)
    markets = [spot for spot in markets if ("", spot) not in marks]
    return {zone for zone in zones_of(pool, seen) or ("",) if any((zone, spot) not in marks for spot in markets)}


def blocked(pool: Pool, seen: PoolObservation, remembered: PoolState, now: float) -> bool:
    """Whether the pool's group cannot launch now: its orders are not capacity to come, and no more are worth giving."""
    return not open_zones(pool, seen, remembered, now)


def on_demand_base(pool: Pool, seen: PoolObservation, remembered: PoolState, lead_seconds: float, now: float) -> int:
    """On-demand instances before the spot share: the pool's own base, and whatever spot does not deliver.

    Spot counts by READY, as in SkyServe, with 1.5 lead times of patience for instances that boot. A pool of 10 all on
    spot and 2 spot instances that do not come gets a base of 2, so that the group's next launches are on-demand; when
    spot is back, the base is the pool's own again.
    """
    patience = 1.5 * lead_seconds
    spot = [i for i in seen.instances if i.spot]
    late = [i for i in spot if i.phase is Phase.STARTING and now - i.since > patience]
    good = sum(i.phase in {Phase.READY, Phase.STARTING} for i in spot) - len(late)
    comes = not late and all(m.until <= now for m in remembered.marks if m.spot)
    if comes or good >= seen.desired - on_demand_count(pool, seen.desired):
        return pool.on_demand_base
    return base_for(pool, seen.desired, good)


def changed_base(context: Context, pool: Pool, desired: int, take: Collection[str]) -> int | None:
    """`on_demand_base` at the new `desired` count, or None where it stays or the pool has no spot.

    New orders must not wait for spot either, and what leaves (`take`) is not there to be counted.
    """
    if pool.spot_percent <= 0:
        return None
    seen = context.seen.pools[pool.name]
    after = replace(seen, desired=desired, instances=tuple(i for i in seen.instances if i.id not in take))
    lead_seconds = learning.lead_seconds(pool, context.state)
    base = on_demand_base(pool, after, context.state.pool(pool.name), lead_seconds, context.now)
    return base if base != seen.on_demand_base else None


def mark_pools(context: Context) -> Mapping[str, PoolState]:
    """Bring every pool's marks, and the ages of its unfilled orders, up to now.

    An order that is not filled within the launch timeout has failed as well, although AWS says nothing.
    """
    patience, now = context.policy.horizontal.launch_timeout_seconds, context.now
    pools = dict(context.state.pools)
    for pool, view in context.pools():
        remembered = pools[pool.name]
        # Nobody waits for the orders of a pool that cannot launch: they are given their time when it can.
        waited = () if blocked(pool, view, remembered, now) else remembered.short
        short = shortage(waited, view, now)
        late = any(now - s.since > patience for s in short)
        silent = (CapacityError("", now, None, f"no instance came within {patience:.0f} s."),) if late else ()
        failed = replace(view, capacity_errors=(*view.capacity_errors, *silent))
        marked = mark(context.policy.capacity_errors, remembered, failed, now)
        pools[pool.name] = replace(marked, short=short)
    return pools


def explain(context: Context) -> Iterator[Reason]:
    """Say of each pool that cannot launch why, and when it is tried again."""
    for pool, view in context.pools():
        remembered = context.state.pool(pool.name)
        if view.launch_suspended:
            yield reasons.launch_suspended(pool.name)
        elif blocked(pool, view, remembered, context.now):
            marks = [m for m in remembered.marks if m.until > context.now]
            first = min(marks, key=lambda m: m.until)
            yield reasons.cannot_launch(pool.name, first.why, first.until - context.now)
