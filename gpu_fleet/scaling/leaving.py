"""Which instances leave a pool: first what does not serve, then the least busy that capacity can spare."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.missing import ALIVE, stuck, unfilled
from gpu_fleet.scaling.observation import Instance, Phase, PoolObservation
from gpu_fleet.scaling.purchase import ROUNDING, spot_leaves_next
from gpu_fleet.scaling.reasons import guard as reasons
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.zones import Zones

LOADS_PATIENCE_SECONDS = 180.0
"""How long the instances' own loads are waited for before one is chosen without them."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How many instances are to leave a pool, and what the service can spare."""

    by: int
    must: int = 0
    """Of them, those above the pool's maximum: they leave whatever the load, since a limit that is exceeded is none."""
    spare_rps: float = 0.0
    """READY capacity above what the window requires. An instance that serves leaves only out of it, so that a move
    between types is make-before-break without a rule of its own."""
    instance_rps: float = 0.0
    fits: int = 0
    """How many may leave so that their load still fits the rest (load * N/(N-1))."""
    waited_seconds: float = LOADS_PATIENCE_SECONDS
    """How long the instances' own loads have been waited for."""


@dataclass(frozen=True, slots=True)
class Shrink:
    """Instances that leave a pool now, and why not more."""

    take: tuple[str, ...]
    drop: int
    """Orders that are cancelled: no instance fills them yet."""
    zones: Zones
    """The zones that are left."""
    reasons: tuple[Reason, ...] = ()
    wants_loads: bool = False


@dataclass(slots=True)
class _Leaving:
    """Instances chosen so far, and what stands without them."""

    pool: Pool
    standing: Counter[bool]
    """Instances that stand without them: spot ones at True, on-demand ones at False."""
    zones: Zones
    drop: int
    take: list[str] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.drop + len(self.take)

    def next_of(self, candidates: Iterable[Instance]) -> list[Instance]:
        """The candidates that are on spot, or on demand, as the group has too much of that."""
        spot = spot_leaves_next(self.pool, self.standing[False], self.standing[True])
        return [i for i in candidates if i.spot is spot]

    def go(self, instance: Instance) -> None:
        self.take.append(instance.id)
        self.standing[instance.spot] -= 1
        self.zones = self.zones.without(instance)

    def done(self, *, wants_loads: bool = False) -> Shrink:
        return Shrink(tuple(self.take), self.drop, self.zones, tuple(self.reasons), wants_loads)


def relieve(context: Context, pool: Pool, view: PoolObservation, zones: Zones) -> Shrink:
    """Take boots that never end, when no more instances are ordered: they are paid for and carry nothing.

    Their replacements were ordered before, where there was room; in a pool at its maximum the next run orders them in
    the room that these leave. The group's minimum stays: below it the group would launch another by itself.
    """
    policy = context.policy.horizontal
    room = min(policy.max_step_in, view.desired - max(pool.min_instances, view.min_size))
    ids = set(stuck(policy, view, context.now)[: max(0, room)])
    leaving = [i for i in view.instances if i.id in ids]
    why = (reasons.stuck(pool.name, ids, policy.launch_timeout_seconds),) if ids else ()
    return Shrink(tuple(i.id for i in leaving), 0, zones.without(*leaving), why)


def shrink(context: Context, pool: Pool, view: PoolObservation, wish: Wish, zones: Zones) -> Shrink:
    """Choose who leaves. `zones` are those of the whole service: the last instance of a zone that the floor of zones
    needs stays, in whichever pool it is, unless it stands above its pool's maximum.
    """
    by = min(wish.by, context.policy.horizontal.max_step_in)
    leaving = _Leaving(pool, Counter(i.spot for i in view.those(*ALIVE)), zones, drop=min(by, unfilled(view)))
    _take_idle(context, view, wish, by, leaving)
    serving = by - leaving.count
    if serving <= 0:
        return leaving.done()
    affordable = int(wish.spare_rps / wish.instance_rps + ROUNDING) if wish.instance_rps > 0 else 0
    if affordable < serving:
        leaving.reasons.append(reasons.make_before_break(pool.name, serving, affordable, wish.spare_rps))
    if wish.fits < serving:
        leaving.reasons.append(reasons.consolidation(pool.name, serving, wish.fits))
    must = min(serving, wish.must - leaving.count)
    serving = max(0, min(serving, affordable, wish.fits), must)
    if serving == 0:
        return leaving.done()
    ready = view.those(Phase.READY)
    loads = [context.value(i.load) for i in ready]
    if None in loads and serving < len(ready) and wish.waited_seconds < LOADS_PATIENCE_SECONDS:
        leaving.reasons.append(reasons.choose_next(pool.name))
        return leaving.done(wants_loads=True)
    idle = len(leaving.take)
    busy = {i: round(load or 0.0, 1) for i, load in zip(ready, loads, strict=True)}
    _take_least_busy(busy, serving, must, leaving)
    if chosen := leaving.take[idle:]:
        leaving.reasons.append(reasons.take(pool.name, chosen))
    return leaving.done(wants_loads=wish.by > leaving.count)  # so that the next run knows the loads


def _take_idle(context: Context, view: PoolObservation, wish: Wish, by: int, leaving: _Leaving) -> None:
    """Take what does not serve: unhealthy nodes first, then stuck boots, then the newest boots.

    A boot on demand stays where the group would launch it again, to keep its on-demand base or share.
    """
    late = set(stuck(context.policy.horizontal, view, context.now))
    boots = view.those(Phase.STARTING)
    dead = [i for i in (*boots, *view.those(Phase.UNHEALTHY)) if i.id in late or i.phase is Phase.UNHEALTHY]
    for i in sorted(dead, key=lambda i: (i.phase is Phase.STARTING, -i.since, i.id))[: max(0, by - leaving.count)]:
        leaving.go(i)
    boots = [i for i in boots if i.id not in late]
    while boots and leaving.count < by:
        over = leaving.count < wish.must
        free = [i for i in boots if over or not leaving.zones.needs(i)]
        chosen = leaving.next_of(free) or [i for i in free if over or i.spot]
        if not chosen:
            break
        newest = min(chosen, key=lambda i: (-i.since, i.id))
        boots.remove(newest)
        leaving.go(newest)


def _take_least_busy(loads: Mapping[Instance, float], count: int, must: int, leaving: _Leaving) -> None:
    """Take the least busy first; of equals from the pool's fullest zone, then the newest.

    On-demand and spot instances leave as the group has too much of them. The last of a needed zone leaves only where
    `must` cannot be met otherwise.
    """
    in_zone = Counter(i.zone for i in loads)
    # Of those in one zone that are bought alike, only the first can be next.
    queues: defaultdict[tuple[str, bool], list[Instance]] = defaultdict(list)
    for i in sorted(loads, key=lambda i: (loads[i], -i.since, i.id), reverse=True):
        queues[i.zone, i.spot].append(i)

    def order(i: Instance) -> tuple[float, int, float, str]:
        return (loads[i], -in_zone[i.zone], -i.since, i.id)

    for taken in range(min(count, len(loads))):
        first = [queue[-1] for queue in queues.values() if queue]
        free = [i for i in first if not leaving.zones.needs(i)]
        if not free and taken >= must:
            break
        free = free or first
        chosen = min(leaving.next_of(free) or free, key=order)
        queues[chosen.zone, chosen.spot].pop()
        in_zone[chosen.zone] -= 1
        leaving.go(chosen)
