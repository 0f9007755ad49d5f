"""The report of `gpu-fleet demo`, with the sentences and figures that the terminal also shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Chart, Column, Figure, Figures, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration

if TYPE_CHECKING:
    from gpu_fleet.replay import Decided
    from gpu_fleet.replay.demo import DemoResult, Plan


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One figure of gpu-fleet and of the static fleet, as text."""

    measure: str
    ours: str
    static: str


def comparison(outcome: DemoResult) -> list[ComparisonRow]:
    """Return the comparison of gpu-fleet with the static fleet."""
    ours, static = outcome.replay, outcome.static
    return [
        ComparisonRow("requests", f"{ours.requests:,}", f"{static.requests:,}"),
        ComparisonRow("within the SLO", f"{ours.slo_attainment:.2%}", f"{static.slo_attainment:.2%}"),
        ComparisonRow("TTFT p50", _seconds(ours.p50_ttft_seconds), _seconds(static.p50_ttft_seconds)),
        ComparisonRow("TTFT p95", _seconds(ours.p95_ttft_seconds), _seconds(static.p95_ttft_seconds)),
        ComparisonRow("cost", f"${ours.cost_usd:,.2f}", f"${static.cost_usd:,.2f}"),
        ComparisonRow("GPU hours", f"{ours.gpu_hours:,.2f}", f"{static.gpu_hours:,.2f}"),
        ComparisonRow("requests lost", f"{ours.lost:,}", f"{static.lost:,}"),
        ComparisonRow("of them to a scale-in", f"{ours.lost_to_scale_in:,}", "0"),
        ComparisonRow("requests rejected", f"{ours.rejected:,}", f"{static.rejected:,}"),
        ComparisonRow("instances launched", f"{ours.launches:,}", "0"),
        ComparisonRow("runs of the scaler", f"{len(ours.invocations)}", ""),
        ComparisonRow("of them failed", f"{len(ours.failures)}", ""),
    ]


def static_name(outcome: DemoResult) -> str:
    """Return the name of the static fleet."""
    return f"static peak, {outcome.static.count} {outcome.static.pool}"


def traffic_sentence(plan: Plan) -> str:
    """Return which part of a trace is replayed, and how it was scaled."""
    traffic = plan.traffic
    part = f"{duration(traffic.trace.span_seconds)} of {traffic.source}, {len(traffic.trace):,} requests"
    if traffic.scaled_by is not None:
        part += f", each of the file's replayed {traffic.scaled_by:.3g} times on average"
    peak = f"its busiest minute has {traffic.peak_rps:.1f} requests per second"
    if traffic.peak_instances:
        peak += f", about the throughput of {traffic.peak_instances} {traffic.peak_pool} within the SLO"
    left = f" The trace's other {traffic.left_out_minutes:,} minutes are left out." if traffic.left_out_minutes else ""
    return f"Traffic: {part}; {peak}.{left}"


def opening_sentence(plan: Plan) -> str:
    """Return which instances run at the start, and how long a boot takes."""
    counts = {pool.name: max(pool.min_instances, plan.opening.ready.get(pool.name, 0)) for pool in plan.service.pools}
    instances = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
    if plan.boot_seconds is None:
        times = sorted({pool.lead_seconds for pool in plan.service.pools})
        boot = " to ".join(f"{seconds:g}" for seconds in dict.fromkeys((times[0], times[-1])))
    else:
        boot = f"{plan.boot_seconds:g}"
    return (
        f"Service {plan.service.name} under policy {plan.policy} starts on {instances}; an instance takes {boot} s "
        "from launch to its first answer."
    )


