"""The rights of an instance's role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpu_fleet.config.model_weights import WeightsPlace
from infra.iam import METRICS_NAMESPACE, Place, Statement


@dataclass(frozen=True, slots=True)
class InstanceResources:
    """The resources that the instances of one service use."""

    group_tags: Mapping[str, str]
    """Tags of the service's own groups, and of no others."""
    log_group_arn: str
    queue_arn: str | None = None
    ecr_repository_arn: str | None = None
    """Of the container's image."""
    image_is_cached: bool = False
    """Whether that repository is filled by a pull-through cache."""
    weights: WeightsPlace | None = None
    secret_arns: Sequence[str] = ()
    kms_key_arn: str | None = None
    """The key that encrypts the secrets."""


def instance_statements(place: Place, resources: InstanceResources) -> list[Statement]:
    """Return the rights of a service's instances: report their own progress, and read what they start with."""
    return [
        *_lifecycle_statements(place, resources),
        Statement(
            "PublishMetrics",
            ["cloudwatch:PutMetricData"],
            ["*"],
            {"StringEquals": {"cloudwatch:namespace": METRICS_NAMESPACE}},
        ),
        Statement("ReadOwnTags", ["ec2:DescribeTags"], ["*"]),
        Statement("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], [f"{resources.log_group_arn}:*"]),
        *session_statements(place),
        *_queue_statements(resources.queue_arn),
        *image_statements(resources.ecr_repository_arn, cached=resources.image_is_cached),
        *_weights_statements(place, resources.weights),
        *_secret_statements(place, resources),
    ]


def _lifecycle_statements(place: Place, resources: InstanceResources) -> list[Statement]:
    """Return the rights to complete a group's lifecycle hooks and, for inference, to call an instance of it unhealthy,
    which replaces it. A condition on tags names the groups.

    Their names are not known when the role is created: the groups refer to the launch template, which refers to this
    role. A prefix of their names could match another service's groups. IAM knows no condition for an instance's own id.
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2autoscaling.html
    """
    actions = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
    if resources.queue_arn is None:
        actions.append("autoscaling:SetInstanceHealth")
    tags = {f"aws:ResourceTag/{key}": value for key, value in sorted(resources.group_tags.items())}
    return [Statement("OwnLifecycle", actions, [place.group_arn("*")], {"StringEquals": tags})]


def session_statements(place: Place) -> list[Statement]:
    """Return the SSM agent's rights to a shell without SSH or an open port, and no more than that.

    The managed policy AmazonSSMManagedInstanceCore also reads every parameter of the account:
    https://docs.aws.amazon.com/systems-manager/latest/userguide/getting-started-create-iam-instance-profile.html
    """
    return [
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


def _queue_statements(queue_arn: str | None) -> list[Statement]:
    if not queue_arn:
        return []
    actions = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:ReceiveMessage"]
    return [Statement("TakeJobs", actions, [queue_arn])]


def image_statements(repository: str | None, *, cached: bool) -> list[Statement]:
    """Return the rights to pull an image, as the managed policy AmazonEC2ContainerRegistryPullOnly has them, and for a
    cached image those with which the first pull creates and fills its repository.

    https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AmazonEC2ContainerRegistryPullOnly.html
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-iam.html
    """
    if not repository:
        return []
    fills = ["ecr:BatchImportUpstreamImage", "ecr:CreateRepository"] if cached else []
    return [
        Statement("RegistryToken", ["ecr:GetAuthorizationToken"], ["*"]),
        Statement("PullImage", ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", *fills], [repository]),
    ]


def _weights_statements(place: Place, weights: WeightsPlace | None) -> list[Statement]:
    """Return the rights to read the files of one folder of a bucket, and to list that folder alone.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/walkthrough1.html
    """
    if weights is None:
        return []
    arn = f"arn:{place.partition}:s3:::{weights.bucket}"
    return [
        Statement("ReadWeights", ["s3:GetObject"], [f"{arn}/{weights.prefix}/*"]),
        Statement("ListWeights", ["s3:ListBucket"], [arn], {"StringLike": {"s3:prefix": f"{weights.prefix}/*"}}),
    ]


def _secret_statements(place: Place, resources: InstanceResources) -> list[Statement]:
    """Return the rights to read the secrets and, through Secrets Manager only, to decrypt them with their key.

    Secrets Manager decrypts on behalf of the caller:
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html
    """
    statements = []
    if resources.secret_arns:
        statements.append(Statement("ReadSecrets", ["secretsmanager:GetSecretValue"], resources.secret_arns))
    if resources.kms_key_arn:
        via_secrets_manager = {"kms:ViaService": f"secretsmanager.{place.region}.amazonaws.com"}
        statements.append(
            Statement("DecryptSecrets", ["kms:Decrypt"], [resources.kms_key_arn], {"StringEquals": via_secrets_manager})
        )
    return statements


def ecr_repository_arn(image: str, partition: str) -> str | None:
    """Return the ARN of a container image's repository; None unless it is in ECR.

    `<account>.dkr.ecr.<region>.amazonaws.com/<repository>:<tag>`:
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
    """
    host, _, path = image.partition("/")
    parts = host.split(".")
    if len(parts) < 6 or parts[1:3] != ["dkr", "ecr"]:
        return None
    without_digest = path.split("@")[0]
    has_tag = ":" in path.rsplit("/", 1)[-1]
    repository = without_digest.rsplit(":", 1)[0] if has_tag else without_digest
    return f"arn:{partition}:ecr:{parts[3]}:{parts[0]}:repository/{repository}"
