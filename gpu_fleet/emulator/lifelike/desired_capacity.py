"""SetDesiredCapacity checks the group's bounds, and every operation checks the group's name."""

from __future__ import annotations

from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="bounds and names",
    moto="SetDesiredCapacity accepts any number; an unknown group crashes with a KeyError",
    aws="a capacity beyond the group's minimum or maximum, and an unknown group, are a ValidationError",
    source="https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html",
)

_OPERATIONS_ON_A_GROUP = (
    "suspend_processes",
    "resume_processes",
    "attach_load_balancer_target_groups",
    "detach_load_balancer_target_groups",
    "enable_metrics_collection",
    "describe_warm_pool",
    "set_instance_protection",
    "put_scaling_policy",
    "detach_instances",
    "enter_standby",
    "exit_standby",
)


def patch_moto(patches: Patches) -> None:
    """Check bounds and names before moto acts."""
    patches.wrap(responses.AutoScalingResponse, "set_desired_capacity", set_desired_capacity)
    for name in _OPERATIONS_ON_A_GROUP:
        patches.wrap(responses.AutoScalingResponse, name, act_on_known_group)


def set_desired_capacity(moto: Any, response: Any) -> ActionResult:
    """SetDesiredCapacity within the group's bounds."""
    group = group_of_request(response)
    desired = response._get_int_param("DesiredCapacity")
    if desired > group.max_size:
        raise ValidationError(
            f"New SetDesiredCapacity value {desired} is above max value {group.max_size} for the AutoScalingGroup."
        )
    if desired < group.min_size:
        raise ValidationError(
            f"New SetDesiredCapacity value {desired} is below min value {group.min_size} for the AutoScalingGroup."
        )
    return moto(response)


def act_on_known_group(moto: Any, response: Any) -> ActionResult:
    """Any operation on a group, once the group is known to exist."""
    group_of_request(response)
    return moto(response)


def group_of_request(response: Any) -> Any:
    """Return the Auto Scaling group that the request names. Raises ValidationError if there is none."""
    group = response.autoscaling_backend.autoscaling_groups.get(response._get_param("AutoScalingGroupName"))
    if group is None:
        raise ValidationError("AutoScalingGroup name not found - null")
    return group
