"""Launches that failed, from a group's scaling activities: SetDesiredCapacity itself never tells."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_fleet.scaling.observation import CapacityError

if TYPE_CHECKING:
    from types_boto3_autoscaling import AutoScalingClient

NEWEST = 20
"""Activities read of one group in one run, the newest. A group without capacity tries each zone a few times a minute
at most, so that 20 reach back over several runs."""

LOOK_BACK_SECONDS = 3600
"""Older failures tell nothing of now: the longest that a pool is avoided is an hour."""

_CAPACITY = re.compile(
    r"InsufficientInstanceCapacity|InsufficientCapacity|InsufficientHostCapacity|UnfulfillableCapacity"
    r"|MaxSpotInstanceCountExceeded|VcpuLimitExceeded|InstanceLimitExceeded"
    r"|do not have sufficient|no Spot capacity available|Unable to fulfill capacity"
    r"|Max spot instance count exceeded|more vCPU capacity than your current|than your current instance limit"
    r"|not supported in your requested Availability Zone",
    re.IGNORECASE,
)
"""Codes and, for groups whose activities carry no code, the sentences:
https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html and
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"""

_SPOT = re.compile(r"launch Spot Instances|\bSpot\b|MaxSpotInstanceCountExceeded", re.IGNORECASE)
# The first zone in the message is the one asked for; those after `or choosing` are the ones to try instead.
_ZONE = re.compile(r"\(([a-z]{2,}-[a-z0-9-]*\d[a-z])\)")


@dataclass(frozen=True, slots=True)
class FailedLaunches:
    """What a group could not launch lately."""

    capacity_errors: tuple[CapacityError, ...] = ()
    """Oldest first. The same activity is seen by every run within the hour, with the same time."""
    other: tuple[str, ...] = ()
    """Messages of launches that failed for another reason: a broken template, a missing right."""


def read(autoscaling: AutoScalingClient, group: str, now: float) -> FailedLaunches:
    """The failures among the group's newest activities of the last hour. Raises botocore's errors."""
    answer = autoscaling.describe_scaling_activities(AutoScalingGroupName=group, MaxRecords=NEWEST)
    return parse(answer["Activities"], now)


def parse(activities: Sequence[Any], now: float) -> FailedLaunches:
    """`read` without the call."""
    errors: list[CapacityError] = []
    other: dict[str, None] = {}
    for activity in activities:
        at = (activity.get("EndTime") or activity["StartTime"]).timestamp()
        # A launch template's fault in a terminating activity is no failed launch.
        if activity["StatusCode"] != "Failed" or now - at > LOOK_BACK_SECONDS:
            continue
        message = activity.get("StatusMessage") or activity.get("Description", "")
        if _CAPACITY.search(message):
            errors.append(CapacityError(_zone(activity, message), at, spot=bool(_SPOT.search(message))))
        elif "Terminating" not in activity.get("Description", ""):
            other[message] = None
    return FailedLaunches(tuple(sorted(errors, key=lambda e: (e.at, e.zone, e.spot))), tuple(other))


def _zone(activity: Any, message: str) -> str:
    """From the details, a JSON text; else from the message; else empty."""
    try:
        details = json.loads(activity.get("Details") or "{}")
    except json.JSONDecodeError:
        details = {}
    zone = details.get("Availability Zone", "") if isinstance(details, dict) else ""
    if isinstance(zone, str) and zone:
        return zone
    found = _ZONE.search(message)
    return found[1] if found else ""
