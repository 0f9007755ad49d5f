from __future__ import annotations

from typing import Any


def test_two_groups_may_have_a_policy_of_one_name(desk: Any) -> None:
    arns = set()
    for name, size in (("one", 1), ("two", 2)):
        desk.make_group(name)
        made = desk.asg.put_scaling_policy(
            AutoScalingGroupName=name,
            PolicyName="same",
            AdjustmentType="ChangeInCapacity",
            ScalingAdjustment=size,
            PolicyType="SimpleScaling",
        )
        arns.add(made["PolicyARN"])
    assert len(arns) == 2
    for name, size in (("one", 1), ("two", 2)):
        (found,) = desk.asg.describe_policies(AutoScalingGroupName=name)["ScalingPolicies"]
        assert found["ScalingAdjustment"] == size
    desk.asg.delete_policy(AutoScalingGroupName="one", PolicyName="same")
    assert desk.asg.describe_policies(AutoScalingGroupName="one")["ScalingPolicies"] == []
    assert len(desk.asg.describe_policies(AutoScalingGroupName="two")["ScalingPolicies"]) == 1
