from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.emulator import faults
from gpu_fleet.emulator.lifelike.placement import Split, instance_types, split, zones_by_need


def policy(base: int = 0, percent: int = 100) -> dict[str, Any]:
    distribution = {"OnDemandBaseCapacity": base, "OnDemandPercentageAboveBaseCapacity": percent}
    return {"InstancesDistribution": distribution}


@pytest.mark.parametrize(
    ("desired", "base", "percent", "expected"),
    [
        (0, 2, 50, Split(0, 0)),
        (1, 2, 0, Split(1, 0)),
        (5, 2, 50, Split(4, 1)),  # 3 above the base at 50 percent: on demand is rounded up
        (10, 0, 30, Split(3, 7)),
        (7, 0, 0, Split(0, 7)),
        (7, 0, 100, Split(7, 0)),
    ],
)
def test_on_demand_is_the_base_and_its_share_above(desired: int, base: int, percent: int, expected: Split) -> None:
    assert split(desired, policy(base, percent)) == expected


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 100))
def test_a_split_loses_no_instance(desired: int, base: int, percent: int) -> None:
    found = split(desired, policy(base, percent))
    assert found.on_demand + found.spot == desired
    assert found.on_demand >= min(desired, base)
    assert found.spot >= 0


def test_a_group_without_a_policy_is_on_demand_of_the_templates_type() -> None:
    assert split(3, None) == Split(3, 0)
    assert instance_types(None, "g6.xlarge") == ("g6.xlarge",)


def test_the_emptiest_zone_comes_first_and_ties_keep_the_groups_order() -> None:
    assert zones_by_need(["b", "a", "c", "a"], {"b": 2, "a": 1, "c": 1}) == ["a", "c", "b"]


def test_instances_are_spread_over_zones_with_the_preferred_type_and_the_spot_share(desk: Any) -> None:
    desk.make_group(
        DesiredCapacity=6, distribution={"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 20}
    )
    desk.pass_time(10)
    assert Counter(i["AvailabilityZone"] for i in desk.instances()) == {"us-east-1a": 3, "us-east-1b": 3}
    assert {i["InstanceType"] for i in desk.instances()} == {"g6.xlarge"}
    assert sum(desk.is_spot(i["InstanceId"]) for i in desk.instances()) == 4


def test_the_next_type_is_launched_if_the_preferred_one_has_no_capacity(desk: Any) -> None:
    desk.make_group()
    with faults.no_capacity(desk.cloud, faults.Shortage(type="g6.xlarge", zone="us-east-1a")):
        desk.scale(2)
        desk.pass_time(10)
    found = {i["AvailabilityZone"]: i["InstanceType"] for i in desk.instances()}
    assert found == {"us-east-1a": "g6.2xlarge", "us-east-1b": "g6.xlarge"}


def test_another_zone_is_used_if_one_has_no_capacity(desk: Any) -> None:
    desk.make_group()
    with faults.no_capacity(desk.cloud, faults.Shortage(zone="us-east-1a")):
        desk.scale(2)
        desk.pass_time(10)
    assert {i["AvailabilityZone"] for i in desk.instances()} == {"us-east-1b"}
