"""Static peak: always the instances that the busiest minute needs, as a team without an autoscaler has them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, newest_not_ready_first
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Pool, Service


def instances_for(rate_rps: float, pool: Pool, share: float) -> int:
    """Return the instances that carry this rate of typical requests, each filled to `share` of its capacity.

    Raises ValueError for a share that is not above 0.
    """
    if share <= 0:
        raise ValueError(f"share: must be above 0 (got {share})")
    return math.ceil(rate_rps / (share * pool.throughput_rps) - 1e-9)


class StaticPeak:
    """Keeps a fixed count."""

    name = "static-peak"
    every_seconds = 60.0

    def __init__(self, service: Service, pool: str, count: int) -> None:
        if count < 0:
            raise ValueError(f"count: must not be negative (got {count})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=True)
        self.count = self.group.clip(count)
        """The count at all times; a run should start with it."""

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the count, within the pool's bounds."""
        return self.group.targets(service, observation, self.count, now)
