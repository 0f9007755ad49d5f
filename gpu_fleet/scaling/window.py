"""The stabilisation window: out at once, in only after less was required for a while."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.figures import work_ratio, work_utilization
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.reasons import guard as reasons
from gpu_fleet.scaling.state import GuardMemory, Point


@dataclass(frozen=True, slots=True)
class Band:
    """Capacity required: now, for scaling out; the most of the stabilisation window, for scaling in."""

    out_rps: float
    in_rps: float
    settled: bool
    """The window has been seen whole, so that less capacity may follow from it."""


def stabilise(context: Context, required_rps: float) -> tuple[Band, GuardMemory]:
    """Scale in only to the most that was required within the window (HPA's downscale stabilisation)."""
    window, now = context.policy.horizontal.scale_in_stabilization_seconds, context.now
    memory = context.state.guard
    kept = (*(p for p in memory.required if now - window < p.at < now), Point(now, required_rps))
    settled = now - context.state.since >= window
    return Band(required_rps, max(p.rps for p in kept), settled), replace(memory, required=kept)


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
