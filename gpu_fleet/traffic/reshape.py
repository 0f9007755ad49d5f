"""Traces cut, scaled and counted anew. Each returns a new trace and leaves the old one as it was."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gpu_fleet.traffic.trace import RateTrace, Trace

MINUTE_SECONDS = 60.0
JITTER_SECONDS = 5.0
"""How far an added copy of a request may stand from it. Copies at the very same moment would be one burst; copies
spread over minutes would smooth the bursts that a trace is used for."""


def to_rates(trace: Trace | RateTrace, step_seconds: float = MINUTE_SECONDS) -> RateTrace:
    """The trace as mean rates in steps of this length. Raises ValueError where it is shorter than one step.

    Only whole steps count: a last step that was seen in part would show too low a rate. A finer step than the
    trace's own repeats its rates: nothing is made up between them.
    """
    count = math.floor(trace.span_seconds / step_seconds + 1e-9)
    if count < 1:
        raise ValueError(
            f"{trace.name}: is {trace.span_seconds:g} s long, which is less than one step of {step_seconds:g} s"
        )
    edges = np.arange(count + 1, dtype=np.float64) * step_seconds
    match trace:
        case Trace():
            # The last request stands at the very end of the span: side="right" counts it where that is an edge.
            seen = np.searchsorted(trace.at_seconds, edges, side="left").astype(np.float64)
            if edges[-1] >= trace.at_seconds[-1]:
                seen[-1] = len(trace)
            return RateTrace(
                trace.name,
                edges[:-1],
                np.diff(seen) / step_seconds,
                step_seconds,
                starts_at=trace.starts_at,
                notes=trace.notes,
            )
        case RateTrace():
            if step_seconds == trace.step_seconds:
                return trace
            own = np.arange(len(trace) + 1) * trace.step_seconds
            total = np.concatenate(([0.0], np.cumsum(trace.rps) * trace.step_seconds))
            rps = np.maximum(np.diff(np.interp(edges, own, total)) / step_seconds, 0.0)
            return replace(trace, at_seconds=edges[:-1], rps=rps, step_seconds=step_seconds, measured=None)


def crop(trace: Trace | RateTrace, from_seconds: float, to_seconds: float) -> Trace | RateTrace:
    """The part from `from_seconds` to before `to_seconds`, as a trace that begins at 0; of rates, whole steps.

    Raises ValueError where nothing is left.
    """
    if not 0 <= from_seconds < to_seconds:
        raise ValueError(f"the part from {from_seconds:g} s to {to_seconds:g} s is empty or begins before the trace")
    to_seconds = min(to_seconds, trace.span_seconds)
    starts_at = None if trace.starts_at is None else trace.starts_at + from_seconds
    match trace:
        case Trace():
            # A request at the very end belongs to the trace, though not to a part that ends there.
            side = "right" if to_seconds >= trace.span_seconds else "left"
            first = int(np.searchsorted(trace.at_seconds, from_seconds, side="left"))
            last = int(np.searchsorted(trace.at_seconds, to_seconds, side=side))
            if first >= last:
                raise ValueError(f"{trace.name}: no request from {from_seconds:g} s to {to_seconds:g} s")
            return replace(
                trace,
                at_seconds=trace.at_seconds[first:last] - from_seconds,
                input_tokens=trace.input_tokens[first:last],
                output_tokens=trace.output_tokens[first:last],
                span_seconds=to_seconds - from_seconds,
                starts_at=starts_at,
            )
        case RateTrace():
            first = math.ceil(from_seconds / trace.step_seconds - 1e-9)
            last = math.floor(to_seconds / trace.step_seconds + 1e-9)
            if first >= last:
                raise ValueError(f"{trace.name}: no whole step from {from_seconds:g} s to {to_seconds:g} s")
            return replace(
                trace,
                at_seconds=trace.at_seconds[: last - first],
                rps=trace.rps[first:last],
                measured=None if trace.measured is None else trace.measured[first:last],
                starts_at=None if trace.starts_at is None else trace.starts_at + first * trace.step_seconds,
            )


def peak_rps(trace: Trace | RateTrace, step_seconds: float = MINUTE_SECONDS) -> float:
    """The highest mean rate over any whole step; a rate trace has none finer than its own."""
    own = trace.step_seconds if isinstance(trace, RateTrace) else step_seconds
    return float(to_rates(trace, max(step_seconds, own)).rps.max())


def scale_to(
    trace: Trace | RateTrace, peak_rps: float, *, step_seconds: float = MINUTE_SECONDS, seed: int = 0
) -> Trace | RateTrace:
    """The trace with the same shape and another height: `peak_rps` is its highest mean rate over a step afterwards.

    Rates are multiplied, and time is left alone, since boot times do not shrink with it. Of single requests each is
    kept with probability k where k < 1, and above it is repeated k times in the mean; the copies stand up to
    `JITTER_SECONDS` from the original, with its lengths. The draw is seeded, and the peak is then met only in the
    mean (within about 3 / sqrt(requests in the peak step)).
    Raises ValueError for a peak that is not positive, or a trace without requests.
    """
    if not 0 < peak_rps < math.inf:
        raise ValueError(f"peak_rps: must be above 0 (got {peak_rps})")
    own = trace.step_seconds if isinstance(trace, RateTrace) else step_seconds
    now = float(to_rates(trace, max(step_seconds, own)).rps.max())
    if now == 0:
        raise ValueError(f"{trace.name}: has no requests that could be scaled")
    factor = peak_rps / now
    if isinstance(trace, RateTrace):
        return replace(trace, rps=trace.rps * factor)
    random = np.random.default_rng(seed)
    whole = math.floor(factor)
    copies = whole + (random.random(len(trace)) < factor - whole)
    if not copies.any():
        raise ValueError(f"{trace.name}: nothing is left of it at a peak of {peak_rps:g} requests per second")
    source = np.repeat(np.arange(len(trace)), copies)
    first = np.concatenate(([True], np.diff(source) > 0))
    moved = random.uniform(-JITTER_SECONDS, JITTER_SECONDS, len(source))
    at = np.clip(trace.at_seconds[source] + np.where(first, 0.0, moved), 0.0, trace.span_seconds)
    order = np.argsort(at, kind="stable")
    source = source[order]
    return replace(
        trace,
        at_seconds=at[order],
        input_tokens=trace.input_tokens[source],
        output_tokens=trace.output_tokens[source],
        notes=(*trace.notes, f"scaled by {factor:.3g}"),
    )
