"""Rows of (time, load) put on a grid of equal steps. Missing steps are filled as asked, never silently with zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.traffic.trace import Floats, RateTrace


class Gaps(StrEnum):
    """How missing steps are filled."""

    LINEAR = "linear"
    """Along the line between the steps before and after. The default: an unseen jump is unlikely."""
    HOLD = "hold"
    """With the step before."""
    ZERO = "zero"
    """With zero: right for a source that omits zeros, as a load balancer's RequestCount does."""
    REFUSE = "refuse"
    """Not at all: a missing step is an error."""


TOLERANCE = 0.01
"""Largest distance of a row from the grid, in steps: rounded times are common (33.333 s)."""


@dataclass(frozen=True, slots=True, eq=False)
class RateRows:
    """Rows of (time, load) as read, and facts about their source."""

    name: str
    seconds: Floats
    """Time of each row, from the trace's start."""
    loads: Floats
    per_seconds: float | None = None
    """The time that a load counts over; None: the step (a load is a count)."""
    step_seconds: float | None = None
    """None: the most common distance between rows."""
    starts_at: float | None = None
    """Second 0, in seconds since the epoch; None if unknown."""
    burstiness: float = 1.0
    """See `RateTrace.burstiness`."""
    notes: tuple[str, ...] = ()


def as_rates(rows: RateRows, gaps: Gaps, fail: Callable[[int, str], NoReturn]) -> RateTrace:
    """Return the rows on their grid, gaps filled as `gaps` says and noted in the trace.

    `fail(row, text)` must raise. It is called for the first row that goes backwards, is off the grid, or follows a
    refused gap.
    """
    step_seconds, steps = _steps_between(rows, fail)
    places = np.concatenate(([0], np.cumsum(steps).astype(np.int64)))
    count = int(places[-1]) + 1
    rps = rows.loads / (rows.per_seconds or step_seconds)
    measured, notes = None, rows.notes
    if count > len(places):
        if gaps is Gaps.REFUSE:
            row = int(np.flatnonzero(steps > 1)[0]) + 1
            fail(row, f"a gap of {(steps[row - 1] - 1) * step_seconds:g} s before this row, and gaps are refused")
        rps = _filled(places, rps, count, gaps)
        measured = np.zeros(count, dtype=np.bool_)
        measured[places] = True
        notes = (*notes, _gap_note(steps, step_seconds, gaps))
    return RateTrace(
        rows.name,
        np.arange(count, dtype=np.float64) * step_seconds,
        rps,
        step_seconds,
        burstiness=rows.burstiness,
        measured=measured,
        starts_at=rows.starts_at,
        notes=notes,
    )


def _steps_between(rows: RateRows, fail: Callable[[int, str], NoReturn]) -> tuple[float, Floats]:
    """Return the step in seconds, and the whole number of steps between consecutive rows."""
    seconds, step_seconds = rows.seconds, rows.step_seconds
    distances = np.diff(seconds)
    if (backwards := np.flatnonzero(distances <= 0)).size:
        row = int(backwards[0]) + 1
        previous, current = seconds[row - 1], seconds[row]
        fail(row, "the same time twice" if current == previous else f"goes backwards by {previous - current:g} s")
    if step_seconds is None:
        if len(seconds) < 2:
            fail(0, "needs at least two rows: the length of a step is the distance between rows")
        step_seconds = _most_common(distances)
    exact = distances / step_seconds
    steps = np.rint(exact)
    off = np.flatnonzero((np.abs(exact - steps) > TOLERANCE) | (steps < 1))
    if off.size:
        row = int(off[0]) + 1
        fail(
            row,
            f"is {distances[row - 1]:g} s after the row before, not a multiple of the step of {step_seconds:g} s",
        )
    return step_seconds, steps


def _most_common(distances: Floats) -> float:
    """Return the most common distance, rounded to the microsecond; the shortest if several are as common."""
    values, counts = np.unique(np.round(distances, 6), return_counts=True)
    return float(values[int(np.argmax(counts))])


def _filled(places: NDArray[np.int64], rps: Floats, count: int, gaps: Gaps) -> Floats:
    if gaps is Gaps.ZERO:
        filled = np.zeros(count)
        filled[places] = rps
        return filled
    grid = np.arange(count)
    if gaps is Gaps.HOLD:
        return rps[np.searchsorted(places, grid, side="right") - 1]
    return np.interp(grid, places, rps)


def _gap_note(steps: Floats, step_seconds: float, gaps: Gaps) -> str:
    jumps = steps[steps > 1]
    missing, longest_seconds = int((jumps - 1).sum()), (jumps.max() - 1) * step_seconds
    filling = {
        Gaps.LINEAR: "filled along the line between the neighbours",
        Gaps.HOLD: "filled with the step before",
        Gaps.ZERO: "taken as no requests",
    }[gaps]
    return (
        f"{len(jumps)} gap{'s' if len(jumps) > 1 else ''}, {missing} missing step{'s' if missing > 1 else ''} of "
        f"{step_seconds:g} s (longest {longest_seconds:g} s), {filling}"
    )
