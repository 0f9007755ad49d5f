"""SetDesiredCapacity and its kin check the group's name and bounds."""

from __future__ import annotations

from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="bounds and names",
    moto="SetDesiredCapacity takes any number; an unknown group crashes with a KeyError",
    aws="a capacity beyond the group's minimum or maximum, and a group that is not there, are a ValidationError",
    source="https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SetDesiredCapacity.html",
)

_NAMED = (
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


def mend(patches: Patches) -> None:
    """Check before moto acts."""
    response = responses.AutoScalingResponse

    def set_desired_capacity(self: Any) -> ActionResult:
        group = self.autoscaling_backend.autoscaling_groups.get(self._get_param("AutoScalingGroupName"))
        desired = self._get_int_param("DesiredCapacity")
        if group is None:
            raise ValidationError("AutoScalingGroup name not found - null")
        if desired > group.max_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {desired} is above max value {group.max_size} for the AutoScalingGroup."
            )
        if desired < group.min_size:
            raise ValidationError(
                f"New SetDesiredCapacity value {desired} is below min value {group.min_size} for the AutoScalingGroup."
            )
        return moto_set(self)

    moto_set = patches.put(response, "set_desired_capacity", set_desired_capacity)
    for name in _NAMED:
        patches.put(response, name, _checked(getattr(response, name)))


def _checked(operation: Any) -> Any:
    def checked(self: Any) -> ActionResult:
        if self._get_param("AutoScalingGroupName") not in self.autoscaling_backend.autoscaling_groups:
            raise ValidationError("AutoScalingGroup name not found - null")
        return operation(self)

    return checked
