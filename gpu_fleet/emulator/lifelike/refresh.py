"""Instance refresh: a group's instances replaced step by step."""

from __future__ import annotations

import copy
import uuid
from dataclasses import dataclass, field
from typing import Any

from moto.autoscaling import responses
from moto.autoscaling.exceptions import AutoscalingClientError, ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.cloud_world import CloudWorld
from gpu_fleet.emulator.lifelike.desired_capacity import group_of_request
from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.group_update import merged_policy
from gpu_fleet.emulator.lifelike.lifecycle import GroupInstance, Lifecycle
from gpu_fleet.emulator.lifelike.replacement import Replacements
from gpu_fleet.emulator.lifelike.scaling_activities import naive_utc

DIFFERENCE = Difference(
    name="instance refresh",
    moto="StartInstanceRefresh, DescribeInstanceRefreshes and CancelInstanceRefresh are missing",
    aws=(
        "instances are replaced in steps that keep the minimum healthy percentage (90), launching first if that is "
        "100 or the maximum is above 100; each step waits for the warmup; a group runs one refresh at a time"
    ),
    source="https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html",
)

CHECK_SECONDS = 15.0
"""How often a refresh checks whether its step is complete. AWS gives no figure."""
STALLED_SECONDS = 3600.0
"""A refresh that waits for protected or standby instances fails after an hour:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html"""


@dataclass(frozen=True, slots=True)
class _Configuration:
    """A group's settings that a refresh may change."""

    mixed_instances_policy: dict[str, Any] | None
    launch_template_version: str
    ec2_launch_template: Any

    @classmethod
    def of(cls, group: Any) -> _Configuration:
        return cls(
            copy.deepcopy(group.mixed_instances_policy), group.launch_template_version, group.ec2_launch_template
        )

    def restore(self, group: Any) -> None:
        group.mixed_instances_policy = self.mixed_instances_policy
        group.launch_template_version = self.launch_template_version
        group.ec2_launch_template = self.ec2_launch_template


@dataclass(slots=True)
class InstanceRefresh:
    """One refresh; the public names are the API's, in moto's spelling."""

    instance_refresh_id: str
    auto_scaling_group_name: str
    start_time: Any
    preferences: dict[str, Any]
    desired_configuration: dict[str, Any] | None
    configuration_before: _Configuration
    progressed_at: float
    status: str = "Pending"
    status_reason: str | None = None
    end_time: Any = None
    percentage_complete: int = 0
    instances_to_update: int = 0
    total: int = 0
    left: list[GroupInstance] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.status not in ("Pending", "InProgress", "Cancelling")


