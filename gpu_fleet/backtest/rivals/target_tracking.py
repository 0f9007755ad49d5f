"""EC2 Auto Scaling's target tracking.

Documented [doc] (https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-target-tracking.html):
- it keeps a utilisation metric near a target by two CloudWatch alarms that it makes itself;
- it scales out in proportion to the metric, rounding up; in more gradually, rounding the number removed down;
- instances in their warmup are not part of the current capacity when it scales out; terminating ones are when it
  scales in; no scale-in while a scale-out is in progress;
- without an instance warmup of its own, the default cooldown of 300 s is the warmup (PutScalingPolicy,
  EstimatedInstanceWarmup); it starts when the instance comes into service;
- too little data never scales in;
- an alarm's Auto Scaling action is repeated each period while the alarm lasts
  (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html).
Observed [obs], in many accounts' consoles and write-ups, not in a page of AWS:
- AlarmHigh: 3 of 3 minutes above the target; AlarmLow: 15 of 15 minutes below 0.9 times the target (below 0.7 times
  for EC2's CPU metric). Since 2024 newer groups may tune this themselves; how is not documented.
Ours, where nothing is known, in the rival's favour:
- how much is removed is computed from a minute that lies wholly after the last change: with metrics a minute or two
  late the repeated action would otherwise take the same instances away twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.backtest.contender import RivalPool, closest_to_the_hour_in_the_fullest_zone, in_phase
from gpu_fleet.backtest.rivals.rival_signals import Periods, Signal, fresh, per_instance
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.service import Service

PERIOD_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class AlarmTiming:
    """When the two alarms fire."""

    high_minutes: int = 3
    low_minutes: int = 15
    low_fraction: float = 0.9
    """The low alarm's threshold, as a part of the target."""


CPU_LIKE = AlarmTiming(low_fraction=0.7)
"""As observed on EC2's own CPU metric; taken for GPU utilisation too, which is a percentage like it."""


class TargetTracking:
    """Keeps a metric per instance at a target."""

    every_seconds = PERIOD_SECONDS

    def __init__(
        self,
        service: Service,
        pool: str,
        target: float,
        signal: Signal = Signal.CONCURRENCY,
        *,
        alarms: AlarmTiming | None = None,
        warmup_seconds: float = 300.0,
    ) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.name = signal.names("target-tracking")
        self.group = RivalPool.of(service, pool, closest_to_the_hour_in_the_fullest_zone, can_sleep=False)
        self.target = target
        self.signal = signal
        self.alarms = alarms or (CPU_LIKE if signal is Signal.GPU else AlarmTiming())
        self._warmup = Warmup(warmup_seconds)
        self._minutes = Periods(PERIOD_SECONDS, max(self.alarms.high_minutes, self.alarms.low_minutes))
        self._changed_at = float("-inf")

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """The group's desired capacity after this minute's alarms."""
        return self.group.targets(service, observation, self.desired(service, observation, now), now)

    def desired(self, service: Service, observation: Observation, now: float) -> int:
        """The same, as one number."""
        pool = self.group.seen(observation)
        reading = fresh(service, per_instance(service, pool, self.signal), now)
        self._minutes.see(reading)
        warm, arriving = self._warmup.count(pool, now)
        wanted = pool.desired
        if reading is not None:
            high = self._minutes.newest(self.alarms.high_minutes)
            low = self._minutes.newest(self.alarms.low_minutes)
            if high and all(point.value > self.target for point in high):
                wanted = max(wanted, proportional(warm, high[-1].value, self.target))
            elif (
                low
                and all(point.value < self.alarms.low_fraction * self.target for point in low)
                and arriving == 0
                and low[-1].at - PERIOD_SECONDS >= self._changed_at
            ):
                current = in_phase(pool, Phase.READY, Phase.UNHEALTHY, Phase.DRAINING)
                wanted = min(wanted, proportional(current, low[-1].value, self.target))
        wanted = self.group.clip(wanted)
        if wanted != pool.desired:
            self._changed_at = now
        return wanted


class Warmup:
    """Which instances count: those in service for at least the warmup, and those that stood when the rule came."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._stood: frozenset[str] | None = None

    def count(self, pool: PoolObservation, now: float) -> tuple[int, int]:
        """(warm, still to come or warming) of this pool."""
        ready = [instance for instance in pool.instances if instance.phase is Phase.READY]
        if self._stood is None:
            self._stood = frozenset(instance.id for instance in ready)
        warm = sum(i.id in self._stood or i.ready_at is None or now - i.ready_at >= self._seconds for i in ready)
        return warm, len(ready) - warm + in_phase(pool, Phase.STARTING)


def proportional(current: int, value: float, target: float) -> int:
    """Instances that bring the metric to the target, rounded up: 1.5 too few adds 2, 1.5 too many takes 1."""
    return math.ceil(current * value / target - 1e-9)
