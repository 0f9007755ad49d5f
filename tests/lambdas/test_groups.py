"""Auto Scaling groups: descriptions, and mixed policies with changes."""

from __future__ import annotations

import pytest

from lambdas.scaler import groups
from lambdas.scaler.groups import Group, Member


class AutoScaling:
    """Answers DescribeAutoScalingGroups as AWS does, with at most MaxRecords groups a page."""

    def __init__(self, names, broken=()):
        self.names, self.broken = set(names), broken
        self.calls: list[int] = []

    def get_paginator(self, operation):
        assert operation == "describe_auto_scaling_groups"
        return self

    def paginate(self, *, AutoScalingGroupNames, PaginationConfig):  # noqa: N803
        from botocore.exceptions import ClientError

        size = PaginationConfig["PageSize"]
        assert len(AutoScalingGroupNames) <= size <= 100
        self.calls.append(len(AutoScalingGroupNames))
        if self.broken and self.broken[0] in AutoScalingGroupNames:
            raise ClientError(
                {"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, "DescribeAutoScalingGroups"
            )
        known = [name for name in AutoScalingGroupNames if name in self.names]
        for first in range(0, len(known), 30):
            yield {
                "AutoScalingGroups": [
                    {"AutoScalingGroupName": name, "DesiredCapacity": 1, "MinSize": 0, "MaxSize": 4, "Instances": []}
                    for name in known[first : first + 30]
                ]
            }


NAMES = [f"g{i:03d}" for i in range(230)]


def test_two_hundred_and_thirty_groups_take_three_calls_with_all_their_pages():
    autoscaling = AutoScaling(NAMES)
    described = groups.describe(autoscaling, NAMES)
    assert autoscaling.calls == [100, 100, 30]
    assert sorted(described.found) == NAMES
    assert described.faults == {}


def test_a_failed_call_affects_only_its_own_hundred_groups():
    described = groups.describe(AutoScaling(NAMES, broken=["g150"]), NAMES)
    assert sorted(described.faults) == NAMES[100:200]
    assert {fault.code for fault in described.faults.values()} == {"Throttled"}
    assert len(described.found) == 130


def test_a_group_that_is_gone_has_its_own_fault():
    described = groups.describe(AutoScaling(["here"]), ["here", "gone"])
    assert list(described.found) == ["here"]
    assert described.faults["gone"].code == "UnknownGroup"


def test_more_than_a_hundred_groups_of_a_real_client(world):
    world.stand()
    described = groups.describe(world.clients.autoscaling, ["chat-l4", "chat-l40s", *NAMES])
    assert sorted(described.found) == ["chat-l4", "chat-l40s"]
    assert sorted(described.faults) == NAMES
    sent = [
        len(arguments["AutoScalingGroupNames"])
        for _, arguments in world.board.calls
        if "AutoScalingGroupNames" in arguments
    ]
    assert sent == [100, 100, 32]


def test_a_group_is_described_with_its_zones_and_with_what_suspends_its_launches(world):
    world.stand()
    world.clients.autoscaling.suspend_processes(AutoScalingGroupName="chat-l40s", ScalingProcesses=["Launch"])
    world.clients.autoscaling.suspend_processes(AutoScalingGroupName="chat-l4", ScalingProcesses=["AZRebalance"])
    found = groups.describe(world.clients.autoscaling, ["chat-l4", "chat-l40s"]).found
    assert found["chat-l4"].zones == ("us-east-1a", "us-east-1b")
    assert found["chat-l4"].launch_suspended is None
    assert found["chat-l40s"].launch_suspended == ""


def test_a_group_is_described_with_its_members_and_policy(world):
    world.stand(maximum=7, spot=True)
    group = groups.describe(world.clients.autoscaling, ["chat-l4"]).found["chat-l4"]
    assert (group.desired, group.min_size, group.max_size) == (2, 0, 7)
    assert {member.id for member in group.members} == set(world.ids("l4"))
    assert all(member.in_service and not member.leaving and not member.protected for member in group.members)
    assert group.on_demand_base == 0
    assert group.types == ("g6.xlarge", "g6.2xlarge")


def test_a_group_without_a_mixed_policy_has_no_base_and_cannot_be_given_one():
    group = Group("g", 1, 0, 2)
    assert group.on_demand_base is None
    assert group.types == ()
    with pytest.raises(ValueError, match="g: has no mixed instances policy"):
        groups.with_base(group, 2)


SPEC = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "node", "Version": "$Latest"}
POLICY = {
    "LaunchTemplate": {
        "LaunchTemplateSpecification": SPEC,
        "Overrides": [
            {"InstanceType": "g6.xlarge", "LaunchTemplateSpecification": SPEC},
            {"InstanceType": "g6.2xlarge"},
        ],
    },
    "InstancesDistribution": {"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 20},
}


def test_a_policy_is_sent_whole_with_only_the_id_of_each_template():
    sent = groups.with_base(Group("g", 1, 0, 2, mixed_policy=POLICY), 3)
    by_id = {"LaunchTemplateId": "lt-1", "Version": "$Latest"}
    assert sent == {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": by_id,
            "Overrides": [
                {"InstanceType": "g6.xlarge", "LaunchTemplateSpecification": by_id},
                {"InstanceType": "g6.2xlarge"},
            ],
        },
        "InstancesDistribution": {"OnDemandBaseCapacity": 3, "OnDemandPercentageAboveBaseCapacity": 20},
    }
    assert POLICY["InstancesDistribution"]["OnDemandBaseCapacity"] == 1, "the described policy must not change"


def test_other_types_keep_the_distribution():
    sent = groups.with_types(Group("g", 1, 0, 2, mixed_policy=POLICY), ("g6e.xlarge",))
    assert sent["LaunchTemplate"]["Overrides"] == [{"InstanceType": "g6e.xlarge"}]
    assert sent["InstancesDistribution"] == POLICY["InstancesDistribution"]


def test_leaving_members_do_not_count_toward_the_desired_capacity():
    staying = Member("i-1", "t", "a", "InService")
    leaving = [Member(f"i-{s}", "t", "a", s) for s in ("Terminating:Wait", "Standby", "Detaching")]
    assert Group("g", 1, 0, 2, (staying, *leaving)).staying == (staying,)
