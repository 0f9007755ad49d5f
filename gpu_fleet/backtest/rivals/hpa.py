"""The Kubernetes Horizontal Pod Autoscaler, autoscaling/v2, on a metric per pod.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go (calcPlainMetricReplicas) and
horizontal.go (stabilizeRecommendationWithBehaviors, convertDesiredReplicasWithBehaviorRate); defaults from
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/: every 15 s, tolerance 0.1, scale-down
stabilisation 300 s, scaleUp the greater of 4 pods and 100 % per 15 s without stabilisation, scaleDown 100 % per 15 s.

Instances take the place of pods. A starting instance is a pending pod: it counts as 0 when scaling up and is ignored
when scaling down. An instance that fails its checks, or became ready after the metric was measured, is a pod without
metrics: it counts as 0 when scaling up and as exactly at its target when scaling down.

The metric is the one on which GKE's and vLLM's guides scale language models, requests in the engine per pod
(https://docs.cloud.google.com/kubernetes-engine/docs/best-practices/machine-learning/inference/autoscaling: batch and
queue size). At least one pod runs, since scaling to zero needs a feature gate that is off by default.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import ReadyHistory, Signal, fresh, per_instance
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.service import Service

TOLERANCE = 0.1
STABILIZATION_SECONDS = 300.0
UP_PERIOD_SECONDS = 15.0
UP_PODS = 4
UP_PERCENT = 100.0


class HorizontalPodAutoscaler:
    """Scales the number of pods in proportion to a metric per pod."""

    every_seconds = 15.0

    def __init__(self, service: Service, pool: str, target: float, signal: Signal = Signal.CONCURRENCY) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=False)
        self.target = target
        self.signal = signal
        self.name = signal.name_of("hpa")
        self._ready_history = ReadyHistory()
        self._recommended: deque[tuple[float, int]] = deque()
        self._added: deque[tuple[float, int]] = deque()
        self._removed: deque[tuple[float, int]] = deque()

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the replicas after this sync; without metrics nothing changes."""
        pool = self.group.observed(observation)
        current = pool.desired
        desired = current
        if not self._recommended:
            # The controller's first recommendation for an autoscaler is the current count.
            self._recommended.append((now, current))
        reading = fresh(service, per_instance(service, pool, self.signal), now)
        self._ready_history.see(pool, now)
        ready = pool.ready_count
        measured = 0 if reading is None else min(ready, self._ready_history.at(reading))
        if current == 0:
            desired = self.group.at_least
        elif reading is not None and measured > 0:
            recommended = replicas(
                current,
                ready=measured,
                pending=len(pool.those(Phase.STARTING)),
                missing=len(pool.those(Phase.UNHEALTHY)) + ready - measured,
                usage=reading.value / self.target,
            )
            desired = self._limited(current, self._stabilized(current, recommended, now), now)
        desired = self.group.clip(desired)
        if desired != current:
            (self._added if desired > current else self._removed).append((now, abs(desired - current)))
        return self.group.targets(service, observation, desired, now)

    def _stabilized(self, current: int, recommended: int, now: float) -> int:
        """Return the stabilised count: down to the highest recommendation of the last 300 s, up at once.

        The window for scaling up is 0 s.
        """
        while self._recommended and self._recommended[0][0] <= now - STABILIZATION_SECONDS:
            self._recommended.popleft()
        highest = max((count for _, count in self._recommended), default=recommended)
        self._recommended.append((now, recommended))
        return min(max(current, recommended), max(highest, recommended))

    def _limited(self, current: int, recommended: int, now: float) -> int:
        """Return the count within the growth limit, which starts from the count 15 s ago.

        Shrinking by 100 % per 15 s is no limit.
        """
        for events in (self._added, self._removed):
            while events and events[0][0] <= now - UP_PERIOD_SECONDS:
                events.popleft()
        if recommended <= current:
            return recommended
        start = current - sum(count for _, count in self._added) + sum(count for _, count in self._removed)
        limit = max(start + UP_PODS, math.ceil(start * (1 + UP_PERCENT / 100)))
        return min(recommended, max(limit, current))


def replicas(current: int, *, ready: int, pending: int, missing: int, usage: float) -> int:
    """Return `calcPlainMetricReplicas`; `usage` is the ready pods' mean metric over its target."""
    counts_pending = pending > 0 and usage > 1
    if not counts_pending and missing == 0:
        return current if abs(1 - usage) <= TOLERANCE else math.ceil(usage * ready - 1e-9)
    counted = ready + missing + (pending if counts_pending else 0)
    total = usage * ready + (missing if usage < 1 else 0)
    rebalanced = total / counted
    if abs(1 - rebalanced) <= TOLERANCE or (usage < 1 < rebalanced) or (rebalanced < 1 < usage):
        return current
    desired = math.ceil(total - 1e-9)
    reverses = (rebalanced < 1 and desired > current) or (rebalanced > 1 and desired < current)
    return current if reverses else desired
