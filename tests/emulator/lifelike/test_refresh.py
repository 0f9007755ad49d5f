from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import faults


@pytest.fixture
def up(desk: Any) -> Any:
    desk.make_group(DesiredCapacity=4, DefaultInstanceWarmup=0)
    desk.pass_time(300)
    return desk


def bigger(desk: Any) -> dict[str, Any]:
    template = {"LaunchTemplateSpecification": {"LaunchTemplateId": desk.template, "Version": "$Latest"}}
    template["Overrides"] = [{"InstanceType": "g6e.xlarge"}]  # type: ignore[assignment]
    return {"MixedInstancesPolicy": {"LaunchTemplate": template}}


def start(desk: Any, **how: Any) -> str:
    return desk.asg.start_instance_refresh(AutoScalingGroupName="group", **how)["InstanceRefreshId"]


def status(desk: Any) -> dict[str, Any]:
    return desk.asg.describe_instance_refreshes(AutoScalingGroupName="group")["InstanceRefreshes"][0]


def run(desk: Any, seconds: float) -> int:
    """Pass time and return the smallest number of healthy targets meanwhile."""
    least = 99
    for _ in range(int(seconds // 15)):
        desk.pass_time(15)
        least = min(least, list(desk.health().values()).count("healthy"))
    return least


def test_new_types_roll_through_the_group_without_loss_of_capacity(up: Any) -> None:
    start(up, DesiredConfiguration=bigger(up), Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150})
    assert run(up, 1200) == 4
    assert {i["InstanceType"] for i in up.instances()} == {"g6e.xlarge"}
    assert len(up.instances()) == 4
    done = status(up)
    assert (done["Status"], done["PercentageComplete"], done["InstancesToUpdate"]) == ("Successful", 100, 0)
    assert done["EndTime"] > done["StartTime"]


def test_by_default_a_tenth_of_the_instances_may_be_missing(up: Any) -> None:
    start(up)
    least = run(up, 1500)
    assert least == 3
    assert status(up)["Status"] == "Successful"


def test_a_refresh_reports_its_progress(up: Any) -> None:
    start(up, DesiredConfiguration=bigger(up), Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 110})
    run(up, 300)
    under_way = status(up)
    assert under_way["Status"] == "InProgress"
    assert 0 < under_way["PercentageComplete"] < 100
    assert 0 < under_way["InstancesToUpdate"] < 4


def test_one_refresh_at_a_time(up: Any) -> None:
    start(up)
    with pytest.raises(ClientError, match="InstanceRefreshInProgress"):
        start(up)


def test_cancelling_a_refresh_restores_the_groups_configuration(up: Any) -> None:
    start(up, DesiredConfiguration=bigger(up), Preferences={"MinHealthyPercentage": 100, "MaxHealthyPercentage": 110})
    run(up, 60)
    up.asg.cancel_instance_refresh(AutoScalingGroupName="group")
    run(up, 600)
    assert status(up)["Status"] == "Cancelled"
    types = [i["InstanceType"] for i in up.instances()]
    assert len(types) == 4
    assert types.count("g6.xlarge") >= 2
    overrides = up.group()["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"]
    assert [o["InstanceType"] for o in overrides] == ["g6.xlarge", "g6.2xlarge"]
    with pytest.raises(ClientError, match="ActiveInstanceRefreshNotFound"):
        up.asg.cancel_instance_refresh(AutoScalingGroupName="group")


def test_matching_instances_can_be_skipped(up: Any) -> None:
    before = {i["InstanceId"] for i in up.instances()}
    start(up, Preferences={"SkipMatching": True})
    run(up, 60)
    assert status(up)["Status"] == "Successful"
    assert {i["InstanceId"] for i in up.instances()} == before


def test_a_refresh_without_capacity_fails_and_keeps_the_old_instances(up: Any) -> None:
    before = {i["InstanceId"] for i in up.instances()}
    with faults.no_capacity(up.cloud, faults.Shortage(type="g6e.xlarge")):
        preferences = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 150}
        start(up, DesiredConfiguration=bigger(up), Preferences=preferences)
        run(up, 4000)
    assert status(up)["Status"] == "Failed"
    assert {i["InstanceId"] for i in up.instances()} == before
