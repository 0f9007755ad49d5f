"""A burst: the newest ten seconds far above the minute. Met at once and held, never averaged into the minute.

How much of it is met is learnt: instances ordered for a burst serve a lead time later, and for a burst that is over
by then they are bought for nothing (panic modes that ignore the time a start takes: knative/serving#13284). The first
burst is met whole; each is then held against the demand that was there when its instances came, and the next one is
met at the share that the earlier ones had left.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.policy import Burst
from gpu_fleet.scaling.state import Point, State

KEPT = 0.7
"""Weight of the earlier bursts against the newest one."""


def meet(
    policy: Burst, demand: Demand, expected_rps: float, state: State, horizon_seconds: float, now: float
) -> tuple[float, State, list[Reason]]:
    """The demand to size for, `expected_rps` or the burst's if that is more, and the state with the burst noted."""
    state = _judge(state, demand)
    last = state.burst if state.burst is not None and now - state.burst.at <= policy.hold_seconds else None
    if demand.burst is not None and (last is None or demand.burst.rps >= last.rps):
        last = demand.burst
        state = replace(state, burst_due=Point(last.at + horizon_seconds, last.rps))
    state = replace(state, burst=last)
    if last is None or last.rps * state.burst_lasts <= expected_rps:
        return expected_rps, state, []
    met = last.rps * state.burst_lasts
    text = (
        f"A burst of {last.rps:.2f} rps was seen {max(0.0, now - last.at):.0f} s ago; earlier ones had left"
        f" {100 * state.burst_lasts:.0f} % when instances came: {met:.2f} rps are met, for {policy.hold_seconds:.0f} s."
    )
    numbers = {"burst_rps": last.rps, "met_rps": met}
    return met, state, [Reason(Step.DEMAND, "demand.burst", text, numbers)]


def _judge(state: State, demand: Demand) -> State:
    due = state.burst_due
    if due is None or demand.rps is None or demand.at < due.at:
        return state
    left = min(1.0, demand.rps / due.rps) if due.rps > 0 else 1.0
    return replace(state, burst_due=None, burst_lasts=round(KEPT * state.burst_lasts + (1 - KEPT) * left, 4))
