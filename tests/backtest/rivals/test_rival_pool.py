"""The one pool that a rival scales, and who leaves it."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.backtest.rivals.rival_pool import (
    RivalPool,
    closest_to_the_hour_in_the_fullest_zone,
    newest_not_ready_first,
)
from gpu_fleet.scaling.observation import Observation, Phase


def test_all_traffic_goes_to_the_rivals_pool_and_the_others_go_to_their_minimum(desk: Any) -> None:
    service = desk.service(desk.pool("l4", min_instances=1), desk.pool("l40s"))
    seen = Observation(
        pools={
            "l4": desk.seen(0.0, ready=2, pool="l4").pools["l4"],
            "l40s": desk.seen(0.0, ready=3).pools["l40s"],
        }
    )
    group = RivalPool.of(service, "l40s", newest_not_ready_first, can_sleep=False)
    targets = group.targets(service, seen, 5, 0.0)
    assert (targets["l40s"].desired, targets["l40s"].weight, targets["l40s"].take) == (5, 100, ())
    assert (targets["l4"].desired, targets["l4"].weight) == (1, 0)
    assert targets["l4"].take == ("i-0",)


def test_the_services_floor_and_the_pools_bounds_hold_for_a_rival(desk: Any) -> None:
    service = desk.service(desk.pool(min_instances=1, max_instances=6), availability={"min_instances": 2})
    group = RivalPool.of(service, "l40s", newest_not_ready_first, can_sleep=True)
    assert [group.clip(n) for n in (0, 2, 4, 9)] == [2, 2, 4, 6]
    awake = RivalPool.of(
        desk.service(availability={"min_instances": 0}), "l40s", newest_not_ready_first, can_sleep=False
    )
    assert awake.clip(0) == 1


def test_an_unknown_pool_is_named_with_those_that_are_there(desk: Any) -> None:
    with pytest.raises(ValueError, match=r"pool: must be one of l40s \(got h100\)"):
        RivalPool.of(desk.service(), "h100", newest_not_ready_first, can_sleep=False)


def test_desired_and_those_taken_are_what_stands(desk: Any) -> None:
    service = desk.service()
    seen = desk.seen(0.0, ready=4, starting=2, unhealthy=1, draining=3)
    targets = RivalPool.of(service, "l40s", newest_not_ready_first, can_sleep=False).targets(service, seen, 3, 0.0)
    assert targets["l40s"].desired + len(targets["l40s"].take) == 7
    assert {"i-4", "i-5", "i-6"} <= set(targets["l40s"].take)  # the starting ones and the unhealthy one go first


def test_kubernetes_takes_what_is_not_ready_then_the_newest(desk: Any) -> None:
    old = desk.instance(0, since=0.0)
    new = desk.instance(1, since=50.0)
    coming = desk.instance(2, Phase.STARTING, since=10.0)
    assert newest_not_ready_first([old, new, coming], 2, 100.0) == ("i-2", "i-1")


def test_ec2_takes_from_the_fullest_zone_the_one_nearest_to_its_next_hour(desk: Any) -> None:
    # Zone a: launched at 0 and 1800; zone b: at 600. At 3500 they are 100, 1900 and 700 s before their next full hour.
    a0, a1 = desk.instance(0, since=0.0, zone="a"), desk.instance(1, since=1800.0, zone="a")
    b0 = desk.instance(2, since=600.0, zone="b")
    assert closest_to_the_hour_in_the_fullest_zone([a0, a1, b0], 1, 3500.0) == ("i-0",)
    assert closest_to_the_hour_in_the_fullest_zone([a1, b0], 1, 3500.0) == ("i-2",)  # one each: the nearer to the hour
    assert closest_to_the_hour_in_the_fullest_zone([a0], 5, 3500.0) == ("i-0",)
