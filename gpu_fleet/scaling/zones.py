"""Where a service's instances stand, and how many zones must stay occupied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from gpu_fleet.scaling.observation import Instance, Phase, PoolObservation
from gpu_fleet.scaling.service import Pool


def zones_of(pool: Pool, seen: PoolObservation) -> tuple[str, ...]:
    """The pool's zones: as written, else its group's own; empty where neither is known."""
    return pool.zones or seen.zones


@dataclass(frozen=True, slots=True)
class Zones:
    """The zones of a service's instances, over all its pools."""

    least: int
    """`availability.min_zones`; 0 for a service that sleeps."""
    ready: Mapping[str, int]
    """READY instances of each zone."""
    alive: Mapping[str, int]
    """READY and STARTING ones."""

    @classmethod
    def of(cls, least: int, views: Iterable[PoolObservation]) -> Self:
        """The zones of these pools."""
        pools = list(views)
        ready = Counter([i.zone for view in pools for i in view.those(Phase.READY)])
        starting = Counter([i.zone for view in pools for i in view.those(Phase.STARTING)])
        return cls(least, ready, ready + starting)

    def needs(self, instance: Instance) -> bool:
        """Whether the floor of zones depends on it: the last of its zone, with no zone to spare."""
        if instance.phase not in {Phase.READY, Phase.STARTING}:
            return False
        standing = self.ready if instance.phase is Phase.READY else self.alive
        return standing.get(instance.zone, 0) <= 1 and len(standing) <= self.least

    def without(self, *gone: Instance) -> Zones:
        """The zones after these have gone."""
        ready = _less(self.ready, [i.zone for i in gone if i.phase is Phase.READY])
        return Zones(self.least, ready, _less(self.alive, [i.zone for i in gone if i.phase is not Phase.UNHEALTHY]))


def _less(counts: Mapping[str, int], zones: Sequence[str]) -> Mapping[str, int]:
    return {name: count - zones.count(name) for name, count in counts.items() if count > zones.count(name)}
