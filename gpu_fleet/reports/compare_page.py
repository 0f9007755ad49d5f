"""The report of `gpu-fleet compare` and `gpu-fleet backtest`: costs, attainment, and decisions over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from gpu_fleet.backtest import roster
from gpu_fleet.backtest.run import Run
from gpu_fleet.backtest.scenario import MAXIMUM_FACTOR
from gpu_fleet.backtest.setting import Setting
from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Block, Chart, Column, Figure, Figures, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration
from gpu_fleet.simulator.world import START

MINUTE_SECONDS = 60.0
MOST_NOTES = 4000
"""Marks that a chart of decisions can draw and a reader can read; above this, only every n-th decision is shown."""

SAME_START = "All start alike, see the same metrics with CloudWatch's delays, and wait for the same boot."
BEST_TARGET = (
    "Each rival runs on the pool that suits it best. Unless its name says otherwise, its target is the best one for "
    "this trace, which no user knows beforehand."
)
MAXIMA = f"The pools' maxima were raised to at least {MAXIMUM_FACTOR:g} times what the peak needs."
CLAIRVOYANT = (
    "The clairvoyant fleet knows the whole trace beforehand. Ratios compare with the fleet whose instances start at "
    "once and cost only while they serve."
)
SLO_CLAIRVOYANT = (
    "The clairvoyant fleet that keeps the SLO runs request by request like every contender: one pool, ordered a boot "
    "ahead, at the highest fill found that attains."
)
LAUNCHES = (
    "Beside the instance's hours, a launch costs what it brings through a NAT gateway, and its volume until it serves. "
    "The bounds leave that out: they are lower still."
)
NOTES = (SAME_START, BEST_TARGET, MAXIMA, CLAIRVOYANT, LAUNCHES, SLO_CLAIRVOYANT)


@dataclass(frozen=True, slots=True)
class Line:
    """One contender on one trace: means over the seeds, with the lowest and the highest."""

    contender: str
    ours: bool
    slo_attainment: float
    attainment_low: float
    attainment_high: float
    meets_slo: bool
    cost_usd: float
    cost_low_usd: float
    cost_high_usd: float
    launch_usd: float
    """Of the cost, what launches cost beside the machines' hours."""
    ratio: float
    slo_ratio: float | None
    """Cost over that of the clairvoyant fleet that keeps the SLO; None if it is unknown for a seed."""
    gpu_hours: float
    p95_ttft_seconds: float | None
    lost: float
    rejected: float
    refused: float
    """Those of the rejected that reached an instance whose queue was full."""
    scale_events: float
    target: str
    """Pool and target share; several if they differ between seeds."""


def lines(runs: Sequence[Run]) -> list[Line]:
    """Return the contenders of one trace: ours, then those that meet the SLO by cost, then the others by attainment."""
    names = dict.fromkeys(run.entrant.name for run in runs)
    return sorted((_line([run for run in runs if run.entrant.name == name]) for name in names), key=_rank)


def slo_bound_line(runs: Sequence[Run]) -> Line | None:
    """Return the clairvoyant fleet that keeps the SLO on one trace; None if it was not searched."""
    fleets = {run.seed: run.slo_clairvoyant for run in runs if run.slo_clairvoyant is not None}
    if not fleets:
        return None
    line = _line(list(fleets.values()))
    return replace(line, contender=f"clairvoyant fleet, {'keeps' if line.meets_slo else 'misses'} the SLO")


def _rank(line: Line) -> tuple[bool, bool, float]:
    return not line.ours, not line.meets_slo, line.cost_usd if line.meets_slo else -line.slo_attainment


def _line(runs: Sequence[Run]) -> Line:
    shares = [run.result.slo_attainment for run in runs]
    costs = [run.result.cost_usd for run in runs]
    ttfts = [run.result.p95_ttft_seconds for run in runs if run.result.p95_ttft_seconds is not None]
    targets = dict.fromkeys(
        f"{run.entrant.pool} {run.entrant.share:.3g}" for run in runs if run.entrant.share is not None
    )
    mean = float(np.mean(shares))
    slo_ratios = [run.slo_ratio for run in runs if run.slo_ratio is not None]
    return Line(
        contender=runs[0].entrant.name,
        ours=runs[0].entrant.rule == roster.OURS,
        slo_attainment=mean,
        attainment_low=min(shares),
        attainment_high=max(shares),
        meets_slo=mean >= runs[0].target,
        cost_usd=float(np.mean(costs)),
        cost_low_usd=min(costs),
        cost_high_usd=max(costs),
        launch_usd=float(np.mean([run.result.launch_usd for run in runs])),
        ratio=float(np.mean([run.ratio for run in runs])),
        slo_ratio=float(np.mean(slo_ratios)) if len(slo_ratios) == len(runs) else None,
        gpu_hours=float(np.mean([run.result.gpu_hours for run in runs])),
        p95_ttft_seconds=float(np.mean(ttfts)) if ttfts else None,
        lost=float(np.mean([run.result.lost for run in runs])),
        rejected=float(np.mean([run.result.rejected for run in runs])),
        refused=float(np.mean([run.result.refused for run in runs])),
        scale_events=float(np.mean([run.result.scale_events for run in runs])),
        target=" / ".join(targets),
    )


