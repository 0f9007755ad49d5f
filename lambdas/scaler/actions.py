"""Every AWS operation that the scaler calls, with the IAM action it needs and what that action is scoped to.

The Pulumi program's policy is tested against this list, and this list against the calls that the tests record.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ResourceKind(StrEnum):
    """What an action can be scoped to (Service Authorization Reference,
    https://docs.aws.amazon.com/service-authorization/latest/reference/).
    """

    ANY = "*"
    """The action knows no resource."""
    GROUP = "group"
    """ARNs of the services' Auto Scaling groups."""
    RULE = "rule"
    """ARNs of the services' listener rules."""
    TABLE = "table"
    """ARN of the state table."""
    PARAMETERS = "parameters"
    """ARN of the parameters' path."""
    QUEUE = "queue"
    """ARNs of the job queues."""
    LAUNCH = "launch"
    """What a launch of the pools' templates touches: templates, images, networks, instances, volumes."""
    INSTANCE_ROLE = "instance_role"
    """ARNs of the roles of the pools' instance profiles."""


@dataclass(frozen=True, slots=True)
class Action:
    """An IAM action and its scope."""

    iam: str
    resource: ResourceKind
    writes: bool = False


ACTIONS: dict[str, Action] = {
    "autoscaling.DescribeAutoScalingGroups": Action("autoscaling:DescribeAutoScalingGroups", ResourceKind.ANY),
    "autoscaling.DescribeInstanceRefreshes": Action("autoscaling:DescribeInstanceRefreshes", ResourceKind.ANY),
    "autoscaling.DescribeScalingActivities": Action("autoscaling:DescribeScalingActivities", ResourceKind.ANY),
    "autoscaling.SetDesiredCapacity": Action("autoscaling:SetDesiredCapacity", ResourceKind.GROUP, writes=True),
    "autoscaling.SetInstanceProtection": Action("autoscaling:SetInstanceProtection", ResourceKind.GROUP, writes=True),
    "autoscaling.StartInstanceRefresh": Action("autoscaling:StartInstanceRefresh", ResourceKind.GROUP, writes=True),
    "autoscaling.TerminateInstanceInAutoScalingGroup": Action(
        "autoscaling:TerminateInstanceInAutoScalingGroup", ResourceKind.GROUP, writes=True
    ),
    "autoscaling.UpdateAutoScalingGroup": Action("autoscaling:UpdateAutoScalingGroup", ResourceKind.GROUP, writes=True),
    "cloudwatch.GetMetricData": Action("cloudwatch:GetMetricData", ResourceKind.ANY),
    "dynamodb.GetItem": Action("dynamodb:GetItem", ResourceKind.TABLE),
    "dynamodb.PutItem": Action("dynamodb:PutItem", ResourceKind.TABLE, writes=True),
    "ec2.DescribeInstances": Action("ec2:DescribeInstances", ResourceKind.ANY),
    "elbv2.DescribeRules": Action("elasticloadbalancing:DescribeRules", ResourceKind.ANY),
    "elbv2.DescribeTargetHealth": Action("elasticloadbalancing:DescribeTargetHealth", ResourceKind.ANY),
    "elbv2.ModifyRule": Action("elasticloadbalancing:ModifyRule", ResourceKind.RULE, writes=True),
    "sqs.GetQueueAttributes": Action("sqs:GetQueueAttributes", ResourceKind.QUEUE),
    "ssm.GetParametersByPath": Action("ssm:GetParametersByPath", ResourceKind.PARAMETERS),
}
"""By boto3 client name and operation."""

CONSEQUENT: dict[str, tuple[Action, ...]] = {
    operation: (
        Action("ec2:RunInstances", ResourceKind.LAUNCH, writes=True),
        Action("ec2:CreateTags", ResourceKind.LAUNCH, writes=True),
        Action("iam:PassRole", ResourceKind.INSTANCE_ROLE, writes=True),
    )
    for operation in ("autoscaling.UpdateAutoScalingGroup", "autoscaling.StartInstanceRefresh")
}
"""What AWS checks beside the operation's own action: whoever sends a launch template with an update must be allowed to
launch from it (https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html).
Needed only by pools with a spot share and by services with `vertical.method: in_place`."""
