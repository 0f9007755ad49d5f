"""UpdateAutoScalingGroup changes only the properties that it names."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

if TYPE_CHECKING:
    from gpu_fleet.emulator.lifelike.lifecycle import Lifecycle

DIFFERENCE = Difference(
    name="partial update of a group",
    moto="an update without MixedInstancesPolicy erases it, one with a part of it crashes; several settings are lost",
    aws=(
        "optional properties stay unchanged if not specified, within the mixed instances policy too; a minimum above "
        "or a maximum below the desired capacity moves it, and contradicting bounds are a ValidationError"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_MixedInstancesPolicy.html"
    ),
)

_LOST_SETTINGS = {
    "default_cooldown": "DefaultCooldown",
    "termination_policies": "TerminationPolicies",
    "capacity_rebalance": "CapacityRebalance",
    "default_instance_warmup": "DefaultInstanceWarmup",
    "max_instance_lifetime": "MaxInstanceLifetime",
    "instance_maintenance_policy": "InstanceMaintenancePolicy",
    "availability_zone_distribution": "AvailabilityZoneDistribution",
    "desired_capacity_type": "DesiredCapacityType",
    "placement_group": "PlacementGroup",
}
"""Settings that moto's update (and partly its create) loses: attribute -> parameter."""

_WHOLE_NUMBERS = ("default_cooldown", "default_instance_warmup", "max_instance_lifetime")


def patch_moto(lifecycle: Lifecycle, patches: Patches) -> None:
    """Merge an update into the group before moto overwrites it, and keep the settings that moto loses."""

    def update(moto: Any, group: Any, **request: Any) -> None:
        update_group(moto, group, request)
        lifecycle.capacity_changed(group)

    patches.wrap(models.FakeAutoScalingGroup, "update", update)
    patches.wrap(responses.AutoScalingResponse, "update_auto_scaling_group", update_auto_scaling_group)
    patches.wrap(responses.AutoScalingResponse, "create_auto_scaling_group", create_auto_scaling_group)


def update_group(moto: Any, group: Any, request: dict[str, Any]) -> None:
    """Move the group's bounds, desired capacity and policy, and let moto update the rest."""
    low = group.min_size if request.get("min_size") is None else request["min_size"]
    high = group.max_size if request.get("max_size") is None else request["max_size"]
    desired = request.get("desired_capacity")
    check_bounds(low, high, desired)
    if desired is None:
        desired = min(max(group.desired_capacity, low), high)
    change = request.get("mixed_instances_policy")
    if change:
        request["mixed_instances_policy"] = merged_policy(group.mixed_instances_policy, change)
    elif not request.get("launch_template") and not request.get("launch_config_name"):
        # moto erases a policy that it is not given.
        request["mixed_instances_policy"] = (
            merged_policy(group.mixed_instances_policy, {}) if group.mixed_instances_policy else None
        )
    group.min_size, group.max_size, group.desired_capacity = low, high, desired
    moto(group, **{**request, "min_size": None, "max_size": None, "desired_capacity": None})


def update_auto_scaling_group(moto: Any, response: Any) -> ActionResult:
    """UpdateAutoScalingGroup, with the settings that moto loses."""
    answer = moto(response)
    _keep_lost_settings(response)
    return answer


def create_auto_scaling_group(moto: Any, response: Any) -> ActionResult:
    """CreateAutoScalingGroup, with checked bounds, its hooks, and the settings that moto loses."""
    check_bounds(
        response._get_int_param("MinSize"),
        response._get_int_param("MaxSize"),
        response._get_int_param("DesiredCapacity"),
    )
    policy = response._get_param("MixedInstancesPolicy")
    if policy:
        merged_policy(None, policy)
    answer = moto(response)
    _keep_lost_settings(response)
    for hook in response._get_param("LifecycleHookSpecificationList") or []:
        stored: Any = models.LifecycleHook(
            hook["LifecycleHookName"],
            response._get_param("AutoScalingGroupName"),
            hook["LifecycleTransition"],
            hook.get("HeartbeatTimeout"),
            hook.get("DefaultResult"),
        )
        stored.role_arn = hook.get("RoleARN")
        stored.notification_target_arn = hook.get("NotificationTargetARN")
        key = f"{stored.auto_scaling_group_name}_{stored.name}"
        response.autoscaling_backend.lifecycle_hooks[key] = stored
    return answer


def _keep_lost_settings(response: Any) -> None:
    group = response.autoscaling_backend.autoscaling_groups[response._get_param("AutoScalingGroupName")]
    for attribute, parameter in _LOST_SETTINGS.items():
        value = response._get_param(parameter)
        if value is not None:
            setattr(group, attribute, int(value) if attribute in _WHOLE_NUMBERS else value)


def merged_policy(before: dict[str, Any] | None, change: dict[str, Any]) -> dict[str, Any]:
    """Return the mixed instances policy after a change that may name only a part of it; overrides change as a whole.

    Raises ValidationError for a weight other than 1: weighted capacity is not modelled.
    """
    policy: dict[str, Any] = copy.deepcopy(before or {})
    template = policy.setdefault("LaunchTemplate", {})
    new = change.get("LaunchTemplate") or {}
    if new.get("LaunchTemplateSpecification"):
        template["LaunchTemplateSpecification"] = copy.deepcopy(new["LaunchTemplateSpecification"])
    if new.get("Overrides") is not None:
        template["Overrides"] = copy.deepcopy(new["Overrides"])
    distribution = change.get("InstancesDistribution") or {}
    policy.setdefault("InstancesDistribution", {}).update(copy.deepcopy(distribution))
    for override in template.get("Overrides") or []:
        if str(override.get("WeightedCapacity") or "1") != "1":
            raise ValidationError("WeightedCapacity: only weights of 1 are modelled here")
    specification = template.get("LaunchTemplateSpecification") or {}
    if specification.get("LaunchTemplateId"):  # describe shows both; a request may give only one
        specification.pop("LaunchTemplateName", None)
    return policy


def check_bounds(low: int, high: int, desired: int | None) -> None:
    """Raise AWS's ValidationError if bounds and desired capacity contradict each other."""
    if low > high:
        raise ValidationError(f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    if desired is not None and not low <= desired <= high:
        raise ValidationError(
            f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}"
        )
