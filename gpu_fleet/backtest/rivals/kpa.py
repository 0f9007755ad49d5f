"""Knative's pod autoscaler (KPA), on concurrency or on requests per second.

Source: knative/serving pkg/autoscaler/scaling/autoscaler.go (Scale) and pkg/autoscaler/config/config.go (defaults):
stable window 60 s, panic window a tenth of it, panic from 200 % of the ready pods, growth to at most 1000 times and
shrinking to at least half of the ready pods, target utilisation 70 %. Knative ticks every 2 s. Here it ticks every
10 s, since no metric of the observation is newer, and in between only the bound on shrinking would change.

Concurrency includes waiting requests, as in the activator and the queue proxy. The stable window is the reading itself,
a minute's mean. The panic window adds what the observation knows of the newest 10 s: the burst's excess over the
minute's arrivals (times 10 s if the signal is concurrency, since those requests piled up). From zero: the activator
holds a request that finds no pod, which makes a concurrency of at least 1; the observation shows it as a rejected
request. To zero after a whole stable window without a request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, newest_not_ready_first
from gpu_fleet.backtest.rivals.rival_signals import ReadyHistory, Signal, arrivals, concurrency, fresh
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service

STABLE_SECONDS = 60.0
NEWEST_SECONDS = 10.0
PANIC_THRESHOLD = 2.0
MAX_UP_RATE = 1000.0
MAX_DOWN_RATE = 2.0


class KnativePodAutoscaler:
    """Scales the pods to a minute's mean of the signal, and at once to that of a few seconds when it doubles."""

    every_seconds = 10.0

    def __init__(self, service: Service, pool: str, target: float, signal: Signal = Signal.CONCURRENCY) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, newest_not_ready_first, can_sleep=True)
        self.name = signal.name_of("kpa")
        self.target = target
        self.signal = signal
        self._ready_history = ReadyHistory()
        self._panic_at: float | None = None
        self._panic_pods = 0
        self._started = False

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the pods after this tick; without metrics nothing changes."""
        pool = self.group.observed(observation)
        ready = pool.ready_count
        if not self._started:
            self._started = True
            # A fresh autoscaler has no history: with more than one pod it starts in panic, which never shrinks.
            self._panic_at, self._panic_pods = (now if ready > 1 else None), ready
        rejected = fresh(service, observation.rejected_rps, now)
        if ready == 0 and rejected is not None and rejected.value > 0:
            return self.group.targets(service, observation, max(1, pool.desired), now)
        self._ready_history.see(pool, now)
        if self.signal is Signal.CONCURRENCY:
            reading = self._ready_history.total(pool, fresh(service, concurrency(service, pool), now))
        else:
            reading = fresh(service, arrivals(observation, pool), now)
        if reading is None:
            return self.group.targets(service, observation, pool.desired, now)
        excess = self._burst_rps(service, observation, now)
        if self.signal is Signal.CONCURRENCY:
            excess *= NEWEST_SECONDS
        for_stable = math.ceil(reading.value / self.target - 1e-9)
        for_panic = math.ceil((reading.value + excess) / self.target - 1e-9)
        desired = self._after_panic(for_stable, for_panic, max(1, ready), now)
        return self.group.targets(service, observation, desired, now)

    def _after_panic(self, for_stable: int, for_panic: int, ready: int, now: float) -> int:
        """Return the stable window's pods; in panic, the most pods since it began."""
        at_least, at_most = math.floor(ready / MAX_DOWN_RATE), math.ceil(MAX_UP_RATE * ready)
        desired = min(max(for_stable, at_least), at_most)
        if for_panic / ready >= PANIC_THRESHOLD:
            self._panic_at = now
        elif self._panic_at is not None and now - self._panic_at > STABLE_SECONDS:
            self._panic_at, self._panic_pods = None, 0
        if self._panic_at is not None:
            self._panic_pods = max(self._panic_pods, desired, min(max(for_panic, at_least), at_most))
            desired = self._panic_pods
        return desired

    @staticmethod
    def _burst_rps(service: Service, observation: Observation, now: float) -> float:
        """Return the excess of the newest arrivals over the minute's mean, both as the engines count them."""
        burst = fresh(service, observation.burst_rps, now)
        minute = fresh(service, observation.matched_rps or observation.engine_rps, now)
        return max(0.0, burst.value - minute.value) if burst is not None and minute is not None else 0.0