def compare_page(setting: Setting, runs: Sequence[Run]) -> str:
    """Return the page: for each trace the table and the scatter, and time lines if minutes were kept."""
    names = list(dict.fromkeys(run.trace for run in runs))
    sections: list[PageSection] = []
    for name in names:
        of_trace = [run for run in runs if run.trace == name]
        sections.append(_results(name, of_trace))
        sections += [_time_lines(setting, run, name if len(names) > 1 else "") for run in _detailed(of_trace)]
    sections.append(PageSection("Method", [Text(note) for note in (*_sentences(setting.notes), *NOTES)]))
    first = runs[0]
    alone = {run.entrant.rule for run in runs} == {roster.OURS}
    subtitle = (
        f"{len(names)} {'trace' if len(names) == 1 else 'traces'}, boot {first.boot_seconds:g} s, "
        f"{len({run.seed for run in runs})} seed(s), {first.target * 100:.4g} % of requests must keep to the SLO."
    )
    title = f"Policy {setting.policy_name}" + ("" if alone else " beside its rivals")
    return page(title, sections, subtitle=subtitle)


def _sentences(notes: Sequence[str]) -> list[str]:
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def _detailed(runs: Sequence[Run]) -> list[Run]:
    """Return the runs to show in detail: ours, and the cheapest rival that met the SLO (or came nearest)."""
    kept = [run for run in runs if run.result.series is not None]
    ours = [run for run in kept if run.entrant.rule == roster.OURS]
    rivals = [run for run in kept if run.entrant.rule != roster.OURS]
    meeting = [run for run in rivals if run.meets_slo]
    best = min(meeting, key=lambda run: run.result.cost_usd, default=None) or max(
        rivals, key=lambda run: run.result.slo_attainment, default=None
    )
    return [*ours[:1], *([best] if best else [])]


COLUMNS = (
    Column("contender", "contender"),
    Column("slo_attainment", "within the SLO", ".3%"),
    Column("cost_usd", "cost", ",.2f", "$"),
    Column("launch_usd", "of it, launches", ",.2f", "$"),
    Column("ratio", "of clairvoyant", ".3f"),
    Column("slo_ratio", "of one that keeps the SLO", ".3f"),
    Column("gpu_hours", "GPU hours", ",.1f"),
    Column("p95_ttft_seconds", "p95 first token", ",.2f", "s"),
    Column("lost", "lost", ",.0f"),
    Column("rejected", "rejected", ",.0f"),
    Column("refused", "of them by a full engine", ",.0f"),
    Column("scale_events", "changes", ",.0f"),
    Column("target", "on, target"),
)


def _results(name: str, runs: Sequence[Run]) -> PageSection:
    """Return the section with the figures, the table and the scatter of one trace."""
    first, table_lines = runs[0], lines(runs)
    bound_usd = float(np.mean([run.clairvoyant_usd for run in runs]))
    with_boot_usd = float(np.mean([run.clairvoyant_with_boot_usd for run in runs]))
    rows: list[dict[str, Any]] = [
        *(asdict(line) for line in table_lines),
        _bound_row("clairvoyant fleet", bound_usd, 1.0),
        _bound_row("clairvoyant fleet, boot paid", with_boot_usd, with_boot_usd / bound_usd if bound_usd else None),
    ]
    fleet = slo_bound_line(runs)
    if fleet is not None:
        rows.append({**asdict(fleet), "slo_ratio": 1.0 if fleet.meets_slo else None})
    blocks: list[Block] = []
    ours = next((line for line in table_lines if line.ours), None)
    if ours is not None:
        blocks.append(_figures(ours, table_lines, runs))
    blocks.append(Table(COLUMNS, rows, highlight="ours"))
    relevant = [line for line in table_lines if line.meets_slo or line.ours or len(table_lines) < 4]
    blocks.append(_scatter(relevant, first.target, bound_usd, "Those that meet the SLO: cost against attainment"))
    if any(not line.meets_slo for line in table_lines):
        blocks.append(_scatter(table_lines, first.target, bound_usd, "All of them"))
    text = (
        f"{duration(first.span_seconds)}, {first.result.requests:,} requests ({first.factor:.3g} times the trace's). "
        f"Static peak capacity costs at least ${first.static_usd:,.2f}; 1 - mean/peak is {first.most_saving:.1%}, and "
        "no autoscaler saves more than that against it."
    )
    return PageSection(name, blocks, text)


