"""Failed launches, read from a group's scaling activities: SetDesiredCapacity does not report them.

Whatever its words, an activity that failed is an order that was not filled. The words only say where that holds: in one
zone or in all, for spot instances, for on-demand ones or for both. AWS documents most of them, and no list is whole:
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-instancelaunchfailure.html
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-ami.html
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_fleet.scaling.observation import CapacityError

if TYPE_CHECKING:
    from types_boto3_autoscaling import AutoScalingClient

MAX_ACTIVITIES = 20
"""How many of a group's newest activities a run reads. A group without capacity tries each zone at most a few times a
minute, so 20 activities cover several runs."""

LOOK_BACK_SECONDS = 3600
"""Older failures do not matter: a pool is avoided for an hour at most."""

LONGEST_MESSAGE = 160
"""Characters of AWS's words that are kept."""

_CAPACITY = re.compile(
    r"Insufficient\w*Capacity|UnfulfillableCapacity|ReservationCapacityExceeded|Insufficient capacity"
    r"|do not have sufficient|sufficient compatible and available capacity|no (Spot )?capacity available"
    r"|Unable to fulfill capacity|not supported in your requested Availability Zone",
    re.IGNORECASE,
)
"""EC2 has no such instance now: waiting or another zone may cure it."""

_OF_A_SUBNET = re.compile(r"free addresses in subnet|InsufficientFreeAddresses|subnet ID|InvalidSubnet", re.IGNORECASE)

_OF_SPOT = re.compile(r"\bSpot (instance|request|capacity|price)|MaxSpot|SpotMax|SpotInstance", re.IGNORECASE)
"""Spot alone is refused: none to be had, its own quota, its price, its service-linked role."""

_OF_BOTH = re.compile(
    r"Invalid|not authorized|Unauthorized|Auth\w*[ .]?Failure|does not exist|not supported|Unsupported|blocked"
    r"|OptInRequired|PendingVerification|Placement group|KMS|architecture|\bAMI\b|Fleet Requests|Termination Reason",
    re.IGNORECASE,
)
"""Template, image, key, network, rights or account: the same for spot and on-demand instances."""

_QUOTA = re.compile(r"limit|quota|count exceeded|already running", re.IGNORECASE)
"""Spot and on-demand instances have quotas of their own."""

_MARKET = re.compile(r"^\s*Could not launch (Spot|On-Demand) Instances\.\s*", re.IGNORECASE)
"""Begins the message of a group with a mixed policy."""

_ON_PURPOSE = re.compile(r"InitiatedShutdown|Spot\w*(Termination|Shutdown)", re.IGNORECASE)
"""An instance that boots was ended by somebody, or taken back: it could be launched."""

_GIVEN_UP = re.compile(r"failed to complete user's Lifecycle Action", re.IGNORECASE)
"""An instance that booted gave its launch up, or sent no heartbeat: image, secret, weights or engine do not work.
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle-hooks-troubleshooting.html"""

_BOILERPLATE = re.compile(
    r"\s*Launching EC2 instance failed\.?|with token [-0-9a-f]+ |\s*Encoded authorization failure message:\s*\S+"
    r"|\s*Please visit http\S+ to request an adjustment to this limit\.?",
    re.IGNORECASE,
)

# The first zone in the message is the requested one; those after `or choosing` are alternatives.
_ZONE = re.compile(r"\(([a-z]{2,}-[a-z0-9-]*\d[a-z])\)")


@dataclass(frozen=True, slots=True)
class FailedLaunches:
    """The failed launches of a group in the last hour."""

    capacity_errors: tuple[CapacityError, ...] = ()
    """All of them, oldest first. Every run within the hour sees the same activity, with the same time."""
    other: tuple[str, ...] = ()
    """AWS's words of those for which an operator has to do something: a template, a right, a quota. Newest first."""


def read(autoscaling: AutoScalingClient, group: str, now: float) -> FailedLaunches:
    """Read the failures of the last hour among the group's newest activities. Raises botocore's errors."""
    answer = autoscaling.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=MAX_ACTIVITIES)
    return parse(answer["Activities"], now)


def parse(activities: Sequence[Any], now: float) -> FailedLaunches:
    """Return the failed launches among these activities."""
    errors: list[CapacityError] = []
    other: dict[str, None] = {}
    for activity in activities:
        at = (activity.get("EndTime") or activity["StartTime"]).timestamp()
        message = activity.get("StatusMessage") or activity.get("Description", "")
        if not _failed_launch(activity, message) or now - at > LOOK_BACK_SECONDS:
            continue
        given_up = _GIVEN_UP.search(message) is not None
        spot = None if given_up else _spot(message)
        error = CapacityError(_zone(activity, message), at, spot, _shortened(message), given_up)
        errors.append(error)
        if not _CAPACITY.search(message):
            other[error.why] = None
    errors.sort(key=lambda e: (e.at, e.zone, e.spot is not False))
    return FailedLaunches(tuple(errors), tuple(other))


def _failed_launch(activity: Any, message: str) -> bool:
    description = activity.get("Description", "")
    if description and not description.startswith("Launching"):
        return False
    if activity["StatusCode"] == "Cancelled":  # launched, and ended by EC2 or by itself before it was in service
        ended = "Termination Reason:" in message and not _ON_PURPOSE.search(message)
        return ended or _GIVEN_UP.search(message) is not None
    return activity["StatusCode"] == "Failed"


def _spot(message: str) -> bool | None:
    """Whether spot or on-demand instances cannot be launched; None: neither can."""
    begin = _MARKET.match(message)
    words = message[begin.end() :] if begin else message
    of_spot = begin is not None and begin[1].lower() == "spot"
    if _OF_SPOT.search(words):
        return True
    if _CAPACITY.search(words):
        return of_spot
    if _OF_BOTH.search(words):
        return None
    # Of words that we do not know, the market in front says what they concern.
    return of_spot if begin is not None or _QUOTA.search(words) else None


def _zone(activity: Any, message: str) -> str:
    """Return the zone from the details, which are JSON, else from the message; empty where it holds in all zones."""
    if not (_CAPACITY.search(message) or _OF_A_SUBNET.search(message)):
        return ""
    try:
        details = json.loads(activity.get("Details") or "{}")
    except json.JSONDecodeError:
        details = {}
    zone = details.get("Availability Zone", "") if isinstance(details, dict) else ""
    if isinstance(zone, str) and zone:
        return zone
    match = _ZONE.search(message)
    return match[1] if match else ""


def _shortened(message: str) -> str:
    text = " ".join(_BOILERPLATE.sub("", message).split())
    return text if len(text) <= LONGEST_MESSAGE else f"{text[: LONGEST_MESSAGE - 1].rstrip()}…"
