"""Names of project, stack, services and pools, and the AWS names built from them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.naming import MAX_BUCKET_NAME, MAX_FUNCTION_NAME, RANDOM_SUFFIX, scaler_name
from gpu_fleet.config.rules import each
from gpu_fleet.config.settings import StackSettings

MAX_LENGTH = 20

_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9]))*")
_PART = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")

RESERVED_STARTS = {
    "aws": "SSM keeps parameters that begin so for AWS",
    "ssm": "SSM refuses parameters that begin so",
    "internal-": "load balancers must not begin so",
    "sg-": "security groups must not begin so",
    "sthree-": "S3 refuses buckets that begin so",
    "amzn-s3-demo-": "S3 refuses buckets that begin so",
}
"""Forbidden starts of `<project>-<stack>`, with which the names in AWS start. Sources, in this order:
https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-su-create.html,
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html,
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

SCALER_ALARMS = ("scaler-errors", "scaler-silent", "scaler-dead-letters")


def name_problems(at: KeyPath, name: str) -> Iterator[PlanProblem]:
    """Check a service's or pool's name. It becomes part of names in AWS; target groups allow the fewest characters.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
    """
    if _NAME.fullmatch(name) is None or len(name) > MAX_LENGTH:
        yield PlanProblem(
            at,
            f"must be a name of 1 to {MAX_LENGTH} characters a-z, 0-9, - that begins with a-z, each - between two of "
            f"the others (got {name})",
        )


def collision_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that no two resources of one type share a name: the engine would refuse a duplicate URN."""
    pools: dict[str, tuple[str, str]] = {}
    for service, value in each.services(settings):
        if f"{service}-errors" in SCALER_ALARMS or f"{service}-held" in SCALER_ALARMS:
            yield PlanProblem(
                ("services", service),
                f"must not have this name: its alarms would have the names of the scaler's alarms (got {service})",
            )
        for pool, _ in each.pools(value):
            whole = f"{service}-{pool}"
            if whole in pools:
                yield PlanProblem(
                    ("services", service, "pools", pool),
                    f"must differ from services.{pools[whole][0]}.pools.{pools[whole][1]} once service and pool are "
                    f"joined (got {whole} twice)",
                )
            pools.setdefault(whole, (service, pool))


def prefix_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that no pool's name in AWS starts with another service's.

    Groups are named by service and pool plus a random suffix. A search by the start of a pool's name, in the console or
    in a policy, must not find another service's groups.
    """
    named = [(s, p, f"{s}-{p}") for s, value in each.services(settings) for p, _ in each.pools(value)]
    for service, pool, whole in named:
        for other, other_pool, prefix in named:
            if other != service and whole.startswith(f"{prefix}-"):
                yield PlanProblem(
                    ("services", service, "pools", pool),
                    f"must not begin with services.{other}.pools.{other_pool} once service and pool are joined: the "
                    f"names of their groups would not tell them apart (got {whole}, which begins with {prefix}-)",
                )


def project_problems(project: str) -> Iterator[str]:
    """Check the project's name in Pulumi.yaml."""
    if _PART.fullmatch(project) is None:
        yield f"must be a-z and 0-9, with single - between them: AWS's names begin with it (got {project})"


def stack_name_problems(project: str, stack: str, *, access_logs: bool) -> Iterator[str]:
    """Check the stack's name, which follows the project's in the names in AWS.

    S3 allows no capitals, load balancers neither `_` nor `.`.
    """
    if _PART.fullmatch(stack) is None:
        yield f"must be a-z and 0-9, with single - between them: AWS's names contain it (got {stack})"
    name = f"{project}-{stack}"
    for start, reason in RESERVED_STARTS.items():
        if name.startswith(start):
            yield f"must not make names that begin with {start}: {reason} (got {name})"
    max_length = MAX_FUNCTION_NAME - len(scaler_name(project, ""))
    reason = f"the function {scaler_name(project, '<stack>')} has at most {MAX_FUNCTION_NAME}"
    if access_logs:
        bucket = f"{project}-<stack>-access-logs"
        max_with_bucket = MAX_BUCKET_NAME - RANDOM_SUFFIX - len(bucket.replace("<stack>", ""))
        if max_with_bucket < max_length:
            max_length = max_with_bucket
            reason = f"the access logs' bucket {bucket} has at most {MAX_BUCKET_NAME} with {RANDOM_SUFFIX} of Pulumi's"
    if len(stack) > max_length:
        yield f"must be at most {max_length} characters: {reason} (got {len(stack)})"
