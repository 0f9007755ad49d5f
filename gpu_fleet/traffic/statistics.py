"""Statistics of a trace: its rate, the ratio of peaks to mean, bursts, rhythms, and request lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gpu_fleet.traffic.reshape import to_rates
from gpu_fleet.traffic.trace import Floats, RateTrace, Trace

STEPS_SECONDS = (10.0, 60.0, 300.0, 600.0, 3600.0)
LEAST_STEPS = 4
"""A peak over fewer steps than this means nothing."""
COUNT_WINDOWS_SECONDS = (1.0, 10.0, 60.0)
STRETCH_SECONDS = 600.0
"""Bursts are measured within stretches of ten minutes, so that the day's rise and fall is not a burst."""
RHYTHMS_SECONDS = {"day": 86_400.0, "week": 604_800.0}
RHYTHM_STEP_SECONDS = 600.0
LEAD_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class PeakToMean:
    """Mean, peak and trough of the rate at one step."""

    step_seconds: float
    mean_rps: float
    peak_rps: float
    trough_rps: float

    @property
    def ratio(self) -> float:
        """Peak over mean; 0 without requests."""
        return self.peak_rps / self.mean_rps if self.mean_rps else 0.0

    @property
    def most_saving(self) -> float:
        """1 - mean/peak: the idle share of static peak capacity, and the most that an autoscaler can save.

        Capacity that followed the demand at this step without delay would save exactly this.
        """
        return 1 - self.mean_rps / self.peak_rps if self.peak_rps else 0.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """Distribution of prompt or answer lengths, in tokens."""

    mean: float
    p50: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics of a trace. A figure that the trace cannot give is None, or missing from its mapping."""

    name: str
    span_seconds: float
    requests: float
    """Number of requests; for a rate trace, the expected number."""
    mean_rps: float
    peaks: tuple[PeakToMean, ...]
    """One for each step that is no finer than the trace's own step and fits in it `LEAST_STEPS` times."""
    dispersion: Mapping[float, float]
    """Index of dispersion for counts, by window in seconds: variance / mean of the counts; 1 is Poisson."""
    gap_variation: float | None
    """Squared coefficient of variation of the times between requests; 1 is Poisson; None for rates."""
    rhythms: Mapping[str, float]
    """Autocorrelation of the rate at a day and a week, -1 to 1, if the trace is at least twice as long."""
    steepest_rise: float | None
    """Largest rise of the rate within `rise_seconds`, as a share of its peak."""
    rise_seconds: float
    """`LEAD_SECONDS`, or the trace's own step if that is longer."""
    input_tokens: Lengths | None
    output_tokens: Lengths | None
    notes: tuple[str, ...]

    @property
    def most_saving(self) -> float:
        """The bound at the finest step of at least a minute, with which results are compared."""
        candidates = [peak for peak in self.peaks if peak.step_seconds >= 60] or list(self.peaks)
        return candidates[0].most_saving if candidates else 0.0


def describe(trace: Trace | RateTrace) -> Statistics:
    """Return the statistics of a trace; a short trace lacks some of them."""
    requests = float(len(trace)) if isinstance(trace, Trace) else trace.expected_requests
    is_trace = isinstance(trace, Trace)
    return Statistics(
        name=trace.name,
        span_seconds=trace.span_seconds,
        requests=requests,
        mean_rps=requests / trace.span_seconds if trace.span_seconds else 0.0,
        peaks=peaks(trace),
        dispersion=dispersion(trace.at_seconds, trace.span_seconds) if is_trace else {},
        gap_variation=gap_variation(trace.at_seconds) if is_trace else None,
        rhythms=rhythms(trace),
        steepest_rise=steepest_rise(trace),
        rise_seconds=max(LEAD_SECONDS, trace.step_seconds) if isinstance(trace, RateTrace) else LEAD_SECONDS,
        input_tokens=lengths(trace.input_tokens) if is_trace else None,
        output_tokens=lengths(trace.output_tokens) if is_trace else None,
        notes=trace.notes,
    )


def peaks(trace: Trace | RateTrace) -> tuple[PeakToMean, ...]:
    """Return peak and mean at each step that suits the trace; a rate trace's own step comes first."""
    own_step = trace.step_seconds if isinstance(trace, RateTrace) else 0.0
    steps = sorted({step for step in STEPS_SECONDS if step >= own_step} | ({own_step} if own_step else set()))
    result: list[PeakToMean] = []
    for step in steps:
        if trace.span_seconds < LEAST_STEPS * step:
            continue
        rps = to_rates(trace, step).rps
        result.append(PeakToMean(step, float(rps.mean()), float(rps.max()), float(rps.min())))
    return tuple(result)


