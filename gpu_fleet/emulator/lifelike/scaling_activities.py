"""Scaling activities: what a group did and could not do."""

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
    moto="DescribeScalingActivities is always empty; a launch that fails fails SetDesiredCapacity",
    aws=(
        "SetDesiredCapacity answers at once; each launch and termination is an activity, newest "
        "first, with its zone in Details "
        "and, where it failed, the EC2 error in StatusMessage"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeScalingActivities.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ts-as-capacity.html"
    ),
)

KEPT = 1000
"""Activities kept of each group. AWS keeps six weeks."""


def utc(moment: float) -> dt.datetime:
    """A naive UTC datetime, as moto's serializers want it."""
    return dt.datetime.fromtimestamp(moment, dt.UTC).replace(tzinfo=None)


def stamp(moment: float) -> str:
    """The moment as it stands in a cause."""
    return utc(moment).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class Activity:
    """One activity; the names are those of the API, in moto's spelling."""

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
        """An empty log."""
        self._world = world
        self._by_group: defaultdict[str, deque[Activity]] = defaultdict(lambda: deque(maxlen=KEPT))

    def begin(self, group: Any, description: str, cause: str, *, subnet: str | None, zone: str | None) -> Activity:
        """A new activity under way."""
        details = {"Subnet ID": subnet, "Availability Zone": zone}
        activity = Activity(
            activity_id=str(uuid.UUID(int=self._world.random.getrandbits(128), version=4)),
            auto_scaling_group_name=group.name,
            auto_scaling_group_arn=group.arn,
            description=description,
            cause=f"At {stamp(self._world.now)} {cause}",
            start_time=utc(self._world.now),
            details=json.dumps({k: v for k, v in details.items() if v}, separators=(",", ":")),
        )
        self._by_group[group.name].appendleft(activity)
        return activity

    def end(self, activity: Activity, status: str = "Successful", message: str | None = None) -> None:
        """Close an activity; a message also goes into its description, as AWS shows it."""
        activity.status_code = status
        activity.progress = 100
        activity.end_time = utc(self._world.now)
        if message:
            activity.status_message = message
            activity.description = f"{activity.description}.  Status Reason: {message}"

    def of(self, group: str) -> list[Activity]:
        """The activities of a group, newest first."""
        return list(self._by_group[group])

    def all(self) -> list[Activity]:
        """The activities of all groups, newest first."""
        return sorted((a for log in self._by_group.values() for a in log), key=lambda a: a.start_time, reverse=True)


def mend(log: ActivityLog, patches: Patches) -> None:
    """Let DescribeScalingActivities read the log."""

    def describe_scaling_activities(self: Any) -> ActionResult:
        name = self._get_param("AutoScalingGroupName")
        wanted = self._get_param("ActivityIds", [])
        known = self.autoscaling_backend.autoscaling_groups
        if name is not None and name not in known and not self._get_bool_param("IncludeDeletedGroups"):
            raise ValidationError("AutoScalingGroup name not found - null")
        found = log.of(name) if name else log.all()
        if wanted:
            found = [a for a in found if a.activity_id in wanted]
        start = int(self._get_param("NextToken") or 0)
        size = min(self._get_int_param("MaxRecords") or 100, 100)
        following = str(start + size) if start + size < len(found) else None
        return ActionResult({"Activities": found[start : start + size], "NextToken": following})

    patches.put(responses.AutoScalingResponse, "describe_scaling_activities", describe_scaling_activities)
