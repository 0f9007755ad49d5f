"""The rights of the scaler's role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.scaling.policy import VerticalMethod
from gpu_fleet.scaling.service import Service
from infra import iam
from infra.iam import Place, Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceResources:
    """The resources of one service that the scaler reads or changes."""

    group_names: Sequence[str]
    listener_rule_arn: str | None = None
    hash_rule_arns: Sequence[str] = ()
    queue_arn: str | None = None
    launch_template_arns: Sequence[str] = ()
    """Empty unless the scaler changes the groups' mixed instances policies (see `changes_launches`)."""
    instance_role_arn: str | None = None
    ami_parameters: Sequence[str] = ()


def changes_launches(model: Service) -> bool:
    """Whether the scaler changes what the service's groups launch: their types in place, or their on-demand base."""
    return model.policy.vertical.method is VerticalMethod.IN_PLACE or any(pool.spot_percent for pool in model.pools)


def scaler_statements(
    place: Place, *, table_arn: str, log_group_arn: str, dead_letters_arn: str, services_path: str
) -> list[Statement]:
    """Return the rights that the scaler needs whatever its services are."""
    return [
        Statement(
            "See",
            [
                "autoscaling:DescribeAutoScalingGroups",
                "autoscaling:DescribeInstanceRefreshes",
                "autoscaling:DescribeScalingActivities",
                "cloudwatch:GetMetricData",
                "ec2:DescribeInstances",
                "elasticloadbalancing:DescribeRules",
                "elasticloadbalancing:DescribeTargetHealth",
            ],
            ["*"],
        ),
        Statement("Services", ["ssm:GetParametersByPath"], [place.arn("ssm", f"parameter{services_path}")]),
        Statement("State", ["dynamodb:GetItem", "dynamodb:PutItem"], [table_arn]),
        Statement("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group_arn}:*"]),
        Statement("DeadLetters", ["sqs:SendMessage"], [dead_letters_arn]),
    ]


def service_statements(place: Place, services: Sequence[ServiceResources]) -> list[Statement]:
    """Return the rights that the scaler needs for these services, and for no others."""
    groups = [place.group_arn(name) for service in services for name in service.group_names]
    rules = [
        arn for service in services for arn in (service.listener_rule_arn, *service.hash_rule_arns) if arn is not None
    ]
    queues = [service.queue_arn for service in services if service.queue_arn]
    launching = [service for service in services if service.launch_template_arns]
    statements = [
        Statement(
            "Capacity",
            [
                "autoscaling:SetDesiredCapacity",
                "autoscaling:SetInstanceProtection",
                "autoscaling:TerminateInstanceInAutoScalingGroup",
            ],
            groups,
        ),
    ]
    if rules:
        statements.append(Statement("Weights", ["elasticloadbalancing:ModifyRule"], rules))
    if queues:
        statements.append(Statement("Jobs", ["sqs:GetQueueAttributes"], queues))
    if launching:
        statements += _launch_statements(place, launching)
    return statements


def service_batches(place: Place, services: Sequence[ServiceResources]) -> list[range]:
    """Split the services into batches of neighbours, each as large as one managed policy holds.

    With names of the greatest length (`infra.placeholders`) the batches fit whatever names AWS chooses. A service too
    large for a policy of its own is a batch of one; `infra.sizes` reports it.
    """
    batches: list[range] = []
    start = 0
    for end in range(1, len(services) + 1):
        if end - start > 1 and not _fits(service_statements(place, services[start:end])):
            batches.append(range(start, end - 1))
            start = end - 1
    return [*batches, range(start, len(services))] if services else []


def _fits(statements: Sequence[Statement]) -> bool:
    return iam.characters(statements) <= iam.MAX_MANAGED_CHARACTERS


def _launch_statements(place: Place, services: Sequence[ServiceResources]) -> list[Statement]:
    """Return the rights to change a group's mixed instances policy, which include the rights that its launches need.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html
    """
    groups = [place.group_arn(name) for service in services for name in service.group_names]
    templates = [arn for service in services for arn in service.launch_template_arns]
    roles = [service.instance_role_arn for service in services if service.instance_role_arn]
    ami_parameters = sorted({name for service in services for name in service.ami_parameters})
    created, used = ("instance", "volume", "network-interface"), ("subnet", "security-group")
    resources = [place.arn("ec2", f"{resource_type}/*") for resource_type in (*created, *used)]
    return [
        Statement("Mix", ["autoscaling:StartInstanceRefresh", "autoscaling:UpdateAutoScalingGroup"], groups),
        Statement(
            "LaunchFromOurTemplates",
            ["ec2:RunInstances"],
            [*resources, place.arn("ec2", "launch-template/*"), place.arn("ec2", "image/*", account=False)],
            {"ArnLike": {"ec2:LaunchTemplate": sorted(templates)}},
        ),
        Statement(
            "TagWhatIsLaunched",
            ["ec2:CreateTags"],
            [place.arn("ec2", f"{resource_type}/*") for resource_type in ("instance", "volume")],
            {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        ),
        # AWS reads a parameter that a template names as its image with the caller's rights:
        # https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html
        Statement("ReadTheImagesName", ["ssm:GetParameters"], [_parameter_arn(place, name) for name in ami_parameters]),
        Statement(
            "GiveInstancesTheirRole",
            ["iam:PassRole"],
            roles,
            {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        ),
    ]


def _parameter_arn(place: Place, name: str) -> str:
    """Return a parameter's ARN by its name. AWS's public ones belong to no account; only a `*` there matches them.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters.html
    """
    arn = place.arn("ssm", f"parameter{name}")
    return arn.replace(place.account, "*") if name.startswith("/aws/") else arn
