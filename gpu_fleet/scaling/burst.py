"""A burst: the newest ten seconds far above the minute. Met whole at once and held, never averaged into the minute."""

from __future__ import annotations

from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.policy import Burst
from gpu_fleet.scaling.reasons import demand as reasons
from gpu_fleet.scaling.state import BurstMemory


def meet(
    policy: Burst, demand: Demand, expected_rps: float, memory: BurstMemory, now: float
) -> tuple[float, BurstMemory, tuple[Reason, ...]]:
    """Return the demand to size for: `expected_rps`, or the burst's if that is more."""
    last = memory.last if memory.last is not None and now - memory.last.at <= policy.hold_seconds else None
    if demand.burst is not None and (last is None or demand.burst.rps >= last.rps):
        last = demand.burst
    memory = BurstMemory(last)
    if last is None or last.rps <= expected_rps:
        return expected_rps, memory, ()
    return last.rps, memory, (reasons.burst(last.rps, max(0.0, now - last.at), policy.hold_seconds),)
