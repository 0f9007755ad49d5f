"""The keys of a stack's YAML: each field of `StackSettings` is a key below `gpu-fleet:` (`region` is `aws:region`).

This module checks types, ranges and shapes of single values; `gpu_fleet.config.rules` checks AWS's limits and the keys
against each other. `gpu_fleet.config.stack_file` reads the settings, and `gpu_fleet.config.composition` turns them into
the services of the scaling model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag

from gpu_fleet.config.naming import MAX_PRIORITY
from gpu_fleet.scaling.policy import Section
from gpu_fleet.scaling.service import MAX_POOLS

DEFAULT_AMI_PARAMETER = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-22.04/latest/ami-id"
"""The Deep Learning Base GPU AMI (NVIDIA driver, Docker and its NVIDIA runtime, SSM agent):
https://docs.aws.amazon.com/dlami/latest/devguide/aws-deep-learning-x86-base-gpu-ami-ubuntu-22-04.html"""


def _matching(pattern: str, meaning: str) -> AfterValidator:
    """Return a check whose message says what is allowed instead of showing the expression."""

    def check_text(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {meaning} (got {value})")
        return value

    return AfterValidator(check_text)


VariableName = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable")]
Zone = Annotated[str, _matching(r"[a-z]{2,4}(-[a-z]+)+-\d[a-z]", "an availability zone like us-east-1a")]
ZONE_LETTERS = "abcdefgh"
"""A zone's letter decides which ranges of the VPC it gets. No region has more than six zones, a to f."""
SubnetId = Annotated[str, _matching(r"subnet-[0-9a-f]{8,17}", "a subnet id like subnet-0a1b2c3d4e5f67890")]


def _arn(service: str) -> AfterValidator:
    return _matching(rf"arn:aws[a-z-]*:{service}:[a-z0-9-]*:\d{{12}}:.+", f"an ARN of {service}")


KmsKeyArn = Annotated[str, _matching(r"arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/\S+", "an ARN of a KMS key")]


class Nat(StrEnum):
    """How instances without a public address reach the internet."""

    ONE = "one"
    PER_ZONE = "per_zone"
    NONE = "none"


class NewNetwork(Section):
    """A VPC that the stack creates."""

    cidr: str = "10.0.0.0/16"
    """Address range of the VPC, /16 to /23; each zone gets a public and a private subnet of it."""
    zones: Annotated[tuple[Zone, ...], Field(min_length=2, max_length=3)]
    """Availability zones, two or three that offer the pools' instance types
    (`aws ec2 describe-instance-type-offerings --location-type availability-zone`)."""
    nat: Nat = Nat.ONE
    """`one` NAT gateway for all zones, one `per_zone`, or `none` (images and models then need endpoints)."""
    s3_endpoint: bool = True
    """Gateway endpoint for S3: free, and model weights bypass the NAT gateway."""


class ExistingNetwork(Section):
    """A VPC that exists already."""

    vpc_id: Annotated[str, _matching(r"vpc-[0-9a-f]{8,17}", "a VPC id like vpc-0a1b2c3d4e5f67890")]
    """Its id."""
    public_subnet_ids: Annotated[tuple[SubnetId, ...], Field(min_length=2)]
    """Subnets of the load balancer, in at least two zones (private ones for an internal load balancer)."""
    private_subnet_ids: Annotated[tuple[SubnetId, ...], Field(min_length=1)]
    """Subnets of the instances; they need a route to the container registry and to AWS's endpoints."""
    zones: tuple[Zone, ...] = ()
    """Zone of each private subnet, in the same order; required for a policy with several zones."""


def _kind_of_network(value: Any) -> str:
    keys = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", {})
    return "existing" if "vpc_id" in keys else "new"


Network = Annotated[
    Annotated[NewNetwork, Tag("new")] | Annotated[ExistingNetwork, Tag("existing")], Discriminator(_kind_of_network)
]


MAX_EXPIRATION_DAYS = 2**31 - 1
"""A whole number of 32 bits: https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleExpiration.html"""


class LoadBalancerSettings(Section):
    """The Application Load Balancer, one for all services."""

    certificate_arn: Annotated[str, _arn("acm")] | None = None
    """Certificate of the HTTPS listener, to which HTTP is redirected; unset: HTTP only."""
    access_logs: bool = False
    """Write access logs to a bucket of the stack."""
    access_log_retention_days: Annotated[int, Field(ge=1, le=MAX_EXPIRATION_DAYS)] = 90
    """Access logs are deleted after this time."""
    deletion_protection: bool = False
    """Make AWS refuse to delete the load balancer."""
    idle_timeout_seconds: Annotated[int, Field(ge=1, le=4000)] = 600
    """Close a connection after this time without data; must exceed the longest answer that is not streamed."""
    waf_acl_arn: Annotated[str, _arn("wafv2")] | None = None
    """Web ACL of the load balancer."""
    allowed_cidrs: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """IPv4 ranges that may connect; unset: everybody. Required without a certificate, unless the load balancer is
    internal."""
    internal: bool = False
    """Reachable only from inside the VPC."""

    @property
    def clients(self) -> tuple[str, ...]:
        """The IPv4 ranges that may connect."""
        return self.allowed_cidrs or ("0.0.0.0/0",)


class ScalerSettings(Section):
    """The Lambda that decides."""

    memory_mb: Annotated[int, Field(ge=128, le=10240)] = 512
    """Memory; CPU grows with it."""
    timeout_seconds: Annotated[int, Field(ge=10, le=900)] = 50
    """Timeout of one run; below 60, so that runs do not queue up."""
    reserved_concurrency: Annotated[int, Field(ge=1)] | None = None
    """Concurrent executions reserved for the scaler; unset: it shares the account's with other functions. AWS refuses a
    reservation that leaves less than 100 unreserved, and new accounts have 10 in total."""
    log_retention_days: Annotated[int, Field(ge=1)] = 30
    """Retention of the decision log; a number of days that CloudWatch Logs offers."""
    burst_alarm: bool = True
    """Run the scaler at once on a high-resolution alarm for waiting requests."""
    burst_waiting_requests: Annotated[float, Field(gt=0)] = 4
    """Threshold of this alarm: mean waiting requests per instance over 10 s."""
    deletion_protection: bool = False
    """Make AWS refuse to delete the state table."""


LOG_RETENTION_DAYS = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""


class ObservabilitySettings(Section):
    """Dashboard, alarms, and the backstop for a failing scaler."""

    alarm_topic_arn: Annotated[str, _arn("sns")] | None = None
    """Existing topic for alarms."""
    alarm_email: Annotated[str, _matching(r"[^@\s]+@[^@\s]+\.[^@\s]+", "an e-mail address")] | None = None
    """Address that receives the alarms, through a topic of the stack."""
    dashboard: bool = True
    """Create a dashboard for each service."""
    backstop: bool = True
    """Create a native step policy that only scales out, in case the scaler fails."""
    backstop_gpu_percent: Annotated[float, Field(gt=0, le=100)] = 95
    """Mean GPU utilisation at which the backstop acts."""
    backstop_minutes: Annotated[int, Field(ge=1, le=60)] = 5
    """Time above this utilisation before the backstop acts; longer than the scaler needs to act."""
    backstop_step: Annotated[int, Field(ge=1, le=1000)] = 1
    """Instances that the backstop adds at a time."""


class Container(Section):
    """The serving container."""

    image: Annotated[str, Field(min_length=1)]
    """Image with tag or digest."""
    args: tuple[str, ...] = ()
    """Arguments of the container; for vLLM, those of `vllm serve`."""
    environment: dict[VariableName, str] = Field(default={})
    """Environment variables."""
    secrets: dict[VariableName, Annotated[str, _arn("secretsmanager")]] = Field(default={})
    """ARNs of secrets in Secrets Manager by environment variable; read at boot."""
    kms_key_arn: KmsKeyArn | None = None
    """Customer managed key that encrypts the secrets; unset: Secrets Manager's own. Its policy must let the account's
    roles use it."""
    uses_instance_role: bool = False
    """Let the container use the instance's role, for example to read from a bucket that admits this role. Training
    workers always use it, to take their jobs from the queue, and engines that stream their weights."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port on which the container listens."""
    health_path: str = "/health"
    """Path that returns 200 once the model answers."""


MIN_VOLUME_IOPS, MAX_VOLUME_IOPS = 3000, 80000
MIN_VOLUME_THROUGHPUT, MAX_VOLUME_THROUGHPUT = 125, 2000
"""Of a gp3 volume, MiB/s. The first of both pairs is what a volume has unless it is given more, at no extra price:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html"""


class WeightsLoad(StrEnum):
    """How weights get from S3 into a GPU."""

    COPY = "copy"
    STREAM = "stream"


class Weights(Section):
    """Weights of a service in S3, filled by `gpu-fleet weights`."""

    bucket: (
        Annotated[str, _matching(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "a bucket's name of 3 to 63 characters")] | None
    ) = None
    """A bucket of yours in the stack's region; unset: the stack makes one, `<project>-<stack>-weights-<account>`."""
    prefix: str | None = None
    """Folder of the model's files in the bucket; unset: the service's name."""
    load: WeightsLoad = WeightsLoad.COPY
    """`copy`: the instance copies the files to its disk while it pulls the image. `stream`: vLLM reads them from S3
    into the GPU (Run:ai Model Streamer); its container then uses the instance's role."""


class BootOptions(Section):
    """How the instances of a service get from launch to their first answer; docs/boot.md compares the ways."""

    instance_store: bool = True
    """Put Docker's images, the weights and compiled kernels on the instance store where the type has one; it costs
    nothing. Off: all of it is on the root volume, where an AMI of your own may have brought it."""
    baked_ami: bool = False
    """Make a pipeline that bakes the container's image into an AMI, and launch its newest AMI. All pools then have one
    `ami_parameter`, of the AMI to build on, and the instance store keeps the weights and compiled kernels alone."""
    weights: Weights | None = None
    """Load the weights from S3 instead of a public hub; `{}` for all defaults."""
    volume_iops: Annotated[int, Field(ge=MIN_VOLUME_IOPS, le=MAX_VOLUME_IOPS)] = MIN_VOLUME_IOPS
    """IOPS of the root volume (gp3), at most 500 for each GiB; more than 3000 cost extra."""
    volume_throughput_mib_per_second: Annotated[int, Field(ge=MIN_VOLUME_THROUGHPUT, le=MAX_VOLUME_THROUGHPUT)] = (
        MIN_VOLUME_THROUGHPUT
    )
    """Throughput of the root volume, MiB/s, at most a quarter of its IOPS; more than 125 cost extra."""


class ImageCache(Section):
    """ECR's pull-through cache of one registry: images are pulled from there once, and from ECR by every instance."""

    credentials_arn: Annotated[str, _arn("secretsmanager")] | None = None
    """Secret with a login, named ecr-pullthroughcache/... and encrypted with aws/secretsmanager; required for
    docker.io, ghcr.io and registry.gitlab.com unless the rule exists already."""
    existing_prefix: str | None = None
    """Prefix of a pull-through cache rule that this account and region have already; unset: the stack makes one."""


class Algorithm(StrEnum):
    """How a target group chooses the instance for a request.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html
    """

    LEAST_OUTSTANDING_REQUESTS = "least_outstanding_requests"
    ROUND_ROBIN = "round_robin"
    WEIGHTED_RANDOM = "weighted_random"


class PoolSettings(Section):
    """One pool of a service."""

    types: Annotated[tuple[str, ...], Field(min_length=1)]
    """Instance types of one GPU class, the first preferred."""
    alternatives: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    """Lists of types that may replace `types`, each of one GPU class; only for a policy with
    `vertical.method: in_place`."""
    min: Annotated[int, Field(ge=0, le=1000)]
    """Minimum number of instances."""
    max: Annotated[int, Field(ge=1, le=1000)]
    """Maximum number of instances."""
    zones: tuple[Zone, ...] = ()
    """Zones for this pool's instances, if not every zone of the stack offers its types; unset: all of the stack's."""
    gpus_per_copy: Annotated[int, Field(ge=1)] | None = None
    """GPUs per copy of the model; unset: all of the instance's. With fewer, an instance serves several copies, and the
    container's arguments must agree (vLLM: tensor-parallel-size, data-parallel-size)."""
    on_demand_base: Annotated[int, Field(ge=0, le=1000)] = 0
    """On-demand instances to launch before any spot instance."""
    spot_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of spot instances above the base."""
    volume_gib: Annotated[int, Field(ge=30, le=16384)] = 200
    """Root volume: the system and, on a type without an instance store, the image and the model's weights."""
    ami_parameter: str = DEFAULT_AMI_PARAMETER
    """SSM parameter with the AMI's id."""


class ServiceSettings(Section):
    """One model endpoint."""

    policy: str
    """Name of a file in policies/ or own/policies/, without .yaml."""
    paths: tuple[str, ...] = ()
    """Paths of its requests, like /v1/*."""
    hosts: tuple[str, ...] = ()
    """Host names of its requests."""
    priority: Annotated[int, Field(ge=1, le=MAX_PRIORITY)] | None = None
    """Priority of the listener rule, lowest first; required with paths or hosts (`workload: training` needs neither).
    In AWS it is five times as high, so that two services can swap priorities."""
    algorithm: Algorithm = Algorithm.LEAST_OUTSTANDING_REQUESTS
    """How the load balancer chooses an instance of a pool: `least_outstanding_requests` the one with the fewest in
    hand, `round_robin` each in turn, `weighted_random` any, seldom one that answers with errors. The lengths of a
    model's requests differ by orders of magnitude, so requests wait least with the first."""
    container: Container
    boot: BootOptions = BootOptions()
    pools: Annotated[dict[str, PoolSettings], Field(min_length=1, max_length=MAX_POOLS)]
    """One to five pools, by name; their order means nothing."""
    vcpu_quotas: dict[str, Annotated[int, Field(ge=0)]] = Field(default={})
    """vCPUs of each EC2 quota that this service may use, by the quota's name; unset: all of the account's."""


class StackSettings(Section):
    """A stack's YAML."""

    region: Annotated[str, _matching(r"[a-z]{2,4}(-[a-z]+)+-\d", "a region like us-east-1")]
    """AWS region (`aws:region`)."""
    network: Network
    load_balancer: LoadBalancerSettings = LoadBalancerSettings()
    scaler: ScalerSettings = ScalerSettings()
    observability: ObservabilitySettings = ObservabilitySettings()
    image_caches: dict[str, ImageCache] = Field(default={})
    """Registries whose images instances pull through ECR, by host, like docker.io; see docs/boot.md."""
    tags: dict[str, str] = Field(default={})
    """Tags of every resource that supports tags."""
    allow_disruption: bool = False
    """Allow an update that interrupts a serving service, such as another VPC or container port."""
    services: Annotated[dict[str, ServiceSettings], Field(min_length=1)]
    """Model endpoints, by name."""
