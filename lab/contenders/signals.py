"""The signals that rivals scale on, read from the same observation as the scaler's, and the two ways to smooth them."""

from __future__ import annotations

from collections import deque
from enum import StrEnum

from lab.contenders.contender import in_phase
from scaling.observation import Observation, Phase, PoolObservation, Reading
from scaling.policy import LoadUnit
from scaling.service import Pool, Service


class Signal(StrEnum):
    """What a rule tracks, per instance."""

    CONCURRENCY = "concurrency"
    """Requests running and waiting: what vLLM's users scale on (num_requests_running and num_requests_waiting)."""
    REQUESTS = "requests"
    """Requests per second: ALBRequestCountPerTarget, SkyServe's QPS."""
    GPU = "gpu"
    """Mean GPU utilisation, percent. It is near 100 as soon as an instance has anything to do."""


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


def fresh(service: Service, reading: Reading | None, now: float) -> Reading | None:
    """The reading, unless it is older than the policy lets a value be: the same rule for everybody."""
    if reading is None or now - reading.at > service.policy.load.stale_after_seconds:
        return None
    return reading


class Periods:
    """What a CloudWatch alarm sees of a metric: one mean per period, complete periods only.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html#alarm-evaluation
    """

    def __init__(self, period_seconds: float = 60.0, keep: int = 15) -> None:
        self._period = period_seconds
        self._complete: deque[Reading] = deque(maxlen=keep)
        self._open: list[float] = []
        self._open_ends = 0.0
        self._newest = float("-inf")

    def see(self, reading: Reading | None) -> None:
        """Take a reading in; one that was seen before, or is older, adds nothing."""
        if reading is None or reading.at <= self._newest:
            return
        self._newest = reading.at
        # A reading at 120 ends the period (60, 120]; one at 121 opens (120, 180].
        ends = -(-(reading.at - 1e-6) // self._period) * self._period
        if ends != self._open_ends:
            self._close()
            self._open_ends = ends
        self._open.append(reading.value)
        if abs(reading.at - ends) <= 1e-6:
            self._close()

    def newest(self, count: int) -> tuple[Reading, ...] | None:
        """The newest complete periods, oldest first; None unless there are so many without a gap."""
        if len(self._complete) < count:
            return None
        points = tuple(self._complete)[-count:]
        span = points[-1].at - points[0].at
        return points if span <= (count - 1) * self._period + 1e-6 else None

    def _close(self) -> None:
        if self._open:
            self._complete.append(Reading(sum(self._open) / len(self._open), self._open_ends))
            self._open = []


class Sliding:
    """Mean of the readings of the last so many seconds (more than 0), counted back from the newest reading.

    From the newest reading and not from now: metrics come one to two minutes late, and a window of 60 s that ended now
    would hold none of them.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._readings: deque[Reading] = deque()

    def see(self, reading: Reading | None) -> None:
        """Take a reading in; one that was seen before, or is older, adds nothing."""
        if reading is None or (self._readings and reading.at <= self._readings[-1].at):
            return
        self._readings.append(reading)
        while self._readings[0].at <= reading.at - self._seconds:
            self._readings.popleft()

    def mean(self, seconds: float | None = None) -> float | None:
        """Over the last `seconds` (default: all that is kept); None where nothing was seen."""
        if not self._readings:
            return None
        since = self._readings[-1].at - (self._seconds if seconds is None else seconds)
        values = [reading.value for reading in self._readings if reading.at > since]
        return sum(values) / len(values)
