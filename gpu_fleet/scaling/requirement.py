"""The capacity required: demand and backlog, raised by node signals over their limits."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_fleet.scaling import sizing, thresholds
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.expectation import Expectation
from gpu_fleet.scaling.figures import work_ratio, work_utilization
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.state import ThresholdMemory


@dataclass(frozen=True, slots=True)
class Requirement:
    """Work that must be done per second, and the forecast behind it."""

    rps: float
    forecast_rps: float
    utilization: float
    """The article's U: that work, in full instances."""
    ratio: float
    """The article's R: above 1 the service scales out."""
    reasons: tuple[Reason, ...]
    thresholds: ThresholdMemory
    by_signal: bool = False
    """A node signal decides it, so it follows what stands."""


def require(context: Context, demand: Demand, expected: Expectation, fleet: Fleet) -> Requirement:
    """Find the work that must be done per second, and say why."""
    policy = context.policy
    load_rps = sizing.required_rps(expected.rps, expected.backlog, expected.full_rps, policy)
    raised = thresholds.raised(context, demand.known_rps, fleet, load_rps)
    u = work_utilization(raised.rps, fleet)
    r = work_ratio(u, fleet, policy.horizontal.tolerance_percent)
    why = sizing.reason(policy, raised.rps, (u, demand.response_time, r), fleet.worth)
    reasons = (*expected.reasons, why, *raised.reasons)
    return Requirement(raised.rps, expected.outlook.upper_rps, u, r, reasons, raised.memory, raised.by_signal)
