"""How many instances of each pool, at the worth that they have among that many, and in how many zones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.counts import settle
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.fleet import survey
from gpu_fleet.scaling.observation import PoolObservation
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import Mark, PoolState, State
from gpu_fleet.scaling.window import Band
from tests.scaling.builders import NOW, pool, pool_seen, remembered, seen, service

POOLED = pool(
    capacity=16.0, throughput_rps=2.0, service_seconds=8.0, slowdown=3.0, min_instances=0, max_instances=200, slots=64.0
)


def settled(
    svc: Service,
    views: Mapping[str, PoolObservation],
    wanted: float,
    *,
    in_rps: float | None = None,
    headroom: float | None = None,
    **state: Any,
) -> tuple[dict[str, int], State, list[tuple[Step, str]]]:
    """The counts for such a demand."""
    before = remembered(at=NOW - 60, **({"pools": dict.fromkeys(views, PoolState())} | state))
    observation = seen(pools=dict(views))
    context = Context(svc, observation, before, NOW)
    fleet = survey(context, 1.0 if headroom is None else headroom)
    band = Band(wanted, wanted if in_rps is None else in_rps, settled=True)
    more = {} if headroom is None else {"headroom": headroom}
    made = settle(context, fleet, wanted, band, **more)
    return dict(made.by_pool), context.remember(mix=made.memory).state, [(r.step, r.code) for r in made.reasons]


def carried(svc: Service, view: PoolObservation, count: int) -> float:
    """What so many instances carry among themselves."""
    state = State(pools={"l4": PoolState()})
    return count * survey(Context(svc, seen(pools={"l4": view}), state, NOW), 1.0, {"l4": count}).worth["l4"]


@pytest.mark.parametrize("standing", [1, 2, 3])
@pytest.mark.parametrize("wanted", [7.0, 16.0, 30.0, 95.0])
def test_going_out_just_so_many_are_ordered_as_carry_it_among_themselves(standing, wanted):
    """One that stands alone is worth 56 % of itself, each of twenty 90 %: counted at 56 % a third too many come."""
    svc, view = service(POOLED), pool_seen(standing)
    count = settled(svc, {"l4": view}, wanted)[0]["l4"]
    assert count > standing
    assert carried(svc, view, count) >= wanted > carried(svc, view, count - 1)


def test_without_head_room_said_none_is_counted_on():
    plain, said = (settled(service(POOLED), {"l4": pool_seen(5)}, 16.0, headroom=h)[0] for h in (None, 1.0))
    assert plain == said


def test_a_service_that_sleeps_wants_nothing_and_says_so():
    svc = service(pool("l4", min_instances=0), pool("h100", min_instances=0))
    counts, _, reasons = settled(svc, {"l4": pool_seen(2), "h100": pool_seen(1)}, 5.0, asleep=True)
    assert counts == {"l4": 0, "h100": 0}
    assert reasons == [(Step.MIX, "zero.asleep")]


@pytest.mark.parametrize(
    ("zero", "least"), [({"idle_seconds": 600, "wake_instances": 3}, 3), ({"wake_instances": 3}, 1)]
)
def test_a_service_that_wakes_starts_with_as_many_as_the_policy_says_and_any_other_with_one(zero, least):
    svc = service(pool(min_instances=0), zero=zero, availability={"min_instances": 0})
    assert settled(svc, {"l4": pool_seen(0)}, 0.0)[0] == {"l4": least}


def test_a_change_of_types_is_remembered_and_not_followed_by_the_next_for_a_while():
    dear, cheap = pool("dear", min_instances=0), pool("cheap", min_instances=0, on_demand_usd_per_hour=0.1)
    svc, views = service(dear, cheap), {"dear": pool_seen(4), "cheap": pool_seen(0)}
    counts, after, _ = settled(svc, views, 5.0)
    assert counts["cheap"] > 0
    assert after.mix.moved_at == NOW
    stays, later, _ = settled(svc, views, 5.0, moved_at=NOW - 60)
    assert stays["cheap"] == 0
    assert later.mix.moved_at == NOW - 60


def in_zones(zones: str) -> PoolObservation:
    """One ready instance in each of these."""
    view = pool_seen(len(zones))
    return replace(view, instances=tuple(replace(i, zone=z) for i, z in zip(view.instances, zones, strict=True)))


def zoned(*pools: Pool) -> Service:
    return service(*pools, availability={"min_zones": 2})


def test_of_three_zones_no_more_are_opened_than_the_floor_asks_for():
    of = zoned(pool(zones=("a", "b", "c"), min_instances=0))
    assert settled(of, {"l4": in_zones("aa")}, 2.0)[0] == {"l4": 3}
    assert settled(of, {"l4": in_zones("ab")}, 2.0)[0] == {"l4": 2}
    assert settled(service(pool(zones=("a", "b", "c"))), {"l4": in_zones("aa")}, 2.0)[0]["l4"] < 3


@pytest.mark.parametrize(("most", "more"), [(0, 0), (1, 1)])
def test_a_zone_counts_as_one_to_open_where_a_pool_may_have_instances_there(most, more):
    of = zoned(pool("l4", zones=("a",)), pool("h100", zones=("b",), min_instances=0, max_instances=most))
    counts, _, _ = settled(of, {"l4": in_zones("aa"), "h100": pool_seen(0)}, 2.0)
    assert sum(counts.values()) == 2 + more


def test_a_zone_of_a_pool_that_may_not_grow_is_none_to_open():
    """By the policy (only the first pool grows) or by hand (the group's own maximum)."""
    pools = (pool("l4", zones=("a",)), pool("h100", zones=("b",), min_instances=0))
    off = service(*pools, availability={"min_zones": 2}, vertical={"method": "off"})
    assert sum(settled(off, {"l4": in_zones("aa"), "h100": pool_seen(0)}, 2.0)[0].values()) == 2
    lowered = replace(pool_seen(0), max_size=0)
    assert sum(settled(zoned(*pools), {"l4": in_zones("aa"), "h100": lowered}, 2.0)[0].values()) == 2


def test_a_zone_whose_mark_is_over_may_be_opened_again():
    def counts(until: float) -> int:
        marked = PoolState(marks=(Mark("b", until, 1),))
        return settled(zoned(pool()), {"l4": in_zones("aa")}, 2.0, pools={"l4": marked})[0]["l4"]

    assert counts(NOW + 1) == 2
    assert counts(NOW - 1) == 3
