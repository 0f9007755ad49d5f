"""Auto Scaling groups: what they may be made of, and when they may be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="Auto Scaling groups",
    moto=(
        "deletes a group with its instances unasked; takes subnets of several VPCs, target groups of another VPC, and "
        "hooks of any length"
    ),
    aws=(
        "a group with instances is deleted only with ForceDelete; its subnets and target groups are of one VPC; a hook "
        "waits 30 to 7200 seconds at a launch or an end, and a group has 50 of them"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachLoadBalancerTargetGroups.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-quotas.html"
    ),
)

SHORTEST_HOOK_SECONDS, LONGEST_HOOK_SECONDS, MOST_HOOKS = 30, 7200, 50
_TRANSITIONS = ("autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING")


def mend(patches: Patches) -> None:
    """Check before moto acts."""
    response = responses.AutoScalingResponse

    def create_auto_scaling_group(self: Any) -> ActionResult:
        vpc = _vpc_of(self.autoscaling_backend, self._get_param("VPCZoneIdentifier"))
        _check_target_groups(self.autoscaling_backend, self._get_param("TargetGroupARNs") or [], vpc)
        for hook in self._get_param("LifecycleHookSpecificationList") or []:
            _check_hook(hook.get("LifecycleTransition"), hook.get("HeartbeatTimeout"), hook.get("DefaultResult"))
        return moto_create(self)

    def update_auto_scaling_group(self: Any) -> ActionResult:
        zones = self._get_param("VPCZoneIdentifier")
        group = self.autoscaling_backend.autoscaling_groups.get(self._get_param("AutoScalingGroupName"))
        if zones and group is not None:
            vpc = _vpc_of(self.autoscaling_backend, zones)
            _check_target_groups(self.autoscaling_backend, group.target_group_arns or [], vpc)
        return moto_update(self)

    def attach_load_balancer_target_groups(self: Any) -> ActionResult:
        group = self.autoscaling_backend.autoscaling_groups.get(self._get_param("AutoScalingGroupName"))
        if group is not None:
            vpc = _vpc_of(self.autoscaling_backend, group.vpc_zone_identifier)
            _check_target_groups(self.autoscaling_backend, self._get_param("TargetGroupARNs") or [], vpc)
        return moto_attach(self)

    def delete_auto_scaling_group(self: Any) -> ActionResult:
        group = self.autoscaling_backend.autoscaling_groups.get(self._get_param("AutoScalingGroupName"))
        if group is not None and group.instance_states and not self._get_bool_param("ForceDelete"):
            raise AutoscalingClientError(
                "ResourceInUse",
                "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
                "still in the group.",
            )
        return moto_delete(self)

    def put_lifecycle_hook(self: Any) -> ActionResult:
        name, backend = self._get_param("AutoScalingGroupName"), self.autoscaling_backend
        known = f"{name}_{self._get_param('LifecycleHookName')}"
        _check_hook(
            self._get_param("LifecycleTransition") if known not in backend.lifecycle_hooks else _TRANSITIONS[0],
            self._get_param("HeartbeatTimeout"),
            self._get_param("DefaultResult"),
        )
        others = [
            k for k, hook in backend.lifecycle_hooks.items() if hook.auto_scaling_group_name == name and k != known
        ]
        if len(others) >= MOST_HOOKS:
            raise AutoscalingClientError(
                "LimitExceeded", f"Only {MOST_HOOKS} lifecycle hooks per Auto Scaling group are allowed"
            )
        return moto_hook(self)

    moto_create = patches.put(response, "create_auto_scaling_group", create_auto_scaling_group)
    moto_update = patches.put(response, "update_auto_scaling_group", update_auto_scaling_group)
    moto_attach = patches.put(response, "attach_load_balancer_target_groups", attach_load_balancer_target_groups)
    moto_delete = patches.put(response, "delete_auto_scaling_group", delete_auto_scaling_group)
    moto_hook = patches.put(response, "put_lifecycle_hook", put_lifecycle_hook)


def _vpc_of(backend: Any, zones: str | None) -> str | None:
    """The VPC of the subnets; None where there are none, or moto refuses them itself."""
    wanted = [part.strip() for part in (zones or "").split(",") if part.strip()]
    subnets = [s for zone in backend.ec2_backend.subnets.values() for s in zone.values() if s.id in wanted]
    vpcs = {subnet.vpc_id for subnet in subnets}
    if len(vpcs) > 1:
        raise ValidationError("The subnets must belong to the same VPC")
    return vpcs.pop() if vpcs else None


def _check_target_groups(backend: Any, arns: Sequence[str], vpc: str | None) -> None:
    for arn in arns:
        group = backend.elbv2_backend.target_groups.get(arn)
        if group is not None and vpc and group.vpc_id != vpc:
            raise ValidationError(
                f"Provided Target Groups may not be valid. Please ensure they exist and try again: {arn} is in VPC "
                f"{group.vpc_id}, the group's subnets are in {vpc}"
            )


def _check_hook(transition: str | None, heartbeat: Any, default: str | None) -> None:
    if transition not in _TRANSITIONS:
        raise ValidationError(f"Lifecycle Transition {transition} is not valid; valid are {', '.join(_TRANSITIONS)}")
    if heartbeat is not None and not SHORTEST_HOOK_SECONDS <= int(heartbeat) <= LONGEST_HOOK_SECONDS:
        raise ValidationError(
            f"Heartbeat timeout must be between {SHORTEST_HOOK_SECONDS} and {LONGEST_HOOK_SECONDS} seconds"
        )
    if default not in (None, "CONTINUE", "ABANDON"):
        raise ValidationError("Default result must be either CONTINUE or ABANDON")
