"""What must come of it in the end, over hours of a small honest world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.observation import Instance, JobQueue, Observation, Phase, PoolObservation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from tests.scaling.builders import NOW, learnt, pool, service
from tests.scaling.world import World

L4 = {"min_instances": 0, "zones": ("a", "b"), "slowdown": 2.0}
L40S = L4 | {"throughput_rps": 5.0, "capacity": 50.0, "on_demand_usd_per_hour": 1.9}
METHODS = st.sampled_from(["none", "peak", "trend", "seasonal", "auto"])


def through(
    world: World, minutes: int, state: State | None = None, before: Callable[[int], None] | None = None
) -> tuple[State, list[dict[str, int]]]:
    """Minute by minute; the counts after each."""
    state, counts = state or State(), []
    for minute in range(minutes):
        if before:
            before(minute)
        world.advance()
        decision = decide(world.service, world.observe(state), state, world.now)
        state = decision.state
        world.apply(decision)
        counts.append({name: target.desired for name, target in decision.targets.items()})
    return state, counts


Count = tuple[tuple[str, int], ...]
CONSTANT = given(
    rps=st.floats(0.1, 40.0),
    ready=st.integers(0, 20),
    method=METHODS,
    both=st.booleans(),
    changes=st.sampled_from(
        [
            {},
            {"slo": None, "sizing": {"target_utilization": 0.7}},
            {"horizontal": {"tolerance_percent": 0, "scale_in_stabilization_seconds": 0}},
            {"availability": {"min_zones": 2}},
            {"learning": {"enabled": True}, "routing": {"strategy": "response_time"}},
        ]
    ),
)


def constant(
    rps: float, ready: int, method: str, both: bool, changes: dict[str, Any], state: State, minutes: int
) -> tuple[World, list[Count]]:
    """A constant load from that state on; the counts of the last hour."""
    pools = [pool("l4", **L4), pool("l40s", **L40S)][: 1 + both]
    svc = service(*pools, **{"forecast": {"method": method}, **changes})
    world = World(svc, {"l4": ready}, rps, NOW)
    _, counts = through(world, minutes, state)
    assert world.full_rps >= min(rps, sum(p.max_instances * p.throughput_rps for p in pools))
    return world, [tuple(c.items()) for c in counts[-60:]]


@settings(max_examples=25)
@CONSTANT
def test_under_constant_load_nothing_changes_for_an_hour_once_it_has_settled(
    rps: float, ready: int, method: str, both: bool, changes: dict[str, Any]
) -> None:
    _, hour = constant(rps, ready, method, both, changes, learnt(rps), 240)
    assert set(hour) == {hour[0]}


@settings(max_examples=25)
@CONSTANT
def test_while_a_new_service_learns_how_steady_its_load_is_it_only_gets_cheaper(
    rps: float, ready: int, method: str, both: bool, changes: dict[str, Any]
) -> None:
    """Head-room fades over the first day; that may lead to a cheaper mix, for which the new one comes first."""
    world, hour = constant(rps, ready, method, both, changes, State(), 240)
    only_cheaper(world.service, hour)


def only_cheaper(svc: Service, hour: list[Count]) -> None:
    """At most one move, in whatever steps; what was left does not come back, and what stands on costs no more."""
    stood = [(count, len(list(minutes))) for count, minutes in groupby(hour)]
    assert len({count for count, _ in stood}) == len(stood), stood
    price = {p.name: p.usd_per_hour for p in svc.pools}
    usd = [sum(price[name] * n for name, n in count) for count, minutes in stood if minutes > 20]
    assert usd == sorted(usd, reverse=True), stood
    assert len(usd) <= 2, stood


@settings(max_examples=12)
@given(rps=st.floats(1.0, 30.0), cheaper=st.floats(0.4, 0.85), slower=st.booleans())
def test_a_cheaper_type_that_does_as_well_is_not_refused_for_ever(rps: float, cheaper: float, slower: bool) -> None:
    dear = pool("dear", **L4)
    cheap = pool("cheap", **L4 | {"on_demand_usd_per_hour": 0.8 * cheaper, "lead_seconds": 600.0 if slower else 200.0})
    world = World(service(dear, cheap), {"dear": 20}, rps, NOW)
    lowest = []
    through(world, 300, before=lambda _: lowest.append(world.full_rps))
    assert world.groups["dear"].desired == 0
    assert world.groups["dear"].weight == 0
    assert min(lowest) >= rps


@settings(max_examples=15)
@given(
    low=st.floats(0.5, 5.0),
    high=st.floats(6.0, 30.0),
    period=st.integers(20, 90),
    method=METHODS,
)
def test_a_swinging_load_is_never_short_because_capacity_was_taken(
    low: float, high: float, period: int, method: str
) -> None:
    """What can be asked: a minute's demand is never over capacity that would have stood, had nobody taken any."""
    svc = service(pool("l4", **L4), forecast={"method": method})
    world = World(svc, {"l4": 20}, high, NOW)
    state = State()
    for minute in range(4 * period):
        world.rps = low + (high - low) * abs((minute % (2 * period)) / period - 1)
        before = world.full_rps
        world.advance()
        decision = decide(svc, world.observe(state), state, world.now)
        state = decision.state
        taken = len(decision.targets["l4"].take)
        world.apply(decision)
        if taken and before >= world.rps:
            assert world.full_rps >= world.rps


