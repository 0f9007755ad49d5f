"""The demand to size for: what an instance ordered now will meet when it serves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_fleet.scaling import burst, feedback, forecast, window
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.fleet import lead_seconds, leads_seconds, ready_throughput_rps
from gpu_fleet.scaling.forecast import Outlook
from gpu_fleet.scaling.headroom import Aim
from gpu_fleet.scaling.reasons import demand as reasons
from gpu_fleet.scaling.state import FeedbackMemory, Point


@dataclass(frozen=True, slots=True)
class Expectation:
    """Demand one lead time from now."""

    outlook: Outlook
    rps: float
    """With head-room, or the burst's demand if that is more."""
    backlog: float
    """Requests that will still wait, beyond what the ready instances work off until then."""
    full_rps: float
    """Work that the ready instances complete when they are full."""
    reasons: tuple[Reason, ...]

    @property
    def headroom(self) -> float:
        """The demand to size for, over the forecast; at least 1."""
        return max(1.0, self.rps / self.outlook.rps) if self.outlook.rps > 0 else 1.0


def expect(context: Context, demand: Demand) -> tuple[Expectation, Context]:
    """Forecast the demand, learn from the newest, and meet a burst."""
    policy, now, rps = context.policy, context.now, demand.known_rps
    if demand.rps is not None and demand.counted is not context.state.demand.counted:
        context = _with_another_measure(context, demand)
    age_seconds = max(0.0, now - demand.at if demand.at else 0.0)
    horizon = lead_seconds(context) + age_seconds
    context = context.remember(feedback=_corrected(context, rps))
    aim = _aim(context, age_seconds)
    # What the history says is in requests, and only its shape is used: the weights of all methods scale alike.
    primed = forecast.prime(policy.forecast, aim, context.state.forecast, context.seen.history_rps, horizon)
    context = context.remember(forecast=primed)
    outlook, memory = forecast.look_ahead(
        policy.forecast,
        aim,
        context.state.forecast,
        Point(demand.at or now, rps),
        horizon,
        fresh=demand.fresh,
    )
    why = reasons.idle if demand.idle else reasons.method
    expected, burst_memory, of_burst = burst.meet(policy.burst, demand, outlook.upper_rps, context.state.burst, now)
    full_rps = ready_throughput_rps(context)
    backlog = max(0.0, demand.backlog - max(0.0, full_rps - rps) * horizon)
    expectation = Expectation(outlook, expected, backlog, full_rps, (why(outlook, rps, horizon), *of_burst))
    return expectation, context.remember(forecast=memory, burst=burst_memory)


def _aim(context: Context, age_seconds: float) -> Aim:
    policy, slowest = context.policy, max(leads_seconds(context).values(), default=0.0)
    budget, allowance = 1 - policy.forecast_confidence, context.state.feedback.allowance
    return Aim(
        budget=budget,
        may_be_late=budget if allowance is None else allowance,
        wait_seconds=policy.slo.ttft_seconds if policy.slo else 0.0,
        hold_seconds=window.seconds(policy.horizontal, context.state.guard, context.now),
        most=1 + policy.forecast.max_headroom_percent / 100,
        lead_seconds=slowest + age_seconds,
    )


def _corrected(context: Context, rps: float) -> FeedbackMemory:
    """What head-room may miss, after the newest minute that engines have measured."""
    policy, seen = context.policy, context.seen.late_share
    if policy.slo is None or policy.forecast.confidence is not None:
        return FeedbackMemory(1 - policy.forecast_confidence)
    mean = context.state.forecast.mean_rps(otherwise=rps)
    known = seen if context.value(seen) is not None else None
    return feedback.correct(
        context.state.feedback,
        1 - policy.forecast_confidence,
        1 - policy.slo.attainment,
        known,
        rps / mean if mean > 0 else 1.0,
    )


def _with_another_measure(context: Context, demand: Demand) -> Context:
    """Arrivals began or ceased to be seen.

    Work done is in the same unit, but only a floor where instances are full: a forecast made from it must not be judged
    by arrivals. The series, the highs of days and the season stay: arrivals that are late for three minutes are no
    reason to forget two weeks.
    """
    state = context.state
    return context.remember(
        demand=replace(state.demand, counted=demand.counted), forecast=state.forecast.of_another_measure()
    )
