"""Failed launches, read from a group's scaling activities: SetDesiredCapacity does not report them."""

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

_CAPACITY = re.compile(
    r"InsufficientInstanceCapacity|InsufficientCapacity|InsufficientHostCapacity|UnfulfillableCapacity"
    r"|MaxSpotInstanceCountExceeded|VcpuLimitExceeded|InstanceLimitExceeded"
    r"|do not have sufficient|no Spot capacity available|Unable to fulfill capacity"
    r"|Max spot instance count exceeded|more vCPU capacity than your current|than your current instance limit"
    r"|not supported in your requested Availability Zone",
    re.IGNORECASE,
)
"""Error codes, and the messages of activities without a code:
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html and
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""

_SPOT = re.compile(r"launch Spot Instances|\bSpot\b|MaxSpotInstanceCountExceeded", re.IGNORECASE)
# The first zone in the message is the requested one; those after `or choosing` are alternatives.
_ZONE = re.compile(r"\(([a-z]{2,}-[a-z0-9-]*\d[a-z])\)")


@dataclass(frozen=True, slots=True)
class FailedLaunches:
    """The failed launches of a group in the last hour."""

    capacity_errors: tuple[CapacityError, ...] = ()
    """Oldest first. Every run within the hour sees the same activity, with the same time."""
    other: tuple[str, ...] = ()
    """Messages of launches that failed for another reason: a broken template, a missing permission."""


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
        if activity["StatusCode"] != "Failed" or now - at > LOOK_BACK_SECONDS:
            continue
        message = activity.get("StatusMessage") or activity.get("Description", "")
        if _CAPACITY.search(message):
            errors.append(CapacityError(_zone(activity, message), at, spot=bool(_SPOT.search(message))))
        # A failed termination is not a failed launch.
        elif "Terminating" not in activity.get("Description", ""):
            other[message] = None
    return FailedLaunches(tuple(sorted(errors, key=lambda e: (e.at, e.zone, e.spot))), tuple(other))


def _zone(activity: Any, message: str) -> str:
    """Return the zone from the details, which are JSON, else from the message, else an empty string."""
    try:
        details = json.loads(activity.get("Details") or "{}")
    except json.JSONDecodeError:
        details = {}
    zone = details.get("Availability Zone", "") if isinstance(details, dict) else ""
    if isinstance(zone, str) and zone:
        return zone
    match = _ZONE.search(message)
    return match[1] if match else ""
