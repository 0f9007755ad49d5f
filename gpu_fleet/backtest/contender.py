"""What takes part in a comparison, and the one group of instances that a rival scales.

A contender gets what the scaler gets, no more and no earlier, and answers with what the scaler answers. It keeps its
own memory: a fresh object per run, and time only as an argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation
from gpu_fleet.scaling.service import Pool, Service

Leaving = Callable[[Sequence[Instance], int, float], tuple[str, ...]]
"""Which of these instances go when so many must, at that time: the order in which they go."""

ALL_TRAFFIC = 100
"""Weight of the only pool that serves; any weight above 0 does."""


class Contender(Protocol):
    """A rule that sets the size of a service."""

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def every_seconds(self) -> float:
        """Time between two calls of `decide`, as the rule's own controller has it."""
        ...

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Counts and weights for every pool of the service. `now` in seconds since the epoch (UTC)."""
        ...


def newest_not_ready_first(instances: Sequence[Instance], count: int, now: float) -> tuple[str, ...]:
    """Those that do not serve yet, then the newest.

    Kubernetes: a ReplicaSet ranks pods by phase, readiness, then age, the newest first
    (https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-down); Ray Serve and SkyServe the
    same.
    """
    ranked = sorted(instances, key=lambda i: (i.phase is Phase.READY, -i.since, i.id))
    return tuple(i.id for i in ranked[:count])


def closest_to_the_hour_in_the_fullest_zone(instances: Sequence[Instance], count: int, now: float) -> tuple[str, ...]:
    """EC2's default termination policy: the zone with the most instances, there the one whose next full hour is
    nearest.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html; the rule's middle
    part, the oldest launch template, never decides here since all have the same. Instances that are not in service yet
    go last, since a group does not scale in while they start.
    """
    left = sorted(instances, key=lambda i: (i.phase is Phase.STARTING, math.fmod(i.since - now, 3600.0) % 3600.0, i.id))
    zones = [i.zone for i in left]
    taken: list[str] = []
    for _ in range(min(count, len(left))):
        fullest = max(zones, key=zones.count)
        place = zones.index(fullest)
        taken.append(left.pop(place).id)
        zones.pop(place)
    return tuple(taken)


@dataclass(frozen=True, slots=True)
class RivalPool:
    """The one pool that a rival scales; the service's others are left at their minimum, for it knows of no mix."""

    pool: Pool
    least: int
    most: int
    leaving: Leaving

    @classmethod
    def of(cls, service: Service, pool: str, leaving: Leaving, *, can_sleep: bool) -> Self:
        """The pool with its bounds: the service's floor holds for the rival too. Raises ValueError for an unknown pool.

        `can_sleep` says whether the rule knows how to come back from zero.
        """
        for candidate in service.pools:
            if candidate.name == pool:
                least = max(candidate.min_instances, service.policy.availability.min_instances, 0 if can_sleep else 1)
                return cls(candidate, min(least, candidate.max_instances), candidate.max_instances, leaving)
        raise ValueError(f"pool: must be one of {', '.join(p.name for p in service.pools)} (got {pool})")

    def seen(self, observation: Observation) -> PoolObservation:
        """What was observed of the pool."""
        return observation.pools[self.pool.name]

    def clip(self, desired: float) -> int:
        """Within the pool's bounds."""
        return max(self.least, min(self.most, int(desired)))

    def targets(self, service: Service, observation: Observation, desired: int, now: float) -> dict[str, PoolTarget]:
        """All traffic to this pool at that size; the others at their minimum, below which AWS would refuse."""
        targets: dict[str, PoolTarget] = {}
        for pool in service.pools:
            mine = pool.name == self.pool.name
            count = self.clip(desired) if mine else pool.min_instances
            standing = [i for i in observation.pools[pool.name].instances if i.phase is not Phase.DRAINING]
            take = self.leaving(standing, max(0, len(standing) - count), now)
            targets[pool.name] = PoolTarget(count, ALL_TRAFFIC if mine else 0, take)
        return targets


def in_phase(pool: PoolObservation, *phases: Phase) -> int:
    """How many instances are in one of these phases."""
    return sum(instance.phase in phases for instance in pool.instances)
