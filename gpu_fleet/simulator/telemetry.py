"""What CloudWatch has of the service, and how late: the readings that an observation is made of."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.simulator.simulation import Gauges, Window

MINUTE_SECONDS = 60.0
FINE_SECONDS = 10.0
HISTORY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Delays:
    """From the end of a period to the time when its value can be read.

    AWS documents no figure for either. The load balancer "measures and sends its metrics in 60-second intervals"
    (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html), and
    its nodes report one by one, so that the newest minute is incomplete for up to another minute: with 60 s, what is
    read is 60 to 120 s old. Custom metrics of high resolution can be read "seconds after they are published"
    (https://aws.amazon.com/blogs/aws/new-high-resolution-custom-metrics-and-alarms-for-amazon-cloudwatch/); the agent
    collects for 10 s and flushes after, so 30 s is our assumption for those.
    """

    minute_seconds: float = 60.0
    """The load balancer's minutes."""
    fine_seconds: float = 30.0
    """The engines' own metrics, published every 10 s."""

    def __post_init__(self) -> None:
        for name in ("minute_seconds", "fine_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The engines' gauges at one moment (seconds since the epoch)."""

    at: float
    gauges: Gauges


@dataclass(frozen=True, slots=True)
class Minute:
    """One complete minute."""

    at: float
    """Its end."""
    window: Window
    heartbeat: tuple[bool, ...]
    """By pool: whether a target was registered, so that HealthyHostCount was published."""


class Telemetry:
    """The metrics of the last minutes and the 5-minute means of all that was. Times are in seconds since the epoch."""

    def __init__(
        self, delays: Delays, gaps: Sequence[tuple[float, float]], history_days: float, stale_after_seconds: float
    ) -> None:
        self._delays = delays
        self._gaps = tuple(gaps)
        self._samples: deque[Sample] = deque(maxlen=40)
        # As far back as a reading is good for, and the minutes that cannot be read yet.
        back = stale_after_seconds + delays.minute_seconds + delays.fine_seconds
        self._minutes: deque[Minute] = deque(maxlen=math.ceil(back / MINUTE_SECONDS) + 2)
        self._parts: deque[Minute] = deque(maxlen=math.ceil(back / MINUTE_SECONDS) + 2)
        self._history: deque[Reading] = deque(maxlen=int(history_days * 86400 / HISTORY_SECONDS))
        self._five: list[int] = []

    def _lost(self, at: float) -> bool:
        return any(start < at <= end for start, end in self._gaps)

    def see_sample(self, sample: Sample) -> None:
        """The engines publish."""
        if not self._lost(sample.at):
            self._samples.append(sample)

    def see_minute(self, minute: Minute) -> None:
        """The load balancer and the engines publish a minute."""
        if not self._lost(minute.at):
            self._minutes.append(minute)
            self._five.append(sum(pool.routed for pool in minute.window.pools))
        if minute.at % HISTORY_SECONDS == 0:
            if self._five:
                self._history.append(Reading(sum(self._five) / (MINUTE_SECONDS * len(self._five)), minute.at))
            self._five = []

    @property
    def part_seconds(self) -> float:
        """How much of a minute the engines' metrics show at its end, or a whole number of minutes later; 0: all."""
        return -self._delays.fine_seconds % MINUTE_SECONDS

    def see_part(self, minute: Minute) -> None:
        """The engines publish the first `part_seconds` of the minute that ends at `minute.at`."""
        if not self._lost(minute.at):
            self._parts.append(minute)

    def balancer_minutes(self, now: float) -> tuple[Minute, ...]:
        """The minutes that the load balancer's metrics can be read of, oldest first."""
        return tuple(minute for minute in self._minutes if minute.at <= now - self._delays.minute_seconds)

    def engine_minutes(self, now: float) -> tuple[Minute, ...]:
        """The minutes that the engines' metrics can be read of, oldest first: the newest as far as it has arrived.

        With 30 s of delay, CloudWatch shows of the minute that ends now its first half.
        """
        until = now - self._delays.fine_seconds
        whole = tuple(minute for minute in self._minutes if minute.at <= until)
        arrived = min(now, until + MINUTE_SECONDS - self.part_seconds)
        newest = whole[-1].at if whole else -math.inf
        return whole + tuple(part for part in self._parts if newest < part.at <= arrived)

    def history(self, now: float) -> tuple[Reading, ...]:
        """5-minute means of the requests per second, oldest first."""
        return tuple(reading for reading in self._history if reading.at <= now - self._delays.minute_seconds)

    def samples(self, now: float) -> tuple[Sample, ...]:
        """The newest minute of samples that can be read, oldest first."""
        known = self._known(now)
        return tuple(sample for sample in known if sample.at > known[-1].at - MINUTE_SECONDS)

    def samples_of_minute(self, now: float) -> tuple[float, tuple[Sample, ...]]:
        """End and samples of the newest minute that has ended, as far as they have arrived."""
        end = now // MINUTE_SECONDS * MINUTE_SECONDS
        known = [sample for sample in self._known(now) if sample.at <= end]
        if known and known[-1].at <= end - MINUTE_SECONDS:
            end = math.ceil(known[-1].at / MINUTE_SECONDS) * MINUTE_SECONDS
        return end, tuple(sample for sample in known if end - MINUTE_SECONDS < sample.at <= end)

    def lengths(self, now: float, pool: int, oldest: float) -> tuple[Reading, Reading] | None:
        """Mean prompt and answer of what the pool's instances completed, of the newest minute that tells, as far as
        it has arrived: the mean over what each instance said each 10 s. None where that is older than `oldest`.
        """
        end, told = self._newest_minute(now, oldest, lambda gauges: gauges.pool_telling[pool] > 0)
        if not told:
            return None
        telling = sum(gauges.pool_telling[pool] for gauges in told)
        inputs = sum(gauges.pool_input_tokens[pool] for gauges in told)
        outputs = sum(gauges.pool_output_tokens[pool] for gauges in told)
        return Reading(inputs / telling, end), Reading(outputs / telling, end)

    def kv_cache_percent(self, now: float, pool: int, oldest: float) -> Reading | None:
        """Use of the KV cache of the pool's instances that do not drain, over the same minute: the mean over what each
        said each 10 s. None where that is older than `oldest`.
        """
        end, told = self._newest_minute(now, oldest, lambda gauges: gauges.pool_targets[pool] > 0)
        if not told:
            return None
        used = sum(float(gauges.kv_share[gauges.pool == pool].sum()) for gauges in told)
        return Reading(100 * used / sum(gauges.pool_targets[pool] for gauges in told), end)

    def _newest_minute(self, now: float, oldest: float, tells: Callable[[Gauges], bool]) -> tuple[float, list[Gauges]]:
        """End and gauges of the newest minute in which any tell, as far as it has arrived."""
        minutes: dict[float, list[Gauges]] = {}
        for sample in self._known(now):
            end = math.ceil(sample.at / MINUTE_SECONDS) * MINUTE_SECONDS
            if oldest <= end <= now and tells(sample.gauges):
                minutes.setdefault(end, []).append(sample.gauges)
        end = max(minutes, default=now)
        return end, minutes.get(end, [])

    def _known(self, now: float) -> list[Sample]:
        return [sample for sample in self._samples if sample.at <= now - self._delays.fine_seconds]


@dataclass(frozen=True, slots=True)
class PoolSeries:
    """What the engines of a pool published each 10 s: means of an instance."""

    running: tuple[Reading, ...]
    waiting: tuple[Reading, ...]
    finished_rps: tuple[Reading, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], pool: int) -> Self:
        """Nothing at the samples in which no target published."""
        published = [sample for sample in samples if sample.gauges.pool_targets[pool]]

        def means(values: str, seconds: float) -> tuple[Reading, ...]:
            return tuple(
                Reading(getattr(s.gauges, values)[pool] / s.gauges.pool_targets[pool] / seconds, s.at)
                for s in published
            )

        return cls(means("pool_running", 1.0), means("pool_waiting", 1.0), means("pool_ended", FINE_SECONDS))

    @classmethod
    def nothing(cls, now: float) -> Self:
        """Of a pool with no instance that could hold requests: zero is seen from that, not assumed."""
        newest = now // FINE_SECONDS * FINE_SECONDS
        zeros = tuple(Reading(0.0, newest - k * FINE_SECONDS) for k in reversed(range(30)))
        return cls(zeros, zeros, zeros)
