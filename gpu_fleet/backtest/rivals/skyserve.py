"""SkyPilot SkyServe's request-rate autoscaler.

Source: skypilot 0.14.1, sky/serve/autoscalers.py (RequestRateAutoscaler) and sky/serve/constants.py: requests of the
last 60 s over the target QPS per replica, rounded up; every 20 s (5 s without a replica); growth after 15 such
decisions in a row (300 s), shrinking after 60 (1200 s); a decision for no change, or in the other direction, restarts
the count; from zero at once. The rate is the load balancer's, requests that found no replica included.

Without a rate nothing changes and nothing is counted. (SkyServe's own load balancer counts on the same machine and
cannot miss a rate.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import arrivals, fresh
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service

DECISION_SECONDS = 20.0
NO_REPLICA_DECISION_SECONDS = 5.0
UPSCALE_DECISIONS = 15
DOWNSCALE_DECISIONS = 60


class SkyServe:
    """Scales the replicas to the request rate, once enough decisions in a row agree on the direction."""

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
        """Return the time to the next decision."""
        return NO_REPLICA_DECISION_SECONDS if self._replicas == 0 else DECISION_SECONDS

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the replicas after this decision."""
        pool = self.group.observed(observation)
        if self._replicas is None:
            self._replicas = self.group.clip(pool.desired)
        reading = fresh(service, arrivals(observation, pool), now)
        if reading is not None:
            self._count(self.group.clip(math.ceil(reading.value / self.target - 1e-9)))
        return self.group.targets(service, observation, self._replicas, now)

    def _count(self, desired: int) -> None:
        """Count a decision, and change the replicas after enough in one direction."""
        if self._replicas is None or self._replicas in {0, desired}:
            self._replicas, self._up, self._down = desired, 0, 0
        elif desired > self._replicas:
            self._up, self._down = self._up + 1, 0
            if self._up >= UPSCALE_DECISIONS:
                self._replicas, self._up = desired, 0
        else:
            self._up, self._down = 0, self._down + 1
            if self._down >= DOWNSCALE_DECISIONS:
                self._replicas, self._down = desired, 0
