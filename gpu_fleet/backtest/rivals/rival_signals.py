"""The signals that rivals scale on, read from the same observation as the scaler's.

Every reading is a mean over a minute; the engines' readings are renewed every 10 s. So a rival whose own look-back is a
minute or less takes the newest reading as it is: another average would only make it later.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from gpu_fleet.scaling.observation import Observation, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.service import Pool, Service

MINUTE_SECONDS = 60.0
_JITTER = 1.0
"""Seconds by which a reading may come early and still count as the next minute's."""


class Signal(StrEnum):
    """The metric, per instance, that a rule tracks."""

    CONCURRENCY = "concurrency"
    """Running and waiting requests, on which vLLM's users scale (num_requests_running and num_requests_waiting)."""
    REQUESTS = "requests"
    """Requests per second: ALBRequestCountPerTarget, SkyServe's QPS."""
    GPU = "gpu"
    """Mean GPU utilisation in percent. It is near 100 as soon as an instance has anything to do."""

    def name_of(self, rule: str) -> str:
        """Return the name of a rule on this signal: with the signal appended, unless it is concurrency."""
        return rule if self is Signal.CONCURRENCY else f"{rule}-{self}"


def of_a_full_instance(pool: Pool, signal: Signal, unit: LoadUnit) -> float:
    """Return the signal of one instance at its capacity C: a target share of 1.0.

    If C is not counted in requests, the requests in it follow from Little's law: L = throughput * time in service
    (Little, "A Proof for the Queuing Formula L = lambda W", Operations Research 9(3), 1961).
    """
    match signal:
        case Signal.CONCURRENCY:
            return pool.capacity if unit is LoadUnit.CONCURRENCY else pool.throughput_rps * pool.service_seconds
        case Signal.REQUESTS:
            return pool.throughput_rps
        case Signal.GPU:
            return 100.0


def concurrency(service: Service, pool: PoolObservation) -> Reading | None:
    """Return the running and waiting requests of the pool, or its load if the policy counts load in requests."""
    if pool.running is not None and pool.waiting is not None:
        return Reading(pool.running.value + pool.waiting.value, min(pool.running.at, pool.waiting.at))
    return pool.load if service.policy.load.unit is LoadUnit.CONCURRENCY else None


def arrivals(observation: Observation, pool: PoolObservation) -> Reading | None:
    """Return the requests per second at the load balancer, those that found no instance included."""
    return observation.arrivals_rps if observation.arrivals_rps is not None else pool.rate_rps


def per_instance(service: Service, pool: PoolObservation, signal: Signal) -> Reading | None:
    """Return the signal's mean over the ready instances; None without a ready instance or a reading.

    The observation's totals are CloudWatch's mean times the instances that are ready now, so this restores the mean.
    """
    if signal is Signal.GPU:
        return pool.gpu_percent
    total = concurrency(service, pool) if signal is Signal.CONCURRENCY else pool.rate_rps
    ready = pool.ready_count
    if total is None or ready == 0:
        return None
    return Reading(total.value / ready, total.at)


class ReadyHistory:
    """The number of ready instances over time, to know how many were ready when a reading was measured.

    The observation's totals are the mean of a past minute, times the instances that are ready now. When 6 become 40,
    the old mean of 100 each would make a total of 4000 for a while, and a rule that scales on totals would run away.
    The rival's own metrics have no such error, so the total is corrected by the count in the middle of the minute.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[float, int]] = deque(maxlen=100)

    def see(self, pool: PoolObservation, now: float) -> None:
        """Record how many are ready now."""
        ready = pool.ready_count
        if not self._changes or self._changes[-1][1] != ready:
            self._changes.append((now, ready))

    def at(self, reading: Reading) -> int:
        """Return the count in the middle of the reading's minute; the first recorded count if that was earlier."""
        middle = reading.at - MINUTE_SECONDS / 2
        return next((ready for since, ready in reversed(self._changes) if since <= middle), self._changes[0][1])

    def total(self, pool: PoolObservation, reading: Reading | None) -> Reading | None:
        """Return the pool's total at the time of measurement; None if no instance is ready."""
        ready = pool.ready_count
        if reading is None or ready == 0:
            return None
        return Reading(reading.value / ready * self.at(reading), reading.at)


def fresh(service: Service, reading: Reading | None, now: float) -> Reading | None:
    """Return the reading, or None if it is older than the policy allows: the same rule for every contender."""
    if reading is None or now - reading.at > service.policy.load.stale_after_seconds:
        return None
    return reading


class Periods:
    """A metric as a CloudWatch alarm sees it: one mean per period.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html#alarm-evaluation. A reading
    of the observation is the mean of the minute that ends at its time, so a reading counts only if a period has passed
    since the last one that counted; those in between overlap it.
    """

    def __init__(self, period_seconds: float = MINUTE_SECONDS, keep: int = 15) -> None:
        self._period = period_seconds
        self._points: deque[Reading] = deque(maxlen=keep)

    def see(self, reading: Reading | None) -> None:
        """Add a reading."""
        if reading is not None and (not self._points or reading.at - self._points[-1].at >= self._period - _JITTER):
            self._points.append(reading)

    def newest(self, count: int) -> tuple[Reading, ...] | None:
        """Return the newest `count` periods, oldest first; None if one is missing."""
        if len(self._points) < count:
            return None
        points = tuple(self._points)[-count:]
        return points if points[-1].at - points[0].at < (count - 0.5) * self._period else None
