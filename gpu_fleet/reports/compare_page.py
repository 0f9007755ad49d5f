"""The report of `gpu-fleet compare` and `gpu-fleet backtest`: who costs what, and what was done when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from gpu_fleet.backtest import roster
from gpu_fleet.backtest.backtest import ROOM, Run, Setting
from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Block, Chart, Column, Figure, Figures, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration
from gpu_fleet.simulator.world import START

MINUTE_SECONDS = 60.0
MOST_NOTES = 4000
"""Marks that a chart of decisions can hold and still be read and drawn; beyond that every n-th decision is shown."""

ALIKE = "All start alike, see the same metrics as late as CloudWatch has them, and wait for the same boot."
AT_BEST = (
    "Each rival runs on the one pool that suits it best, and where its name says nothing else with the target that "
    "suits this very trace best, which no user has."
)
MAXIMA = f"Maxima of the pools were raised, where they were lower, to {ROOM:g} times what the peak needs."
CLAIRVOYANT = (
    "The clairvoyant fleet knows the whole trace beforehand; in the figure that ratios are against, instances come at "
    "once and cost only while they serve."
)
NOTES = (ALIKE, AT_BEST, MAXIMA, CLAIRVOYANT)


@dataclass(frozen=True, slots=True)
class Line:
    """One contender on one trace: means over the seeds, and the least and the most of them."""

    contender: str
    ours: bool
    slo_attainment: float
    attainment_low: float
    attainment_high: float
    meets_slo: bool
    cost_usd: float
    cost_low_usd: float
    cost_high_usd: float
    ratio: float
    gpu_hours: float
    p95_ttft_seconds: float | None
    lost: float
    rejected: float
    scale_events: float
    target: str
    """Pool and target share, by seed where they differ."""


def lines(runs: Sequence[Run]) -> list[Line]:
    """The contenders of one trace, ours first, then those that meet the SLO by cost, then the others by attainment."""
    names = dict.fromkeys(run.candidate.name for run in runs)
    found = [_line([run for run in runs if run.candidate.name == name]) for name in names]
    return sorted(found, key=_rank)


def _rank(line: Line) -> tuple[bool, bool, float]:
    return not line.ours, not line.meets_slo, line.cost_usd if line.meets_slo else -line.slo_attainment


def _line(runs: Sequence[Run]) -> Line:
    shares = [run.result.slo_attainment for run in runs]
    costs = [run.result.cost_usd for run in runs]
    ttfts = [run.result.p95_ttft_seconds for run in runs if run.result.p95_ttft_seconds is not None]
    targets = dict.fromkeys(
        f"{run.candidate.pool} {run.candidate.share:g}" for run in runs if run.candidate.share is not None
    )
    mean = float(np.mean(shares))
    return Line(
        contender=runs[0].candidate.name,
        ours=runs[0].candidate.rule == roster.OURS,
        slo_attainment=mean,
        attainment_low=min(shares),
        attainment_high=max(shares),
        meets_slo=mean >= runs[0].target,
        cost_usd=float(np.mean(costs)),
        cost_low_usd=min(costs),
        cost_high_usd=max(costs),
        ratio=float(np.mean([run.ratio for run in runs])),
        gpu_hours=float(np.mean([run.result.gpu_hours for run in runs])),
        p95_ttft_seconds=float(np.mean(ttfts)) if ttfts else None,
        lost=float(np.mean([run.result.lost for run in runs])),
        rejected=float(np.mean([run.result.rejected for run in runs])),
        scale_events=float(np.mean([run.result.scale_events for run in runs])),
        target=" / ".join(targets),
    )


def compare_page(setting: Setting, runs: Sequence[Run]) -> str:
    """The whole page: for each trace the table, the scatter, and the policy's time lines where they were kept."""
    names = list(dict.fromkeys(run.trace for run in runs))
    sections: list[PageSection] = []
    for name in names:
        of_trace = [run for run in runs if run.trace == name]
        sections.append(_outcome(name, of_trace))
        sections += [_time_lines(setting, run, name if len(names) > 1 else "") for run in _shown(of_trace)]
    sections.append(PageSection("How it was run", [Text(note) for note in (*_sentences(setting.notes), *NOTES)]))
    first = runs[0]
    alone = {run.candidate.rule for run in runs} == {roster.OURS}
    subtitle = (
        f"{len(names)} {'trace' if len(names) == 1 else 'traces'}, boot {first.boot_seconds:g} s, "
        f"{len({run.seed for run in runs})} seed(s), {first.target * 100:.4g} % of requests within the SLO asked for."
    )
    title = f"Policy {setting.policy_name}" + ("" if alone else " beside its rivals")
    return page(title, sections, subtitle=subtitle)


def _sentences(notes: Sequence[str]) -> list[str]:
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def _shown(runs: Sequence[Run]) -> list[Run]:
    """Ours, and the cheapest rival that met the SLO (else the one that came nearest), where their minutes were kept."""
    kept = [run for run in runs if run.result.series is not None]
    ours = [run for run in kept if run.candidate.rule == roster.OURS]
    rivals = [run for run in kept if run.candidate.rule != roster.OURS]
    meeting = [run for run in rivals if run.meets_slo]
    best = min(meeting, key=lambda run: run.result.cost_usd, default=None) or max(
        rivals, key=lambda run: run.result.slo_attainment, default=None
    )
    return [*ours[:1], *([best] if best else [])]


