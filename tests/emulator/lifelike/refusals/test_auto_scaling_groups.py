from __future__ import annotations

from typing import Any

import pytest

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"


def test_a_group_with_instances_is_deleted_only_by_force(account: Any, refused: Any) -> None:
    subnets = account.two_zones(account.vpc())
    name = account.group(subnets, MinSize=1)
    account.cloud.advance(account.cloud.now + 600)
    with refused("ResourceInUse", "while there are instances"):
        account.asg.delete_auto_scaling_group(AutoScalingGroupName=name)
    account.asg.delete_auto_scaling_group(AutoScalingGroupName=name, ForceDelete=True)
    account.asg.delete_auto_scaling_group(AutoScalingGroupName=account.group(subnets))


def test_its_subnets_and_target_groups_are_of_one_vpc(account: Any, refused: Any) -> None:
    own, other = account.vpc(), account.vpc("10.1.0.0/16")
    subnets, others = account.two_zones(own), account.two_zones(other, "10.1")
    with refused("ValidationError", "same VPC"):
        account.group([subnets[0], others[1]])
    with refused("ValidationError", "Target Groups may not be valid"):
        account.group(subnets, TargetGroupARNs=[account.target_group(other)])
    name = account.group(subnets, TargetGroupARNs=[account.target_group(own)])
    with refused("ValidationError"):
        account.asg.update_auto_scaling_group(AutoScalingGroupName=name, VPCZoneIdentifier=",".join(others))
    with refused("ValidationError"):
        account.asg.attach_load_balancer_target_groups(
            AutoScalingGroupName=name, TargetGroupARNs=[account.target_group(other)]
        )
    account.asg.update_auto_scaling_group(AutoScalingGroupName=name, VPCZoneIdentifier=subnets[1])
    account.asg.attach_load_balancer_target_groups(
        AutoScalingGroupName=name, TargetGroupARNs=[account.target_group(own)]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"HeartbeatTimeout": 29},
        {"HeartbeatTimeout": 7201},
        {"LifecycleTransition": "autoscaling:EC2_INSTANCE_RESTING"},
        {"DefaultResult": "RETRY"},
    ],
)
def test_a_hook_waits_30_seconds_to_two_hours(account: Any, refused: Any, wrong: dict[str, Any]) -> None:
    name = account.group(account.two_zones(account.vpc()))
    hook = {
        "LifecycleHookName": "hook",
        "LifecycleTransition": LAUNCHING,
        "HeartbeatTimeout": 30,
        "DefaultResult": "ABANDON",
    }
    with refused("ValidationError"):
        account.asg.put_lifecycle_hook(AutoScalingGroupName=name, **{**hook, **wrong})
    with refused("ValidationError"):
        account.group(account.two_zones(account.vpc()), LifecycleHookSpecificationList=[{**hook, **wrong}])
    account.asg.put_lifecycle_hook(AutoScalingGroupName=name, **hook)
    account.asg.put_lifecycle_hook(AutoScalingGroupName=name, **{**hook, "HeartbeatTimeout": 7200})


def test_a_group_has_50_hooks(account: Any, refused: Any) -> None:
    name = account.group(account.two_zones(account.vpc()))

    def put(number: int) -> None:
        account.asg.put_lifecycle_hook(
            AutoScalingGroupName=name, LifecycleHookName=f"hook-{number}", LifecycleTransition=LAUNCHING
        )

    for number in range(50):
        put(number)
    with refused("LimitExceeded"):
        put(50)
    put(49)


def test_a_groups_name_is_unique(account: Any, refused: Any) -> None:
    subnets = account.two_zones(account.vpc())
    account.group(subnets, AutoScalingGroupName="one")
    with refused("AlreadyExists"):
        account.group(subnets, AutoScalingGroupName="one")