def dispersion(at_seconds: Floats, span_seconds: float) -> dict[float, float]:
    """Return the index of dispersion for counts within stretches of `STRETCH_SECONDS`, weighted by their requests.

    I(w) = sum over stretches of var(counts in windows of w) / sum over stretches of mean(counts); unbiased variance.
    Source: Cox and Lewis, "The Statistical Analysis of Series of Events", 1966, section 4.3; on web traffic see
    Gusella, "Characterizing the Variability of Arrival Processes with Indexes of Dispersion", IEEE JSAC 9(2), 1991.
    """
    by_window: dict[float, float] = {}
    for window in COUNT_WINDOWS_SECONDS:
        windows = int(span_seconds // window)
        if windows < LEAST_STEPS:
            continue
        counts = np.diff(np.searchsorted(at_seconds, np.arange(windows + 1) * window, side="left")).astype(np.float64)
        size = min(int(STRETCH_SECONDS // window), windows)
        stretches = counts[: windows // size * size].reshape(-1, size)
        if total := float(stretches.mean(axis=1).sum()):
            by_window[window] = float(stretches.var(axis=1, ddof=1).sum()) / total
    return by_window


def gap_variation(at_seconds: Floats) -> float | None:
    """Return the squared coefficient of variation of the times between requests, within stretches, by requests."""
    gaps = np.diff(at_seconds)
    stretch = (at_seconds[1:] // STRETCH_SECONDS).astype(np.int64)
    count = np.bincount(stretch)
    total = np.bincount(stretch, gaps)
    squares = np.bincount(stretch, gaps**2)
    enough = (count >= 10) & (total > 0)  # fewer gaps give no useful variance
    if not enough.any():
        return None
    mean = total[enough] / count[enough]
    variation = np.maximum(squares[enough] / count[enough] - mean**2, 0.0) / mean**2
    return float(np.average(variation, weights=count[enough]))


def rhythms(trace: Trace | RateTrace) -> dict[str, float]:
    """Return the autocorrelation of the rate at a day and a week (Pearson's, of the trace with itself at that lag)."""
    own_step = trace.step_seconds if isinstance(trace, RateTrace) else 0.0
    correlations: dict[str, float] = {}
    for name, lag_seconds in RHYTHMS_SECONDS.items():
        step = max(RHYTHM_STEP_SECONDS, own_step)
        if trace.span_seconds < 2 * lag_seconds or lag_seconds % step:
            continue
        rps = to_rates(trace, step).rps
        lag = round(lag_seconds / step)
        before, after = rps[:-lag], rps[lag:]
        if before.std() > 0 and after.std() > 0:
            correlations[name] = float(np.corrcoef(before, after)[0, 1])
    return correlations


def strength(correlation: float) -> str:
    """Return a word for a correlation. Its square is the share of variance that repeating the last period explains."""
    explained = correlation**2 if correlation > 0 else 0.0
    for limit, word in ((0.64, "strong"), (0.25, "clear"), (0.04, "weak")):
        if explained >= limit:
            return word
    return "none"


def steepest_rise(trace: Trace | RateTrace, lead_seconds: float = LEAD_SECONDS) -> float | None:
    """Return the largest rise over `lead_seconds` (at least one step), as a share of the peak.

    Steps are 60 s, or the trace's own step if longer. None for a trace that is too short.
    """
    own_step = trace.step_seconds if isinstance(trace, RateTrace) else 0.0
    step = max(60.0, own_step)
    if trace.span_seconds < LEAST_STEPS * step:
        return None
    rps = to_rates(trace, step).rps
    lag = max(1, round(lead_seconds / step))
    if lag >= len(rps) or rps.max() == 0:
        return None
    return max(0.0, float((rps[lag:] - rps[:-lag]).max() / rps.max()))


def lengths(tokens: Floats) -> Lengths:
    """Return mean, percentiles and maximum."""
    p50, p95, p99 = np.percentile(tokens, (50, 95, 99))
    return Lengths(float(tokens.mean()), float(p50), float(p95), float(p99), float(tokens.max()))
