"""Changes of instance types in a pool, read from the instance refreshes of its group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_fleet.emulator import EmbeddedCloud


@dataclass(frozen=True, slots=True)
class TypeChange:
    """An instance refresh that rolled other types through a pool."""

    pool: str
    types: tuple[str, ...]
    began: float
    """Seconds from the trace's start."""
    ended: float | None
    """None where it still runs when the trace ends."""
    status: str
    """As AWS calls it: Successful, Failed, Cancelled, InProgress."""


def type_changes(cloud: EmbeddedCloud, groups: Mapping[str, str], start: float) -> tuple[TypeChange, ...]:
    """Return the changes so far, in order of their beginning.

    `groups` names the Auto Scaling group of each pool; `start` is the trace's, seconds since the epoch.
    """
    autoscaling = cloud.client("autoscaling")
    changes = [
        TypeChange(
            pool=pool,
            types=tuple(override["InstanceType"] for override in _overrides(refresh)),
            began=refresh["StartTime"].timestamp() - start,
            ended=refresh["EndTime"].timestamp() - start if "EndTime" in refresh else None,
            status=refresh["Status"],
        )
        for pool, group in groups.items()
        for refresh in autoscaling.describe_instance_refreshes(AutoScalingGroupName=group)["InstanceRefreshes"]
        if _overrides(refresh)
    ]
    return tuple(sorted(changes, key=lambda change: change.began))


def _overrides(refresh: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the types that a refresh brings; empty for a refresh that changes something else."""
    policy = refresh.get("DesiredConfiguration", {}).get("MixedInstancesPolicy", {})
    overrides: list[Mapping[str, Any]] = policy.get("LaunchTemplate", {}).get("Overrides", [])
    return overrides