class Refreshes:
    """The refreshes of all groups."""

    def __init__(self, world: CloudWorld, lifecycle: Lifecycle, replacements: Replacements) -> None:
        """Start with no refresh."""
        self._world, self._lifecycle, self._replacements = world, lifecycle, replacements
        self.by_group: dict[str, list[InstanceRefresh]] = {}

    def start(self, group: Any, preferences: dict[str, Any], desired: dict[str, Any] | None) -> InstanceRefresh:
        """Start a refresh. Raises InstanceRefreshInProgress if one is active.

        The desired configuration applies to launches from now on; cancelling restores the group's old one.
        """
        if self._active(group.name):
            raise AutoscalingClientError(
                "InstanceRefreshInProgress", "An Instance Refresh is already in progress and blocks the execution."
            )
        low = int(preferences.get("MinHealthyPercentage", 90))
        high = int(preferences.get("MaxHealthyPercentage", max(100, low)))
        if not 0 <= low <= 100 or not 100 <= high <= 200 or high - low > 100:
            raise ValidationError("MinHealthyPercentage must be 0 to 100, MaxHealthyPercentage 100 to 200, within 100")
        refresh = InstanceRefresh(
            str(uuid.UUID(int=self._world.random.getrandbits(128), version=4)),
            group.name,
            naive_utc(self._world.now),
            {**preferences, "MinHealthyPercentage": low, "MaxHealthyPercentage": high},
            desired,
            _Configuration.of(group),
            self._world.now,
        )
        if desired:
            _apply_configuration(group, desired)
        members = [m for m in self._lifecycle.live_members(group) if not _skips(group, m, preferences)]
        refresh.left, refresh.total = members, len(members)
        refresh.instances_to_update = len(members)
        self.by_group.setdefault(group.name, []).insert(0, refresh)
        self._replacements.refreshing.add(group.name)
        self._world.call_later(1, lambda: self._step(group, refresh))
        return refresh

    def cancel(self, group: Any) -> InstanceRefresh:
        """Stop after the present step. Raises ActiveInstanceRefreshNotFound if none is active."""
        refresh = self._active(group.name)
        if refresh is None:
            raise AutoscalingClientError(
                "ActiveInstanceRefreshNotFound",
                "No in progress or pending Instance Refresh found for group " + group.name,
            )
        refresh.configuration_before.restore(group)
        refresh.status = "Cancelling"
        return refresh

    def _active(self, name: str) -> InstanceRefresh | None:
        return next((r for r in self.by_group.get(name, []) if not r.over), None)

    def _step(self, group: Any, refresh: InstanceRefresh) -> None:
        left = [m for m in refresh.left if m.live]
        if len(left) != len(refresh.left):
            refresh.progressed_at = self._world.now
        refresh.left = left
        refresh.instances_to_update = len(left)
        refresh.percentage_complete = 100 if not refresh.total else 100 * (refresh.total - len(left)) // refresh.total
        if self._step_complete(group, refresh):
            if refresh.status == "Cancelling":
                self._end(group, refresh, "Cancelled")
                return
            if not left:
                self._end(group, refresh, "Successful")
                return
            refresh.status = "InProgress"
            self._replace_some(group, refresh)
        if self._world.now - refresh.progressed_at > STALLED_SECONDS:
            refresh.status_reason = "No progress for an hour."
            self._end(group, refresh, "Failed")
            return
        self._world.call_later(CHECK_SECONDS, lambda: self._step(group, refresh))

    def _replace_some(self, group: Any, refresh: InstanceRefresh) -> None:
        """Replace as many instances as the healthy percentages allow at a time."""
        movable = [
            m
            for m in refresh.left
            if not m.protected_from_scale_in or refresh.preferences.get("ScaleInProtectedInstances") == "Refresh"
        ]
        desired = int(group.desired_capacity)
        low, high = refresh.preferences["MinHealthyPercentage"], refresh.preferences["MaxHealthyPercentage"]
        name = f"instance refresh {refresh.instance_refresh_id}"
        if low == 100 or high > 100:
            for member in movable[: max(1, desired * (high - 100) // 100)]:
                cause = f"an instance was launched in response to {name}."
                if self._replacements.replace(member, spot=member.spot, cause=cause) is None:
                    return
        else:
            for member in movable[: max(1, desired * (100 - low) // 100)]:
                self._lifecycle.terminate(member, f"an instance was taken out of service in response to {name}.")
            self._lifecycle.capacity_changed(group)

    def _step_complete(self, group: Any, refresh: InstanceRefresh) -> bool:
        """Return whether the group is settled and its new instances are warm."""
        warmup = refresh.preferences.get("InstanceWarmup")
        if warmup is None:
            warmup = getattr(group, "default_instance_warmup", None)
        if warmup is None:
            warmup = group.health_check_grace_period or 0
        return self._replacements.settled(group) and all(
            m in refresh.left or self._world.now >= (m.in_service_at or 0) + float(warmup)
            for m in self._lifecycle.live_members(group)
        )

    def _end(self, group: Any, refresh: InstanceRefresh, status: str) -> None:
        refresh.status, refresh.end_time = status, naive_utc(self._world.now)
        self._replacements.refreshing.discard(group.name)


def _apply_configuration(group: Any, desired: dict[str, Any]) -> None:
    # _set_launch_configuration is moto's own way to read the template.
    if desired.get("MixedInstancesPolicy"):
        policy = merged_policy(group.mixed_instances_policy, desired["MixedInstancesPolicy"])
        group.mixed_instances_policy = policy
        group._set_launch_configuration(None, {}, policy)
    elif desired.get("LaunchTemplate"):
        group._set_launch_configuration(None, desired["LaunchTemplate"], None)


def _skips(group: Any, member: GroupInstance, preferences: dict[str, Any]) -> bool:
    """Return whether the refresh leaves this instance as it is."""
    if member.protected_from_scale_in and preferences.get("ScaleInProtectedInstances") == "Ignore":
        return True
    if not preferences.get("SkipMatching"):
        return False
    version = group.ec2_launch_template.get_version(group.launch_template_version)
    overrides = ((group.mixed_instances_policy or {}).get("LaunchTemplate") or {}).get("Overrides") or []
    types = {o.get("InstanceType") for o in overrides} or {version.instance_type}
    same_template = member.template is group.ec2_launch_template and member.version == version.number
    return same_template and member.instance_type in types


def patch_moto(refreshes: Refreshes, patches: Patches) -> None:
    """Add the three missing operations."""

    def start_instance_refresh(_moto: Any, response: Any) -> ActionResult:
        preferences = response._get_param("Preferences") or {}
        desired = response._get_param("DesiredConfiguration")
        refresh = refreshes.start(group_of_request(response), preferences, desired)
        return ActionResult({"InstanceRefreshId": refresh.instance_refresh_id})

    def cancel_instance_refresh(_moto: Any, response: Any) -> ActionResult:
        refresh = refreshes.cancel(group_of_request(response))
        return ActionResult({"InstanceRefreshId": refresh.instance_refresh_id})

    def describe_instance_refreshes(_moto: Any, response: Any) -> ActionResult:
        of_group = refreshes.by_group.get(group_of_request(response).name, [])
        ids = response._get_param("InstanceRefreshIds") or []
        return ActionResult({"InstanceRefreshes": [r for r in of_group if not ids or r.instance_refresh_id in ids]})

    response = responses.AutoScalingResponse
    patches.wrap(response, "start_instance_refresh", start_instance_refresh)
    patches.wrap(response, "cancel_instance_refresh", cancel_instance_refresh)
    patches.wrap(response, "describe_instance_refreshes", describe_instance_refreshes)
