"""The one pool that a rival scales, and which of its instances a scale-in terminates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation
from gpu_fleet.scaling.service import Pool, Service

TerminationPolicy = Callable[[Sequence[Instance], int, float], tuple[str, ...]]
"""Takes instances, a count and the time; returns the ids of the instances to terminate, in order."""

ALL_TRAFFIC = 100
"""Weight of the only pool that serves; any weight above 0 does."""


def newest_not_ready_first(instances: Sequence[Instance], count: int, now: float) -> tuple[str, ...]:
    """Return the instances that do not serve yet, then the newest.

    Kubernetes: a ReplicaSet ranks pods by phase, readiness, then age, the newest first
    (https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-down). Ray Serve and SkyServe do the
    same.
    """
    ranked = sorted(instances, key=lambda i: (i.phase is Phase.READY, -i.since, i.id))
    return tuple(i.id for i in ranked[:count])


def closest_to_the_hour_in_the_fullest_zone(instances: Sequence[Instance], count: int, now: float) -> tuple[str, ...]:
    """Return the instances that EC2's default termination policy chooses.

    From the zone with the most instances it takes the one whose next full hour is nearest
    (https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html). The rule's
    middle part, the oldest launch template, never decides here, since all instances have the same. Instances that are
    not in service yet go last, since a group does not scale in while they start.
    """
    left = sorted(instances, key=lambda i: (i.phase is Phase.STARTING, math.fmod(i.since - now, 3600.0) % 3600.0, i.id))
    zones = [i.zone for i in left]
    chosen: list[str] = []
    for _ in range(min(count, len(left))):
        fullest = max(zones, key=zones.count)
        place = zones.index(fullest)
        chosen.append(left.pop(place).id)
        zones.pop(place)
    return tuple(chosen)


@dataclass(frozen=True, slots=True)
class RivalPool:
    """The one pool that a rival scales. The service's other pools keep their minimum, since a rival knows no mix."""

    pool: Pool
    at_least: int
    at_most: int
    termination: TerminationPolicy

    @classmethod
    def of(cls, service: Service, pool: str, termination: TerminationPolicy, *, can_sleep: bool) -> Self:
        """Return the pool with its bounds; the service's floor holds for a rival too. Raises ValueError if unknown.

        `can_sleep` says whether the rule can come back from zero instances.
        """
        for found in service.pools:
            if found.name == pool:
                at_least = max(found.min_instances, service.policy.availability.min_instances, 0 if can_sleep else 1)
                return cls(found, min(at_least, found.max_instances), found.max_instances, termination)
        raise ValueError(f"pool: must be one of {', '.join(p.name for p in service.pools)} (got {pool})")

    def observed(self, observation: Observation) -> PoolObservation:
        """Return the observation of this pool."""
        return observation.pools[self.pool.name]

    def clip(self, desired: float) -> int:
        """Return the count within the pool's bounds."""
        return max(self.at_least, min(self.at_most, int(desired)))

    def targets(self, service: Service, observation: Observation, desired: int, now: float) -> dict[str, PoolTarget]:
        """Return all traffic to this pool at that size; the others get their minimum, below which AWS would refuse."""
        targets: dict[str, PoolTarget] = {}
        for pool in service.pools:
            is_scaled = pool.name == self.pool.name
            count = self.clip(desired) if is_scaled else pool.min_instances
            running = [i for i in observation.pools[pool.name].instances if i.phase is not Phase.DRAINING]
            terminated = self.termination(running, max(0, len(running) - count), now)
            targets[pool.name] = PoolTarget(count, ALL_TRAFFIC if is_scaled else 0, terminated)
        return targets