def _outcome(name: str, runs: Sequence[Run]) -> PageSection:
    first, found = runs[0], lines(runs)
    ours = next((line for line in found if line.ours), None)
    bound = float(np.mean([run.clairvoyant_usd for run in runs]))
    blocks: list[Block] = []
    if ours is not None:
        blocks.append(_figures(ours, found, runs))
    columns = [
        Column("contender", "contender"),
        Column("slo_attainment", "within the SLO", ".3%"),
        Column("cost_usd", "cost", ",.2f", "$"),
        Column("ratio", "of clairvoyant", ".3f"),
        Column("gpu_hours", "GPU hours", ",.1f"),
        Column("p95_ttft_seconds", "p95 first token", ",.2f", "s"),
        Column("lost", "lost", ",.0f"),
        Column("rejected", "rejected", ",.0f"),
        Column("scale_events", "changes", ",.0f"),
        Column("target", "on, target"),
    ]
    rows: list[dict[str, Any]] = [asdict(line) for line in found]
    rows.append({"contender": "clairvoyant fleet", "cost_usd": bound, "ratio": 1.0, "target": ""})
    with_boot = float(np.mean([run.clairvoyant_with_boot_usd for run in runs]))
    rows.append(
        {
            "contender": "clairvoyant fleet, boot paid",
            "cost_usd": with_boot,
            "ratio": with_boot / bound if bound else None,
            "target": "",
        }
    )
    blocks.append(Table(columns, rows, highlight="ours"))
    frame = pl.DataFrame([asdict(line) for line in found if line.meets_slo or line.ours or len(found) < 4])
    blocks.append(
        charts.cost_against_attainment(
            frame, target=first.target, bound_usd=bound, title="Those that meet the SLO: cost against attainment"
        )
    )
    if any(not line.meets_slo for line in found):
        everyone = pl.DataFrame([asdict(line) for line in found])
        blocks.append(
            charts.cost_against_attainment(everyone, target=first.target, bound_usd=bound, title="All of them")
        )
    text = (
        f"{duration(first.span_seconds)}, {first.result.requests:,} requests ({first.factor:.3g} times the trace's). "
        f"Static peak capacity costs at least ${first.static_usd:,.2f}; 1 - mean/peak is {first.most_saving:.1%}, and "
        "no autoscaler saves more than that against it."
    )
    return PageSection(name, blocks, text)


def _figures(ours: Line, found: Sequence[Line], runs: Sequence[Run]) -> Figures:
    rivals = [line for line in found if not line.ours and line.meets_slo]
    mine = [run for run in runs if run.candidate.rule == roster.OURS]
    figures = [
        Figure(f"{ours.slo_attainment:.3%}", "of requests within the SLO", "good" if ours.meets_slo else "bad"),
        Figure(f"${ours.cost_usd:,.2f}", "cost"),
        Figure(f"{ours.ratio:.2f}", "times the clairvoyant fleet"),
    ]
    if ours.meets_slo:
        saving = float(np.mean([1 - run.result.cost_usd / run.static_usd for run in mine if run.static_usd]))
        figures.append(_against(saving, "static peak at its tightest"))
    if rivals and ours.meets_slo:
        best = min(rivals, key=lambda line: line.cost_usd)
        figures.append(_against(1 - ours.cost_usd / best.cost_usd, f"the cheapest rival, {best.contender}"))
    return Figures(figures)


def _against(saving: float, whom: str) -> Figure:
    return Figure(
        f"{abs(saving):.0%}", f"{'less' if saving >= 0 else 'more'} than {whom}", "good" if saving >= 0 else ""
    )


def _time_lines(setting: Setting, run: Run, trace: str) -> PageSection:
    series = run.result.series
    if series is None:
        return PageSection(run.candidate.name)
    at = series.at - MINUTE_SECONDS - START
    rps = {pool.name: pool.throughput_rps for pool in setting.service.pools}
    speed = np.array([[rps[name]] for name in run.result.pools])
    demand = series.arrivals_rps if run.work_rps is None else run.work_rps[: len(at)]
    span = (float(at[0]), float(at[-1])) if len(at) else None
    blocks: list[Block] = [
        charts.demand_and_capacity(
            pl.DataFrame(
                {
                    "at_seconds": at,
                    "demand": demand,
                    "capacity": (series.ready * speed).sum(axis=0),
                    "ordered": ((series.ready + series.starting) * speed).sum(axis=0),
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
    which = f" on {trace}" if trace else ""
    return PageSection(f"{run.candidate.name}{which}, minute by minute (seed {run.seed})", blocks)


def _by_pool(run: Run, at: Any, values: dict[str, Any]) -> pl.DataFrame:
    names = run.result.pools
    columns = {name: value.T.ravel() for name, value in values.items()}
    return pl.DataFrame({"at_seconds": np.repeat(at, len(names)), "pool": list(names) * len(at), **columns})


def _decisions(run: Run, span: tuple[float, float] | None) -> Chart:
    moments = list(dict.fromkeys(note.at for note in run.decisions))
    every = -(-len(run.decisions) // MOST_NOTES)
    kept = set(moments[::every])
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
        title=title if every == 1 else f"{title}: one of {every}",
    )
