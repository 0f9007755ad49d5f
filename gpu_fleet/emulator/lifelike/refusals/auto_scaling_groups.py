"""Auto Scaling groups: one VPC, bounded hooks, and deletion only without instances or by force."""

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
        "deletes a group with its instances unasked; accepts subnets of several VPCs, target groups of another VPC, "
        "and hooks of any length"
    ),
    aws=(
        "a group with instances is deleted only with ForceDelete; its subnets and target groups belong to one VPC; a "
        "hook waits 30 to 7200 seconds at launch or termination, and a group has at most 50 hooks"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DeleteAutoScalingGroup.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_AttachLoadBalancerTargetGroups.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-quotas.html"
    ),
)

MIN_HOOK_SECONDS, MAX_HOOK_SECONDS, MAX_HOOKS = 30, 7200, 50
_TRANSITIONS = ("autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING")


def patch_moto(patches: Patches) -> None:
    """Check requests before moto acts."""
    response = responses.AutoScalingResponse
    patches.wrap(response, "create_auto_scaling_group", create_auto_scaling_group)
    patches.wrap(response, "update_auto_scaling_group", update_auto_scaling_group)
    patches.wrap(response, "attach_load_balancer_target_groups", attach_load_balancer_target_groups)
    patches.wrap(response, "delete_auto_scaling_group", delete_auto_scaling_group)
    patches.wrap(response, "put_lifecycle_hook", put_lifecycle_hook)


def create_auto_scaling_group(moto: Any, response: Any) -> ActionResult:
    """CreateAutoScalingGroup in one VPC, with valid hooks."""
    vpc = _vpc_of(response.autoscaling_backend, response._get_param("VPCZoneIdentifier"))
    _check_target_groups(response.autoscaling_backend, response._get_param("TargetGroupARNs") or [], vpc)
    for hook in response._get_param("LifecycleHookSpecificationList") or []:
        _check_hook(hook.get("LifecycleTransition"), hook.get("HeartbeatTimeout"), hook.get("DefaultResult"))
    return moto(response)


def update_auto_scaling_group(moto: Any, response: Any) -> ActionResult:
    """UpdateAutoScalingGroup within the VPC of the group's target groups."""
    subnets, group = response._get_param("VPCZoneIdentifier"), _group(response)
    if subnets and group is not None:
        vpc = _vpc_of(response.autoscaling_backend, subnets)
        _check_target_groups(response.autoscaling_backend, group.target_group_arns or [], vpc)
    return moto(response)


def attach_load_balancer_target_groups(moto: Any, response: Any) -> ActionResult:
    """AttachLoadBalancerTargetGroups of the group's VPC."""
    group = _group(response)
    if group is not None:
        vpc = _vpc_of(response.autoscaling_backend, group.vpc_zone_identifier)
        _check_target_groups(response.autoscaling_backend, response._get_param("TargetGroupARNs") or [], vpc)
    return moto(response)


def delete_auto_scaling_group(moto: Any, response: Any) -> ActionResult:
    """DeleteAutoScalingGroup without instances, or with ForceDelete."""
    group = _group(response)
    if group is not None and group.instance_states and not response._get_bool_param("ForceDelete"):
        raise AutoscalingClientError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) "
            "still in the group.",
        )
    return moto(response)


def put_lifecycle_hook(moto: Any, response: Any) -> ActionResult:
    """PutLifecycleHook with valid settings, at most 50 per group."""
    group, hooks = response._get_param("AutoScalingGroupName"), response.autoscaling_backend.lifecycle_hooks
    key = f"{group}_{response._get_param('LifecycleHookName')}"
    _check_hook(
        response._get_param("LifecycleTransition") if key not in hooks else _TRANSITIONS[0],
        response._get_param("HeartbeatTimeout"),
        response._get_param("DefaultResult"),
    )
    others = [k for k, hook in hooks.items() if hook.auto_scaling_group_name == group and k != key]
    if len(others) >= MAX_HOOKS:
        raise AutoscalingClientError(
            "LimitExceeded", f"Only {MAX_HOOKS} lifecycle hooks per Auto Scaling group are allowed"
        )
    return moto(response)


def _group(response: Any) -> Any | None:
    return response.autoscaling_backend.autoscaling_groups.get(response._get_param("AutoScalingGroupName"))


def _vpc_of(backend: Any, subnets: str | None) -> str | None:
    """Return the VPC of the comma-separated subnets; None without subnets, or if moto itself refuses them."""
    ids = [part.strip() for part in (subnets or "").split(",") if part.strip()]
    vpcs = {s.vpc_id for zone in backend.ec2_backend.subnets.values() for s in zone.values() if s.id in ids}
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


def _check_hook(transition: str | None, heartbeat: Any, default_result: str | None) -> None:
    if transition not in _TRANSITIONS:
        raise ValidationError(f"Lifecycle Transition {transition} is not valid; valid are {', '.join(_TRANSITIONS)}")
    if heartbeat is not None and not MIN_HOOK_SECONDS <= int(heartbeat) <= MAX_HOOK_SECONDS:
        raise ValidationError(f"Heartbeat timeout must be between {MIN_HOOK_SECONDS} and {MAX_HOOK_SECONDS} seconds")
    if default_result not in (None, "CONTINUE", "ABANDON"):
        raise ValidationError("Default result must be either CONTINUE or ABANDON")
