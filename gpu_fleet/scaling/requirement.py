"""The capacity required: demand and backlog, raised by node signals over their limits."""

from __future__ import annotations

from gpu_fleet.scaling import sizing, thresholds
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.expectation import Expectation
from gpu_fleet.scaling.fleet import Fleet, ready_throughput_rps


def require(context: Context, demand: Demand, expected: Expectation, fleet: Fleet) -> tuple[float, tuple[Reason, ...]]:
    """Return the work that must be done per second, and why."""
    required = sizing.required_rps(expected.rps, expected.backlog, ready_throughput_rps(context), context.policy)
    why = sizing.reason(context.policy, required, (demand.utilization, demand.response_time, demand.ratio), fleet.worth)
    required, of_signals = thresholds.raised(context, fleet, required)
    return required, (why, *of_signals)
