"""EC2 Auto Scaling's target tracking.

Documented [doc] (https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html):
- it keeps a utilisation metric near a target with two CloudWatch alarms that it creates itself;
- it scales out in proportion to the metric, rounding up; it scales in more gradually, rounding the number removed down;
- when it scales out, instances in their warmup do not count as current capacity; when it scales in, terminating ones
  do; no scale-in while a scale-out is in progress;
- without an instance warmup of its own, the default cooldown of 300 s is the warmup (PutScalingPolicy,
  EstimatedInstanceWarmup); it starts when the instance comes into service;
- too little data never scales in;
- an alarm's Auto Scaling action is repeated every period while the alarm lasts
  (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html).

Observed [obs] in many accounts' consoles and write-ups, not in a page of AWS:
- AlarmHigh: 3 of 3 minutes above the target; AlarmLow: 15 of 15 minutes below 0.9 times the target (below 0.7 times
  for EC2's CPU metric). Since 2024 newer groups may tune this themselves; how is not documented.

Ours, for want of a source, in the rival's favour:
- the number removed is computed from a minute that lies wholly after the last change: with metrics a minute or two
  late, the repeated action would otherwise remove the same instances twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, closest_to_the_hour_in_the_fullest_zone
from gpu_fleet.backtest.rivals.rival_signals import Periods, Signal, fresh, per_instance
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.service import Service

PERIOD_SECONDS = 60.0
HIGH_MINUTES = 3
LOW_MINUTES = 15
LOW_FRACTION = 0.9
"""Threshold of the low alarm, as a fraction of the target."""
GPU_LOW_FRACTION = 0.7
"""As observed on EC2's own CPU metric; used for GPU utilisation too, which is also a percentage."""
WARMUP_SECONDS = 300.0


class TargetTracking:
    """Keeps a metric per instance at a target."""

    every_seconds = PERIOD_SECONDS

    def __init__(self, service: Service, pool: str, target: float, signal: Signal = Signal.CONCURRENCY) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.name = signal.name_of("target-tracking")
        self.group = RivalPool.of(service, pool, closest_to_the_hour_in_the_fullest_zone, can_sleep=False)
        self.target = target
        self.signal = signal
        self._low = target * (GPU_LOW_FRACTION if signal is Signal.GPU else LOW_FRACTION)
        self._warmup = Warmup()
        self._minutes = Periods(PERIOD_SECONDS, LOW_MINUTES)
        self._changed_at = float("-inf")

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the group's desired capacity after this minute's alarms."""
        return self.group.targets(service, observation, self.desired(service, observation, now), now)

    def desired(self, service: Service, observation: Observation, now: float) -> int:
        """Return the same as a number."""
        pool = self.group.observed(observation)
        reading = fresh(service, per_instance(service, pool, self.signal), now)
        self._minutes.see(reading)
        warm, arriving = self._warmup.count(pool, now)
        desired = pool.desired
        if reading is not None:
            high = self._minutes.newest(HIGH_MINUTES)
            low = self._minutes.newest(LOW_MINUTES)
            if high and all(point.value > self.target for point in high):
                desired = max(desired, proportional(warm, high[-1].value, self.target))
            elif (
                low
                and all(point.value < self._low for point in low)
                and arriving == 0
                and low[-1].at - PERIOD_SECONDS >= self._changed_at
            ):
                current = len(pool.those(Phase.READY, Phase.UNHEALTHY, Phase.DRAINING))
                desired = min(desired, proportional(current, low[-1].value, self.target))
        desired = self.group.clip(desired)
        if desired != pool.desired:
            self._changed_at = now
        return desired


class Warmup:
    """Tells warm instances: in service for at least the warmup, or already ready when the rule first looked."""

    def __init__(self) -> None:
        self._ready_at_first: frozenset[str] | None = None

    def count(self, pool: PoolObservation, now: float) -> tuple[int, int]:
        """Return the pool's warm instances, and those that start or warm up."""
        ready = pool.those(Phase.READY)
        if self._ready_at_first is None:
            self._ready_at_first = frozenset(instance.id for instance in ready)
        warm = sum(
            i.id in self._ready_at_first or i.ready_at is None or now - i.ready_at >= WARMUP_SECONDS for i in ready
        )
        return warm, len(ready) - warm + len(pool.those(Phase.STARTING))


def proportional(current: int, value: float, target: float) -> int:
    """Return the instances that bring the metric to the target, rounded up: 1.5 too few adds 2, too many removes 1."""
    return math.ceil(current * value / target - 1e-9)
