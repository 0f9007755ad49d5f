"""A burst: the newest ten seconds far above the minute. Met at once and held, never averaged into the minute.

How much of it is met is learnt: instances ordered for a burst serve a lead time later, and for a burst that is over
by then they are bought for nothing (panic modes that ignore the time a start takes: knative/serving#13284). The first
burst is met whole; each is then compared with the demand when its instances arrived, and the next one is met at the
share that was left of the earlier ones.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.policy import Burst
from gpu_fleet.scaling.reasons import demand as reasons
from gpu_fleet.scaling.state import BurstMemory, Point

KEPT = 0.7
"""Weight of the earlier bursts against the newest one."""


def meet(
    policy: Burst, demand: Demand, expected_rps: float, memory: BurstMemory, horizon_seconds: float, now: float
) -> tuple[float, BurstMemory, tuple[Reason, ...]]:
    """Return the demand to size for: `expected_rps`, or the burst's if that is more."""
    memory = _judge(memory, demand)
    last = memory.last if memory.last is not None and now - memory.last.at <= policy.hold_seconds else None
    if demand.burst is not None and (last is None or demand.burst.rps >= last.rps):
        last = demand.burst
        memory = replace(memory, due=Point(last.at + horizon_seconds, last.rps))
    memory = replace(memory, last=last)
    if last is None or last.rps * memory.lasts <= expected_rps:
        return expected_rps, memory, ()
    met = last.rps * memory.lasts
    why = reasons.burst(last.rps, met, max(0.0, now - last.at), memory.lasts, policy.hold_seconds)
    return met, memory, (why,)


def _judge(memory: BurstMemory, demand: Demand) -> BurstMemory:
    """Learn what was left of a burst when instances ordered for it could serve."""
    due = memory.due
    if due is None or demand.rps is None or demand.at < due.at:
        return memory
    left = min(1.0, demand.rps / due.rps) if due.rps > 0 else 1.0
    return replace(memory, due=None, lasts=round(KEPT * memory.lasts + (1 - KEPT) * left, 4))
