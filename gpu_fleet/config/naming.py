"""Names and limits of AWS that no emulator checks, each with its source."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from gpu_fleet.scaling.policy import MAX_WEIGHT
from gpu_fleet.scaling.service import MAX_POOLS

RANDOM_SUFFIX = 8
"""Characters that Pulumi's autonaming adds to a logical name: a hyphen and 7 hex digits
(https://www.pulumi.com/docs/iac/concepts/resources/names/#autonaming)."""

MAX_TARGET_GROUP_NAME = 32
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html"""

MAX_LOAD_BALANCER_NAME = 32
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html"""

MAX_ROLE_NAME = 64
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html; schedules have the same limit."""

MAX_FUNCTION_NAME = 64
"""https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html"""

MAX_BUCKET_NAME = 63
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html"""

MAX_RULE_NAME = 64
"""https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html"""

MAX_QUEUE_NAME = 80
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"""

PLACES = 5
"""Priorities in AWS for each priority of a stack's YAML: 100 becomes 500 to 504, and a rule takes a free one. AWS
refuses a priority that another rule has (PriorityInUse), even for the moment in which two rules swap."""

HASH_PRIORITIES = 10
"""Priorities of a stack's YAML before that of a service with `routing.strategy: hash`, which its 16 rules for digits
take. In AWS they are 50 places: enough that two such services can swap, with both their old rules in the way."""

MAX_PRIORITY = 50000 // PLACES - 1
"""AWS allows 1 to 50000: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateRule.html"""

MAX_DEREGISTRATION_DELAY_SECONDS = 3600
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html"""

MIN_HOOK_SECONDS, MAX_HOOK_SECONDS = 30, 7200
"""Heartbeat timeout of a lifecycle hook; a heartbeat restarts it, up to 48 hours in total:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html"""

STACK_TAG, SERVICE_TAG, POOL_TAG = "gpu-fleet:stack", "gpu-fleet:service", "gpu-fleet:pool"
"""Tags of every resource that takes tags. IAM ignores case, so `Stack` could clash with a user's `stack`: hence the
prefix."""


def scaler_name(project: str, stack: str) -> str:
    """Return the name of the scaler's function and its parts. It is fixed, because people look for it."""
    return f"{project}-{stack}-scaler"


def fitting(name: str, max_length: int) -> str:
    """Return the logical name, cut if it would exceed `max_length` with the random suffix.

    A cut name ends in 4 hex digits of the whole name's hash, so two long names with a common start stay different:
    fitting("transcription-of-meetings-l40s", 32) is "transcription-of-me-" + 4 digits, 24 characters.
    """
    return cut(name, max_length - RANDOM_SUFFIX)


def cut(name: str, room: int) -> str:
    """Return the name, or as much of it as fits into `room` characters with 4 hex digits of its hash at the end."""
    if len(name) <= room:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:4]
    return f"{name[: room - 5].rstrip('-')}-{digest}"


def weights_bucket(project: str, stack: str, account: str) -> str:
    """Return the name of the stack's bucket of weights. The account makes it unique, as buckets must be worldwide."""
    end = f"-weights-{account}"
    return cut(f"{project}-{stack}", MAX_BUCKET_NAME - len(end)) + end


def log_group(project: str, stack: str, service: str) -> str:
    """Return the name of a service's log group.

    No part has a slash, so stack dev with service a-chat and stack dev-a with service chat stay apart.
    """
    return f"/{project}/{stack}/{service}"


def baked_ami_parameter(project: str, stack: str, service: str) -> str:
    """Return the name of the parameter that holds a service's newest baked AMI.

    Image Builder's own role may write below /imagebuilder/ and nowhere else:
    https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSServiceRoleForImageBuilder.html
    """
    return f"/imagebuilder/{project}/{stack}/{service}"


def dashboard(project: str, stack: str, service: str) -> str:
    """Return the name of a service's dashboard; no part has an underscore."""
    return f"{project}_{stack}_{service}"


def hook_seconds(timeout_seconds: float) -> int:
    """Return the nearest heartbeat timeout that AWS allows."""
    return int(min(MAX_HOOK_SECONDS, max(MIN_HOOK_SECONDS, timeout_seconds)))


def check_weights(weights: Iterable[int]) -> tuple[int, ...]:
    """Return the weights of one forward action. Raises ValueError if AWS would refuse them or all are 0."""
    given = tuple(weights)
    if not 1 <= len(given) <= MAX_POOLS:
        raise ValueError(f"a forward action has 1 to {MAX_POOLS} target groups (got {len(given)})")
    for weight in given:
        if not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a target group's weight is 0 to {MAX_WEIGHT} (got {weight})")
    if not any(given):
        raise ValueError("a forward action whose weights are all 0 serves nobody")
    return given
