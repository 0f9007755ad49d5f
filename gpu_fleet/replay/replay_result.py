"""What a replay came to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.replay.function import Decided, Invocation


@dataclass(frozen=True, slots=True)
class PoolMinute:
    """One pool at the end of a minute, before the scaler's run."""

    desired: int
    ready: int
    starting: int
    draining: int
    weight: int


@dataclass(frozen=True, slots=True)
class MinuteOfReplay:
    """One minute."""

    at: float
    """Its end, seconds from the trace's start."""
    arrivals_rps: float
    capacity_rps: float
    """Typical requests per second that the ready instances complete at their capacity C."""
    ordered_rps: float
    """The same with those that boot."""
    forecast_rps: float | None
    """The newest decision's."""
    running: float
    waiting: float
    ended: int
    attained: int
    rejected: int
    lost: int
    ttft_p50_seconds: float | None
    ttft_p95_seconds: float | None
    tpot_p95_seconds: float | None
    """Time per output token after the first."""
    usd_per_hour: float
    """Of the instances that stand at its end."""
    pools: Mapping[str, PoolMinute]

    @property
    def slo_attainment(self) -> float | None:
        """Share of the requests ended that kept to the SLO; None where none ended."""
        return self.attained / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The whole of it."""

    service: str
    start: float
    """The trace's start, seconds since the epoch."""
    span_seconds: float
    minutes: tuple[MinuteOfReplay, ...]
    invocations: tuple[Invocation, ...]
    requests: int
    slo_attainment: float
    """Share of all requests; 1.0 where there was none."""
    cost_usd: float
    usd_by_pool: Mapping[str, float]
    machine_hours: Mapping[str, float]
    gpu_hours: float
    lost: int
    lost_to_scale_in: int
    """Of those lost, the ones whose instance was taken away in order."""
    rejected: int
    launches: int
    p50_ttft_seconds: float | None
    p95_ttft_seconds: float | None
    mean_input_tokens: float

    @property
    def decisions(self) -> tuple[Decided, ...]:
        """What was decided for the service, in the order of time."""
        return tuple(one for run in self.invocations for one in run.decided if one.service == self.service)

    @property
    def failures(self) -> tuple[Invocation, ...]:
        """Runs that could not be made, and those in which a service failed."""
        return tuple(run for run in self.invocations if run.trouble is not None)

    @property
    def codes(self) -> Mapping[str, int]:
        """How often each reason was given, the most frequent first."""
        return dict(Counter(code for one in self.decisions for code in one.codes).most_common())
