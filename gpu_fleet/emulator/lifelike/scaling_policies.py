"""Scaling policies belong to their group, and PutScalingPolicy tells the ARN."""

from __future__ import annotations

from typing import Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult, EmptyResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="scaling policies",
    moto=(
        "keys policies by name alone, so that two groups' policies of one name overwrite each other; gives no PolicyARN"
    ),
    aws="a policy is named within its group; PutScalingPolicy answers with PolicyARN",
    source="https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutScalingPolicy.html",
)


def mend(patches: Patches) -> None:
    """Key policies by group and name."""
    response = responses.AutoScalingResponse

    def put_policy(self: Any, name: str, *args: Any, **request: Any) -> Any:
        policy = moto_put(self, name, *args, **request)
        del self.policies[name]
        self.policies[f"{policy.auto_scaling_group_name}/{name}"] = policy
        return policy

    def put_scaling_policy(self: Any) -> ActionResult:
        return ActionResult({"PolicyARN": moto_respond(self).result["PolicyArn"]})

    def delete_policy(self: Any) -> ActionResult:
        group, name = self._get_param("AutoScalingGroupName"), self._get_param("PolicyName")
        policies = self.autoscaling_backend.policies
        for key, policy in list(policies.items()):
            if name in (policy.name, policy.arn) and group in (None, policy.auto_scaling_group_name):
                del policies[key]
                return EmptyResult()
        raise ValidationError(f"There is no policy {name}")

    moto_put = patches.put(models.AutoScalingBackend, "put_scaling_policy", put_policy)
    moto_respond = patches.put(response, "put_scaling_policy", put_scaling_policy)
    patches.put(response, "delete_policy", delete_policy)
