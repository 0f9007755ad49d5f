"""Rows of (time, load) as steps of equal length. A step that is not in the file is missing, and never zero unasked."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.traffic.trace import Floats, RateTrace


class Gaps(StrEnum):
    """What stands in for steps that are not in the file."""

    LINEAR = "linear"
    """The line between the steps before and after: the default, since demand has no jump unless one was seen."""
    HOLD = "hold"
    """The last step before."""
    ZERO = "zero"
    """No request: right where the source leaves out what is zero, as a load balancer's RequestCount does."""
    REFUSE = "refuse"
    """An error."""


TOLERANCE = 0.01
"""How far a row may stand from the grid, in steps: rounded times are common (33.333 s)."""


def as_rates(
    name: str,
    seconds: Floats,
    loads: Floats,
    *,
    per_seconds: float | None,
    gaps: Gaps,
    fail: Callable[[int, str], NoReturn],
    step_seconds: float | None = None,
    starts_at: float | None = None,
    burstiness: float = 1.0,
    notes: tuple[str, ...] = (),
) -> RateTrace:
    """The rows on their grid, gaps filled as `gaps` says and stated in the trace's notes.

    `per_seconds` is the time that a load counts over; None: the step itself (a load is a count). The step is the
    commonest distance of two rows unless `step_seconds` gives it. `fail(row, text)` is called for the first row that
    goes backwards or does not stand on the grid, or opens a gap that is refused; it must raise.
    """
    distances = np.diff(seconds)
    if (backwards := np.flatnonzero(distances <= 0)).size:
        row = int(backwards[0]) + 1
        before, here = seconds[row - 1], seconds[row]
        fail(row, "the same time twice" if here == before else f"goes backwards by {before - here:g} s")
    if step_seconds is None:
        if len(seconds) < 2:  # two rows are what a distance needs
            fail(0, "needs at least two rows: the length of a step is the distance between rows")
        step_seconds = _commonest(distances)
    steps = distances / step_seconds
    whole = np.rint(steps)
    off = np.flatnonzero((np.abs(steps - whole) > TOLERANCE) | (whole < 1))
    if off.size:
        row = int(off[0]) + 1
        fail(
            row,
            f"stands {distances[row - 1]:g} s after the row before, no multiple of the step of {step_seconds:g} s",
        )
    places = np.concatenate(([0], np.cumsum(whole).astype(np.int64)))
    count = int(places[-1]) + 1
    measured = np.zeros(count, dtype=np.bool_)
    measured[places] = True
    if gaps is Gaps.REFUSE and count > len(places):
        row = int(np.flatnonzero(whole > 1)[0]) + 1
        fail(row, f"a gap of {(whole[row - 1] - 1) * step_seconds:g} s before this row, and gaps are refused")
    rps = _filled(places, loads / (per_seconds or step_seconds), count, gaps)
    if count > len(places):
        notes = (*notes, _gap_note(whole, step_seconds, gaps))
    return RateTrace(
        name,
        np.arange(count, dtype=np.float64) * step_seconds,
        rps,
        step_seconds,
        burstiness=burstiness,
        measured=measured if count > len(places) else None,
        starts_at=starts_at,
        notes=notes,
    )


def _commonest(distances: Floats) -> float:
    """The commonest distance, the shortest of equally common ones; to the microsecond, since floats differ below."""
    values, counts = np.unique(np.round(distances, 6), return_counts=True)
    return float(values[int(np.argmax(counts))])


def _filled(places: NDArray[np.int64], rps: Floats, count: int, gaps: Gaps) -> Floats:
    if count == len(places):
        return rps
    if gaps is Gaps.ZERO:
        filled = np.zeros(count)
        filled[places] = rps
        return filled
    every = np.arange(count)
    if gaps is Gaps.HOLD:
        return rps[np.searchsorted(places, every, side="right") - 1]
    return np.interp(every, places, rps)


def _gap_note(whole: Floats, step_seconds: float, gaps: Gaps) -> str:
    jumps = whole[whole > 1]
    steps, longest = int((jumps - 1).sum()), (jumps.max() - 1) * step_seconds
    count = f"{len(jumps)} gap{'s' if len(jumps) > 1 else ''}"
    how = {
        Gaps.LINEAR: "filled by the line between the neighbours",
        Gaps.HOLD: "filled with the step before",
        Gaps.ZERO: "taken as no requests",
    }[gaps]
    return (
        f"{count}, {steps} missing step{'s' if steps > 1 else ''} of {step_seconds:g} s (longest {longest:g} s), {how}"
    )
