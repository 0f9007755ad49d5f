"""The report of `gpu-fleet trace describe`: a trace's statistics on one page."""

from __future__ import annotations

import numpy as np
import polars as pl

from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Chart, Column, Figure, Figures, PageSection, Table, Text, page
from gpu_fleet.traffic.reshape import to_rates
from gpu_fleet.traffic.statistics import Lengths, Statistics, strength
from gpu_fleet.traffic.trace import Floats, RateTrace, Trace

BINS_PER_OCTAVE = 3
BURST_NOTE = "Measured inside stretches of ten minutes, so that the rise over a day does not count as a burst."


def trace_page(trace: Trace | RateTrace, statistics: Statistics) -> str:
    """Return the whole page."""
    sections = [
        _outcome(statistics),
        PageSection("Rate", [*_rate_charts(trace), *_notes(statistics)]),
        _steps(statistics),
    ]
    if bursts := _bursts(statistics):
        sections.append(bursts)
    if isinstance(trace, Trace):
        sections.append(_tokens(trace, statistics))
    return page(
        f"Trace {trace.name}",
        sections,
        subtitle=f"{duration(trace.span_seconds)}, {statistics.requests:,.0f} requests.",
    )


def duration(seconds: float) -> str:
    """Return a duration as text: `58 min`, `7.0 days`."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "days" and seconds >= size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _outcome(statistics: Statistics) -> PageSection:
    figures = [Figure(f"{statistics.mean_rps:,.3g}", "requests per second, mean")]
    peaks = [peak for peak in statistics.peaks if peak.step_seconds >= 60] or list(statistics.peaks)
    if peaks:
        peak = peaks[0]
        step = duration(peak.step_seconds)
        figures += [
            Figure(f"{peak.peak_rps:,.3g}", f"requests per second, highest {step}"),
            Figure(f"{peak.ratio:.2f}", f"peak to mean at {step}"),
            Figure(f"{peak.most_saving:.0%}", f"saving that no autoscaler can exceed ({step})"),
        ]
    if statistics.steepest_rise is not None:
        figures.append(
            Figure(
                f"{statistics.steepest_rise:.0%}",
                f"of the peak: steepest rise within {duration(statistics.rise_seconds)}",
            )
        )
    return PageSection("In short", [Figures(figures)])


def _rate_charts(trace: Trace | RateTrace) -> list[Chart]:
    step = trace.step_seconds if isinstance(trace, RateTrace) else (10.0 if trace.span_seconds < 2 * 3600 else 60.0)
    rates = to_rates(trace, step) if trace.span_seconds >= step else None
    if rates is None:
        return []
    frame = pl.DataFrame({"at_seconds": rates.at_seconds + (trace.starts_at or 0.0), "rps": rates.rps})
    if isinstance(trace, RateTrace) and trace.measured is not None:
        frame = frame.with_columns(pl.when(pl.Series(trace.measured)).then(pl.col("rps")).alias("rps"))
    return [charts.rate(frame, title=f"Requests per second, steps of {duration(step)}")]


def _notes(statistics: Statistics) -> list[Text]:
    return [Text(f"{note[0].upper()}{note[1:]}.", quiet=True) for note in statistics.notes]


def _steps(statistics: Statistics) -> PageSection:
    rows = [
        {
            "step": duration(p.step_seconds),
            "mean": p.mean_rps,
            "peak": p.peak_rps,
            "trough": p.trough_rps,
            "ratio": p.ratio,
            "saving": p.most_saving,
        }
        for p in statistics.peaks
    ]
    columns = [
        Column("step", "step"),
        Column("mean", "mean, rps", ",.3f"),
        Column("peak", "peak, rps", ",.3f"),
        Column("trough", "trough, rps", ",.3f"),
        Column("ratio", "peak / mean", ".2f"),
        Column("saving", "saving that no autoscaler can exceed", ".1%"),
    ]
    text = (
        "Static capacity for the peak is idle for the share 1 - mean/peak. Capacity that follows the demand at that "
        "step without delay saves exactly this share; a report of more is a mistake."
    )
    return PageSection("Peak to mean", [Table(columns, rows)], text)


def _bursts(statistics: Statistics) -> PageSection | None:
    rows = [
        {
            "what": f"index of dispersion, counts in {duration(window)}",
            "value": value,
            "means": "variance / mean; Poisson traffic has 1",
        }
        for window, value in statistics.dispersion.items()
    ]
    if statistics.gap_variation is not None:
        rows.append(
            {
                "what": "squared variation of the times between requests",
                "value": statistics.gap_variation,
                "means": "Poisson traffic has 1",
            }
        )
    rows += [
        {
            "what": f"autocorrelation at a {name}",
            "value": value,
            "means": f"{strength(value)}: the last {name} explains {max(0.0, value) ** 2:.0%} of the variance",
        }
        for name, value in statistics.rhythms.items()
    ]
    if not rows:
        return None
    columns = [Column("what", "measure"), Column("value", "value", ".2f"), Column("means", "meaning", wide=True)]
    note = BURST_NOTE if statistics.dispersion else ""
    return PageSection("Bursts and rhythm", [Table(columns, rows, note=note)])


def _tokens(trace: Trace, statistics: Statistics) -> PageSection:
    columns = [Column("what", ""), *(Column(key, key, ",.0f") for key in ("mean", "p50", "p95", "p99", "longest"))]
    rows = [
        _lengths(name, lengths)
        for name, lengths in (("prompt", statistics.input_tokens), ("answer", statistics.output_tokens))
        if lengths
    ]
    blocks = [
        Table(columns, rows),
        charts.histogram(_bins(trace.input_tokens), title="Prompt lengths"),
        charts.histogram(_bins(trace.output_tokens), title="Answer lengths"),
    ]
    return PageSection("Tokens", blocks)


def _lengths(name: str, lengths: Lengths) -> dict[str, float | str]:
    return {
        "what": name,
        "mean": lengths.mean,
        "p50": lengths.p50,
        "p95": lengths.p95,
        "p99": lengths.p99,
        "longest": lengths.most,
    }


def _bins(tokens: Floats) -> pl.DataFrame:
    """Return counts in bins of a third of an octave; lengths below 1 count as 1."""
    top = max(1.0, float(tokens.max()))
    count = int(np.ceil(np.log2(top + 1) * BINS_PER_OCTAVE))
    edges = 2.0 ** (np.arange(count + 1) / BINS_PER_OCTAVE)
    counts, _ = np.histogram(np.maximum(tokens, 1.0), edges)
    return pl.DataFrame({"low": edges[:-1], "high": edges[1:], "count": counts}).filter(pl.col("count") > 0)
