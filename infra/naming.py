"""Names and limits of AWS that no emulator checks, each with its source.

They are held when the program runs, before anything is made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from scaling.service import MAX_POOLS

RANDOM_SUFFIX = 8
"""What Pulumi's autonaming adds to a logical name: a hyphen and 7 hex digits
(https://www.pulumi.com/docs/iac/concepts/resources/names/#autonaming)."""

MAX_TARGET_GROUP_NAME = 32
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html"""

MAX_LOAD_BALANCER_NAME = 32
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html"""

MAX_ROLE_NAME = 64
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html;
Lambda functions and schedules have the same."""

MAX_RULE_NAME = 64
"""https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutRule.html"""

MAX_QUEUE_NAME = 80
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html"""

MAX_TARGET_GROUPS = MAX_POOLS

MAX_WEIGHT = 999
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html"""

MAX_DEREGISTRATION_DELAY_SECONDS = 3600
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html"""

MIN_HOOK_SECONDS, MAX_HOOK_SECONDS = 30, 7200
"""Heartbeat timeout of a lifecycle hook; a heartbeat starts it anew, up to 48 hours in all:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html"""

STACK_TAG, SERVICE_TAG, POOL_TAG = "gpu-fleet:stack", "gpu-fleet:service", "gpu-fleet:pool"
"""On everything that takes tags. IAM does not tell `Stack` from a user's own `stack`, hence the prefix."""

MAX_USER_DATA_BYTES = 16384
"""Before base64: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/user-data.html"""

SERVICES_PER_POLICY = 2
"""A managed policy holds 6144 characters. A service of five pools with spot and the longest names needs about 2200 of
them, what is common to them 1400 (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html)."""

MAX_SERVICES = 9 * SERVICES_PER_POLICY
"""A role takes 10 managed policies by default; one is for what all services share."""

NO_SLOW_START = frozenset({"least_outstanding_requests", "weighted_random"})
"""Algorithms that a target group's slow start cannot be joined with:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html"""


def fitting(name: str, most: int) -> str:
    """The logical name, cut where it and the random suffix would be longer than `most`.

    A cut name ends in 4 hex digits of its whole, so that two long names with one beginning stay two:
    fitting("transcription-of-meetings-l40s", 32) is "transcription-of-me-" + 4 digits, 24 characters.
    """
    room = most - RANDOM_SUFFIX
    if len(name) <= room:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:4]
    return f"{name[: room - 5].rstrip('-')}-{digest}"


def hook_seconds(wanted: float) -> int:
    """The heartbeat timeout nearest to what is wanted."""
    return int(min(MAX_HOOK_SECONDS, max(MIN_HOOK_SECONDS, wanted)))


def check_weights(weights: Iterable[int]) -> tuple[int, ...]:
    """The weights of one forward action. Raises ValueError when AWS would refuse them, or none would take traffic."""
    given = tuple(weights)
    if not 1 <= len(given) <= MAX_TARGET_GROUPS:
        raise ValueError(f"a forward action has 1 to {MAX_TARGET_GROUPS} target groups (got {len(given)})")
    for weight in given:
        if not 0 <= weight <= MAX_WEIGHT:
            raise ValueError(f"a target group's weight is 0 to {MAX_WEIGHT} (got {weight})")
    if not any(given):
        raise ValueError("a forward action whose weights are all 0 serves nobody")
    return given


def check_slow_start(algorithm: str, slow_start_seconds: int) -> None:
    """Raises ValueError for a slow start that AWS refuses: 1 to 29 s, over 900 s, or with `NO_SLOW_START`."""
    if slow_start_seconds == 0:
        return
    if not 30 <= slow_start_seconds <= 900:
        raise ValueError(f"slow start is 0 (off) or 30 to 900 seconds (got {slow_start_seconds})")
    if algorithm in NO_SLOW_START:
        raise ValueError(f"slow start goes with round_robin only (got {algorithm})")


def check_services(count: int) -> None:
    """Raises ValueError when one stack holds more services than the scaler's role can name."""
    if count > MAX_SERVICES:
        raise ValueError(
            f"services: must be at most {MAX_SERVICES} in a stack (got {count}); share them out over stacks"
        )


def check_tags(tags: Mapping[str, str]) -> None:
    """Raises ValueError for a tag key that instances could not show in their metadata; EC2 refuses such a launch.

    They read their group's name there:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/work-with-tags-in-IMDS.html
    """
    for key in tags:
        if (
            re.fullmatch(r"[A-Za-z0-9+=.,_:@-]{1,128}", key) is None
            or key in {".", "..", "_index"}
            or key.startswith("aws:")
        ):
            raise ValueError(f"tags.{key}: must be letters, digits and + - = . , _ : @, and not begin with aws:")
