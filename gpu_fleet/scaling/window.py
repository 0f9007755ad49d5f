"""The stabilisation window: out at once, in only after less was required for a while.

How long a while follows the noise. Capacity that is missed within half an hour of being taken was taken too early: the
window trebles, up to an hour. In six hours half of that is gone. So smooth traffic keeps the policy's two minutes, and
a service whose bursts come every ten minutes stops taking an instance between two of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.figures import work_ratio, work_utilization
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.policy import Horizontal
from gpu_fleet.scaling.reasons import guard as reasons
from gpu_fleet.scaling.state import GuardMemory, Point


@dataclass(frozen=True, slots=True)
class Band:
    """Capacity required: now, for scaling out; the most of the stabilisation window, for scaling in."""

    out_rps: float
    in_rps: float
    settled: bool
    """The window has been seen whole, so that less capacity may follow from it."""


MISSED_SECONDS = 1800.0
"""Capacity that is missed later was not taken too early."""
GROWTH, LONGEST_SECONDS = 3.0, 3600.0
PATIENCE_HALF_LIFE_SECONDS = 6 * 3600.0


def seconds(policy: Horizontal, memory: GuardMemory, now: float) -> float:
    """How long the window is now: the policy's, or longer where capacity was missed soon after it was taken."""
    shortest = policy.scale_in_stabilization_seconds
    return max(shortest, min(LONGEST_SECONDS, shortest * _patience(memory, now)))


def stabilise(context: Context, required_rps: float) -> tuple[Band, GuardMemory]:
    """Scale in only to the most that was required within the window (HPA's downscale stabilisation)."""
    memory, now = context.state.guard, context.now
    window = seconds(context.policy.horizontal, memory, now)
    past = (p for p in memory.required if now - window < p.at < now and p.rps > required_rps)
    kept = (*past, Point(now, required_rps))
    settled = now - context.state.since >= window
    return Band(required_rps, kept[0].rps, settled), replace(memory, required=kept)


def learn(memory: GuardMemory, *, out: bool, taken: bool, now: float) -> GuardMemory:
    """Lengthen the window where capacity is missed (`out`) that was taken within half an hour."""
    if out and memory.taken_at and 0 <= now - memory.taken_at <= MISSED_SECONDS:
        return replace(memory, taken_at=0.0, patience=GROWTH * _patience(memory, now), patience_at=now)
    return replace(memory, taken_at=now) if taken else memory


def _patience(memory: GuardMemory, now: float) -> float:
    aged = max(0.0, now - memory.patience_at) / PATIENCE_HALF_LIFE_SECONDS
    return 1 + (min(memory.patience, LONGEST_SECONDS) - 1) * 0.5**aged


def wanted_rps(band: Band, fleet: Fleet, tolerance_percent: float) -> tuple[float, Reason]:
    """The capacity to aim at: more, less, or what stands.

    Hysteresis: out when more than the tolerance is missing (the article's R above 1), in only so far that the tolerance
    is left over. With 3 % and 15 rps standing, 15.5 required adds an instance, 14.6 takes none.
    """
    standing_rps, slack = fleet.standing_rps, 1 + tolerance_percent / 100
    figures = (band.out_rps, standing_rps, band.in_rps)
    if work_ratio(work_utilization(band.out_rps, fleet), fleet, tolerance_percent) > 1:
        return band.out_rps, reasons.out(*figures)
    less = band.in_rps * slack
    if less < standing_rps and not band.settled:
        return standing_rps, reasons.window(*figures)
    if less < standing_rps:
        return less, reasons.in_(*figures)
    return standing_rps, reasons.steady(*figures)
