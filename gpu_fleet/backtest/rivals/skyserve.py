"""SkyPilot SkyServe's request-rate autoscaler.

Source: skypilot 0.14.1, sky/serve/autoscalers.py (RequestRateAutoscaler) and sky/serve/constants.py: requests of the
last 60 s over the target QPS per replica, rounded up; every 20 s (5 s with no replica); growth after 15 such decisions
in a row (300 s), shrinking after 60 (1200 s); one decision for no change, or for the other direction, starts the count
anew; from zero at once. The rate is the load balancer's, requests that found no replica included.

What it does not know, it does not decide: without a rate nothing changes and nothing is counted (SkyServe's own load
balancer counts in the same machine and cannot miss one).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.contender import RivalPool, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import arrivals, fresh
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service

DECISION_SECONDS = 20.0
NO_REPLICA_DECISION_SECONDS = 5.0
UPSCALE_DECISIONS = 15
DOWNSCALE_DECISIONS = 60


class SkyServe:
    """Replicas for the request rate, once enough decisions in a row agree on the direction."""

    name = "skyserve"

    def __init__(self, service: Service, pool: str, target: float) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=True)
        self.target = target
        """Requests per second per replica."""
        self._replicas: int | None = None
        self._up = 0
        self._down = 0

    @property
    def every_seconds(self) -> float:
        """Time to the next decision."""
        return NO_REPLICA_DECISION_SECONDS if self._replicas == 0 else DECISION_SECONDS

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Replicas after this decision."""
        pool = self.group.seen(observation)
        if self._replicas is None:
            self._replicas = self.group.clip(pool.desired)
        reading = fresh(service, arrivals(observation, pool), now)
        if reading is not None:
            self._count(self.group.clip(math.ceil(reading.value / self.target - 1e-9)))
        return self.group.targets(service, observation, self._replicas, now)

    def _count(self, wanted: int) -> None:
        if self._replicas is None or self._replicas in {0, wanted}:
            self._replicas, self._up, self._down = wanted, 0, 0
        elif wanted > self._replicas:
            self._up, self._down = self._up + 1, 0
            if self._up >= UPSCALE_DECISIONS:
                self._replicas, self._up = wanted, 0
        else:
            self._up, self._down = 0, self._down + 1
            if self._down >= DOWNSCALE_DECISIONS:
                self._replicas, self._down = wanted, 0
