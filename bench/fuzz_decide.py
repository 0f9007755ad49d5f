"""An independent fuzz of the scaling model: random services through random hours, and what must hold of each.

python bench/fuzz_decide.py --steps 100000 --seed 0     prints each kind of violation with its smallest story
python bench/fuzz_decide.py --story steady-17 --trail   plays one story again, and prints what was decided

What must hold is written from the specification (the design, and what a user may expect), not from the code:

- always: counts within the group's bounds and the policy's steps; state and decision finite, the same after a round
  trip through JSON, and small; weights only to pools that have ready instances; the same input, the same decision; no
  instance taken while nothing is seen, after a lost state or a gap;
- under constant or noisy load, once settled: at most one change of counts an hour, counted over two hours (an instance
  that is taken and missed is two changes), enough capacity, and no more than twice what suffices and two instances;
- after a jump, the size of a fleet that was always there;
- decided each 10, 30, 60 or 120 seconds, the same world ends at the same size, at a like cost.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.fuzz_world import START, Event, Story, World
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import Policy, RoutingStrategy, SizingMode, VerticalMethod
from gpu_fleet.scaling.record import dump, load
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import State

ITEM_BYTES = 400_000
"""DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"""
SETTLE_MINUTES = 120
SAME_MOVE_MINUTES = 60
"""Changes in the same direction that follow each other within this time are steps of one change: a fleet that shrinks
slowly does not oscillate."""
LOOKED_INTO = 7
"""One decision in so many is decided again and searched for what is not finite, which stays in a state."""
FIRST = 12
"""Stories of each kind of violation that are told as soon as they are found."""
CALM_MINUTES = 150
"""After the last thing that went wrong, until all must be well again."""


@dataclass(frozen=True)
class Violation:
    """Something that must not be."""

    kind: str
    minute: float
    text: str


@dataclass(frozen=True)
class Look:
    """What one evaluation saw and decided."""

    minute: float
    rps: float
    ready_rps: float
    size_rps: float
    """Capacity of the counts decided, of the types that each group launches."""
    desired: Mapping[str, int]
    ready: Mapping[str, int]
    weights: Mapping[str, int]
    required_rps: float | None
    demand_rps: float | None
    codes: tuple[str, ...]


@dataclass
class Run:
    """A story played to its end."""

    story: Story
    looks: list[Look] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    usd: float = 0.0
    most_bytes: int = 0


# What happens


def play(story: Story) -> Run:
    """Play a story, and check each decision by itself."""
    world, state, run = World(story), State(), Run(story)
    before: Observation | None = None
    cadence = itertools.cycle(story.cadence)
    while (world.now - START - 300) / 60 < story.minutes:
        world.advance(next(cadence))
        minute = (world.now - START - 300) / 60
        on = _happen(story, world, minute)
        if "pause" in on:
            continue
        state = State() if "forget" in on else state
        now = world.now + sum(e.value for e in story.events if e.kind == "clock" and _on(e, minute))
        seen = world.observe(state)
        if "stale" in on and before is not None:
            seen = _stale(seen, before)
        before = seen
        try:
            decision = decide(world.service, seen, state, now)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            run.violations.append(Violation("raises", minute, repr(error)))
            break
        blind = {"arrivals", "rates", "load"} <= world.missing and "burst" in world.missing
        run.violations += [
            Violation(kind, minute, text) for kind, text in _wrong(story, seen, state, decision, now, blind=blind)
        ]
        text = dump(decision.state)
        run.most_bytes = max(run.most_bytes, len(text))
        if len(text) > ITEM_BYTES:
            run.violations.append(Violation("size", minute, f"{len(text)} bytes"))
        state = load(State, text)
        if state != decision.state:
            run.violations.append(Violation("round-trip", minute, "the state differs after JSON"))
        ready = {name: len(view.those(Phase.READY)) for name, view in seen.pools.items()}
        targets, signals = decision.targets, decision.signals
        run.looks.append(
            Look(
                minute,
                story.rps(minute) * story.cost * story.answers,
                world.ready_rps,
                sum(target.desired * world.groups[name].kind.throughput_rps for name, target in targets.items()),
                {name: target.desired for name, target in targets.items()},
                ready,
                {name: target.weight for name, target in targets.items()},
                signals.required_rps,
                signals.demand_rps,
                decision.codes,
            )
        )
        world.apply(decision)
    run.usd = world.usd
    return run


def _on(event: Event, minute: float) -> bool:
    return event.minute <= minute < event.minute + max(event.minutes, 1)


def _happen(story: Story, world: World, minute: float) -> set[str]:
    """Let the events of this minute happen; the kinds that go on."""
    on = [event for event in story.events if _on(event, minute)]
    world.missing = {name for e in on if e.kind == "lost" for name in e.pool.split("+")}
    world.zeros = {name for e in on if e.kind == "zero" for name in e.pool.split("+")}
    world.dry = {zone for e in on if e.kind == "dry" for zone in e.pool}
    world.spot_dry = any(e.kind == "spot dry" for e in on)
    world.shut = {e.pool for e in on if e.kind == "shut"}
    for event in on:
        if minute - event.minute < max(story.cadence) / 60 and event.pool in world.groups and _first(world, event):
            _by_hand(world, event)
    return {event.kind for event in on}


def _first(world: World, event: Event) -> bool:
    done: set[Event] = world.__dict__.setdefault("done", set())
    new = event not in done
    done.add(event)
    return new


def _by_hand(world: World, event: Event) -> None:
    """What somebody does in the console, or what happens to machines, once."""
    group = world.groups[event.pool]
    if event.kind == "desired":
        group.desired = max(group.low, min(group.high, int(event.value)))
    elif event.kind == "weight":
        group.weight = int(event.value)
    elif event.kind == "high":
        group.high = max(group.low, int(event.value))
        group.desired = min(group.desired, group.high)
    elif event.kind == "death":
        for node in group.alive()[: int(event.value)]:
            group.drop(node, world.now)
            group.nodes.remove(node)
    elif event.kind == "sick":
        for node in group.alive()[: int(event.value)]:
            node.sick_at = world.now


METRICS = (
    "load",
    "running",
    "waiting",
    "rate_rps",
    "response_time_seconds",
    "ttft_seconds",
    "gpu_percent",
    "kv_cache_percent",
)


def _stale(seen: Observation, before: Observation) -> Observation:
    """The same counts, with the metrics of the look before: they grow old."""
    pools = {
        name: replace(view, **{metric: getattr(before.pools[name], metric) for metric in METRICS})
        for name, view in seen.pools.items()
    }
    return replace(seen, pools=pools, arrivals_rps=before.arrivals_rps, burst_rps=before.burst_rps)


# What must hold of each decision


def _wrong(
    story: Story, seen: Observation, state: State, decision: Decision, now: float, *, blind: bool
) -> Iterator[tuple[str, str]]:
    if int(now) // 10 % LOOKED_INTO == 0:
        if not _finite(replace(decision.signals, ratio=0.0), decision.state):  # R is infinite where nothing stands
            yield "not finite", dump(decision.signals)
        if decide(story.service, seen, state, now) != decision:
            yield "not the same twice", "the same input gave another decision"
    for pool in story.service.pools:
        yield from _wrong_count(story.service.policy, pool, seen.pools[pool.name], decision)
    yield from _wrong_weights(seen, decision)
    window = story.service.policy.horizontal.scale_in_stabilization_seconds
    gap = state.at == 0 or (window > 0 and not 0 <= now - state.at <= 600)
    for name, view in seen.pools.items():
        over = view.desired > min(view.max_size, _pool(story.service, name).max_instances)
        if decision.targets[name].desired < view.desired and not over and (blind or gap):
            yield ("takes blindly" if blind else "takes after a gap"), f"{name}: {decision.codes}"


def _finite(*values: object) -> bool:
    for value in values:
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if isinstance(value, Mapping) and not _finite(*value.values()):
            return False
        if isinstance(value, tuple) and not _finite(*value):
            return False
        slots = getattr(type(value), "__dataclass_fields__", {})
        if not _finite(*(getattr(value, name) for name in slots)):
            return False
    return True


def _pool(service: Service, name: str) -> Pool:
    return next(pool for pool in service.pools if pool.name == name)


def _wrong_count(policy: Policy, pool: Pool, view: PoolObservation, decision: Decision) -> Iterator[tuple[str, str]]:
    target = decision.targets[pool.name]
    what = f"{pool.name}: {view.desired} -> {target.desired}, takes {len(target.take)} {decision.codes}"
    if not view.min_size <= target.desired <= view.max_size:
        yield "out of bounds", f"{what}, group {view.min_size} to {view.max_size}"
    least = max(pool.min_instances, view.min_size)
    refreshed = decision.refresh is not None and decision.refresh.pool == pool.name  # to as many of another type
    if target.desired > view.desired + policy.horizontal.max_step_out and target.desired > least and not refreshed:
        yield "step out", what
    if len(target.take) > policy.horizontal.max_step_in:
        yield "step in", what
    standing = {i.id for i in view.those(Phase.STARTING, Phase.READY, Phase.UNHEALTHY)}
    if len(set(target.take)) < len(target.take) or not set(target.take) <= standing:
        yield "takes what is not there", what
    if len(standing - set(target.take)) > target.desired and len(standing) <= view.desired:
        yield "takes without a name", what


def _wrong_weights(seen: Observation, decision: Decision) -> Iterator[tuple[str, str]]:
    ready = {
        name: sum(i.id not in decision.targets[name].take for i in view.those(Phase.READY))
        for name, view in seen.pools.items()
    }
    weights = {name: target.weight for name, target in decision.targets.items()}
    if any(not 0 <= weight <= 999 for weight in weights.values()):
        yield "weight out of bounds", f"{weights}"
    if any(ready.values()):
        if sum(weights.values()) == 0:
            yield "no weight at all", f"{weights} with ready {ready}"
        if any(weights[name] and not ready[name] for name in ready):
            yield "weight to nothing", f"{weights} with ready {ready} {decision.codes}"


# What must hold of hours


def suffices_rps(story: Story, rps: float) -> float:
    """Capacity, at each instance's throughput, with which the least suited pool alone would keep the promise.

    Mode `threshold`: no instance above its target, or above 80 % where a GPU's use is limited. Mode `slo`: requests in
    flight, normal with the variance of a bent birth and death chain, pass the capacity in 0.25 % of the time.
    """
    policy = story.service.policy
    upper = rps + 3 * math.sqrt(story.dispersion * rps / 60)  # the highest minute of an hour or two
    return max(_alone(policy, kind, upper, story.dispersion) for pool in story.service.pools for kind in pool.kinds)


def _alone(policy: Policy, pool: Pool, rps: float, dispersion: float) -> float:
    s = pool.slowdown
    for n in range(1, 2000):
        share = rps / (n * pool.throughput_rps)
        if share >= 1:
            continue
        x = share / (s - (s - 1) * share)
        if policy.sizing_mode is SizingMode.THRESHOLD:
            enough = x <= policy.sizing.target_utilization
        else:
            flight = n * pool.capacity * x
            enough = flight + 2.8 * math.sqrt(flight * dispersion * (1 + (s - 1) * x)) + 1 <= n * pool.capacity
        limits = policy.thresholds
        if enough and (limits.gpu_percent is None or 100 * share <= limits.gpu_percent):
            return n * pool.throughput_rps
    return rps


def settled(run: Run, since: float) -> Iterator[Violation]:
    """What must hold of constant or stationary load from this minute on."""
    looks = [look for look in run.looks if look.minute >= since]
    if not looks:
        return
    yield from _runs_away(run, looks)
    yield from _oscillates(run, looks)
    yield from _comes_back(run, looks)
    service = run.story.service
    # Without the vertical axis only the first pool grows.
    grow = service.pools[:1] if service.policy.vertical.method is VerticalMethod.OFF else service.pools
    lowered = {event.pool: int(event.value) for event in run.story.events if event.kind == "high"}
    most = {
        p.name: min(p.max_instances, lowered.get(p.name, p.max_instances))
        * min(kind.throughput_rps for kind in p.kinds)
        for p in grow
    }
    weights = service.policy.routing.static_weights if service.policy.routing.strategy is RoutingStrategy.STATIC else {}
    parts = [most.get(name, 0.0) * sum(weights.values()) / weight for name, weight in weights.items() if weight]
    could = min(parts, default=sum(most.values()))
    asleep = service.policy.zero.idle_seconds is not None
    short = [look for look in looks if look.ready_rps < min(look.rps, could) * 0.999]
    if len(short) > 0.05 * len(looks) and not asleep:
        yield Violation("starved", short[0].minute, f"{short[0].ready_rps:.2f} rps ready of {short[0].rps:.2f}")


def _runs_away(run: Run, looks: Sequence[Look]) -> Iterator[Violation]:
    service = run.story.service
    largest = max(kind.throughput_rps for pool in service.pools for kind in pool.kinds)
    availability = service.policy.availability
    floor = sum(pool.min_instances * pool.throughput_rps for pool in service.pools)
    floor += max(availability.min_instances, availability.min_zones) * largest
    enough = suffices_rps(run.story, max(look.rps for look in looks))
    most = 2 * enough + 2 * largest + floor
    worst = max(looks, key=lambda look: look.size_rps)
    if worst.size_rps > most:
        text = f"{dict(worst.desired)} = {worst.size_rps:.1f} rps, {enough:.1f} suffice for {worst.rps:.2f}"
        yield Violation("run-away", worst.minute, f"{text}; {worst.codes}")


def changes(looks: Sequence[Look]) -> list[tuple[float, int, int]]:
    """Minute, total before and after of each change; steps in one direction within a few minutes are one."""
    found: list[tuple[float, int, int]] = []
    last = -math.inf
    for before, after in itertools.pairwise(looks):
        was, now = sum(before.desired.values()), sum(after.desired.values())
        if was == now:
            continue
        same = found and (now > was) == (found[-1][2] > found[-1][1])
        if same and after.minute - last <= SAME_MOVE_MINUTES:
            found[-1] = (found[-1][0], found[-1][1], now)
        else:
            found.append((after.minute, was, now))
        last = after.minute
    return found


def _oscillates(run: Run, looks: Sequence[Look]) -> Iterator[Violation]:
    """More than two changes in two hours; a move between pools or types is two, the new ones and then the old ones."""
    found = changes(looks)
    service = run.story.service
    moves = len(service.pools) > 1 or any(pool.alternatives for pool in service.pools)
    allowed = 4 if moves else 2
    for n, (minute, _, _) in enumerate(found[allowed:]):
        if minute - found[n][0] < 120:
            hours = max(1.0, (looks[-1].minute - looks[0].minute) / 60)
            text = ", ".join(f"{at:.0f}: {was}->{now}" for at, was, now in found[n : n + 8])
            window = service.policy.horizontal.scale_in_stabilization_seconds
            yield Violation(
                "oscillates" if window else "oscillates without a window",
                minute,
                f"{len(found) / hours:.1f} changes an hour: {text}",
            )
            return


def _comes_back(run: Run, looks: Sequence[Look]) -> Iterator[Violation]:
    """Counts of several pools that are left and taken up again within the hour: a move that is undone."""
    left: dict[tuple[int, ...], float] = {}
    for before, after in itertools.pairwise(looks):
        was, now = (tuple(look.desired.values()) for look in (before, after))
        if was == now:
            continue
        left[was] = after.minute
        back = after.minute - left.get(now, -math.inf) < 60
        if back and sum(old != new for old, new in zip(was, now, strict=True)) > 1:
            text = f"{now} left at {left[now]:.0f} and back at {after.minute:.0f}: {before.codes} {after.codes}"
            yield Violation("undoes a move", after.minute, text)
            return


def check_steady(story: Story) -> Run:
    """Constant or noisy load, four hours."""
    run = play(story)
    run.violations += settled(run, SETTLE_MINUTES)
    return run


def check_jump(story: Story) -> Run:
    """A jump, held against the fleet that was always there."""
    run = play(story)
    (before, _), (after, level) = story.levels
    always = play(replace(story, levels=((before + after, level),)))
    run.violations += [replace(v, kind=f"{v.kind} (always there)") for v in always.violations]
    run.violations += settled(run, before + SETTLE_MINUTES)
    sizes = [fmean([look.size_rps for look in one.looks[-30:]]) for one in (run, always)]
    largest = max(pool.throughput_rps for pool in story.service.pools)
    if abs(sizes[0] - sizes[1]) > largest + 0.1 * max(sizes):
        text = f"{sizes[0]:.1f} rps after the jump, {sizes[1]:.1f} of the fleet that was always there"
        run.violations.append(Violation("remembers the jump", story.minutes, text))
    return run


def check_chaos(story: Story) -> Run:
    """Whatever goes wrong, decisions keep their promises, and when all is well again so is the service."""
    run = play(story)
    over = max([event.minute + event.minutes for event in story.events], default=0)
    run.violations += settled(run, over + CALM_MINUTES)
    return run


def check_cadence(story: Story) -> Run:
    """The same world, decided at four cadences."""
    runs = {cadence: play(replace(story, cadence=(cadence,))) for cadence in (10, 30, 60, 120)}
    usual = runs[60]
    for cadence, run in runs.items():
        usual.violations += [] if run is usual else run.violations
        last = [fmean(look.size_rps for look in r.looks if look.minute > story.minutes - 30) for r in (run, usual)]
        largest = max(kind.throughput_rps for pool in story.service.pools for kind in pool.kinds)
        if abs(last[0] - last[1]) > max(largest, 0.05 * max(last)):  # bursts of which minute are seen differs
            text = f"each {cadence} s: {last[0]:.1f} rps, each 60 s: {last[1]:.1f}"
            usual.violations.append(Violation("cadence: size", story.minutes, text))
        # An instance a run, as `max_step_in` may say, is more an hour where runs are more frequent.
        if abs(run.usd / usual.usd - 1) > 0.1 and story.service.policy.horizontal.max_step_in > 1:
            text = f"each {cadence} s: {run.usd:.2f} USD, each 60 s: {usual.usd:.2f}"
            usual.violations.append(Violation("cadence: cost", story.minutes, text))
    for run in runs.values():
        if run is not usual:
            usual.looks += run.looks  # they count as steps
    return usual


# Random stories


CHECKS: Mapping[str, Callable[[Story], Run]] = {
    "steady": check_steady,
    "jump": check_jump,
    "chaos": check_chaos,
    "cadence": check_cadence,
}
KINDS = ("steady", "jump", "chaos", "steady", "chaos", "cadence", "chaos")


def story_of(name: str) -> Story:
    """The story of a name like `steady-17`."""
    kind, number = name.rsplit("-", 1)
    seed = int(number)
    rng = random.Random(f"{kind} {seed}")
    service = _service(rng, chaos=kind == "chaos")
    rps = math.exp(rng.uniform(math.log(0.2), math.log(60)))
    could = sum(pool.max_instances * pool.throughput_rps for pool in service.pools)
    rps = min(rps, 0.3 * could)
    start = tuple(
        min(pool.max_instances, max(pool.min_instances, rng.choice([0, 1, 2, 4, 8]))) for pool in service.pools
    )
    if not any(start):
        start = (max(1, service.pools[0].min_instances), *start[1:])
    story = Story(
        name,
        seed,
        service,
        ((240, rps),),
        start=start,
        dispersion=rng.choice([1.0, 1.0, 1.5, 2.5, 4.0]),
        boot_seconds=rng.choice([60.0, 120.0, 240.0, 240.0, 600.0]),
        cost=rng.choice([1.0, 1.0, 1.0, 0.8, 1.3]),
        answers=rng.choice([1, 1, 1, 1, 2]),
        balancer_lag_seconds=rng.choice([0.0, 30.0, 60.0, 90.0]),
        history_days=rng.choice([0, 0, 3, 14]),
    )
    if kind == "jump":
        factor = rng.choice([0.2, 0.5, 2.0, 3.0])
        return replace(story, levels=((60, rps), (180, rps * factor)))
    if kind == "cadence":
        return replace(story, levels=((90, rps), (90, rps * rng.choice([0.5, 1.0, 2.0]))))
    if kind == "chaos":
        events = tuple(sorted((_event(rng, story) for _ in range(rng.randint(1, 8))), key=lambda e: e.minute))
        cadence = rng.choice([(60,), (60,), (60, 60, 10, 50), (30,), (120,), (60, 180, 20), (10,)])
        story = replace(story, events=events, cadence=cadence, levels=((300, rps),))
        if rng.random() < 0.3:
            story = replace(story, levels=((40, rps), (30, 0.0), (230, rps)))
    return story


EVENTS = (
    *("lost", "lost", "zero", "stale", "dry", "spot dry", "shut"),
    *("desired", "weight", "high", "death", "sick", "forget", "clock", "pause"),
)


def _event(rng: random.Random, story: Story) -> Event:
    minute, minutes = rng.randint(5, 90), rng.choice([1, 3, 8, 20])
    pool = rng.choice(story.service.pools)
    kind = rng.choice(EVENTS)
    all_of_it = "arrivals+rates+load+burst+rejected"
    if kind in {"lost", "zero"}:
        what = rng.choice([all_of_it, "arrivals", "rates", "load", "arrivals+rates", "burst", "own", "load+rates"])
        return Event(minute, kind, minutes, what)
    if kind == "dry":
        return Event(minute, kind, minutes, rng.choice(["a", "ab", "abc"]))
    if kind in {"stale", "spot dry", "pause"}:
        return Event(minute, kind, minutes)
    if kind == "forget":
        return Event(minute, kind, 1)
    if kind == "clock":
        return Event(minute, kind, 1, "", rng.choice([-3600.0, -120.0, 120.0, 3600.0, 86400.0]))
    value = {
        "desired": rng.choice([0, 1, 3, 12, 40]),
        "weight": rng.choice([0, 1, 500, 999]),
        "high": max(pool.min_instances, rng.choice([1, 3, pool.max_instances])),
        "death": rng.choice([1, 2, 50]),
        "sick": rng.choice([1, 2, 50]),
    }
    return Event(minute, kind, minutes if kind == "shut" else 0, pool.name, value.get(kind, 0))


LADDER = (  # relative speed and USD per hour: the shape of a catalog's types
    ("l4", 1.0, 0.80),
    ("a10g", 1.6, 1.01),
    ("l40s", 3.4, 1.86),
    ("a100", 7.0, 4.1),
    ("h100", 14.0, 6.9),
)


def _kind(rng: random.Random, speed: float, usd: float) -> dict[str, Any]:
    slowdown, seconds = rng.choice([1.0, 2.0, 3.0, 4.0]), rng.uniform(4.0, 20.0)
    rps = speed * rng.uniform(0.6, 2.0)
    capacity = max(4.0, rps * seconds)
    return {
        "capacity": capacity,
        "throughput_rps": rps,
        "slowdown": slowdown,
        "service_seconds": capacity / rps,
        "slots": rng.choice([0.0, capacity, 1.4 * capacity]),
        "on_demand_usd_per_hour": usd * rng.uniform(0.9, 1.1),
        "lead_seconds": rng.choice([90.0, 180.0, 300.0, 600.0]),
    }


def _service(rng: random.Random, *, chaos: bool) -> Service:
    count = rng.choice([1, 1, 1, 2, 2, 3, 4, 5])
    in_place = count == 1 and rng.random() < 0.25
    policy = _policy(rng, in_place=in_place, names=[name for name, _, _ in LADDER[:count]])
    may_sleep = "zero" in policy
    pools: list[dict[str, Any]] = []
    for name, speed, usd in rng.sample(LADDER, count):
        low = 0 if may_sleep else rng.choice([0, 0, 1, 2])
        spot = rng.choice([0, 0, 0, 50, 100]) if chaos else rng.choice([0, 0, 50])
        pools.append(
            {
                "name": name,
                "types": (f"{name}.x",),
                "min_instances": low,
                "max_instances": rng.choice([20, 60, 120]),
                "spot_percent": spot,
                "spot_usd_per_hour": 0.4 * usd if spot else None,
                "on_demand_base": rng.choice([0, 1, 2]) if spot else 0,
                "zones": rng.choice([("a",), ("a", "b"), ("a", "b", "c"), ()]),
                **_kind(rng, speed, usd),
            }
        )
    if in_place:
        others = rng.sample([rung for rung in LADDER if rung[0] != pools[0]["name"]], rng.choice([1, 2]))
        pools[0]["alternatives"] = [{"types": (f"{name}.x",), **_kind(rng, speed, usd)} for name, speed, usd in others]
    if policy.get("load", {}).get("unit") == "requests_per_second":
        for kind in [kind for pool in pools for kind in (pool, *pool.get("alternatives", ()))]:
            kind |= {"capacity": kind["throughput_rps"], "slowdown": 1.0}  # in the unit of the load, as composed
    if policy.get("routing", {}).get("strategy") == "static":
        policy["routing"]["static_weights"] = {pool["name"]: rng.choice([1, 5, 100]) for pool in pools}
    return Service.model_validate({"name": "fuzz", "policy": policy, "pools": pools})


def _policy(rng: random.Random, *, in_place: bool, names: Sequence[str]) -> dict[str, Any]:
    threshold = rng.random() < 0.35
    policy: dict[str, Any] = {
        "model": "m",
        "forecast": {"method": rng.choice(["auto", "auto", "none", "peak", "trend", "seasonal"])},
        "horizontal": {
            "tolerance_percent": rng.choice([0, 2, 5, 5, 10]),
            "scale_in_stabilization_seconds": rng.choice([0, 120, 120, 300, 600]),
            "max_step_in": rng.choice([1, 3, 10]),
            "max_step_out": rng.choice([2, 10, 50]),
            "launch_timeout_seconds": 1200,
        },
        "vertical": {"method": "in_place" if in_place else rng.choice(["pools", "pools", "off"])},
        "availability": {"min_instances": rng.choice([1, 1, 2]), "min_zones": rng.choice([1, 1, 2])},
        "routing": {"strategy": rng.choice(["auto", "capacity", "response_time", "sticky", "static"])},
        "learning": {"enabled": rng.random() < 0.7},
    }
    if threshold:
        policy["sizing"] = {"mode": "threshold", "target_utilization": rng.choice([0.6, 0.7, 0.8])}
        policy["thresholds"] = rng.choice(
            [{}, {}, {"gpu_percent": 80}, {"gpu_percent": 60}, {"cpu_percent": 30}, {"network_latency_seconds": 0.01}]
        )
        policy["load"] = {"unit": rng.choice(["concurrency", "concurrency", "requests_per_second"])}
    if not threshold or rng.random() < 0.5:
        policy["slo"] = {
            "ttft_seconds": rng.choice([1, 2, 5]),
            "tpot_seconds": 0.1,
            "attainment": rng.choice([0.99, 0.995, 0.999]),
        }
    if rng.random() < 0.15:
        policy["zero"] = {"idle_seconds": rng.choice([120, 600])}
    return policy


# The smallest story


def smaller(story: Story) -> Iterator[Story]:
    """Stories with less in them, the boldest first."""
    for n in range(len(story.events)):
        yield replace(story, events=story.events[:n] + story.events[n + 1 :])
    service = story.service
    for n in range(len(service.pools) if len(service.pools) > 1 else 0):
        pools = service.pools[:n] + service.pools[n + 1 :]
        start = story.start[:n] + story.start[n + 1 :]
        if any(start):
            yield replace(story, service=service.model_copy(update={"pools": pools}), start=start)
    plain = {"answers": 1, "cost": 1.0, "dispersion": 1.0, "history_days": 0, "balancer_lag_seconds": 0.0}
    plain |= {"boot_seconds": 240.0, "cadence": (60,)}
    for name, value in plain.items():
        if getattr(story, name) != value:
            yield replace(story, **{name: value})
    given = service.policy.model_dump(exclude_unset=True)
    for name in given:
        if name in {"model", "slo", "sizing"}:
            continue
        for inner in given[name]:
            less = {**given, name: {key: value for key, value in given[name].items() if key != inner}}
            try:
                policy = Policy.model_validate(less)
            except ValueError:
                continue
            yield replace(story, service=service.model_copy(update={"policy": policy}))


def shrink(story: Story, kind: str, seconds: float) -> tuple[Story, Violation]:
    """The smallest story that was found in time and still shows the same kind of violation."""
    check = CHECKS[story.name.rsplit("-", 1)[0]]
    until = time.monotonic() + seconds
    found = next(v for v in check(story).violations if v.kind == kind)
    progress = True
    while progress and time.monotonic() < until:
        progress = False
        for candidate in smaller(story):
            if time.monotonic() > until:
                break
            shown = next((v for v in check(candidate).violations if v.kind == kind), None)
            if shown is not None:
                story, found, progress = candidate, shown, True
                break
    return story, found


def in_short(story: Story) -> str:
    """The story in a line."""
    policy = story.service.policy
    horizontal = policy.horizontal
    limits = [name for name, limit in policy.thresholds if limit is not None]
    parts = [
        f"{story.levels} x {story.cost:g} x {story.answers} answers, dispersion {story.dispersion:g}",
        f"{len(story.service.pools)} pools {policy.vertical.method} {policy.sizing_mode} {limits}",
        f"{policy.forecast.method} {policy.routing.strategy} tolerance {horizontal.tolerance_percent:g}",
        f"window {horizontal.scale_in_stabilization_seconds:g} s, each {story.cadence} s",
    ]
    return ", ".join(parts + [f"{e.minute}: {e.kind} {e.pool} {e.value:g} {e.minutes} min" for e in story.events])


def described(story: Story) -> str:
    """The story in lines, what stands at its default left out."""
    lines = [f"levels {story.levels} start {story.start} boot {story.boot_seconds:.0f} s cadence {story.cadence}"]
    lines.append(
        f"dispersion {story.dispersion} cost {story.cost} answers {story.answers} history {story.history_days} d"
        f" balancer lag {story.balancer_lag_seconds:.0f} s"
    )
    lines += [f"event {e.minute}: {e.kind} {e.pool} {e.value:g} for {e.minutes} min" for e in story.events]
    lines.append(f"policy {story.service.policy.model_dump(mode='json', exclude_defaults=True)}")
    for pool in story.service.pools:
        lines.append(f"pool {pool.model_dump(mode='json', exclude_defaults=True)}")
    return "\n".join("    " + line for line in lines)


def names(seed: int, kinds: Sequence[str] = KINDS) -> Iterator[str]:
    """Names of stories without end."""
    for number in itertools.count(seed * 100_000):
        for k, kind in enumerate(kinds):
            yield f"{kind}-{number * len(kinds) + k}"


def main() -> int:
    parser = argparse.ArgumentParser(description="An independent fuzz of the scaling model")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=sorted(CHECKS))
    parser.add_argument("--story", help="play this one alone, as steady-17")
    parser.add_argument("--trail", action="store_true", help="print each change that was decided")
    parser.add_argument("--shrink-seconds", type=float, default=30.0, help="for each kind of violation")
    args = parser.parse_args()
    wanted = [args.story] if args.story else names(args.seed, args.kinds)
    steps, most_bytes, began = 0, 0, time.monotonic()
    seen: dict[tuple[str, str], list[tuple[str, Violation]]] = {}
    for name in wanted:
        if steps >= args.steps:
            break
        run = CHECKS[name.rsplit("-", 1)[0]](story_of(name))
        steps += len(run.looks)
        most_bytes = max(most_bytes, run.most_bytes)
        for violation in {v.kind: v for v in reversed(run.violations)}.values():
            found = seen.setdefault((name.rsplit("-", 1)[0], violation.kind), [])
            found.append((name, violation))
            if len(found) <= FIRST:
                print(f"{name} at minute {violation.minute:.1f}: {violation.kind}: {violation.text}")
                print(f"    {in_short(run.story)}", flush=True)
        if args.trail:
            _print_trail(run)
    counts = Counter({key: len(found) for key, found in seen.items()})
    print(f"{steps} steps in {time.monotonic() - began:.0f} s, largest state {most_bytes} bytes")
    for key, count in counts.most_common():
        name, violation = seen[key][0]
        print(f"\n{count} stories of kind {key[0]}: {key[1]}: {' '.join(n for n, _ in seen[key][:12])}")
        story, violation = shrink(story_of(name), violation.kind, args.shrink_seconds)
        print(f"  {name} at minute {violation.minute:.1f}: {violation.text}\n{described(story)}")
    return 1 if seen else 0


def _print_trail(run: Run) -> None:
    for before, look in zip([None, *run.looks], run.looks, strict=False):
        if before is None or before.desired != look.desired or before.weights != look.weights:
            demand = "-" if look.demand_rps is None else f"{look.demand_rps:.2f}"
            required = "-" if look.required_rps is None else f"{look.required_rps:.2f}"
            print(
                f"{look.minute:6.1f} rps {look.rps:.2f} demand {demand} required {required} ready {dict(look.ready)}"
                f" desired {dict(look.desired)} weights {dict(look.weights)} {' '.join(look.codes)}"
            )


if __name__ == "__main__":
    sys.exit(main())
