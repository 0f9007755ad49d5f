from __future__ import annotations

from collections import Counter
from typing import Any

from gpu_fleet.emulator import faults


def spot_count(desk: Any) -> int:
    return sum(desk.spot_of(i["InstanceId"]) for i in desk.instances())


def test_a_lower_base_brings_spot_back_the_new_one_first(desk: Any) -> None:
    distribution = {"OnDemandBaseCapacity": 2, "OnDemandPercentageAboveBaseCapacity": 0}
    desk.make_group(DesiredCapacity=2, distribution=distribution)
    desk.pass_time(200)
    assert spot_count(desk) == 0
    desk.asg.update_auto_scaling_group(
        AutoScalingGroupName="group", MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": 1}}
    )
    healthy = []
    for _ in range(40):
        desk.pass_time(10)
        healthy.append(list(desk.health().values()).count("healthy"))
    assert min(healthy) == 2
    assert spot_count(desk) == 1
    assert len(desk.instances()) == 2


def test_a_higher_base_makes_up_for_spot_that_did_not_come(desk: Any) -> None:
    desk.make_group(distribution={"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 0})
    with faults.no_capacity(desk.cloud, faults.Shortage(spot=True)):
        desk.scale(3)
        desk.pass_time(200)
        assert len(desk.instances()) == 1
        desk.asg.update_auto_scaling_group(
            AutoScalingGroupName="group", MixedInstancesPolicy={"InstancesDistribution": {"OnDemandBaseCapacity": 3}}
        )
        desk.pass_time(200)
    assert desk.states() == ["InService"] * 3
    assert spot_count(desk) == 0


def test_zones_are_balanced_again_unless_that_is_suspended(desk: Any) -> None:
    for name in ("group", "still"):
        desk.make_group(name)
    desk.asg.suspend_processes(AutoScalingGroupName="still", ScalingProcesses=["AZRebalance"])
    with faults.no_capacity(desk.cloud, faults.Shortage(zone="us-east-1b")):
        for name in ("group", "still"):
            desk.scale(4, name)
        desk.pass_time(300)
    desk.pass_time(900)
    assert Counter(i["AvailabilityZone"] for i in desk.instances()) == {"us-east-1a": 2, "us-east-1b": 2}
    assert Counter(i["AvailabilityZone"] for i in desk.instances("still")) == {"us-east-1a": 4}


def test_a_settled_group_is_left_alone(desk: Any) -> None:
    desk.make_group(DesiredCapacity=3, distribution={"OnDemandPercentageAboveBaseCapacity": 50})
    desk.pass_time(300)
    before = [i["InstanceId"] for i in desk.instances()]
    desk.pass_time(7200)
    assert [i["InstanceId"] for i in desk.instances()] == before