def summary(outcome: DemoResult) -> str:
    """Return the whole run in a paragraph."""
    ours, static = outcome.replay, outcome.static
    moved = [
        f"{name} between {min(counts)} and {max(counts)}"
        for name in (pool.name for pool in outcome.plan.service.pools)
        if (counts := [minute.pools[name].ready for minute in ours.minutes]) and min(counts) != max(counts)
    ]
    cheaper = 1 - ours.cost_usd / static.cost_usd if static.cost_usd else 0.0
    against = f"{abs(cheaper):.0%} {'less' if cheaper >= 0 else 'more'} than"
    lost = "no request was lost" if ours.lost == 0 else f"{ours.lost:,} requests were lost"
    scale_in = "" if ours.lost == 0 else f", {ours.lost_to_scale_in:,} of them to a scale-in"
    failed = "none failed" if not ours.failures else f"{len(ours.failures)} failed"
    return (
        f"The scaler ran {len(ours.invocations)} times ({failed}) and moved {_and(moved) or 'nothing'}. "
        f"{ours.slo_attainment:.2%} of the requests kept to the SLO, for ${ours.cost_usd:,.2f}: {against} the "
        f"${static.cost_usd:,.2f} of {static.count} {static.pool} all the time, sized for the busiest minute, on which "
        f"{static.slo_attainment:.2%} did. {lost[0].upper()}{lost[1:]}{scale_in}."
    )


def demo_page(outcome: DemoResult) -> str:
    """Return the whole page."""
    plan = outcome.plan
    sections = [
        PageSection(
            "In short",
            [Figures(_figures(outcome)), Text(traffic_sentence(plan)), Text(opening_sentence(plan))],
            summary(outcome),
        ),
        PageSection("Minute by minute", timelines(outcome), HOW_TO_READ),
        PageSection("Against static peak", [_comparison_table(outcome)], _static_fleet_sentence(outcome)),
        PageSection("Decisions", [_codes_table(outcome)], "How often each reason occurred, with its newest sentence."),
    ]
    if outcome.replay.failures:
        sections.append(PageSection("Runs that failed", [_failures_table(outcome)]))
    sections.append(PageSection("Resources", [_resources_table(outcome)], "What the Pulumi program registered."))
    return page(
        f"gpu-fleet demo: stack {plan.stack}, service {plan.service.name}",
        sections,
        subtitle=f"{duration(outcome.replay.span_seconds)} of {plan.traffic.source} through the real scaler, in "
        "virtual time, against an AWS in one process.",
    )


HOW_TO_READ = (
    "Times count from the trace's start. Drag to move, use shift and the wheel to zoom, double click to see all; the "
    "charts move together. Hover for the figures, and over a decision's mark for its reason."
)


def _figures(outcome: DemoResult) -> list[Figure]:
    ours, static = outcome.replay, outcome.static
    slo = outcome.plan.service.policy.slo
    target = slo.attainment if slo else None
    tone = "" if target is None else ("good" if ours.slo_attainment >= target else "bad")
    slo_text = "" if target is None else f" (SLO {target * 100:.4g} %)"
    cheaper = ours.cost_usd < static.cost_usd
    return [
        Figure(f"{ours.slo_attainment:.2%}", f"of requests within the SLO{slo_text}", tone),
        Figure(f"${ours.cost_usd:,.2f}", f"cost; static peak ${static.cost_usd:,.2f}", "good" if cheaper else "bad"),
        Figure(f"{ours.gpu_hours:.1f}", f"GPU hours; static peak {static.gpu_hours:.1f}"),
        Figure(f"{ours.lost_to_scale_in:,}", "requests lost to a scale-in", "bad" if ours.lost_to_scale_in else "good"),
        Figure(f"{len(ours.invocations)}", "runs of the scaler"),
    ]


def timelines(outcome: DemoResult) -> list[Chart]:
    """Return the charts over time, all with the same time axis."""
    ours = outcome.replay
    slo = outcome.plan.service.policy.slo
    span = (float(ours.minutes[0].at), float(ours.minutes[-1].at))
    return [
        demand_chart(outcome),
        pools_chart(outcome),
        charts.weights(_by_pool(outcome, "weight")),
        charts.latency(
            {
                "at_seconds": [minute.at for minute in ours.minutes],
                "ttft_seconds": [minute.ttft_p95_seconds for minute in ours.minutes],
                "median": [minute.ttft_p50_seconds for minute in ours.minutes],
            },
            _limit_seconds(outcome),
            span_seconds=span,
            title="Time to first token: 95th percentile (blue) and median (grey)",
        ),
        charts.latency(
            {
                "at_seconds": [minute.at for minute in ours.minutes],
                "tpot_seconds": [minute.tpot_p95_seconds for minute in ours.minutes],
            },
            slo.tpot_seconds if slo else None,
            span_seconds=span,
            title="Time per output token: 95th percentile",
            value="tpot_seconds",
        ),
        charts.decisions(_marks(ours.decisions, ours.start), span_seconds=span),
    ]


