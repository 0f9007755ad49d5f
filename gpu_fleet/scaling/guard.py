"""What stands between a wish and a change: out at once, in after a while, and never from a busy or a needed node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.demand import current
from gpu_fleet.scaling.observation import Instance, Phase, PoolObservation
from gpu_fleet.scaling.policy import Horizontal, Policy
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import Point, Short, State

GAP_SECONDS = 600.0
"""After a longer pause between two evaluations the windows no longer say what happened in between."""
SHORT_KEPT = 8
"""Steps of a growing shortage that are told apart."""
STEP_SECONDS = 30.0
"""Steps in and moves of weights are as far apart at least: half the time between two runs of the schedule."""
LOADS_PATIENCE = 3
"""Evaluations that wait for the instances' own loads before one is chosen without them."""
ALIVE = (Phase.STARTING, Phase.READY, Phase.UNHEALTHY)
"""What a group counts against its desired count: all but what drains."""


@dataclass(frozen=True, slots=True)
class Band:
    """Capacity wanted: at once on the way out, over the stabilisation window on the way in."""

    out_rps: float
    in_rps: float
    settled: bool
    """The window has been seen whole, so that less capacity may follow from it."""


def continuity(state: State, now: float) -> tuple[State, Reason | None]:
    """The state as far as it still holds: lost, or left behind by a clock that jumped or a scaler that stood still.

    What was learnt stays; windows and waiting forecasts go, so that less capacity must be earned anew.
    """
    if state.at == 0:
        return replace(state, at=now, since=now), Reason(
            Step.GUARD, "guard.first_run", "No state of an earlier run: counts and weights are held for one run."
        )
    gap = now - state.at
    if gap < 0 or gap > GAP_SECONDS:
        fresh = replace(
            state,
            since=now,
            required=(),
            pending=(),
            series=(),
            burst=None,
            idle_since=None,
            loads_wanted=0,
            newest=(),
            dispersed_at=0.0,
            burst_due=None,
        )
        text = f"The last run was {gap:.0f} s ago: what happened in between is not known, so no capacity is taken yet."
        return fresh, Reason(Step.GUARD, "guard.gap", text, {"gap_seconds": gap})
    return state, None


def is_extra(state: State, now: float) -> bool:
    """Whether this run comes on top of the schedule's: on a burst alarm, or from an event that was delivered twice.

    Such a run adds capacity and takes traffic off what is not ready; it takes no instance and moves no weight a second
    time, else two runs in a minute would go two steps where the policy allows one.
    """
    return 0 <= now - state.stepped_at < STEP_SECONDS


def stabilise(policy: Horizontal, state: State, required_rps: float, now: float) -> tuple[Band, State]:
    """Scale in only to the highest that was wanted within the window (HPA's downscale stabilisation)."""
    window = policy.scale_in_stabilization_seconds
    kept = tuple(p for p in state.required if p.at > now - window and p.at <= now)
    kept = (*(p for p in kept if p.at != now), Point(now, required_rps))
    settled = now - state.since >= window
    return Band(required_rps, max(p.rps for p in kept), settled), replace(state, required=kept)


def wanted_rps(band: Band, standing_rps: float, tolerance_percent: float) -> tuple[float, Reason]:
    """The capacity to aim at: more, less, or what stands.

    Hysteresis: out when more than the tolerance is missing, in only so far that the tolerance is left over. With 3 %
    and 15 rps standing, 15.5 wanted adds an instance, 14.6 takes none.
    """
    slack = 1 + tolerance_percent / 100
    numbers = {"wanted_rps": band.out_rps, "standing_rps": standing_rps, "window_rps": band.in_rps}
    if band.out_rps > standing_rps * slack:
        text = f"{band.out_rps:.2f} rps are wanted and {standing_rps:.2f} stand or come: out at once."
        return band.out_rps, Reason(Step.GUARD, "guard.out", text, numbers)
    less = band.in_rps * slack
    if less < standing_rps and not band.settled:
        text = "Less is wanted, but the stabilisation window has not been seen whole yet."
        return standing_rps, Reason(Step.GUARD, "guard.window", text, numbers)
    if less < standing_rps:
        text = f"At most {band.in_rps:.2f} rps were wanted in the window and {standing_rps:.2f} stand."
        return less, Reason(Step.GUARD, "guard.in", text, numbers)
    text = f"{standing_rps:.2f} rps stand for {band.out_rps:.2f} wanted, {band.in_rps:.2f} in the window: no change."
    return standing_rps, Reason(Step.GUARD, "guard.steady", text, numbers)


