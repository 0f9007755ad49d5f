"""Static peak: as many instances as the busiest minute needs, all the time. What a team without an autoscaler has."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.contender import RivalPool, newest_not_ready_first
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Pool, Service


def instances_for(rate_rps: float, pool: Pool, share: float) -> int:
    """Instances that carry this rate of typical requests when each is filled to `share` of its capacity.

    Raises ValueError for a share that is not above 0.
    """
    if share <= 0:
        raise ValueError(f"share: must be above 0 (got {share})")
    return math.ceil(rate_rps / (share * pool.throughput_rps) - 1e-9)


class StaticPeak:
    """A fixed count."""

    name = "static-peak"
    every_seconds = 60.0

    def __init__(self, service: Service, pool: str, count: int) -> None:
        if count < 0:
            raise ValueError(f"count: must not be negative (got {count})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=True)
        self.count = self.group.clip(count)
        """What stands all the time: a run should start with it."""

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """The count, within the pool's bounds."""
        return self.group.targets(service, observation, self.count, now)
