"""The service's metrics as CloudWatch shows them, each available after its delay."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.simulator.pool_window import Window
from gpu_fleet.simulator.simulation import Gauges

MINUTE_SECONDS = 60.0
FINE_SECONDS = 10.0
HISTORY_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Delays:
    """Time from the end of a period until its value can be read.

    AWS documents no figure for either. The load balancer "measures and sends its metrics in 60-second intervals"
    (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html), and
    its nodes report one by one, so the newest minute is incomplete for up to another minute: with 60 s, readings are
    60 to 120 s old. High-resolution custom metrics can be read "seconds after they are published"
    (https://aws.amazon.com/blogs/aws/new-high-resolution-custom-metrics-and-alarms-for-amazon-cloudwatch/); the agent
    collects for 10 s and then flushes, so we assume 30 s.
    """

    minute_seconds: float = 60.0
    """The load balancer's metrics, one a minute."""
    fine_seconds: float = 30.0
    """The engines' metrics, published every 10 s."""

    def __post_init__(self) -> None:
        for name in ("minute_seconds", "fine_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The engines' gauges at one time (seconds since the epoch)."""

    at: float
    gauges: Gauges


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of metrics."""

    at: float
    """Its end, seconds since the epoch."""
    window: Window
    heartbeat: tuple[bool, ...]
    """By pool: whether a target was registered, and HealthyHostCount therefore published."""


class Telemetry:
    """The metrics of the last minutes, and 5-minute means of the history. Times are in seconds since the epoch."""

    def __init__(
        self, delays: Delays, gaps: Sequence[tuple[float, float]], history_days: float, stale_after_seconds: float
    ) -> None:
        self._delays = delays
        self._gaps = tuple(gaps)
        self._samples: deque[Sample] = deque(maxlen=40)
        # Minutes whose readings are still fresh, and minutes that cannot be read yet.
        kept_seconds = stale_after_seconds + delays.minute_seconds + delays.fine_seconds
        kept = math.ceil(kept_seconds / MINUTE_SECONDS) + 2
        self._minutes: deque[Minute] = deque(maxlen=kept)
        self._parts: deque[Minute] = deque(maxlen=kept)
        self._history: deque[Reading] = deque(maxlen=int(history_days * 86400 / HISTORY_SECONDS))
        self._requests_since_history: list[int] = []

    def _in_gap(self, at: float) -> bool:
        return any(start < at <= end for start, end in self._gaps)

    def see_sample(self, sample: Sample) -> None:
        """Record a sample that the engines publish."""
        if not self._in_gap(sample.at):
            self._samples.append(sample)

    def see_minute(self, minute: Minute) -> None:
        """Record a complete minute that the load balancer and the engines publish."""
        if not self._in_gap(minute.at):
            self._minutes.append(minute)
            self._requests_since_history.append(sum(pool.routed for pool in minute.window.pools))
        if minute.at % HISTORY_SECONDS == 0:
            requests = self._requests_since_history
            if requests:
                self._history.append(Reading(sum(requests) / (MINUTE_SECONDS * len(requests)), minute.at))
            self._requests_since_history = []

    @property
    def part_seconds(self) -> float:
        """Part of a minute that the engines' metrics show at its end, or whole minutes later; 0: all of it."""
        return -self._delays.fine_seconds % MINUTE_SECONDS

    def see_part(self, minute: Minute) -> None:
        """Record the first `part_seconds` of the minute that ends at `minute.at`."""
        if not self._in_gap(minute.at):
            self._parts.append(minute)

    def balancer_minutes(self, now: float) -> tuple[Minute, ...]:
        """Return the minutes with readable load balancer metrics, oldest first."""
        return tuple(minute for minute in self._minutes if minute.at <= now - self._delays.minute_seconds)

    def engine_minutes(self, now: float) -> tuple[Minute, ...]:
        """Return the minutes with readable engine metrics, oldest first; the newest may be partial.

        With 30 s of delay, CloudWatch shows the first half of the minute that ends now.
        """
        until = now - self._delays.fine_seconds
        whole = tuple(minute for minute in self._minutes if minute.at <= until)
        arrived = min(now, until + MINUTE_SECONDS - self.part_seconds)
        newest = whole[-1].at if whole else -math.inf
        return whole + tuple(part for part in self._parts if newest < part.at <= arrived)

    def history(self, now: float) -> tuple[Reading, ...]:
        """Return 5-minute means of the requests per second, oldest first."""
        return tuple(reading for reading in self._history if reading.at <= now - self._delays.minute_seconds)

    def samples(self, now: float) -> tuple[Sample, ...]:
        """Return the readable samples that the scaler's query over the newest minutes brings, oldest first."""
        return tuple(self._readable(now))

    def samples_of_minute(self, now: float) -> tuple[float, tuple[Sample, ...]]:
        """Return the end of the newest ended minute with samples, and its samples that have arrived."""
        end = now // MINUTE_SECONDS * MINUTE_SECONDS
        samples = [sample for sample in self._readable(now) if sample.at <= end]
        if samples and samples[-1].at <= end - MINUTE_SECONDS:
            end = math.ceil(samples[-1].at / MINUTE_SECONDS) * MINUTE_SECONDS
        return end, tuple(sample for sample in samples if end - MINUTE_SECONDS < sample.at <= end)

    def lengths(self, now: float, pool: int, oldest: float) -> tuple[Reading, Reading] | None:
        """Return the mean prompt and answer of the pool's completed requests, from the newest minute with any.

        Each is the mean over the instances' 10 s readings that have arrived. None if that minute ended before `oldest`.
        """
        end, samples = self._newest_minute(now, oldest, lambda gauges: gauges.pool_reporters[pool] > 0)
        if not samples:
            return None
        count = sum(gauges.pool_reporters[pool] for gauges in samples)
        inputs = sum(gauges.pool_input_tokens[pool] for gauges in samples)
        outputs = sum(gauges.pool_output_tokens[pool] for gauges in samples)
        return Reading(inputs / count, end), Reading(outputs / count, end)

    def kv_cache_percent(self, now: float, pool: int, oldest: float) -> Reading | None:
        """Return the KV cache use of the pool's targets, from the newest minute with any.

        It is the mean over the targets' 10 s readings that have arrived. None if that minute ended before `oldest`.
        """
        end, samples = self._newest_minute(now, oldest, lambda gauges: gauges.pool_targets[pool] > 0)
        if not samples:
            return None
        used = sum(float(gauges.kv_share[gauges.pool == pool].sum()) for gauges in samples)
        return Reading(100 * used / sum(gauges.pool_targets[pool] for gauges in samples), end)

    def _newest_minute(
        self, now: float, oldest: float, has_value: Callable[[Gauges], bool]
    ) -> tuple[float, list[Gauges]]:
        """Return the end and the gauges of the newest minute, not before `oldest`, with samples that have a value."""
        minutes: dict[float, list[Gauges]] = {}
        for sample in self._readable(now):
            end = math.ceil(sample.at / MINUTE_SECONDS) * MINUTE_SECONDS
            if oldest <= end <= now and has_value(sample.gauges):
                minutes.setdefault(end, []).append(sample.gauges)
        end = max(minutes, default=now)
        return end, minutes.get(end, [])

    def _readable(self, now: float) -> list[Sample]:
        return [sample for sample in self._samples if sample.at <= now - self._delays.fine_seconds]
