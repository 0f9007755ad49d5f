"""The capacity required: demand and backlog, raised by node signals over their limits."""

from __future__ import annotations

from dataclasses import dataclass

from gpu_fleet.scaling import sizing, thresholds
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.expectation import Expectation
from gpu_fleet.scaling.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Requirement:
    """Work that must be done per second, and the forecast behind it."""

    rps: float
    forecast_rps: float
    reasons: tuple[Reason, ...]


def require(context: Context, demand: Demand, expected: Expectation, fleet: Fleet) -> Requirement:
    """Find the work that must be done per second, and say why."""
    rps = sizing.required_rps(expected.rps, expected.backlog, expected.full_rps, context.policy)
    why = sizing.reason(context.policy, rps, (demand.utilization, demand.response_time, demand.ratio), fleet.worth)
    rps, of_signals = thresholds.raised(context, fleet, rps)
    return Requirement(rps, expected.outlook.upper_rps, (*expected.reasons, why, *of_signals))
