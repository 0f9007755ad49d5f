"""The roles by which AWS's own services act in the account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok
from gpu_fleet.operate.preflight.stack_needs import Stack

AUTO_SCALING = "AWSServiceRoleForAutoScaling"
LOAD_BALANCING = "AWSServiceRoleForElasticLoadBalancing"
SPOT = "AWSServiceRoleForEC2Spot"

MADE_BY = {
    # https://docs.aws.amazon.com/autoscaling/ec2/userguide/autoscaling-service-linked-role.html
    AUTO_SCALING: "AWS makes it with the first group, by the caller's right iam:CreateServiceLinkedRole",
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/userguide/elb-service-linked-roles.html
    LOAD_BALANCING: "AWS makes it with the first load balancer, by the caller's right iam:CreateServiceLinkedRole",
    # Who asks EC2 for spot must make it, and Auto Scaling's own role has the right to:
    # https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/service-linked-roles-spot-instance-requests.html
    # https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AutoScalingServiceRolePolicy.html
    SPOT: "Auto Scaling makes it with the first spot launch",
}
"""Who makes the role where it is not there yet."""


def service_role(name: str, answer: Mapping[str, Any] | None) -> Finding:
    """It is there, or made without the user."""
    return ok("there") if answer is not None else ok(f"not there yet; {MADE_BY[name]}")


def checks(stack: Stack) -> Iterator[Check]:
    """Those that the stack comes to use."""
    names = [AUTO_SCALING, LOAD_BALANCING]
    if any(pool.settings.spot_percent for pool in stack.pools):
        names.append(SPOT)
    for name in names:
        yield Check(
            "service-linked role",
            name,
            (),
            lambda aws, name=name: service_role(
                name, aws.ask("iam", "GetRole", absent=("NoSuchEntity",), RoleName=name)
            ),
        )
