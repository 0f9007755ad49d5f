"""Cropping, scaling and resampling of traces. Each function returns a new trace."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gpu_fleet.traffic.trace import RateTrace, Trace

MINUTE_SECONDS = 60.0
JITTER_SECONDS = 5.0
"""Largest distance of a copied request from its original. Copies at the same moment would make every request a burst;
copies spread over minutes would smooth the trace's bursts."""


def to_rates(trace: Trace | RateTrace, step_seconds: float = MINUTE_SECONDS) -> RateTrace:
    """Return the trace as mean rates in steps of that length. Raises ValueError if it is shorter than one step.

    Only whole steps count: a partial last step would show too low a rate. A finer step than the trace's own repeats
    its rates.
    """
    count = math.floor(trace.span_seconds / step_seconds + 1e-9)
    if count < 1:
        raise ValueError(
            f"{trace.name}: is {trace.span_seconds:g} s long, which is less than one step of {step_seconds:g} s"
        )
    edges = np.arange(count + 1, dtype=np.float64) * step_seconds
    match trace:
        case Trace():
            counts = np.searchsorted(trace.at_seconds, edges, side="left").astype(np.float64)
            # A request at the very end of the span counts in the last step.
            if edges[-1] >= trace.at_seconds[-1]:
                counts[-1] = len(trace)
            return RateTrace(
                trace.name,
                edges[:-1],
                np.diff(counts) / step_seconds,
                step_seconds,
                starts_at=trace.starts_at,
                notes=trace.notes,
            )
        case RateTrace():
            if step_seconds == trace.step_seconds:
                return trace
            own_edges = np.arange(len(trace) + 1) * trace.step_seconds
            total = np.concatenate(([0.0], np.cumsum(trace.rps) * trace.step_seconds))
            rps = np.maximum(np.diff(np.interp(edges, own_edges, total)) / step_seconds, 0.0)
            return replace(trace, at_seconds=edges[:-1], rps=rps, step_seconds=step_seconds, measured=None)


def crop(trace: Trace | RateTrace, from_seconds: float, to_seconds: float) -> Trace | RateTrace:
    """Return the part from `from_seconds` to before `to_seconds`, as a trace that begins at 0; of rates, whole steps.

    Raises ValueError if nothing is left.
    """
    if not 0 <= from_seconds < to_seconds:
        raise ValueError(f"the part from {from_seconds:g} s to {to_seconds:g} s is empty or begins before the trace")
    to_seconds = min(to_seconds, trace.span_seconds)
    starts_at = None if trace.starts_at is None else trace.starts_at + from_seconds
    match trace:
        case Trace():
            # A request at the very end belongs to the whole trace, but not to a part that ends there.
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
    """Return the highest mean rate over any whole step, which is at least a rate trace's own step."""
    own_step = trace.step_seconds if isinstance(trace, RateTrace) else step_seconds
    return float(to_rates(trace, max(step_seconds, own_step)).rps.max())


def scale_to(
    trace: Trace | RateTrace, new_peak_rps: float, *, step_seconds: float = MINUTE_SECONDS, seed: int = 0
) -> Trace | RateTrace:
    """Return the trace at another height: its highest mean rate over a step becomes `new_peak_rps`.

    Rates are multiplied by a factor k. Time stays, since boot times would not shrink with it. Single requests are kept
    with probability k if k < 1, and else repeated k times on average; copies have the original's lengths and arrive up
    to `JITTER_SECONDS` from it. The draw is seeded, and meets the peak only on average (within about
    3 / sqrt(requests in the peak step)).
    Raises ValueError for a peak that is not positive, and for a trace without requests.
    """
    if not 0 < new_peak_rps < math.inf:
        raise ValueError(f"peak_rps: must be above 0 (got {new_peak_rps})")
    present_peak_rps = peak_rps(trace, step_seconds)
    if present_peak_rps == 0:
        raise ValueError(f"{trace.name}: has no requests to scale")
    factor = new_peak_rps / present_peak_rps
    if isinstance(trace, RateTrace):
        return replace(trace, rps=trace.rps * factor)
    random = np.random.default_rng(seed)
    whole = math.floor(factor)
    copies = whole + (random.random(len(trace)) < factor - whole)
    if not copies.any():
        raise ValueError(f"{trace.name}: has no request left at a peak of {new_peak_rps:g} requests per second")
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
