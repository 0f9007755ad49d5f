"""EC2 Auto Scaling's predictive scaling, together with target tracking as AWS advises.

Documented [doc] (https://docs.aws.amazon.com/autoscaling/ec2/userguide/predictive-scaling-policy-overview.html):
- the forecast needs at least 24 hours of data, looks at up to 14 days, gives a capacity for each of the next 48 hours,
  and is renewed every 6 hours;
- it only scales out; a dynamic policy scales in; if both are active, the greater capacity wins;
- the capacity of an hour is in place at the start of the hour, launched earlier by SchedulingBufferTime (default 300 s,
  below 3600 s); the group's maximum holds (HonorMaxCapacity).

The forecast itself is not documented ("machine learning"). Ours takes its place: the mean of the same hour of the day
over the observed days; after a whole week, that of the same hour of the week, if it was observed.

The metrics are AWS's own pair for a load balancer, requests (load) and requests per target. Target tracking beside it
has the same metric and the same target (ALBRequestCountPerTarget).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from gpu_fleet.backtest.rivals.rival_signals import Signal, arrivals
from gpu_fleet.backtest.rivals.target_tracking import TargetTracking
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Reading
from gpu_fleet.scaling.service import Service

HOUR_SECONDS = 3600.0
LEAST_HOURS = 24
MOST_HOURS = 14 * 24
HORIZON_HOURS = 48
REFRESH_SECONDS = 6 * HOUR_SECONDS


class PredictiveScaling:
    """Target tracking, with the forecast of the hour as a floor."""

    name = "predictive-scaling"
    every_seconds = 60.0

    def __init__(self, service: Service, pool: str, target_rps: float, *, buffer_seconds: float = 300.0) -> None:
        """Use `target_rps` as the target of both policies."""
        if target_rps <= 0:
            raise ValueError(f"target_rps: must be above 0 (got {target_rps})")
        if not 0 <= buffer_seconds < HOUR_SECONDS:
            raise ValueError(f"buffer_seconds: must be 0 or more and below 3600 (got {buffer_seconds})")
        self.tracking = TargetTracking(service, pool, target_rps, Signal.REQUESTS)
        self.target_rps = target_rps
        self.buffer_seconds = buffer_seconds
        self._history = HourlyMeans()
        self._forecast: dict[int, float] = {}
        self._forecast_at = float("-inf")

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the greater of the counts from target tracking and from the forecast of this hour."""
        group = self.tracking.group
        for past in observation.history_rps:
            self._history.see(past)
        self._history.see(arrivals(observation, group.observed(observation)))
        if now - self._forecast_at >= REFRESH_SECONDS or not self._forecast:
            self._forecast, self._forecast_at = self._history.forecast(now), now
        hours = {_hour(now), _hour(now + self.buffer_seconds)}
        floor = max((self._capacity(self._forecast.get(hour, 0.0)) for hour in hours), default=0)
        tracked = self.tracking.desired(service, observation, now)
        return group.targets(service, observation, group.clip(max(tracked, floor)), now)

    def _capacity(self, rate_rps: float) -> int:
        return math.ceil(rate_rps / self.target_rps - 1e-9)


class HourlyMeans:
    """The load metric as predictive scaling reads it: one mean per hour, for the last 14 days."""

    def __init__(self) -> None:
        self._sums: dict[int, tuple[float, int]] = {}
        self._newest = float("-inf")

    def see(self, reading: Reading | None) -> None:
        """Add a rate; one that is not newer than the last adds nothing."""
        if reading is None or reading.at <= self._newest:
            return
        self._newest = reading.at
        hour = _hour(reading.at - 1e-6)  # a rate is timed at its end: 11:00 ends the hour from 10:00
        total, count = self._sums.get(hour, (0.0, 0))
        if count == 0:
            self._sums = {h: sums for h, sums in self._sums.items() if h > hour - MOST_HOURS}
        self._sums[hour] = (total + reading.value, count + 1)

    def forecast(self, now: float) -> dict[int, float]:
        """Return the mean rate of each of the next 48 hours, by hours since the epoch.

        It is empty with less than 24 hours of data.
        """
        current = _hour(now)
        past = {hour: total / count for hour, (total, count) in self._sums.items() if hour < current}
        if not past or current - min(past) < LEAST_HOURS:
            return {}
        has_a_week = current - min(past) >= 7 * 24
        forecast: dict[int, float] = {}
        for hour in range(current, current + HORIZON_HOURS):
            same_of_day = [rate for at, rate in past.items() if (hour - at) % 24 == 0]
            same_of_week = [rate for at, rate in past.items() if (hour - at) % (7 * 24) == 0] if has_a_week else []
            if rates := same_of_week or same_of_day:
                forecast[hour] = sum(rates) / len(rates)
        return forecast


def _hour(at: float) -> int:
    return math.floor(at / HOUR_SECONDS)
