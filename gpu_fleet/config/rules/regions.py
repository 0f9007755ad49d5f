"""Regions: a resource named by ARN must be in the stack's region and of the right type."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import ServiceSettings, StackSettings

_PARTITIONS = {
    "cn-": "aws-cn", "us-gov-": "aws-us-gov", "us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f", "eusc-": "aws-eusc",
}  # fmt: skip
"""By the start of the region's name, as in botocore's partitions.json; every other region is in `aws`.
https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html"""


def partition(region: str) -> str:
    """Return the partition of a region: `aws` for us-east-1, `aws-cn` for cn-north-1."""
    return next((name for start, name in _PARTITIONS.items() if region.startswith(start)), "aws")


def place_problems(at: KeyPath, arn: str, resource_type: str, region: str) -> Iterator[PlanProblem]:
    """Check that an ARN is in the region, and of a resource whose name begins with `resource_type`."""
    _, arn_partition, _, arn_region, _, resource = arn.split(":", 5)
    if arn_region != region:
        yield PlanProblem(at, f"must be in {region}, the stack's region (got {arn_region or 'none'})")
    elif arn_partition != partition(region):
        yield PlanProblem(at, f"must be in {partition(region)}, the partition of {region} (got {arn_partition})")
    if not resource.startswith(resource_type):
        yield PlanProblem(at, f"must be an ARN of a {resource_type.rstrip('/:')} (got {resource})")


def load_balancer_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check certificate and web ACL. `global/` ACLs belong to CloudFront.

    https://docs.aws.amazon.com/waf/latest/APIReference/API_AssociateWebACL.html
    """
    balancer = settings.load_balancer
    certificate = getattr(balancer, "certificate_arn", None)
    if certificate is not None:
        at = ("load_balancer", "certificate_arn")
        yield from place_problems(at, certificate, "certificate/", settings.region)
    if balancer.waf_acl_arn is not None:
        at = ("load_balancer", "waf_acl_arn")
        if balancer.waf_acl_arn.split(":", 5)[5].startswith("global/"):
            yield PlanProblem(
                at, "must be a regional web ACL, regional/webacl/...; global/ ones are for CloudFront (got global/)"
            )
            resource_type = "global/webacl/"
        else:
            resource_type = "regional/webacl/"
        yield from place_problems(at, balancer.waf_acl_arn, resource_type, settings.region)
        if balancer.waf_acl_arn.startswith("arn:") and balancer.waf_acl_arn.count("/") != 3:
            yield PlanProblem(at, f"must end in regional/webacl/NAME/ID (got {balancer.waf_acl_arn.split(':', 5)[5]})")


def topic_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that the topic is in the alarms' region; they reach no other.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/US_SetupSNS.html
    """
    arn = settings.observability.alarm_topic_arn
    if arn is not None:
        at = ("observability", "alarm_topic_arn")
        yield from place_problems(at, arn, "", settings.region)
        if ":" in arn.split(":", 5)[5]:
            yield PlanProblem(at, f"must be a topic, not a subscription to one (got {arn.split(':', 5)[5]})")


def secret_problems(at: KeyPath, service: ServiceSettings, settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that secrets and their key are in the region of the instances, which read and decrypt them there."""
    for name, arn in service.container.secrets.items():
        yield from place_problems((*at, "container", "secrets", name), arn, "secret:", settings.region)
    key = service.container.kms_key_arn
    if key is not None:
        yield from place_problems((*at, "container", "kms_key_arn"), key, "key/", settings.region)
