from __future__ import annotations

from collections import Counter
from typing import Any

from gpu_fleet.emulator import faults


def spot_count(desk: Any) -> int:
    return sum(desk.is_spot(i["InstanceId"]) for i in desk.instances())


def test_a_lower_base_launches_spot_before_terminating_on_demand(desk: Any) -> None:
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


def test_a_higher_base_replaces_missing_spot_instances(desk: Any) -> None:
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


def test_zones_are_rebalanced_unless_suspended(desk: Any) -> None:
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


def test_a_settled_group_does_not_change(desk: Any) -> None:
    desk.make_group(DesiredCapacity=3, distribution={"OnDemandPercentageAboveBaseCapacity": 50})
    desk.pass_time(300)
    before = [i["InstanceId"] for i in desk.instances()]
    desk.pass_time(7200)
    assert [i["InstanceId"] for i in desk.instances()] == before