@dataclass(frozen=True, slots=True)
class Gone:
    """Instances of a pool that stand in its desired count and carry nothing."""

    stuck: tuple[str, ...]
    unhealthy: tuple[str, ...]
    missing: int
    """Ordered, and not there at all although the launch time is over."""

    @property
    def count(self) -> int:
        """How many."""
        return len(self.stuck) + len(self.unhealthy) + self.missing


def shortage(before: Sequence[Short], seen: PoolObservation, now: float) -> tuple[Short, ...]:
    """How long how many orders have been waiting. Two of yesterday's and three new ones are two old and five in all.

    Orders are alike, so whatever arrives is taken for the newest's: what was missing all the while is still missing.
    """
    short = max(0, seen.desired - len(seen.those(*ALIVE)))
    kept = [s for s in before if s.count < short]
    since = min((s.since for s in before if s.count >= short), default=now)
    return (*kept[-SHORT_KEPT:], Short(short, min(now, since))) if short else ()


def gone(policy: Horizontal, seen: PoolObservation, short: Sequence[Short], now: float) -> Gone:
    """What does not count as coming: boots that never end, nodes that fail their checks, launches that never began."""
    late = policy.launch_timeout_seconds
    stuck = _stuck(policy, seen, now)
    unhealthy = tuple(i.id for i in seen.those(Phase.UNHEALTHY))
    missing = max((s.count for s in short if now - s.since > late), default=0)
    return Gone(stuck, unhealthy, missing)


def _stuck(policy: Horizontal, seen: PoolObservation, now: float) -> tuple[str, ...]:
    late = policy.launch_timeout_seconds
    return tuple(i.id for i in seen.those(Phase.STARTING) if now - i.since > late)


def relieve(pool: Pool, seen: PoolObservation, policy: Policy, zones: Zones, now: float) -> Shrink:
    """Take boots that never end, once no more is to be ordered: they are paid for and carry nothing.

    What replaces them was ordered before, where there was room; in a pool at its maximum the next run orders it in
    the room that they leave. The group's minimum stays: below it the group would launch another by itself.
    """
    room = min(policy.horizontal.max_step_in, seen.desired - max(pool.min_instances, seen.min_size))
    stuck = set(_stuck(policy.horizontal, seen, now)[: max(0, room)])
    leaving = [i for i in seen.instances if i.id in stuck]
    reasons = ()
    if stuck:
        late = policy.horizontal.launch_timeout_seconds
        text = f"{pool.name}: {', '.join(sorted(stuck))} leave: not ready {late:.0f} s after their launch."
        reasons = (Reason(Step.GUARD, "guard.stuck", text, {"stuck": float(len(stuck))}),)
    take = tuple(i.id for i in leaving)
    return Shrink(take, 0, reasons, wants_loads=False, zones=zones.without(*leaving))


@dataclass(frozen=True, slots=True)
class Zones:
    """Where a service's instances stand, over all its pools, and how many zones must not be given up."""

    least: int
    """`availability.min_zones`; 0 for a service that sleeps."""
    ready: Mapping[str, int]
    """READY instances of each zone."""
    alive: Mapping[str, int]
    """READY and STARTING ones."""

    @classmethod
    def of(cls, least: int, views: Iterable[PoolObservation]) -> Zones:
        """The zones of these pools."""
        pools = list(views)
        ready = Counter([i.zone for view in pools for i in view.those(Phase.READY)])
        starting = Counter([i.zone for view in pools for i in view.those(Phase.STARTING)])
        return cls(least, ready, ready + starting)

    def needs(self, instance: Instance) -> bool:
        """Whether the floor of zones would not hold without it: the last of its zone, and no zone to spare."""
        if instance.phase not in {Phase.READY, Phase.STARTING}:
            return False
        standing = self.ready if instance.phase is Phase.READY else self.alive
        return standing.get(instance.zone, 0) <= 1 and len(standing) <= self.least

    def without(self, *gone: Instance) -> Zones:
        """What is left when these have gone."""
        ready = _less(self.ready, [i.zone for i in gone if i.phase is Phase.READY])
        return Zones(self.least, ready, _less(self.alive, [i.zone for i in gone if i.phase is not Phase.UNHEALTHY]))


def _less(counts: Mapping[str, int], zones: Sequence[str]) -> Mapping[str, int]:
    return {name: count - zones.count(name) for name, count in counts.items() if count > zones.count(name)}


@dataclass(frozen=True, slots=True)
class Shrink:
    """Instances that may leave a pool now, and why not more."""

    take: tuple[str, ...]
    drop: int
    """Ordered instances that do not exist yet, and shall not."""
    reasons: tuple[Reason, ...]
    wants_loads: bool
    zones: Zones
    """What is left of the zones."""


