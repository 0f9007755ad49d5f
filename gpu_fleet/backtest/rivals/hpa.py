"""The Kubernetes Horizontal Pod Autoscaler, autoscaling/v2, on a metric per pod.

Source: kubernetes/kubernetes pkg/controller/podautoscaler/replica_calculator.go (calcPlainMetricReplicas) and
horizontal.go (stabilizeRecommendationWithBehaviors, convertDesiredReplicasWithBehaviorRate); defaults from
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/: every 15 s, tolerance 0.1, scale-down
stabilisation 300 s, scaleUp the greater of 4 pods and 100 % per 15 s without stabilisation, scaleDown 100 % per 15 s.

Pods are instances here. One that starts is a pending pod: it counts as 0 when scaling up and not at all when scaling
down. One that fails its checks, or became ready after the metric was measured, is a pod without metrics: 0 when scaling
up, exactly at its target when scaling down.
The metric is what GKE's and vLLM's guides scale language models on, requests in the engine per pod
(https://docs.cloud.google.com/kubernetes-engine/docs/best-practices/machine-learning/inference/autoscaling: batch and
queue size). At least one pod stands, since scaling to zero needs a feature gate that is off by default.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from gpu_fleet.backtest.contender import RivalPool, in_phase, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import ReadyThen, Signal, fresh, per_instance
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.service import Service

TOLERANCE = 0.1
STABILIZATION_SECONDS = 300.0
UP_PERIOD_SECONDS = 15.0
UP_PODS = 4
UP_PERCENT = 100.0


class HorizontalPodAutoscaler:
    """Pods in proportion to a metric per pod."""

    every_seconds = 15.0

    def __init__(self, service: Service, pool: str, target: float, signal: Signal = Signal.CONCURRENCY) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=False)
        self.target = target
        self.signal = signal
        self.name = signal.names("hpa")
        self._then = ReadyThen()
        self._recommended: deque[tuple[float, int]] = deque()
        self._added: deque[tuple[float, int]] = deque()
        self._removed: deque[tuple[float, int]] = deque()

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Replicas after this sync; without metrics nothing changes."""
        pool = self.group.seen(observation)
        current = pool.desired
        desired = current
        if not self._recommended:
            # The controller's first recommendation for an autoscaler is what it finds.
            self._recommended.append((now, current))
        reading = fresh(service, per_instance(service, pool, self.signal), now)
        self._then.see(pool, now)
        standing = in_phase(pool, Phase.READY)
        measured = 0 if reading is None else min(standing, self._then.at(reading))
        if current == 0:
            desired = self.group.least
        elif reading is not None and measured > 0:
            wanted = replicas(
                current,
                ready=measured,
                pending=in_phase(pool, Phase.STARTING),
                missing=in_phase(pool, Phase.UNHEALTHY) + standing - measured,
                usage=reading.value / self.target,
            )
            desired = self._limited(current, self._stabilized(current, wanted, now), now)
        desired = self.group.clip(desired)
        if desired != current:
            (self._added if desired > current else self._removed).append((now, abs(desired - current)))
        return self.group.targets(service, observation, desired, now)

    def _stabilized(self, current: int, wanted: int, now: float) -> int:
        """Down to the highest recommendation of the last 300 s; up at once, since its window is 0 s."""
        while self._recommended and self._recommended[0][0] <= now - STABILIZATION_SECONDS:
            self._recommended.popleft()
        highest = max((count for _, count in self._recommended), default=wanted)
        self._recommended.append((now, wanted))
        return min(max(current, wanted), max(highest, wanted))

    def _limited(self, current: int, wanted: int, now: float) -> int:
        """Growth counts from what stood 15 s ago. Shrinking by 100 % per 15 s is no limit."""
        for events in (self._added, self._removed):
            while events and events[0][0] <= now - UP_PERIOD_SECONDS:
                events.popleft()
        if wanted <= current:
            return wanted
        start = current - sum(count for _, count in self._added) + sum(count for _, count in self._removed)
        limit = max(start + UP_PODS, math.ceil(start * (1 + UP_PERCENT / 100)))
        return min(wanted, max(limit, current))


def replicas(current: int, *, ready: int, pending: int, missing: int, usage: float) -> int:
    """`calcPlainMetricReplicas`: `usage` is the ready pods' mean metric over its target."""
    rebalance = pending > 0 and usage > 1
    if not rebalance and missing == 0:
        return current if abs(1 - usage) <= TOLERANCE else math.ceil(usage * ready - 1e-9)
    counted = ready + missing + (pending if rebalance else 0)
    total = usage * ready + (missing if usage < 1 else 0)
    again = total / counted
    if abs(1 - again) <= TOLERANCE or (usage < 1 < again) or (again < 1 < usage):
        return current
    wanted = math.ceil(total - 1e-9)
    reverses = (again < 1 and wanted > current) or (again > 1 and wanted < current)
    return current if reverses else wanted
