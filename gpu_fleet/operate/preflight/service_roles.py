"""The service-linked roles: those with which AWS's own services act in the account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok
from gpu_fleet.operate.preflight.stack_needs import Stack

AUTO_SCALING = "AWSServiceRoleForAutoScaling"
LOAD_BALANCING = "AWSServiceRoleForElasticLoadBalancing"
SPOT = "AWSServiceRoleForEC2Spot"
IMAGE_BUILDER = "AWSServiceRoleForImageBuilder"

CREATED_BY = {
    # https://docs.aws.amazon.com/autoscaling/ec2/userguide/autoscaling-service-linked-role.html
    AUTO_SCALING: "AWS creates it with the first group, by the caller's right iam:CreateServiceLinkedRole",
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-service-linked-roles.html
    LOAD_BALANCING: "AWS creates it with the first load balancer, by the caller's right iam:CreateServiceLinkedRole",
    # The caller that asks EC2 for spot creates it, and Auto Scaling's own role may do so:
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
    # https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AutoScalingServiceRolePolicy.html
    SPOT: "Auto Scaling creates it with the first spot launch",
    # https://docs.aws.amazon.com/imagebuilder/latest/userguide/image-builder-service-linked-role.html
    IMAGE_BUILDER: "AWS creates it with the first pipeline, by the caller's right iam:CreateServiceLinkedRole",
}
"""Who creates a missing role."""


def judge_service_role(name: str, answer: Mapping[str, Any] | None) -> Finding:
    """The role exists, or AWS will create it."""
    return ok("exists") if answer is not None else ok(f"does not exist yet; {CREATED_BY[name]}")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each role that the stack uses."""
    names = [AUTO_SCALING, LOAD_BALANCING]
    if any(pool.settings.spot_percent for pool in stack.pools):
        names.append(SPOT)
    if any(service.boot.baked_ami for service in stack.settings.services.values()):
        names.append(IMAGE_BUILDER)
    for name in names:
        yield Check(
            "service-linked role",
            name,
            (),
            lambda aws, name=name: judge_service_role(
                name, aws.ask("iam", "GetRole", not_found=("NoSuchEntity",), RoleName=name)
            ),
        )
