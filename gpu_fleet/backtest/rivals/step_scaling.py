"""EC2 Auto Scaling's step scaling, with the ladder of AWS's own example.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-scaling-simple-step.html [doc]: around a metric of 50 %,
nothing changes between 40 and 60; at 60 the group grows by 10 %, at 70 by 30 %; at 40 it shrinks by 10 %, at 30 by 30
%. So the ladder is written in parts of its middle, which is the target that is tuned: 0.6, 0.8, 1.2 and 1.4 times. A
percentage is rounded towards zero, but to 1 if it is less. Warming instances are not counted when it scales out, and
what they already add is not added again; no scale-in while a scale-out is in progress.

The alarms are the user's own. Out: 2 of 2 minutes (two evaluation periods, as in the page's commands). In: 15 of 15
minutes, ours, in the rival's favour: with 2 the group follows every dip and is short of instances for the next rise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpu_fleet.backtest.contender import RivalPool, closest_to_the_hour_in_the_fullest_zone, in_phase
from gpu_fleet.backtest.rivals.rival_signals import Periods, Signal, fresh, per_instance
from gpu_fleet.backtest.rivals.target_tracking import PERIOD_SECONDS, Warmup
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.service import Service


@dataclass(frozen=True, slots=True)
class StepAdjustment:
    """From this multiple of the target on (upwards for growth, downwards for shrinking), change by so many percent."""

    at: float
    percent: float


OUT = (StepAdjustment(1.2, 10.0), StepAdjustment(1.4, 30.0))
IN = (StepAdjustment(0.8, -10.0), StepAdjustment(0.6, -30.0))


class StepScaling:
    """Changes the group by a percentage that depends on how far the metric is off."""

    every_seconds = PERIOD_SECONDS

    def __init__(
        self,
        service: Service,
        pool: str,
        target: float,
        signal: Signal = Signal.CONCURRENCY,
        *,
        scale_out: Sequence[StepAdjustment] = OUT,
        scale_in: Sequence[StepAdjustment] = IN,
        out_minutes: int = 2,
        in_minutes: int = 15,
        warmup_seconds: float = 300.0,
    ) -> None:
        if target <= 0:
            raise ValueError(f"target: must be above 0 (got {target})")
        self.group = RivalPool.of(service, pool, closest_to_the_hour_in_the_fullest_zone, can_sleep=False)
        self.target = target
        self.signal = signal
        self.name = signal.names("step-scaling")
        self._warmup = Warmup(warmup_seconds)
        self._out = sorted(scale_out, key=lambda step: step.at)
        self._in = sorted(scale_in, key=lambda step: -step.at)
        self._out_minutes = out_minutes
        self._in_minutes = in_minutes
        self._minutes = Periods(PERIOD_SECONDS, max(out_minutes, in_minutes))

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """The group's desired capacity after this minute's alarms."""
        pool = self.group.seen(observation)
        reading = fresh(service, per_instance(service, pool, self.signal), now)
        self._minutes.see(reading)
        warm, arriving = self._warmup.count(pool, now)
        wanted = pool.desired
        if reading is not None:
            high = self._minutes.newest(self._out_minutes)
            low = self._minutes.newest(self._in_minutes)
            if high and all(point.value >= self._out[0].at * self.target for point in high):
                percent = [step.percent for step in self._out if high[-1].value >= step.at * self.target][-1]
                wanted = max(wanted, warm + change(warm, percent))
            elif low and arriving == 0 and all(point.value <= self._in[0].at * self.target for point in low):
                percent = [step.percent for step in self._in if low[-1].value <= step.at * self.target][-1]
                current = in_phase(pool, Phase.READY, Phase.UNHEALTHY, Phase.DRAINING)
                wanted = min(wanted, current + change(current, percent))
        return self.group.targets(service, observation, self.group.clip(wanted), now)


def change(capacity: int, percent: float) -> int:
    """`PercentChangeInCapacity`: 12.7 is 12, 0.67 is 1, -0.58 is -1, -6.67 is -6."""
    exact = capacity * percent / 100
    if exact == 0:
        return 0
    return (1 if exact > 0 else -1) * max(1, int(abs(exact) + 1e-9))
