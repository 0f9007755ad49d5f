"""Knative's pod autoscaler (KPA), on concurrency or on requests per second.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go (Scale) and pkg/autoscaler/config/config.go (defaults):
stable window 60 s, panic window a tenth of it, panic from 200 % of what is ready, growth to at most 1000 times and
shrinking to at least half of what is ready, target utilisation 70 %. Knative ticks each 2 s; here each 10 s, since no
metric of the observation is newer than that and in between nothing changes but the bound on shrinking.

Concurrency counts what waits as well, as the activator and the queue proxy do. The stable window is the reading itself,
a minute's mean. The panic window is what the observation has of the newest 10 s: the burst's excess over the minute's
arrivals (times 10 s, where it is concurrency: what piled up) comes on top. From zero: a request that finds no pod is
held by the activator and is itself concurrency of at least 1; the observation shows it as a rejected request. To zero
after a whole stable window without a request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.contender import RivalPool, in_phase, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import ReadyThen, Signal, arrivals, concurrency, fresh
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.service import Service

STABLE_SECONDS = 60.0
NEWEST_SECONDS = 10.0
PANIC_THRESHOLD = 2.0
MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0


class KnativePodAutoscaler:
    """Pods for the mean concurrency of a minute, and at once for that of a few seconds when it doubles."""

    every_seconds = 10.0

    def __init__(self, service: Service, pool: str, target: float, signal: Signal = Signal.CONCURRENCY) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=True)
        self.name = signal.names("kpa")
        self.target = target
        self.signal = signal
        self._then = ReadyThen()
        self._panic_at: float | None = None
        self._panic_pods = 0
        self._started = False

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Pods after this tick; without metrics nothing changes."""
        pool = self.group.seen(observation)
        standing = in_phase(pool, Phase.READY)
        ready = max(1, standing)
        if not self._started:
            self._started = True
            # A fresh autoscaler has no history: with more than one pod it starts in panic, which never shrinks.
            self._panic_at, self._panic_pods = (now if standing > 1 else None), standing
        held = fresh(service, observation.rejected_rps, now)
        if standing == 0 and held is not None and held.value > 0:
            return self.group.targets(service, observation, max(1, pool.desired), now)
        self._then.see(pool, now)
        if self.signal is Signal.CONCURRENCY:
            reading = self._then.total(pool, fresh(service, concurrency(service, pool), now))
        else:
            reading = fresh(service, arrivals(observation, pool), now)
        if reading is None:
            return self.group.targets(service, observation, pool.desired, now)
        least, most = math.floor(ready / MAX_DOWN_RATE), math.ceil(MAX_UP_RATE * ready)
        on_top = self._burst_rps(service, observation, now)
        if self.signal is Signal.CONCURRENCY:
            on_top *= NEWEST_SECONDS
        for_stable = math.ceil(reading.value / self.target - 1e-9)
        for_panic = math.ceil((reading.value + on_top) / self.target - 1e-9)
        desired = min(max(for_stable, least), most)
        if for_panic / ready >= PANIC_THRESHOLD:
            self._panic_at = now
        elif self._panic_at is not None and now - self._panic_at > STABLE_SECONDS:
            self._panic_at, self._panic_pods = None, 0
        if self._panic_at is not None:
            self._panic_pods = max(self._panic_pods, desired, min(max(for_panic, least), most))
            desired = self._panic_pods
        return self.group.targets(service, observation, desired, now)

    @staticmethod
    def _burst_rps(service: Service, observation: Observation, now: float) -> float:
        burst = fresh(service, observation.burst_rps, now)
        minute = fresh(service, observation.arrivals_rps, now)
        return max(0.0, burst.value - minute.value) if burst is not None and minute is not None else 0.0
