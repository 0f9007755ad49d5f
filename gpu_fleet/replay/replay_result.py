"""The result of a replay: minute by minute, and as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.replay.function import Invocation, LoggedDecision
from gpu_fleet.replay.type_changes import TypeChange


@dataclass(frozen=True, slots=True)
class PoolMinute:
    """One pool at the end of a minute, before the scaler's run."""

    desired: int
    ready: int
    starting: int
    draining: int
    weight: int
    ready_by_type: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MinuteOfReplay:
    """One minute of one service."""

    at: float
    """Its end, seconds from the trace's start."""
    arrivals_rps: float
    capacity_rps: float
    """Typical requests per second that the ready instances complete at their capacity C."""
    ordered_rps: float
    """The same, with the instances that boot."""
    forecast_rps: float | None
    """From the newest decision."""
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
    """Price of the instances that run at its end."""
    pools: Mapping[str, PoolMinute]

    @property
    def slo_attainment(self) -> float | None:
        """Share of the requests that ended within the SLO; None where none ended."""
        return self.attained / self.ended if self.ended else None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The whole replay."""

    service: str
    start: float
    """The trace's start, seconds since the epoch."""
    span_seconds: float
    minutes: tuple[MinuteOfReplay, ...]
    invocations: tuple[Invocation, ...]
    type_changes: tuple[TypeChange, ...]
    """In order of their beginning."""
    requests: int
    slo_attainment: float
    """Share of all requests; 1.0 without any."""
    cost_usd: float
    usd_by_pool: Mapping[str, float]
    launch_usd: float
    """Of the cost, what launches cost beside the instances' hours."""
    machine_hours: Mapping[str, float]
    """By pool."""
    gpu_hours: float
    lost: int
    lost_to_scale_in: int
    """Of the requests lost, those whose instance left in order."""
    rejected: int
    launches: int
    p50_ttft_seconds: float | None
    p95_ttft_seconds: float | None
    mean_input_tokens: float

    @property
    def decisions(self) -> tuple[LoggedDecision, ...]:
        """The decisions for the service, in order of time."""
        return tuple(one for run in self.invocations for one in run.decisions if one.service == self.service)

    @property
    def failures(self) -> tuple[Invocation, ...]:
        """Runs that failed as a whole or for a service."""
        return tuple(run for run in self.invocations if run.failure is not None)

    @property
    def codes(self) -> Mapping[str, int]:
        """Count of each reason code, the most frequent first."""
        return dict(Counter(code for one in self.decisions for code in one.codes).most_common())
