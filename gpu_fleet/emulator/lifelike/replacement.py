"""Replacing one instance by another, the new one first: for purchase option and zone balance."""

from __future__ import annotations

from collections import Counter
from typing import Any

from moto.autoscaling.models import autoscaling_backends

from gpu_fleet.emulator.cloud_world import CloudWorld
from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.lifecycle import GroupInstance, Lifecycle, suspended
from gpu_fleet.emulator.lifelike.placement import instance_types, split

DIFFERENCE = Difference(
    name="rebalancing",
    moto="never moves an instance; suspended processes have no effect",
    aws=(
        "a changed on-demand base or percentage gradually replaces instances, launching the new one "
        "before the old one goes; "
        "zones that became unequal are rebalanced in the same way, unless AZRebalance is suspended"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html"
    ),
)

EVERY_SECONDS = 60.0
"""How often a group looks at itself. AWS gives no figure."""


class Replacements:
    """Looks after all groups of a region, one replacement at a time in each."""

    def __init__(self, world: CloudWorld, lifecycle: Lifecycle, where: tuple[str, str]) -> None:
        """Nothing is replaced before `begin`."""
        self._world, self._lifecycle, self._where = world, lifecycle, where
        self.refreshing: set[str] = set()
        """Groups with an instance refresh under way: they are left alone."""

    def begin(self) -> None:
        """Look at each group every minute from now on."""
        self._world.after(EVERY_SECONDS, self._look)

    def _look(self) -> None:
        account, region = self._where
        for group in list(autoscaling_backends[account][region].autoscaling_groups.values()):
            if group.name not in self.refreshing and self.settled(group):
                self._balance(group)
        self._world.after(EVERY_SECONDS, self._look)

    def settled(self, group: Any) -> bool:
        """Whether the group has just what it wants, all of it in service."""
        members = self._lifecycle.live(group)
        return len(members) == int(group.desired_capacity or 0) and all(
            m.lifecycle_state == "InService" and m.replaces is None for m in members
        )

    def replace(
        self, old: GroupInstance, *, spot: bool, cause: str, zones: list[str] | None = None
    ) -> GroupInstance | None:
        """Launch another, which takes the old one's place once it is in service. None where EC2 has none."""
        new = self._lifecycle.launch(old.auto_scaling_group, spot=spot, cause=cause, zones=zones)
        if new is not None:
            new.replaces = old
        return new

    def _balance(self, group: Any) -> None:
        if suspended(group, "Launch") or suspended(group, "Terminate"):
            return
        members = [m for m in self._lifecycle.live(group) if not m.protected_from_scale_in]
        if not members:
            return
        want = split(int(group.desired_capacity), group.mixed_instances_policy)
        spot_surplus = sum(m.spot for m in self._lifecycle.live(group)) - want.spot
        counts = Counter(m.availability_zone for m in self._lifecycle.live(group))
        if spot_surplus:
            surplus = [m for m in members if m.spot == (spot_surplus > 0)]
            if surplus:
                old = max(surplus, key=lambda m: (counts[m.availability_zone], -m.launched_at, m.instance_id))
                cause = "an instance was launched to meet the group's purchase options."
                self._try(group, old, spot=not old.spot, cause=cause)
            return
        if suspended(group, "AZRebalance"):
            return
        zones = list(dict.fromkeys(group.availability_zones))
        emptiest, fullest = min(zones, key=lambda z: counts[z]), max(zones, key=lambda z: counts[z])
        movable = [m for m in members if m.availability_zone == fullest]
        if counts[fullest] - counts[emptiest] > 1 and movable:
            old = min(movable, key=lambda m: (m.launched_at, m.instance_id))
            cause = (
                f"an instance was launched to aid in balancing the group's zones: {counts[fullest]} in "
                f"{fullest}, {counts[emptiest]} in {emptiest}."
            )
            self._try(group, old, spot=old.spot, cause=cause, zones=[emptiest])

    def _try(self, group: Any, old: GroupInstance, *, spot: bool, cause: str, zones: list[str] | None = None) -> None:
        """Replace where there is capacity; a group does not keep failing for the sake of balance."""
        version = group.ec2_launch_template.get_version(group.launch_template_version)
        types = instance_types(group.mixed_instances_policy, version.instance_type)
        wanted = zones or list(group.availability_zones)
        if any(self._world.has_capacity(group.name, t, z, spot=spot) for z in wanted for t in types):
            self.replace(old, spot=spot, cause=cause, zones=zones)
