"""Who may do what: every statement as plain data, so that tests can hold it without a cloud.

Sources of actions, their levels and resources: the Service Authorization Reference,
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
An action that writes names its resources; what stands on `*` is reading that AWS scopes to nothing smaller.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

METRICS_NAMESPACE = "GpuFleet"
"""Where instances publish; the scaler's own metrics are in `GpuFleet/Scaler`, written through its log (EMF)."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One Allow."""

    sid: str
    actions: Sequence[str]
    resources: Sequence[str]
    conditions: Mapping[str, Mapping[str, str | Sequence[str]]] = field(default_factory=dict)

    def render(self) -> dict[str, Any]:
        """The statement as IAM reads it."""
        out: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(self.resources),
        }
        if self.conditions:
            out["Condition"] = {test: dict(keys) for test, keys in self.conditions.items()}
        return out


@dataclass(frozen=True, slots=True)
class Place:
    """Where a stack stands."""

    partition: str
    region: str
    account: str

    def arn(self, service: str, resource: str, *, account: bool = True) -> str:
        """`arn:partition:service:region:account:resource`; without the account for what AWS owns."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account if account else ''}:{resource}"


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": [s.render() for s in statements]}


MAX_MANAGED_CHARACTERS, MAX_INLINE_CHARACTERS = 6144, 10240
"""Of one managed policy, and of all inline policies of a role together, white space not counted."""

MAX_MANAGED_POLICIES = 10
"""Of one role, where the account has not asked for more. All three:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""


def characters(statements: Sequence[Statement]) -> int:
    """What IAM counts of a policy document."""
    return len(json.dumps(document(statements), separators=(",", ":")))


def trust(service: str, conditions: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Any]:
    """Who may take on a role."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if conditions:
        statement["Condition"] = conditions
    return {"Version": "2012-10-17", "Statement": [statement]}


# --- the scaler ---------------------------------------------------------------------------------------------------


def scaler_statements(
    place: Place, *, table_arn: str, log_group_arn: str, dead_letters_arn: str, services_path: str
) -> list[Statement]:
    """What the scaler may do whatever its services are."""
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
        Statement(
            "Services",
            ["ssm:GetParametersByPath"],
            [place.arn("ssm", f"parameter{services_path}")],
        ),
        Statement("State", ["dynamodb:GetItem", "dynamodb:PutItem"], [table_arn]),
        Statement("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group_arn}:*"]),
        Statement("DeadLetters", ["sqs:SendMessage"], [dead_letters_arn]),
    ]


@dataclass(frozen=True, slots=True)
class ServiceGrant:
    """What the scaler moves of one service."""

    group_names: Sequence[str]
    listener_rule_arn: str | None = None
    queue_arn: str | None = None
    launch_template_arns: Sequence[str] = ()
    """Given where it may change a group's mixed instances policy: types in place, or the on-demand base."""
    instance_role_arn: str | None = None
    ami_parameters: Sequence[str] = ()


def _group_arn(place: Place, name: str) -> str:
    """A group by its name, which is unique in account and region; without its UUID, twice as many fit into a policy."""
    return place.arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{name}")