def demand_chart(outcome: DemoResult) -> Chart:
    """Return the chart of demand against capacity."""
    minutes = outcome.replay.minutes
    return charts.demand_and_capacity(
        {
            "at_seconds": [minute.at for minute in minutes],
            "demand": [minute.arrivals_rps for minute in minutes],
            "capacity": [minute.capacity_rps for minute in minutes],
            "ordered": [minute.ordered_rps for minute in minutes],
            "forecast": [minute.forecast_rps for minute in minutes],
        }
    )


def pools_chart(outcome: DemoResult) -> Chart:
    """Return the chart of instances by pool."""
    return charts.pools(_by_pool(outcome, "ready", "desired"), title="Ready instances by pool, and all desired")


def _by_pool(outcome: DemoResult, *columns: str) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"at_seconds": minute.at, "pool": name, **{column: getattr(pool, column) for column in columns}}
            for minute in outcome.replay.minutes
            for name, pool in minute.pools.items()
        ]
    )


def _limit_seconds(outcome: DemoResult) -> float | None:
    slo = outcome.plan.service.policy.slo
    return None if slo is None else round(slo.ttft_limit_seconds(outcome.replay.mean_input_tokens), 2)


def _marks(decisions: Sequence[Decided], start: float) -> pl.DataFrame:
    rows = [
        {"at_seconds": decision.at - start, "code": code, "sentence": sentence}
        for decision in decisions
        for code, sentence in zip(decision.codes, decision.sentences, strict=True)
    ]
    return pl.DataFrame(rows, schema={"at_seconds": pl.Float64, "code": pl.String, "sentence": pl.String})


def _comparison_table(outcome: DemoResult) -> Table:
    rows = [{"measure": row.measure, "ours": row.ours, "static": row.static} for row in comparison(outcome)]
    return Table([Column("measure", ""), Column("ours", "gpu-fleet"), Column("static", static_name(outcome))], rows)


def _static_fleet_sentence(outcome: DemoResult) -> str:
    static = outcome.static
    return (
        f"The same requests on {static.count} {static.pool} that run all the time: the cheapest fleet of one pool that "
        "the busiest minute fills to 80 %. It knows the busiest minute beforehand; the scaler does not."
    )


def _codes_table(outcome: DemoResult) -> Table:
    newest: dict[str, str] = {}
    for decision in outcome.replay.decisions:
        newest |= dict(zip(decision.codes, decision.sentences, strict=True))
    rows: list[dict[str, Any]] = [
        {"code": code, "times": times, "sentence": newest[code]} for code, times in outcome.replay.codes.items()
    ]
    columns = [Column("code", "reason code"), Column("times", "times", ",.0f"), Column("sentence", "newest", wide=True)]
    return Table(columns, rows)


def _failures_table(outcome: DemoResult) -> Table:
    ours = outcome.replay
    rows = [{"at": duration(run.at - ours.start), "error": run.trouble} for run in ours.failures]
    return Table([Column("at", "at"), Column("error", "error", wide=True)], rows)


def _resources_table(outcome: DemoResult) -> Table:
    # Sorted by URN, since the order of registration depends on the event loop.
    by_urn = sorted(outcome.resources, key=lambda resource: resource.urn)
    rows = [{"type": r.type, "name": r.name, "id": r.id if r.custom else ""} for r in by_urn]
    return Table([Column("type", "type"), Column("name", "name"), Column("id", "id")], rows)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