def shrink(
    pool: Pool,
    seen: PoolObservation,
    policy: Policy,
    *,
    by: int,
    spare_rps: float,
    instance_rps: float,
    fits: int,
    patience: int,
    zones: Zones,
    now: float,
    must: int = 0,
) -> Shrink:
    """Choose who leaves: first what does not serve, then the least busy that capacity can spare.

    `spare_rps` is READY capacity above what the window wants; an instance that serves leaves only out of it, so that
    a move between types is make-before-break without a rule of its own. `fits` is how many may leave so that the load
    of those that leave still fits the rest (load * N/(N-1)). `zones` are those of the whole service: the last instance
    of a zone that the floor of zones needs stays, in whichever pool it is. `must` of them stand over the pool's maximum
    and go whatever the load says: a limit that is exceeded is no limit.
    """
    reasons: list[Reason] = []
    alive = seen.those(*ALIVE)
    not_there = max(0, seen.desired - len(alive))
    wanted, by = by, min(by, policy.horizontal.max_step_in)
    drop = min(by, not_there)
    stuck = set(_stuck(policy.horizontal, seen, now))
    idle: list[str] = []
    for i in sorted(
        seen.those(Phase.STARTING, Phase.UNHEALTHY),
        key=lambda i: (i.phase is Phase.STARTING, i.id not in stuck, -i.since, i.id),
    ):
        if len(idle) < by - drop and (i.id in stuck or not zones.needs(i) or len(idle) + drop < must):
            idle.append(i.id)
            zones = zones.without(i)
    take = tuple(idle)
    serving = by - drop - len(take)
    if serving <= 0:
        return Shrink(take, drop, (), wants_loads=False, zones=zones)
    affordable = int(spare_rps / instance_rps + 1e-9) if instance_rps > 0 else 0
    if affordable < serving:
        text = (
            f"{pool.name}: {serving} serving instances are to go, ready capacity spares {max(0, affordable)}"
            " until the new ones are ready."
        )
        reasons.append(Reason(Step.GUARD, "guard.make_before_break", text, {"spare_rps": spare_rps}))
    if fits < serving:
        text = f"{pool.name}: the load of {serving} leaving instances would not fit the rest; {max(0, fits)} may go."
        reasons.append(Reason(Step.GUARD, "guard.consolidation", text, {"fits": fits}))
    must = min(serving, must - drop - len(take))
    serving = max(0, min(serving, affordable, fits), must)
    if serving == 0:
        return Shrink(take, drop, tuple(reasons), wants_loads=False, zones=zones)
    ready = seen.those(Phase.READY)
    loads = [current(i.load, now, policy.load.stale_after_seconds) for i in ready]
    if None in loads and serving < len(ready) and patience < LOADS_PATIENCE:
        text = f"{pool.name}: the instances' own loads are read before the least busy is chosen."
        reasons.append(Reason(Step.GUARD, "guard.choose_next", text))
        return Shrink(take, drop, tuple(reasons), wants_loads=True, zones=zones)
    chosen, zones = _least_busy(ready, loads, serving, must, zones)
    if chosen:
        named = ", ".join(chosen)
        reasons.append(Reason(Step.GUARD, "guard.take", f"{pool.name}: {named} leave, the least busy."))
    more = wanted > len(take) + len(chosen) + drop  # the next look shall know the loads already
    return Shrink((*take, *chosen), drop, tuple(reasons), wants_loads=more, zones=zones)


def _least_busy(
    ready: Sequence[Instance], loads: Sequence[float | None], count: int, must: int, zones: Zones
) -> tuple[tuple[str, ...], Zones]:
    """The least busy first; of equals from the pool's fullest zone, then the newest. With the zones that are left.

    The last of a needed zone goes only where `must` cannot be had otherwise.
    """
    by_zone: dict[str, list[tuple[float, float, str, Instance]]] = {}
    for i, load in zip(ready, loads, strict=True):
        by_zone.setdefault(i.zone, []).append((round(load or 0.0, 1), -i.since, i.id, i))
    for queue in by_zone.values():
        queue.sort(reverse=True)  # the first to leave stands last

    def order(zone: str) -> tuple[float, int, float, str]:
        load, launched, name, _ = by_zone[zone][-1]
        return (load, -len(by_zone[zone]), launched, name)

    chosen: list[Instance] = []

    def may_go(queue: list[tuple[float, float, str, Instance]]) -> bool:
        return len(queue) > 1 or not zones.without(*chosen).needs(queue[0][3])

    while len(chosen) < count and by_zone:
        free = [z for z, queue in by_zone.items() if may_go(queue)]
        if not free and len(chosen) >= must:
            break
        zone = min(free or by_zone, key=order)
        *_, victim = by_zone[zone].pop()
        if not by_zone[zone]:
            del by_zone[zone]
        chosen.append(victim)
    return tuple(i.id for i in chosen), zones.without(*chosen)