def service_statements(place: Place, grants: Sequence[ServiceGrant]) -> list[Statement]:
    """What the scaler may do to these services, and to these alone."""
    groups = [_group_arn(place, name) for grant in grants for name in grant.group_names]
    rules = [g.listener_rule_arn for g in grants if g.listener_rule_arn]
    queues = [g.queue_arn for g in grants if g.queue_arn]
    templates = [arn for grant in grants for arn in grant.launch_template_arns]
    roles = [g.instance_role_arn for g in grants if g.launch_template_arns and g.instance_role_arn]
    amis = sorted({name for grant in grants if grant.launch_template_arns for name in grant.ami_parameters})
    mixed = [_group_arn(place, name) for grant in grants if grant.launch_template_arns for name in grant.group_names]
    out = [
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
        out.append(Statement("Weights", ["elasticloadbalancing:ModifyRule"], rules))
    if queues:
        out.append(Statement("Jobs", ["sqs:GetQueueAttributes"], queues))
    if templates:
        out.append(
            Statement(
                "Mix",
                [
                    "autoscaling:StartInstanceRefresh",
                    "autoscaling:UpdateAutoScalingGroup",
                ],
                mixed,
            )
        )
        out += _launch_statements(place, templates, roles, amis)
    return out


def shares(place: Place, grants: Sequence[ServiceGrant]) -> list[range]:
    """Which services share a managed policy: as many neighbours as one holds.

    Grants with placeholders at full length (`infra.placeholders`) make shares that fit whatever AWS calls things. A
    service that is too large for a policy of its own stands alone; `infra.sizes` tells it.
    """
    found: list[range] = []
    start = 0
    for end in range(1, len(grants) + 1):
        if end - start > 1 and characters(service_statements(place, grants[start:end])) > MAX_MANAGED_CHARACTERS:
            found.append(range(start, end - 1))
            start = end - 1
    return [*found, range(start, len(grants))] if grants else []


def _parameter_arn(place: Place, name: str) -> str:
    """A parameter by its name. AWS's public ones belong to no account, which only a `*` in its place matches.

    https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-public-parameters.html
    """
    arn = place.arn("ssm", f"parameter{name}")
    return arn.replace(place.account, "*") if name.startswith("/aws/") else arn


def _launch_statements(
    place: Place, templates: Sequence[str], roles: Sequence[str], ami_parameters: Sequence[str]
) -> list[Statement]:
    """Who changes a group's mixed instances policy must be allowed what its launches do.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html
    """
    made = ["instance", "volume", "network-interface"]
    used = ["subnet", "security-group"]
    resources = [place.arn("ec2", f"{kind}/*") for kind in (*made, *used)]
    return [
        Statement(
            "LaunchFromOurTemplates",
            ["ec2:RunInstances"],
            [*resources, place.arn("ec2", "launch-template/*"), place.arn("ec2", "image/*", account=False)],
            {"ArnLike": {"ec2:LaunchTemplate": sorted(templates)}},
        ),
        Statement(
            "TagWhatIsLaunched",
            ["ec2:CreateTags"],
            [place.arn("ec2", f"{kind}/*") for kind in ("instance", "volume")],
            {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        ),
        # A template that names its image by a parameter is read with the rights of who uses it:
        # https://docs.aws.amazon.com/autoscaling/ec2/userguide/using-systems-manager-parameters.html
        Statement(
            "ReadTheImagesName",
            ["ssm:GetParameters"],
            [_parameter_arn(place, name) for name in ami_parameters],
        ),
        Statement(
            "GiveInstancesTheirRole",
            ["iam:PassRole"],
            roles,
            {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}},
        ),
    ]


# --- the instances ------------------------------------------------------------------------------------------------


def instance_statements(
    place: Place,
    *,
    tags: Mapping[str, str],
    log_group_arn: str,
    queue_arn: str | None = None,
    ecr_repository_arn: str | None = None,
    secret_arns: Sequence[str] = (),
    kms_key_arn: str | None = None,
) -> list[Statement]:
    """What an instance of a service may do: tell its own groups how far it is, and read what it starts with.

    `tags` are those of its groups and of no others. The groups refer to the launch template, which refers to this
    role, so their names are not known when it is made; and what their names begin with, another service's may too.
    """
    out = [
        Statement(
            "OwnLifecycle",
            ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"],
            [_group_arn(place, "*")],
            {"StringEquals": {f"aws:ResourceTag/{key}": value for key, value in sorted(tags.items())}},
        ),
        Statement(
            "PublishMetrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringEquals": {"cloudwatch:namespace": METRICS_NAMESPACE}},
        ),
        Statement("ReadOwnTags", ["ec2:DescribeTags"], ["*"]),
        Statement("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{log_group_arn}:*"]),
        # A shell without SSH and without an open port: what the SSM agent needs for sessions, and no more than that
        # (the managed policy AmazonSSMManagedInstanceCore also reads every parameter of the account):
        # https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html
        Statement(
            "SessionChannels",
            [
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
            ],
            ["*"],
        ),
        Statement("SessionPresence", ["ssm:UpdateInstanceInformation"], [place.arn("ec2", "instance/*")]),
    ]
    if queue_arn:
        out.append(
            Statement(
                "TakeJobs",
                ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"],
                [queue_arn],
            )
        )
    if ecr_repository_arn:
        out.append(Statement("RegistryToken", ["ecr:GetAuthorizationToken"], ["*"]))
        out.append(
            Statement(
                "PullImage",
                # As the managed policy AmazonEC2ContainerRegistryPullOnly:
                # https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonEC2ContainerRegistryPullOnly.html
                ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [ecr_repository_arn],
            )
        )
    if secret_arns:
        out.append(Statement("ReadSecrets", ["secretsmanager:GetSecretValue"], secret_arns))
    if kms_key_arn:
        # Secrets Manager decrypts in the name of who asks, and only it may use the key so:
        # https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
        through = {"kms:ViaService": f"secretsmanager.{place.region}.amazonaws.com"}
        out.append(Statement("DecryptSecrets", ["kms:Decrypt"], [kms_key_arn], {"StringEquals": through}))
    return out


def ecr_repository_arn(image: str, partition: str) -> str | None:
    """The repository that a container image lies in, None where it is not ECR's.

    `<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`:
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
    """
    host, _, path = image.partition("/")
    parts = host.split(".")
    if len(parts) < 6 or parts[1:3] != ["dkr", "ecr"]:
        return None
    repository = path.split("@")[0].rsplit(":", 1)[0] if ":" in path.rsplit("/", 1)[-1] else path.split("@")[0]
    return f"arn:{partition}:ecr:{parts[3]}:{parts[0]}:repository/{repository}"


# --- others -------------------------------------------------------------------------------------------------------


def schedule_statements(function_arn: str, dead_letters_arn: str) -> list[Statement]:
    """What the schedule may do: call the scaler, and say so when it could not."""
    return [
        Statement("CallTheScaler", ["lambda:InvokeFunction"], [function_arn]),
        Statement("DeadLetters", ["sqs:SendMessage"], [dead_letters_arn]),
    ]


def dead_letters_policy(queue_arn: str, rule_arn: str) -> dict[str, Any]:
    """Lets an EventBridge rule put the events into the queue that it could not deliver.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "NoticesNotDelivered",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
            }
        ],
    }


def access_log_bucket_policy(place: Place, bucket_arn: str) -> dict[str, Any]:
    """Lets the load balancer write its logs, and nobody speak without TLS.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "LoadBalancerWrites",
                "Effect": "Allow",
                "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
                "Action": "s3:PutObject",
                "Resource": f"{bucket_arn}/AWSLogs/{place.account}/*",
                "Condition": {"ArnLike": {"aws:SourceArn": place.arn("elasticloadbalancing", "loadbalancer/*")}},
            },
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [bucket_arn, f"{bucket_arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ],
    }
