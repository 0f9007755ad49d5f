"""How a group splits its instances, and who leaves so that it stays as the group wants it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.emulator.lifelike import placement
from gpu_fleet.scaling import leaving
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.leaving import Wish
from gpu_fleet.scaling.observation import Instance, Phase, Reading
from gpu_fleet.scaling.purchase import base_for, on_demand_count, spot_leaves_next
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import State
from gpu_fleet.scaling.zones import Zones
from tests.scaling.builders import NOW, instances, pool, pool_seen, seen, service


def mixed(percent: int, base: int = 0) -> Pool:
    return pool(spot_percent=percent, on_demand_base=base, spot_usd_per_hour=0.3)


@pytest.mark.parametrize(
    ("base", "percent", "on_demand"),
    [(0, 40, (6, 12, 18, 24)), (0, 0, (10, 20, 30, 40)), (12, 100, (10, 12, 12, 12))],
)
def test_the_split_is_that_of_the_examples_of_aws(base: int, percent: int, on_demand: Sequence[int]) -> None:
    """https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html"""
    assert tuple(on_demand_count(mixed(percent, base), n) for n in (10, 20, 30, 40)) == on_demand


counts, percents = st.integers(0, 60), st.integers(0, 100)


@given(counts, st.integers(0, 20), percents)
def test_the_split_is_that_of_the_emulated_group(count: int, base: int, percent: int) -> None:
    policy = {
        "InstancesDistribution": {"OnDemandBaseCapacity": base, "OnDemandPercentageAboveBaseCapacity": 100 - percent}
    }
    assert on_demand_count(mixed(percent, base), count) == placement.split(count, policy).on_demand


def test_the_base_rises_by_what_spot_does_not_deliver() -> None:
    assert base_for(mixed(100, base=2), 8, spot=6) == 2
    assert base_for(mixed(100, base=2), 8, spot=1) == 7
    assert base_for(mixed(50), 10, spot=3) == 3


def fleet(on_demand: int, spot: int, load: float = 1.0) -> tuple[Instance, ...]:
    nodes = instances(on_demand, prefix="od") + instances(spot, prefix="spot", spot=True)
    return tuple(replace(i, load=Reading(load, NOW)) for i in nodes)


def left(one: Pool, nodes: Sequence[Instance], by: int) -> list[Instance]:
    """Those who stay when `by` leave of all these, none of which is needed."""
    view = replace(pool_seen(0), desired=len(nodes), instances=tuple(nodes))
    context = Context(service(one, horizontal={"max_step_in": 1000}), seen(), State(), NOW)
    wish = Wish(by=by, spare_rps=1e6, instance_rps=2.0, fits=10**6)
    gone = leaving.shrink(context, one, view, wish, Zones.of(0, [view]))
    return [i for i in nodes if i.id not in gone.take]


def test_the_on_demand_base_is_the_last_to_leave() -> None:
    stays = left(mixed(100, base=2), fleet(2, 6), by=7)
    assert [i.spot for i in stays] == [False]
    stays = left(mixed(100, base=2), fleet(2, 6), by=5)
    assert sorted(i.spot for i in stays) == [False, False, True]


def test_what_stood_in_for_spot_leaves_before_spot() -> None:
    stays = left(mixed(100), fleet(5, 3), by=4)
    assert [i.spot for i in stays] == [False, True, True, True]


def test_a_boot_of_the_base_stays_and_any_other_boot_leaves_before_what_serves() -> None:
    boots = instances(2, Phase.STARTING, "boot", since=NOW - 60)
    stays = left(mixed(100, base=2), (*boots, *fleet(0, 6)), by=3)
    assert sorted(i.spot for i in stays) == [False, False, True, True, True]
    stays = left(mixed(100), (*boots, *fleet(0, 6)), by=2)
    assert all(i.spot for i in stays)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 8), percents, st.integers(0, 40), st.floats(0, 20))
def test_what_leaves_is_what_the_group_has_too_much_of(
    on_demand: int, spot: int, base: int, percent: int, by: int, load: float
) -> None:
    """On-demand instances leave down to what the group wants among those that stay, or because no spot is left."""
    one = mixed(percent, base)
    nodes = [replace(i, load=Reading(load if i.spot else 1.0, NOW)) for i in fleet(on_demand, spot)]
    stays = left(one, nodes, by)
    assert len(stays) == max(0, len(nodes) - by)
    kept = sum(not i.spot for i in stays)
    goal = on_demand_count(one, len(stays))
    assert kept == min(on_demand, max(goal, len(stays) - spot))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 8), percents)
def test_who_leaves_next_is_always_there(on_demand: int, spot: int, base: int, percent: int) -> None:
    nodes = fleet(on_demand, spot)
    if nodes:
        spot = sum(i.spot for i in nodes)
        assert any(i.spot is spot_leaves_next(mixed(percent, base), len(nodes) - spot, spot) for i in nodes)
