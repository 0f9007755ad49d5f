"""From the counts wanted to those that may be had in one step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.counts import Counts
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.leaving import LOADS_PATIENCE_SECONDS
from gpu_fleet.scaling.observation import Phase, PoolObservation, Reading
from gpu_fleet.scaling.pool_targets import hold, step
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import Mark, MixMemory, PoolState, State
from gpu_fleet.scaling.window import Band
from tests.scaling.builders import NOW, instances, pool, pool_seen, remembered, seen, service

IDLE = pool_seen(4, instance_loads=[0] * 4)


def stepped(
    svc: Service,
    views: Mapping[str, PoolObservation],
    counts: Mapping[str, int],
    *,
    ready_rps: float = 100.0,
    in_rps: float = 0.0,
    utilization: float | None = 0.0,
    **state: Any,
) -> tuple[dict[str, PoolTarget], State, list[str]]:
    """One step of pools whose instances are worth 2 rps each, of which so much is ready and so much is needed."""
    fleet = Fleet((), dict.fromkeys(views, 2.0), dict.fromkeys(views, 0), {}, ready_rps, ready_rps)
    demand = replace(Demand.unknown(NOW), utilization=utilization)
    before = remembered(at=NOW - 60, **({"pools": dict.fromkeys(views, PoolState())} | state))
    band = Band(in_rps, in_rps, settled=True)
    context = Context(svc, seen(pools=dict(views)), before, NOW)
    made = step(context, Counts(counts, fleet, MixMemory(), ()), band, demand)
    return dict(made.by_pool), replace(before, guard=made.memory), [reason.code for reason in made.reasons]


def left(svc: Service, view: PoolObservation, count: int, **changes: Any) -> int:
    return stepped(svc, {"l4": view}, {"l4": count}, **changes)[0]["l4"].desired


def two(**changes: Any) -> Service:
    return service(pool("l4"), pool("l40s"), **changes)


def test_no_more_leaves_than_the_ready_capacity_spares_above_what_is_needed():
    assert left(service(), IDLE, 1, ready_rps=8.0, in_rps=4.0) == 2
    assert left(service(), IDLE, 1, ready_rps=8.0, in_rps=8.0) == 4
    assert left(service(), IDLE, 1, ready_rps=8.0, in_rps=0.0) == 1


def test_a_service_that_sleeps_gives_up_all_it_has_whatever_was_wanted_in_the_window():
    svc = service(pool(min_instances=0), availability={"min_zones": 2})
    asleep = left(svc, IDLE, 0, ready_rps=8.0, in_rps=100.0, utilization=3.0, asleep=True)
    assert asleep == 0
    assert left(svc, IDLE, 0, ready_rps=8.0, in_rps=0.0, utilization=0.0) == 2


@pytest.mark.parametrize(
    ("mode", "utilization", "stay"),
    [
        ({}, 1.5, 2),
        ({}, 2.0, 2),
        ({}, 3.1, 4),
        ({}, None, 4),
        ({"slo": None, "sizing": {"target_utilization": 0.5}}, 1.0, 2),
        ({"slo": None, "sizing": {"target_utilization": 0.5}}, 1.1, 3),
        ({"sizing": {"target_utilization": 0.5}}, 1.1, 2),
    ],
)
def test_what_they_hold_fits_those_that_stay(mode, utilization, stay):
    """Load of 1.5 instances fits two, to the brim in mode `slo` and to the target utilisation in mode `threshold`."""
    assert left(service(**mode), IDLE, 1, utilization=utilization) == stay


def test_two_pools_share_what_is_spared():
    """3 rps are spared and each wants to give up an instance worth 2: one may. With 4, both."""
    views, less = {"l4": IDLE, "l40s": IDLE}, {"l4": 3, "l40s": 3}
    for ready, left_of_the_second in ((19.0, 4), (20.0, 3)):
        targets, _, codes = stepped(two(), views, less, ready_rps=ready, in_rps=16.0)
        assert (targets["l4"].desired, targets["l40s"].desired) == (3, left_of_the_second)
        assert codes[0] == "guard.take"
        assert (codes[1] == "guard.make_before_break") is (left_of_the_second == 4)


def test_two_pools_share_the_room_for_the_load_of_those_that_leave():
    views, less = {"l4": IDLE, "l40s": IDLE}, {"l4": 3, "l40s": 3}
    for utilization, left_of_the_second in ((7.0, 4), (6.0, 3)):
        targets, _, _ = stepped(two(), views, less, utilization=utilization)
        assert (targets["l4"].desired, targets["l40s"].desired) == (3, left_of_the_second)


def test_boots_that_are_given_up_take_nothing_from_what_is_spared():
    boots = pool_seen(4, starting=1, load=None, instance_loads=[0] * 4)
    targets, _, _ = stepped(two(), {"l4": boots, "l40s": IDLE}, {"l4": 4, "l40s": 3}, ready_rps=18.0, in_rps=16.0)
    assert targets["l4"].take == ("s-0",)
    assert len(targets["l40s"].take) == 1


def test_own_loads_are_waited_for_three_minutes_and_then_the_choice_is_made_without():
    _, state, codes = stepped(service(), {"l4": pool_seen(4)}, {"l4": 3})
    assert (state.guard.loads_wanted_since, codes) == (NOW, ["guard.choose_next"])
    for waited, desired in ((LOADS_PATIENCE_SECONDS - 1, 4), (LOADS_PATIENCE_SECONDS, 3)):
        targets, state, _ = stepped(service(), {"l4": pool_seen(4)}, {"l4": 3}, loads_wanted_since=NOW - waited)
        assert targets["l4"].desired == desired
    assert state.guard.loads_wanted_since is None


def test_a_run_between_two_of_the_schedules_goes_on_waiting_for_the_loads():
    """Decided each 10 s, two runs of three are such; had they begun the wait anew, no instance would ever leave."""
    since = NOW - 100
    _, state, _ = stepped(service(), {"l4": pool_seen(4)}, {"l4": 3}, stepped_at=NOW - 10, loads_wanted_since=since)
    assert state.guard.loads_wanted_since == since


def test_loads_that_one_pool_waits_for_are_read_whatever_the_next_pool_does():
    _, state, _ = stepped(two(), {"l4": pool_seen(4), "l40s": IDLE}, {"l4": 3, "l40s": 4})
    assert state.guard.loads_wanted_since == NOW
    _, state, _ = stepped(two(), {"l4": IDLE, "l40s": IDLE}, {"l4": 4, "l40s": 4}, loads_wanted_since=NOW - 60)
    assert state.guard.loads_wanted_since is None


def test_weights_stay_as_they_are_until_they_are_routed():
    assert stepped(service(), {"l4": replace(IDLE, weight=77)}, {"l4": 3})[0]["l4"].weight == 77


def spot(percent=50.0, **changes):
    return service(pool(spot_percent=percent, spot_usd_per_hour=0.3, **changes))


def test_the_on_demand_base_is_written_only_where_there_is_spot_and_only_when_it_changes():
    assert stepped(service(), {"l4": IDLE}, {"l4": 4})[0]["l4"].on_demand_base is None
    for standing, written in ((3, None), (0, 3)):
        view = replace(IDLE, on_demand_base=standing)
        assert stepped(spot(1.0, on_demand_base=3), {"l4": view}, {"l4": 4})[0]["l4"].on_demand_base == written


def test_spot_that_boots_is_given_the_lead_time_that_the_pools_own_launches_took():
    """The catalog says 300 s, its launches took 800: at 900 s a boot is not late, and nothing is made up for."""
    boots = instances(2, Phase.STARTING, "spot", since=NOW - 900, spot=True)
    view = replace(pool_seen(1), desired=4, instances=(*instances(1), *boots), on_demand_base=0)
    marked = (Mark("", NOW + 60, 1, spot=True),)
    for leads, base in (((800.0,) * 3, None), ((), 3)):
        pools = {"l4": PoolState(leads=leads, marks=marked)}
        assert stepped(spot(), {"l4": view}, {"l4": 4}, pools=pools)[0]["l4"].on_demand_base == base


def held(svc: Service, views: Mapping[str, PoolObservation], **state: Any) -> tuple[dict[str, PoolTarget], list[str]]:
    made = hold(Context(svc, seen(pools=dict(views)), remembered(at=NOW - 60, **state), NOW))
    return dict(made.by_pool), [reason.code for reason in made.reasons]


def test_a_hold_keeps_counts_and_weights_and_orders_only_the_minimum():
    svc = service(pool("l4", min_instances=0), pool("l40s", min_instances=3))
    views = {"l4": replace(pool_seen(0), weight=5), "l40s": replace(pool_seen(1), weight=7)}
    targets, codes = held(svc, views)
    assert targets == {"l4": PoolTarget(desired=0, weight=5), "l40s": PoolTarget(desired=3, weight=7)}
    assert codes == []


def test_in_a_hold_each_pool_gives_up_what_stands_over_its_maximum():
    svc = service(pool("l4", max_instances=2), pool("l40s", max_instances=3))
    views = {"l4": replace(pool_seen(4), weight=5), "l40s": replace(pool_seen(4), weight=7)}
    targets, codes = held(svc, views)
    assert {name: (t.desired, len(t.take), t.weight) for name, t in targets.items()} == {
        "l4": (2, 2, 5),
        "l40s": (3, 1, 7),
    }
    assert codes.count("guard.take") == 2


def test_in_a_hold_orders_over_the_maximum_are_taken_back_before_a_boot_or_a_node_that_serves():
    svc = service(pool(max_instances=3))
    view = replace(pool_seen(3, starting=1), desired=5)
    assert held(svc, {"l4": view})[0]["l4"] == PoolTarget(desired=3, weight=100, take=("s-0",))


def test_in_a_hold_the_last_node_of_a_needed_zone_is_not_the_one_that_goes():
    svc = service(pool(max_instances=2), availability={"min_zones": 2})
    nodes = tuple(
        replace(i, zone=z, load=Reading(load, NOW)) for i, z, load in zip(instances(3), "aab", (5, 4, 0), strict=True)
    )
    assert held(svc, {"l4": replace(pool_seen(3), instances=nodes)})[0]["l4"].take == ("i-1",)


def test_in_a_hold_on_top_of_the_schedules_run_nothing_is_taken():
    svc = service(pool(max_instances=2))
    (target,) = held(svc, {"l4": pool_seen(4)}, stepped_at=NOW - 20)[0].values()
    assert (target.desired, target.take) == (4, ())
