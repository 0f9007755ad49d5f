"""UpdateAutoScalingGroup changes what it names, and nothing else."""

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
    moto=(
        "an update without MixedInstancesPolicy erases it, one with a part of it crashes; several settings are dropped"
    ),
    aws=(
        "optional properties are left unchanged where not specified, within the mixed instances "
        "policy too; a minimum above "
        "or a maximum below the desired capacity moves it, and bounds that contradict are a ValidationError"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_UpdateAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_MixedInstancesPolicy.html"
    ),
)

_KEPT = (
    ("default_cooldown", "DefaultCooldown", int),
    ("termination_policies", "TerminationPolicies", list),
    ("capacity_rebalance", "CapacityRebalance", bool),
    ("default_instance_warmup", "DefaultInstanceWarmup", int),
    ("max_instance_lifetime", "MaxInstanceLifetime", int),
    ("instance_maintenance_policy", "InstanceMaintenancePolicy", dict),
    ("availability_zone_distribution", "AvailabilityZoneDistribution", dict),
    ("desired_capacity_type", "DesiredCapacityType", str),
    ("placement_group", "PlacementGroup", str),
)
"""Settings that moto's update (and partly its create) drops: attribute, parameter, kind."""


def merged_policy(before: dict[str, Any] | None, change: dict[str, Any]) -> dict[str, Any]:
    """The mixed instances policy after a change that may name a part of it only. Overrides are replaced as a whole.

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
    if specification.get("LaunchTemplateId"):  # describe shows both; a request may give one
        specification.pop("LaunchTemplateName", None)
    return policy


def check_bounds(low: int, high: int, desired: int | None) -> None:
    """Raise ValidationError as AWS does where the three contradict."""
    if low > high:
        raise ValidationError(f"Max bound, {high}, must be greater than or equal to min bound, {low}")
    if desired is not None and not low <= desired <= high:
        raise ValidationError(
            f"Desired capacity:{desired} must be between the specified min size:{low} and max size:{high}"
        )


def mend(lifecycle: Lifecycle, patches: Patches) -> None:
    """Merge before moto overwrites."""
    group, response = models.FakeAutoScalingGroup, responses.AutoScalingResponse

    def update(self: Any, **request: Any) -> None:
        low = self.min_size if request.get("min_size") is None else request["min_size"]
        high = self.max_size if request.get("max_size") is None else request["max_size"]
        desired = request.get("desired_capacity")
        check_bounds(low, high, desired)
        if desired is None:
            desired = min(max(self.desired_capacity, low), high)
        request["desired_capacity"] = None
        change = request.get("mixed_instances_policy")
        if change:
            request["mixed_instances_policy"] = merged_policy(self.mixed_instances_policy, change)
        elif not request.get("launch_template") and not request.get("launch_config_name"):
            request["mixed_instances_policy"] = (
                merged_policy(self.mixed_instances_policy, {}) if self.mixed_instances_policy else None
            )
        # With a policy moto keeps the bare template as well, and would describe the group by both.
        self.min_size, self.max_size = low, high
        self.desired_capacity = desired
        moto_update(self, **{**request, "min_size": None, "max_size": None})
        lifecycle.wants(self)

    def update_auto_scaling_group(self: Any) -> ActionResult:
        answer = moto_respond(self)
        keep(self)
        return answer

    def create_auto_scaling_group(self: Any) -> ActionResult:
        check_bounds(
            self._get_int_param("MinSize"), self._get_int_param("MaxSize"), self._get_int_param("DesiredCapacity")
        )
        policy = self._get_param("MixedInstancesPolicy")
        if policy:
            merged_policy(None, policy)
        answer = moto_create(self)
        keep(self)
        for hook in self._get_param("LifecycleHookSpecificationList") or []:
            stored: Any = models.LifecycleHook(
                hook["LifecycleHookName"],
                self._get_param("AutoScalingGroupName"),
                hook["LifecycleTransition"],
                hook.get("HeartbeatTimeout"),
                hook.get("DefaultResult"),
            )
            stored.role_arn = hook.get("RoleARN")
            stored.notification_target_arn = hook.get("NotificationTargetARN")
            key = f"{stored.auto_scaling_group_name}_{stored.name}"
            self.autoscaling_backend.lifecycle_hooks[key] = stored
        return answer

    def keep(self: Any) -> None:
        known = self.autoscaling_backend.autoscaling_groups[self._get_param("AutoScalingGroupName")]
        for attribute, parameter, kind in _KEPT:
            value = self._get_param(parameter)
            if value is not None:
                setattr(known, attribute, value if kind is not int else int(value))

    moto_update = patches.put(group, "update", update)
    moto_respond = patches.put(response, "update_auto_scaling_group", update_auto_scaling_group)
    moto_create = patches.put(response, "create_auto_scaling_group", create_auto_scaling_group)