@settings(max_examples=12)
@given(
    rps=st.floats(0.5, 25.0),
    lost=st.sets(st.sampled_from(["load", "arrivals", "own", "rates", "rejected"])),
    lag=st.sampled_from([0.0, 120.0, 600.0]),
    dry=st.sets(st.sampled_from("ab")),
    fail=st.booleans(),
    forget=st.booleans(),
)
def test_when_all_is_well_again_so_is_the_service(
    rps: float, lost: set[str], lag: float, dry: set[str], fail: bool, forget: bool
) -> None:
    svc = service(pool("l4", **L4), pool("l40s", **L40S))
    world = World(svc, {"l4": 2}, rps, NOW)
    world.missing, world.lag_seconds, world.dry_zones, world.boots_fail = lost, lag, dry, fail
    state, _ = through(world, 45)
    world.missing, world.lag_seconds, world.dry_zones, world.boots_fail = set(), 0.0, set(), False
    _, counts = through(world, 200, State() if forget else state)
    assert world.full_rps >= rps
    assert all(n.phase(world.now) is Phase.READY for g in world.groups.values() for n in g.staying())
    only_cheaper(svc, [tuple(c.items()) for c in counts[-45:]])


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 6), st.floats(0, 3000), st.lists(st.integers(-1, 2), min_size=0, max_size=8)),
        min_size=1,
        max_size=25,
    ),
    st.integers(1, 2),
    st.integers(0, 3),
)
def test_a_node_with_jobs_is_never_taken_and_always_protected(
    minutes: list[tuple[int, float, list[int]]], each: int, low: int
) -> None:
    """Any queue, any nodes, and a maximum that is lowered below what runs: -1 stands for a node that does not tell."""
    svc = service(
        pool(min_instances=min(low, 2), max_instances=3), workload="training", training={"jobs_per_instance": each}
    )
    state = State()
    for n, (waiting, oldest, jobs) in enumerate(minutes):
        now = NOW + 240 * n
        nodes = tuple(
            Instance(f"i-{k}", "g6.xlarge", "ab"[k % 2], Phase.READY, NOW - 9000, jobs=None if j < 0 else j)
            for k, j in enumerate(jobs)
        )
        view = PoolObservation(desired=len(nodes), min_size=0, max_size=10, weight=0, instances=nodes)
        seen = Observation({"l4": view}, jobs=JobQueue(waiting, oldest))
        decision = decide(svc, seen, state, now)
        target, state = decision.targets["l4"], decision.state
        may_work = {node.id for node in nodes if node.jobs is None or node.jobs > 0}
        assert not may_work & set(target.take)
        assert may_work <= set(target.protect)
        assert target.desired >= len(may_work)


@given(st.floats(0.2, 3.0), st.integers(5, 60), st.booleans())
@settings(max_examples=20)
def test_what_is_learnt_of_capacity_stays_within_its_bound(truth: float, percent: int, waits: bool) -> None:
    svc = service(pool("l4", **L4), learning={"enabled": True, "bound_percent": percent, "half_life_seconds": 600})
    world = World(svc, {"l4": 4}, 9.0, NOW)
    state = State()
    for _ in range(90):
        world.advance()
        seen = world.observe(state)
        view = seen.pools["l4"]
        if view.running is not None and view.waiting is not None:
            held = replace(view.running, value=truth * 20 * 4)
            queued = replace(view.waiting, value=40.0 if waits else 0.0)
            seen = replace(seen, pools={"l4": replace(view, running=held, waiting=queued)})
        state = decide(svc, seen, state, world.now).state
        correction = state.pools["l4"].correction
        assert 1 - percent / 100 - 1e-9 <= correction <= 1 + percent / 100 + 1e-9


@pytest.mark.parametrize("minutes", [1, 5])
def test_a_service_without_clients_sleeps_and_wakes_for_the_first(minutes: int) -> None:
    svc = service(pool("l4", **L4), zero={"idle_seconds": 600})
    world = World(svc, {"l4": 3}, 0.0, NOW)
    state, counts = through(world, 60)
    assert counts[-1] == {"l4": 0}
    world.rps = 0.5
    state, counts = through(world, minutes, state)
    assert counts[0]["l4"] >= 1
    through(world, 30, state)
    assert world.full_rps >= 0.5
