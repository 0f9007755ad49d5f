"""EC2 Auto Scaling's step scaling, with the ladder of AWS's own example.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html [doc]: around a metric of 50 %,
nothing changes between 40 and 60; at 60 the group grows by 10 %, at 70 by 30 %; at 40 it shrinks by 10 %, at 30 by 30
%. So the ladder is given in multiples of its middle, which is the tuned target: 0.6, 0.8, 1.2 and 1.4 times. A
percentage is rounded towards zero, but to 1 if it is less. Warming instances do not count as capacity when it scales
out, and what they already add is not added again; no scale-in while a scale-out is in progress.

The alarms are the user's own. Out: 2 of 2 minutes (two evaluation periods, as in the page's commands). In: 15 of 15
minutes; this is ours, in the rival's favour: with 2 the group follows every dip and lacks instances for the next rise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.backtest.rivals.rival_pool import RivalPool, closest_to_the_hour_in_the_fullest_zone
from gpu_fleet.backtest.rivals.rival_signals import Periods, Signal, fresh, per_instance
from gpu_fleet.backtest.rivals.target_tracking import PERIOD_SECONDS, Warmup
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.service import Service


@dataclass(frozen=True, slots=True)
class StepAdjustment:
    """A change by `percent` from this multiple of the target on: upwards for growth, downwards for shrinking."""

    at: float
    percent: float


OUT = (StepAdjustment(1.2, 10.0), StepAdjustment(1.4, 30.0))
IN = (StepAdjustment(0.8, -10.0), StepAdjustment(0.6, -30.0))


OUT_MINUTES = 2
IN_MINUTES = 15


class StepScaling:
    """Changes the group by a percentage that depends on the distance of the metric from its target."""

    every_seconds = PERIOD_SECONDS

    def __init__(self, service: Service, pool: str, target: float, signal: Signal = Signal.CONCURRENCY) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, closest_to_the_hour_in_the_fullest_zone, can_sleep=False)
        self.target = target
        self.signal = signal
        self.name = signal.name_of("step-scaling")
        self._warmup = Warmup()
        self._minutes = Periods(PERIOD_SECONDS, IN_MINUTES)

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the group's desired capacity after this minute's alarms."""
        pool = self.group.observed(observation)
        reading = fresh(service, per_instance(service, pool, self.signal), now)
        self._minutes.see(reading)
        warm, arriving = self._warmup.count(pool, now)
        desired = pool.desired
        if reading is not None:
            high = self._minutes.newest(OUT_MINUTES)
            low = self._minutes.newest(IN_MINUTES)
            if high and all(point.value >= OUT[0].at * self.target for point in high):
                percent = [step.percent for step in OUT if high[-1].value >= step.at * self.target][-1]
                desired = max(desired, warm + change(warm, percent))
            elif low and arriving == 0 and all(point.value <= IN[0].at * self.target for point in low):
                percent = [step.percent for step in IN if low[-1].value <= step.at * self.target][-1]
                current = len(pool.those(Phase.READY, Phase.UNHEALTHY, Phase.DRAINING))
                desired = min(desired, current + change(current, percent))
        return self.group.targets(service, observation, self.group.clip(desired), now)


def change(capacity: int, percent: float) -> int:
    """Return `PercentChangeInCapacity`: 12.7 is 12, 0.67 is 1, -0.58 is -1, -6.67 is -6."""
    exact = capacity * percent / 100
    if exact == 0:
        return 0
    return (1 if exact > 0 else -1) * max(1, int(abs(exact) + 1e-9))
