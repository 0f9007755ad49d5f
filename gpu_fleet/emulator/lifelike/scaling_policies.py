"""Scaling policies belong to their group, and PutScalingPolicy returns the ARN."""

from __future__ import annotations

from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult, EmptyResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="scaling policies",
    moto="keys policies by name alone, so that two groups' policies of one name collide; returns no PolicyARN",
    aws="a policy's name is unique within its group; PutScalingPolicy returns PolicyARN",
    source="https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScalingPolicy.html",
)


def patch_moto(patches: Patches) -> None:
    """Key policies by group and name."""
    patches.wrap(models.AutoScalingBackend, "put_scaling_policy", store_policy)
    patches.wrap(responses.AutoScalingResponse, "put_scaling_policy", put_scaling_policy)
    patches.wrap(responses.AutoScalingResponse, "delete_policy", delete_policy)


def store_policy(moto: Any, backend: Any, name: str, *args: Any, **request: Any) -> Any:
    """Store a policy under its group and name."""
    policy = moto(backend, name, *args, **request)
    del backend.policies[name]
    backend.policies[f"{policy.auto_scaling_group_name}/{name}"] = policy
    return policy


def put_scaling_policy(moto: Any, response: Any) -> ActionResult:
    """PutScalingPolicy, which moto answers with a misspelt PolicyArn."""
    return ActionResult({"PolicyARN": moto(response).result["PolicyArn"]})


def delete_policy(_moto: Any, response: Any) -> ActionResult:
    """DeletePolicy by the policy's name or ARN, within the group if one is given."""
    group, name = response._get_param("AutoScalingGroupName"), response._get_param("PolicyName")
    policies = response.autoscaling_backend.policies
    for key, policy in list(policies.items()):
        if name in (policy.name, policy.arn) and group in (None, policy.auto_scaling_group_name):
            del policies[key]
            return EmptyResult()
    raise ValidationError(f"There is no policy {name}")
