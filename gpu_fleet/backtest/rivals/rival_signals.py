"""The signals that rivals scale on, read from the same observation as the scaler's.

Every reading is a mean over a minute, and the engines' are new each 10 s. So a rival whose own look-back is a minute or
less takes the newest reading as it is: to average again would only make it later.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from gpu_fleet.backtest.contender import in_phase
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.service import Pool, Service

MINUTE_SECONDS = 60.0
_JITTER = 1.0
"""Seconds by which a minute's reading may come early and still be the next."""


class Signal(StrEnum):
    """What a rule tracks, per instance."""

    CONCURRENCY = "concurrency"
    """Requests running and waiting: what vLLM's users scale on (num_requests_running and num_requests_waiting)."""
    REQUESTS = "requests"
    """Requests per second: ALBRequestCountPerTarget, SkyServe's QPS."""
    GPU = "gpu"
    """Mean GPU utilisation, percent. It is near 100 as soon as an instance has anything to do."""

    def names(self, rule: str) -> str:
        """What a rule on this signal is called: plainly on concurrency, else with the signal behind it."""
        return rule if self is Signal.CONCURRENCY else f"{rule}-{self}"


def of_a_full_instance(pool: Pool, signal: Signal, unit: LoadUnit) -> float:
    """What the signal shows of one instance that is at its capacity C: the 1.0 of every target share.

    Where C is not counted in requests, the requests in it follow from Little's law: L = throughput * time in service
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
    """Requests running and waiting in the pool, else its load where the policy counts load in requests."""
    if pool.running is not None and pool.waiting is not None:
        return Reading(pool.running.value + pool.waiting.value, min(pool.running.at, pool.waiting.at))
    return pool.load if service.policy.load.unit is LoadUnit.CONCURRENCY else None


def arrivals(observation: Observation, pool: PoolObservation) -> Reading | None:
    """Requests per second at the load balancer; those that found no instance are in it."""
    return observation.arrivals_rps if observation.arrivals_rps is not None else pool.rate_rps


def per_instance(service: Service, pool: PoolObservation, signal: Signal) -> Reading | None:
    """The signal's mean over the ready instances; None where there is none, or nothing was seen.

    The observation's totals are CloudWatch's mean times the instances that are ready now, so this gives the mean back.
    """
    if signal is Signal.GPU:
        return pool.gpu_percent
    total = concurrency(service, pool) if signal is Signal.CONCURRENCY else pool.rate_rps
    ready = in_phase(pool, Phase.READY)
    if total is None or ready == 0:
        return None
    return Reading(total.value / ready, total.at)


class ReadyThen:
    """How many instances were ready when a reading was measured.

    The observation's totals are the mean of a minute that is over, times the instances that are ready now. When 6
    become 40, the old mean of 100 each would be a total of 4000 for a while, and a rule that scales on totals would run
    away. Its own metrics would not show it that, so the total is put right by the count in the middle of the minute.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[float, int]] = deque(maxlen=100)

    def see(self, pool: PoolObservation, now: float) -> None:
        """Note how many are ready now."""
        ready = in_phase(pool, Phase.READY)
        if not self._changes or self._changes[-1][1] != ready:
            self._changes.append((now, ready))

    def at(self, reading: Reading) -> int:
        """The count in the middle of the reading's minute; before anything was seen, the first that was."""
        middle = reading.at - MINUTE_SECONDS / 2
        return next((ready for since, ready in reversed(self._changes) if since <= middle), self._changes[0][1])

    def total(self, pool: PoolObservation, reading: Reading | None) -> Reading | None:
        """A pool's total as it was when it was measured; None where no instance is ready."""
        ready = in_phase(pool, Phase.READY)
        if reading is None or ready == 0:
            return None
        return Reading(reading.value / ready * self.at(reading), reading.at)


def fresh(service: Service, reading: Reading | None, now: float) -> Reading | None:
    """The reading, unless it is older than the policy lets a value be: the same rule for everybody."""
    if reading is None or now - reading.at > service.policy.load.stale_after_seconds:
        return None
    return reading


class Periods:
    """What a CloudWatch alarm sees of a metric: one mean per period.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html#alarm-evaluation. A reading
    of the observation is the mean of the minute that ends at its time, so each counts once a period has passed since
    the one before; those in between overlap it.
    """

    def __init__(self, period_seconds: float = MINUTE_SECONDS, keep: int = 15) -> None:
        self._period = period_seconds
        self._points: deque[Reading] = deque(maxlen=keep)

    def see(self, reading: Reading | None) -> None:
        """Take a reading in."""
        if reading is not None and (not self._points or reading.at - self._points[-1].at >= self._period - _JITTER):
            self._points.append(reading)

    def newest(self, count: int) -> tuple[Reading, ...] | None:
        """The newest periods, oldest first; None unless there are so many without a missing one."""
        if len(self._points) < count:
            return None
        points = tuple(self._points)[-count:]
        return points if points[-1].at - points[0].at < (count - 0.5) * self._period else None
