"""Scaling activities: a group's launches and terminations, successful or failed."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.cloud_world import CloudWorld
from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="scaling activities",
    moto="DescribeScalingActivities is always empty; a failed launch fails SetDesiredCapacity",
    aws=(
        "SetDesiredCapacity answers at once; each launch and termination is an activity, newest first, with its zone "
        "in Details and, if it failed for whatever reason, the EC2 error in StatusMessage"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeScalingActivities.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-instancelaunchfailure.html"
    ),
)

KEPT_PER_GROUP = 1000
"""Number of activities kept for each group. AWS keeps six weeks."""


def naive_utc(moment: float) -> dt.datetime:
    """Return a naive UTC datetime, which moto's serializers need."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).replace(tzinfo=None)


@dataclass(slots=True)
class Activity:
    """One activity; the names are the API's, in moto's spelling."""

    activity_id: str
    auto_scaling_group_name: str
    description: str
    cause: str
    start_time: dt.datetime
    status_code: str = "InProgress"
    status_message: str | None = None
    end_time: dt.datetime | None = None
    progress: int = 0
    details: str = "{}"
    auto_scaling_group_arn: str = ""


class ActivityLog:
    """The activities of all groups."""

    def __init__(self, world: CloudWorld) -> None:
        """Start with an empty log."""
        self._world = world
        self._by_group: defaultdict[str, deque[Activity]] = defaultdict(lambda: deque(maxlen=KEPT_PER_GROUP))

    def begin(self, group: Any, description: str, cause: str, *, subnet: str | None, zone: str | None) -> Activity:
        """Log a new activity in progress."""
        details = {"Subnet ID": subnet, "Availability Zone": zone}
        now = naive_utc(self._world.now)
        activity = Activity(
            activity_id=str(uuid.UUID(int=self._world.random.getrandbits(128), version=4)),
            auto_scaling_group_name=group.name,
            auto_scaling_group_arn=group.arn,
            description=description,
            cause=f"At {now:%Y-%m-%dT%H:%M:%SZ} {cause}",
            start_time=now,
            details=json.dumps({k: v for k, v in details.items() if v}, separators=(",", ":")),
        )
        self._by_group[group.name].appendleft(activity)
        return activity

    def end(self, activity: Activity, status: str = "Successful", message: str | None = None) -> None:
        """Close an activity; a message also goes into its description, as AWS shows it."""
        activity.status_code = status
        activity.progress = 100
        activity.end_time = naive_utc(self._world.now)
        if message:
            activity.status_message = message
            activity.description = f"{activity.description}.  Status Reason: {message}"

    def of(self, group: str) -> list[Activity]:
        """Return the activities of a group, newest first."""
        return list(self._by_group[group])

    def all(self) -> list[Activity]:
        """Return the activities of all groups, newest first."""
        return sorted((a for log in self._by_group.values() for a in log), key=lambda a: a.start_time, reverse=True)


def patch_moto(log: ActivityLog, patches: Patches) -> None:
    """Let DescribeScalingActivities read the log."""

    def describe_scaling_activities(_moto: Any, response: Any) -> ActionResult:
        name = response._get_param("AutoScalingGroupName")
        ids = response._get_param("ActivityIds", [])
        groups = response.autoscaling_backend.autoscaling_groups
        if name is not None and name not in groups and not response._get_bool_param("IncludeDeletedGroups"):
            raise ValidationError("AutoScalingGroup name not found - null")
        activities = log.of(name) if name else log.all()
        if ids:
            activities = [a for a in activities if a.activity_id in ids]
        start = int(response._get_param("NextToken") or 0)
        end = start + min(response._get_int_param("MaxRecords") or 100, 100)
        return ActionResult(
            {"Activities": activities[start:end], "NextToken": str(end) if end < len(activities) else None}
        )

    patches.wrap(responses.AutoScalingResponse, "describe_scaling_activities", describe_scaling_activities)
