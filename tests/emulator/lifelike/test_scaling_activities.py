from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import faults


def test_a_launch_is_an_activity_with_its_zone_and_its_progress(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(30)
    (launch,) = desk.activities()
    assert launch["StatusCode"] == "MidLifecycleAction"
    assert launch["Progress"] < 100
    assert "EndTime" not in launch
    assert json.loads(launch["Details"]) == {"Subnet ID": desk.subnets[0], "Availability Zone": "us-east-1a"}
    assert launch["AutoScalingGroupARN"] == desk.group()["AutoScalingGroupARN"]
    desk.pass_time(120)
    (launch,) = desk.activities()
    assert (launch["StatusCode"], launch["Progress"]) == ("Successful", 100)
    assert (launch["EndTime"] - launch["StartTime"]).total_seconds() == 120


def test_missing_capacity_fails_the_activity_and_not_the_call(desk: Any) -> None:
    desk.make_group()
    with faults.no_capacity(desk.cloud, faults.Shortage(spot=False)):
        desk.scale(1)
        desk.pass_time(10)
    assert desk.instances() == []
    failed = desk.activities()
    assert {json.loads(a["Details"])["Availability Zone"] for a in failed} == {"us-east-1a", "us-east-1b"}
    for activity in failed:
        assert activity["StatusCode"] == "Failed"
        assert "InsufficientInstanceCapacity" in activity["StatusMessage"]
        assert "EndTime" in activity


def test_missing_spot_capacity_names_spot(desk: Any) -> None:
    desk.make_group(distribution={"OnDemandPercentageAboveBaseCapacity": 0, "OnDemandBaseCapacity": 1})
    with faults.no_capacity(desk.cloud, faults.Shortage(spot=True)):
        desk.scale(3)
        desk.pass_time(10)
    assert [desk.is_spot(i["InstanceId"]) for i in desk.instances()] == [False]
    messages = [a["StatusMessage"] for a in desk.activities() if a["StatusCode"] == "Failed"]
    assert messages
    assert all("Could not launch Spot Instances. InsufficientInstanceCapacity" in m for m in messages)


def test_a_failed_launch_is_retried(desk: Any) -> None:
    desk.make_group()
    with faults.no_capacity(desk.cloud, faults.Shortage(until=desk.cloud.now + 300)):
        desk.scale(2)
        desk.pass_time(290)
        assert desk.instances() == []
        attempts = len({a["StartTime"] for a in desk.activities()})
        assert 3 <= attempts <= 6
        desk.pass_time(200)
        assert len(desk.instances()) == 2


def test_activities_come_newest_first_and_in_pages(desk: Any) -> None:
    desk.make_group(DesiredCapacity=3)
    desk.pass_time(200)
    desk.scale(0)
    desk.pass_time(200)
    pages = desk.asg.get_paginator("describe_scaling_activities")
    found = [
        a
        for page in pages.paginate(AutoScalingGroupName="group", PaginationConfig={"PageSize": 2})
        for a in page["Activities"]
    ]
    assert len(found) == 6
    assert [a["StartTime"] for a in found] == sorted((a["StartTime"] for a in found), reverse=True)
    one = desk.asg.describe_scaling_activities(ActivityIds=[found[2]["ActivityId"]])["Activities"]
    assert one == [found[2]]


def test_an_unknown_group_has_no_activities(desk: Any) -> None:
    with pytest.raises(ClientError, match="ValidationError"):
        desk.activities("nobody")


def test_draining_and_the_terminating_hook_show_in_the_activity(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(200)
    desk.cloud.world.drain_seconds = lambda _: None
    desk.scale(0)
    desk.pass_time(10)
    assert desk.activities()[0]["StatusCode"] == "WaitingForELBConnectionDraining"
    desk.pass_time(300)
    assert desk.activities()[0]["StatusCode"] == "MidTerminatingLifecycleAction"


@pytest.mark.parametrize(
    "error",
    [
        "VcpuLimitExceeded - You have requested more vCPU capacity than your current vCPU limit of 8 allows.",
        "UnauthorizedOperation - You are not authorized to perform this operation.",
    ],
)
def test_a_launch_that_ec2_refuses_fails_in_its_words(desk: Any, error: str) -> None:
    desk.make_group()
    with faults.no_capacity(desk.cloud, faults.Shortage(error=error)):
        desk.scale(1)
        desk.pass_time(10)
    assert desk.instances() == []
    messages = {a["StatusMessage"] for a in desk.activities() if a["StatusCode"] == "Failed"}
    assert messages == {f"Could not launch On-Demand Instances. {error} Launching EC2 instance failed."}
    desk.pass_time(100)
    assert len(desk.instances()) == 1


def test_a_template_that_names_what_is_gone_fails_every_launch(desk: Any) -> None:
    """Its security group was deleted: the call succeeds, the activities say why no instance comes."""
    made = desk.ec2.create_security_group(GroupName="nodes", Description="nodes", VpcId=desk.vpc)["GroupId"]
    desk.template = desk.make_template("guarded", SecurityGroupIds=[made])
    desk.make_group()
    desk.ec2.delete_security_group(GroupId=made)
    desk.scale(1)
    desk.pass_time(10)
    assert desk.instances() == []
    (message,) = {a["StatusMessage"] for a in desk.activities()}
    assert "InvalidGroup.NotFound" in message
    assert f"'{made}' does not exist" in message
