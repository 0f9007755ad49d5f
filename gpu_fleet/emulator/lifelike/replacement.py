"""Rebalancing: an instance is replaced, the new one first, for purchase option and zone balance."""

from __future__ import annotations

from collections import Counter
from typing import Any

from moto.autoscaling.models import autoscaling_backends

from gpu_fleet.emulator.cloud_world import CloudWorld, Location
from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.lifecycle import GroupInstance, Lifecycle, suspended
from gpu_fleet.emulator.lifelike.placement import instance_types, split

DIFFERENCE = Difference(
    name="rebalancing",
    moto="never moves an instance; suspended processes have no effect",
    aws=(
        "a changed on-demand base or percentage gradually replaces instances, launching the new one before "
        "terminating the old one; zones that became unequal are rebalanced in the same way, unless AZRebalance is "
        "suspended"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html"
    ),
)

INTERVAL_SECONDS = 60.0
"""How often a group checks its balance. AWS gives no figure."""


class Replacements:
    """Rebalances all groups of a region, one replacement at a time in each."""

    def __init__(self, world: CloudWorld, lifecycle: Lifecycle, location: Location) -> None:
        """Create it; `start` begins to check the groups."""
        self._world, self._lifecycle, self._location = world, lifecycle, location
        self.refreshing: set[str] = set()
        """Groups with an instance refresh in progress, which are not rebalanced."""

    def start(self) -> None:
        """Check each group every minute from now on."""
        self._world.call_later(INTERVAL_SECONDS, self._check_groups)

    def _check_groups(self) -> None:
        account, region = self._location
        for group in list(autoscaling_backends[account][region].autoscaling_groups.values()):
            if group.name not in self.refreshing and self.settled(group):
                self._rebalance(group)
        self._world.call_later(INTERVAL_SECONDS, self._check_groups)

    def settled(self, group: Any) -> bool:
        """Return whether the group has exactly its desired capacity, all in service."""
        members = self._lifecycle.live_members(group)
        return len(members) == int(group.desired_capacity or 0) and all(
            m.lifecycle_state == "InService" and m.replaces is None for m in members
        )

    def replace(
        self, old: GroupInstance, *, spot: bool, cause: str, zones: list[str] | None = None
    ) -> GroupInstance | None:
        """Launch an instance that takes the old one's place once it is in service. Returns None without capacity."""
        new = self._lifecycle.launch(old.auto_scaling_group, spot=spot, cause=cause, zones=zones)
        if new is not None:
            new.replaces = old
        return new

    def _rebalance(self, group: Any) -> None:
        if suspended(group, "Launch") or suspended(group, "Terminate"):
            return
        members = self._lifecycle.live_members(group)
        movable = [m for m in members if not m.protected_from_scale_in]
        if not movable:
            return
        counts = Counter(m.availability_zone for m in members)
        spot_goal = split(int(group.desired_capacity), group.mixed_instances_policy).spot
        spot_surplus = sum(m.spot for m in members) - spot_goal
        if spot_surplus:
            surplus = [m for m in movable if m.spot == (spot_surplus > 0)]
            if surplus:
                old = max(surplus, key=lambda m: (counts[m.availability_zone], -m.launched_at, m.instance_id))
                cause = "an instance was launched to meet the group's purchase options."
                self._replace_if_capacity(group, old, spot=not old.spot, cause=cause)
        elif not suspended(group, "AZRebalance"):
            self._balance_zones(group, movable, counts)

    def _balance_zones(self, group: Any, movable: list[GroupInstance], counts: Counter[str]) -> None:
        zones = list(dict.fromkeys(group.availability_zones))
        emptiest, fullest = min(zones, key=lambda z: counts[z]), max(zones, key=lambda z: counts[z])
        in_fullest = [m for m in movable if m.availability_zone == fullest]
        if counts[fullest] - counts[emptiest] > 1 and in_fullest:
            old = min(in_fullest, key=lambda m: (m.launched_at, m.instance_id))
            cause = (
                f"an instance was launched to aid in balancing the group's zones: {counts[fullest]} in "
                f"{fullest}, {counts[emptiest]} in {emptiest}."
            )
            self._replace_if_capacity(group, old, spot=old.spot, cause=cause, zones=[emptiest])

    def _replace_if_capacity(
        self, group: Any, old: GroupInstance, *, spot: bool, cause: str, zones: list[str] | None = None
    ) -> None:
        """Replace only if there is capacity: a group does not fail launches for the sake of balance."""
        version = group.ec2_launch_template.get_version(group.launch_template_version)
        types = instance_types(group.mixed_instances_policy, version.instance_type)
        allowed_zones = zones or list(group.availability_zones)
        if any(self._world.has_capacity(group.name, t, z, spot=spot) for z in allowed_zones for t in types):
            self.replace(old, spot=spot, cause=cause, zones=zones)