def _bound_row(name: str, usd: float, ratio: float | None) -> dict[str, Any]:
    return {"contender": name, "cost_usd": usd, "ratio": ratio, "target": ""}


def _scatter(shown: Sequence[Line], target: float, bound_usd: float, title: str) -> Chart:
    frame = pl.DataFrame([asdict(line) for line in shown])
    return charts.cost_against_attainment(frame, target=target, bound_usd=bound_usd, title=title)


def _figures(ours: Line, table_lines: Sequence[Line], runs: Sequence[Run]) -> Figures:
    rivals = [line for line in table_lines if not line.ours and line.meets_slo]
    own_runs = [run for run in runs if run.entrant.rule == roster.OURS]
    figures = [
        Figure(f"{ours.slo_attainment:.3%}", "of requests within the SLO", "good" if ours.meets_slo else "bad"),
        Figure(f"${ours.cost_usd:,.2f}", "cost"),
        Figure(f"{ours.ratio:.2f}", "times the clairvoyant fleet"),
    ]
    if ours.meets_slo:
        saving = float(np.mean([1 - run.result.cost_usd / run.static_usd for run in own_runs if run.static_usd]))
        figures.append(_saving_figure(saving, "static peak at its tightest"))
    if rivals and ours.meets_slo:
        best = min(rivals, key=lambda line: line.cost_usd)
        figures.append(_saving_figure(1 - ours.cost_usd / best.cost_usd, f"the cheapest rival, {best.contender}"))
    return Figures(figures)


def _saving_figure(saving: float, other: str) -> Figure:
    return Figure(
        f"{abs(saving):.0%}", f"{'less' if saving >= 0 else 'more'} than {other}", "good" if saving >= 0 else ""
    )


def _time_lines(setting: Setting, run: Run, trace: str) -> PageSection:
    """Return the section with a run's charts over time. `trace` is empty if the page has only one."""
    series = run.result.series
    if series is None:
        return PageSection(run.entrant.name)
    at = series.at - MINUTE_SECONDS - START
    throughput_rps = {pool.name: pool.throughput_rps for pool in setting.service.pools}
    by_pool_rps = np.array([[throughput_rps[name]] for name in run.result.pools])
    demand = series.arrivals_rps if run.work_rps is None else run.work_rps[: len(at)]
    span = (float(at[0]), float(at[-1])) if len(at) else None
    blocks: list[Block] = [
        charts.demand_and_capacity(
            pl.DataFrame(
                {
                    "at_seconds": at,
                    "demand": demand,
                    "capacity": (series.ready * by_pool_rps).sum(axis=0),
                    "ordered": ((series.ready + series.starting) * by_pool_rps).sum(axis=0),
                }
            ),
            unit="typical requests per second",
        ),
        charts.pools(_by_pool(run, at, {"ready": series.ready, "desired": series.desired})),
    ]
    if len(run.result.pools) > 1:
        blocks.append(charts.weights(_by_pool(run, at, {"weight": series.weight})))
    slo = setting.service.policy.slo
    ttft = pl.DataFrame({"at_seconds": at, "ttft_seconds": series.ttft_p95_seconds}).fill_nan(None)
    blocks.append(
        charts.latency(
            ttft,
            slo.ttft_limit_seconds(setting.service.policy.request.input_tokens) if slo else None,
            span_seconds=span,
            title="Time to first token, p95 of each minute",
        )
    )
    failed = pl.DataFrame({"at_seconds": at, "rps": (series.ended - series.attained) / MINUTE_SECONDS})
    blocks.append(charts.rate(failed, title="Requests that missed the SLO", unit="requests per second"))
    if run.decisions:
        blocks.append(_decisions(run, span))
    on_trace = f" on {trace}" if trace else ""
    return PageSection(f"{run.entrant.name}{on_trace}, minute by minute (seed {run.seed})", blocks)


def _by_pool(run: Run, at: Any, values: dict[str, Any]) -> pl.DataFrame:
    names = run.result.pools
    columns = {name: value.T.ravel() for name, value in values.items()}
    return pl.DataFrame({"at_seconds": np.repeat(at, len(names)), "pool": list(names) * len(at), **columns})


def _decisions(run: Run, span: tuple[float, float] | None) -> Chart:
    moments = list(dict.fromkeys(note.at for note in run.decisions))
    step = math.ceil(len(run.decisions) / MOST_NOTES)
    kept = set(moments[::step])
    shown = [note for note in run.decisions if note.at in kept]
    title = "Decisions that changed a count, with their reasons"
    return charts.decisions(
        pl.DataFrame(
            {
                "at_seconds": [note.at - START for note in shown],
                "code": [note.code for note in shown],
                "sentence": [note.sentence for note in shown],
                "pool": [note.pool for note in shown],
            }
        ),
        span_seconds=span,
        title=title if step == 1 else f"{title}: one of {step}",
    )
