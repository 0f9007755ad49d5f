"""Orders that cannot be filled: other pools carry in the same run, and what cannot be launched is tried again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import CapacityError, Instance, Phase, PoolObservation, Reading
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from tests.scaling.builders import NOW, instances, pool, pool_seen, seen, service
from tests.scaling.world import World

L4 = pool("l4", min_instances=0)
L40S = pool("l40s", min_instances=0, throughput_rps=4.0, capacity=40.0, on_demand_usd_per_hour=2.0)
BOTH = service(L4, L40S)
LIVED = State(at=NOW - 60, since=NOW - 7200)
BROKEN = CapacityError("", NOW - 30, None, "InvalidAMIID.NotFound - The image id '[ami-1]' does not exist.")


def decided(views: dict[str, PoolObservation], svc: Service = BOTH, rps: float = 12.0) -> Decision:
    return decide(svc, seen(arrivals=rps, pools=views), LIVED, NOW)


@pytest.mark.parametrize("how", [{"launch_suspended": True}, {"capacity_errors": (BROKEN,)}])
def test_what_one_group_cannot_launch_another_orders_in_the_same_run(how):
    """The l4 would be cheapest, and has three orders that nobody will fill."""
    stuck = replace(pool_seen(2, load=40), desired=5, **how)
    decision = decided({"l4": stuck, "l40s": pool_seen(0)})
    assert decision.targets["l4"].desired == 2
    assert decision.targets["l40s"].desired >= 3
    (why,) = [r for r in decision.reasons if r.code in {"mix.launch_suspended", "mix.cannot_launch"}]
    assert why.sentence.startswith("l4 cannot launch: ")
    assert ("ami-1" in why.sentence) is ("capacity_errors" in how)


def test_a_group_that_may_launch_again_is_used_at_once():
    resumed = replace(pool_seen(2, load=40), desired=2)
    decision = decided({"l4": resumed, "l40s": pool_seen(0)})
    assert (decision.targets["l4"].desired > 2, decision.targets["l40s"].desired) == (True, 0)


def loaded(ready: Sequence[Instance], desired: int, now: float, **how: object) -> PoolObservation:
    """A pool that is full, whatever stands of it."""
    full = Reading(20.0 * len(ready), now)
    view = pool_seen(0, load=0, at=now, desired=desired, instances=tuple(ready), running=full, max_size=20, **how)
    return replace(view, load=full)


@given(
    ready=st.integers(1, 6),
    boots=st.integers(0, 4),
    orders=st.integers(0, 8),
    suspended=st.booleans(),
    rps=st.floats(0.5, 60),
)
def test_with_every_group_blocked_nothing_is_ordered_and_nothing_that_stands_is_lost(
    ready, boots, orders, suspended, rps
):
    """For an hour under a load that they do not carry: the desired counts are what stands, run after run."""
    state, svc = LIVED, service(pool("l4"), pool("l40s"), forecast={"method": "none"})
    nodes = (*instances(ready), *instances(boots, Phase.STARTING, "boot", since=NOW - 60))
    desired = dict.fromkeys(("l4", "l40s"), len(nodes) + orders)
    for minute in range(20):
        now = NOW + 180 * minute
        how = {"launch_suspended": True} if suspended else {"capacity_errors": (replace(BROKEN, at=now - 30),)}
        standing = tuple(replace(i, phase=Phase.READY) for i in nodes) if minute else nodes
        views = {name: loaded(standing, desired[name], now, **how) for name in desired}
        decision = decide(svc, seen(at=now, arrivals=60 + rps, pools=views), state, now)
        state = decision.state
        desired = {name: target.desired for name, target in decision.targets.items()}
        assert all(not target.take for target in decision.targets.values())
        assert set(desired.values()) == {len(nodes)}


def test_a_group_that_cannot_launch_is_tried_again_with_growing_pauses():
    """Five hours of a template that names no image: each order fails within the minute."""
    state, svc, desired = LIVED, service(forecast={"method": "none"}), 2
    errors: tuple[CapacityError, ...] = ()
    tried: list[float] = []
    for minute in range(300):
        now = NOW + 60 * minute
        view = loaded(instances(2), desired, now, capacity_errors=errors)
        decision = decide(svc, seen(at=now, arrivals=12.0, pools={"l4": view}), state, now)
        state, desired = decision.state, decision.targets["l4"].desired
        if desired > 2:
            tried.append(now - NOW)
            errors = (replace(BROKEN, at=now + 5),)
    pauses = [later - earlier for earlier, later in itertools.pairwise(tried)]
    assert pauses == [360, 660, 1260, 2460, 3660, 3660, 3660]
    assert max(state.pools["l4"].marks, key=lambda m: m.errors).errors >= 6


def minutes(zones: tuple[str, ...], own: tuple[str, ...], **changes: object) -> list[int]:
    """The desired count minute by minute: at 4 rps, then at 14 with one zone of three dry."""
    svc, state, desired, counts = service(pool(zones=zones, **changes), forecast={"method": "none"}), LIVED, 4, []
    for minute in range(8):
        now = NOW + 60.0 * minute
        rps = 4.0 if minute < 3 else 14.0
        dry = (CapacityError("a", NOW + 170),) if minute >= 3 else ()
        load = Reading(min(80.0, 10 * rps), now)
        view = pool_seen(4, load=load.value, at=now, desired=desired, zones=own, capacity_errors=dry)
        decision = decide(svc, seen(at=now, arrivals=rps, pools={"l4": view}), state, now)
        state, desired = decision.state, decision.targets["l4"].desired
        counts.append(desired)
    return counts


def test_one_dry_zone_counts_the_same_whether_the_zones_are_written_the_groups_own_or_unknown():
    written = minutes(("a", "b", "c"), ("a", "b", "c"))
    assert written[3] >= 8
    assert minutes((), ("a", "b", "c")) == written
    assert minutes((), ()) == written
    # one zone alone, by whichever way it is known
    assert minutes((), ("a",)) == minutes(("a",), ()) == [4] * 8


def test_the_floor_of_zones_knows_the_groups_own_zones():
    svc = service(pool(zones=()), availability={"min_zones": 2})
    view = pool_seen(2, load=1, instance_loads=[1, 0], zones=("a", "b"))
    one_zone = replace(view, instances=tuple(replace(i, zone="a") for i in view.instances))
    assert decide(svc, seen(arrivals=0.1, pools={"l4": one_zone}), LIVED, NOW).targets["l4"].desired == 3


@pytest.mark.parametrize("percent", [50, 100])
def test_without_spot_on_demand_instances_come_within_two_minutes_and_go_back_when_spot_is_there(percent):
    """Four times the load while there is no spot: ordered in one minute, seen to fail and made up for in the next."""
    svc = service(pool(spot_percent=percent, spot_usd_per_hour=0.3, max_instances=40), forecast={"method": "none"})
    world = World(svc, {"l4": 4}, 4.0, NOW)
    state, group = State(), world.groups["l4"]

    def run(count: int) -> None:
        nonlocal state
        for _ in range(count):
            world.advance()
            decision = decide(svc, world.observe(state), state, world.now)
            state = decision.state
            world.apply(decision)

    run(15)
    world.spot_dry, world.rps = True, 16.0
    run(1)
    ordered = group.desired
    assert ordered > len(group.staying())
    run(2)
    world.advance()
    assert len(group.staying()) >= ordered
    assert group.on_demand_base > 0
    world.spot_dry = False
    run(10)
    assert group.on_demand_base == 0, "the group replaces on-demand by spot instances from now on"
    assert len(group.ready(world.now)) == group.desired
