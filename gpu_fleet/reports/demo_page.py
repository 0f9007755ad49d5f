"""The report of `gpu-fleet demo`, with the sentences and figures that it shares with the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from gpu_fleet.replay.hardware import instance_label
from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Chart, Column, Figure, Figures, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration

if TYPE_CHECKING:
    from gpu_fleet.replay import LoggedDecision, TypeChange
    from gpu_fleet.replay.demo import DemoResult, Plan


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """One row of the comparison."""

    measure: str
    ours: str
    static: str


def comparison(result: DemoResult) -> list[ComparisonRow]:
    """Compare gpu-fleet with the static fleet, as text."""
    ours, static = result.replay, result.static
    return [
        ComparisonRow("requests", f"{ours.requests:,}", f"{static.requests:,}"),
        ComparisonRow("within the SLO", f"{ours.slo_attainment:.2%}", f"{static.slo_attainment:.2%}"),
        ComparisonRow("TTFT p50", _seconds(ours.p50_ttft_seconds), _seconds(static.p50_ttft_seconds)),
        ComparisonRow("TTFT p95", _seconds(ours.p95_ttft_seconds), _seconds(static.p95_ttft_seconds)),
        ComparisonRow("cost", f"${ours.cost_usd:,.2f}", f"${static.cost_usd:,.2f}"),
        ComparisonRow("of it, launches", f"${ours.launch_usd:,.2f}", "$0.00"),
        ComparisonRow("GPU hours", f"{ours.gpu_hours:,.2f}", f"{static.gpu_hours:,.2f}"),
        ComparisonRow("requests lost", f"{ours.lost:,}", f"{static.lost:,}"),
        ComparisonRow("of them to a scale-in", f"{ours.lost_to_scale_in:,}", "0"),
        ComparisonRow("requests rejected", f"{ours.rejected:,}", f"{static.rejected:,}"),
        ComparisonRow("instances launched", f"{ours.launches:,}", "0"),
        ComparisonRow("runs of the scaler", f"{len(ours.invocations)}", ""),
        ComparisonRow("of them failed", f"{len(ours.failures)}", ""),
    ]


def static_name(result: DemoResult) -> str:
    """Name the static fleet."""
    return f"static peak, {result.static.count} {result.static.label}"


def traffic_sentence(plan: Plan) -> str:
    """Say what is replayed, and how it was scaled and cut."""
    traffic = plan.traffic
    what = f"{duration(traffic.trace.span_seconds)} of {traffic.source}, {len(traffic.trace):,} requests"
    if traffic.scaled_by is not None:
        what += f", each of the file's replayed {traffic.scaled_by:.3g} times on average"
    peak = f"its busiest minute has {traffic.peak_rps:.1f} requests per second"
    if traffic.peak_instances:
        peak += f", about what {traffic.peak_instances} {traffic.peak_pool} complete within the SLO"
    left = f" The trace's other {traffic.left_out_minutes:,} minutes are left out." if traffic.left_out_minutes else ""
    return f"Traffic: {what}; {peak}.{left}"


def opening_sentence(plan: Plan) -> str:
    """Say what the fleet is at the start, and how long a boot takes."""
    pools = plan.service.pools
    counts = {pool.name: max(pool.min_instances, plan.opening.ready.get(pool.name, 0)) for pool in pools}
    fleet = " and ".join(f"{counts[pool.name]} {instance_label(pool)}" for pool in pools if counts[pool.name])
    boots = plan.options.boot_seconds
    if boots is None:
        times = sorted({kind.lead_seconds for pool in pools for kind in pool.kinds})
        boot = " to ".join(f"{seconds:g}" for seconds in dict.fromkeys((times[0], times[-1])))
    else:
        boot = f"{boots:g}"
    return (
        f"Service {plan.service.name} under policy {plan.policy} starts on {fleet}; an instance takes {boot} s from "
        "launch to answer."
    )


def summary(result: DemoResult) -> str:
    """Sum up the whole run in a paragraph."""
    ours, static = result.replay, result.static
    moved = [
        f"{name} between {min(counts)} and {max(counts)}"
        for name in (pool.name for pool in result.plan.service.pools)
        if (counts := [minute.pools[name].ready for minute in ours.minutes]) and min(counts) != max(counts)
    ]
    cheaper = 1 - ours.cost_usd / static.cost_usd if static.cost_usd else 0.0
    against = f"{abs(cheaper):.0%} {'less' if cheaper >= 0 else 'more'} than"
    lost = "no request was lost" if ours.lost == 0 else f"{ours.lost:,} requests were lost"
    scale_in = "" if ours.lost == 0 else f", {ours.lost_to_scale_in:,} of them to a scale-in"
    failed = "none failed" if not ours.failures else f"{len(ours.failures)} failed"
    types = "".join(f" {type_change_sentence(change)}" for change in ours.type_changes)
    return (
        f"The scaler ran {len(ours.invocations)} times ({failed}) and moved {_and(moved) or 'nothing'}.{types} "
        f"{ours.slo_attainment:.2%} of the requests kept to the SLO, for ${ours.cost_usd:,.2f}: {against} the "
        f"${static.cost_usd:,.2f} of {static.count} {static.label} all the time, sized for the busiest minute, on "
        f"which {static.slo_attainment:.2%} did. {lost[0].upper()}{lost[1:]}{scale_in}."
    )


def type_change_sentence(change: TypeChange) -> str:
    """Say what an instance refresh changed, when, and how it ended."""
    begins = f"At {_clock(change.began)} an instance refresh began to bring {'/'.join(change.types)} into {change.pool}"
    if change.ended is None:
        return f"{begins}; it still ran at the end."
    minutes = f"{(change.ended - change.began) / 60:.0f} min"
    if change.status == "Successful":
        return f"{begins}; after {minutes} it was over."
    return f"{begins}; after {minutes} it ended as {change.status.lower()}."


def demo_page(result: DemoResult) -> str:
    """Return the report: one self-contained HTML file."""
    plan = result.plan
    sections = [
        PageSection(
            "In short",
            [Figures(_figures(result)), Text(traffic_sentence(plan)), Text(opening_sentence(plan))],
            summary(result),
        ),
        PageSection("Minute by minute", timelines(result), _HOW_TO_READ),
        PageSection("Against static peak", [_comparison_table(result)], _against(result)),
        PageSection("Decisions", [_codes_table(result)], "How often each reason was given, with its newest sentence."),
    ]
    if result.replay.failures:
        sections.append(PageSection("Runs that failed", [_failures_table(result)]))
    sections.append(PageSection("Resources", [_resources_table(result)], "What the Pulumi program registered."))
    return page(
        f"gpu-fleet demo: stack {plan.options.stack}, service {plan.service.name}",
        sections,
        subtitle=f"{duration(result.replay.span_seconds)} of {plan.traffic.source} through the real scaler, in "
        "virtual time, against an AWS in one process.",
    )


_HOW_TO_READ = (
    "Times count from the trace's start. Drag to move, hold shift and turn the wheel to zoom, double-click to see all; "
    "the charts move together. Hover for the figures, and over a decision's mark for its reason."
)


def _figures(result: DemoResult) -> list[Figure]:
    ours, static = result.replay, result.static
    slo = result.plan.service.policy.slo
    target = slo.attainment if slo else None
    good = "" if target is None else ("good" if ours.slo_attainment >= target else "bad")
    slo_text = "" if target is None else f" (SLO {target * 100:.4g} %)"
    cheaper = ours.cost_usd < static.cost_usd
    return [
        Figure(f"{ours.slo_attainment:.2%}", f"of requests within the SLO{slo_text}", good),
        Figure(f"${ours.cost_usd:,.2f}", f"cost; static peak ${static.cost_usd:,.2f}", "good" if cheaper else "bad"),
        Figure(f"{ours.gpu_hours:.1f}", f"GPU hours; static peak {static.gpu_hours:.1f}"),
        Figure(f"{ours.lost_to_scale_in:,}", "requests lost to a scale-in", "bad" if ours.lost_to_scale_in else "good"),
        Figure(f"{len(ours.invocations)}", "runs of the scaler"),
    ]


def timelines(result: DemoResult) -> list[Chart]:
    """Return the charts over time, all over the same stretch."""
    ours = result.replay
    slo = result.plan.service.policy.slo
    span = (float(ours.minutes[0].at), float(ours.minutes[-1].at))
    return [
        demand_chart(result),
        instances_chart(result),
        charts.weights(_by_pool(result, "weight")),
        charts.latency(
            {
                "at_seconds": [minute.at for minute in ours.minutes],
                "ttft_seconds": [minute.ttft_p95_seconds for minute in ours.minutes],
                "median": [minute.ttft_p50_seconds for minute in ours.minutes],
            },
            _limit_seconds(result),
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


def demand_chart(result: DemoResult) -> Chart:
    """Draw demand against capacity."""
    minutes = result.replay.minutes
    return charts.demand_and_capacity(
        {
            "at_seconds": [minute.at for minute in minutes],
            "demand": [minute.arrivals_rps for minute in minutes],
            "capacity": [minute.capacity_rps for minute in minutes],
            "ordered": [minute.ordered_rps for minute in minutes],
            "forecast": [minute.forecast_rps for minute in minutes],
        }
    )


def instances_chart(result: DemoResult) -> Chart:
    """Draw the instances by pool, or by type with the refreshes where the service changes types in place."""
    if not any(pool.alternatives for pool in result.plan.service.pools):
        return charts.pools(_by_pool(result, "ready", "desired"), title="Ready instances by pool, and all desired")
    return charts.pools(
        _by_type(result),
        by="type",
        refreshes=_refreshes(result),
        title="Ready instances by type, and all desired; shaded while a refresh changes types",
    )


def _by_pool(result: DemoResult, *columns: str) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {"at_seconds": minute.at, "pool": name, **{column: getattr(pool, column) for column in columns}}
            for minute in result.replay.minutes
            for name, pool in minute.pools.items()
        ]
    )


def _by_type(result: DemoResult) -> pl.DataFrame:
    """One row for each type and minute; the pool's desired count is in the row of its first type."""
    types = {pool.name: [type_ for kind in pool.kinds for type_ in kind.types] for pool in result.plan.service.pools}
    ever = {type_ for minute in result.replay.minutes for pool in minute.pools.values() for type_ in pool.ready_by_type}
    return pl.DataFrame(
        [
            {
                "at_seconds": minute.at,
                "type": type_,
                "ready": pool.ready_by_type.get(type_, 0),
                "desired": pool.desired if type_ == types[name][0] else 0,
            }
            for minute in result.replay.minutes
            for name, pool in minute.pools.items()
            for type_ in types[name]
            if type_ in ever or type_ == types[name][0]
        ]
    )


def _refreshes(result: DemoResult) -> pl.DataFrame:
    rows = [
        {
            "at_seconds": change.began,
            "until_seconds": result.replay.span_seconds if change.ended is None else change.ended,
            "text": f"refresh to {'/'.join(change.types)}",
        }
        for change in result.replay.type_changes
    ]
    return pl.DataFrame(rows, schema={"at_seconds": pl.Float64, "until_seconds": pl.Float64, "text": pl.String})


def _limit_seconds(result: DemoResult) -> float | None:
    slo = result.plan.service.policy.slo
    return None if slo is None else round(slo.ttft_limit_seconds(result.replay.mean_input_tokens), 2)


def _marks(decisions: Sequence[LoggedDecision], start: float) -> pl.DataFrame:
    rows = [
        {"at_seconds": one.at - start, "code": code, "sentence": sentence}
        for one in decisions
        for code, sentence in zip(one.codes, one.sentences, strict=True)
    ]
    return pl.DataFrame(rows, schema={"at_seconds": pl.Float64, "code": pl.String, "sentence": pl.String})


def _comparison_table(result: DemoResult) -> Table:
    rows = [{"measure": row.measure, "ours": row.ours, "static": row.static} for row in comparison(result)]
    return Table([Column("measure", ""), Column("ours", "gpu-fleet"), Column("static", static_name(result))], rows)


def _against(result: DemoResult) -> str:
    static = result.static
    return (
        f"The same requests on {static.count} {static.label} all the time: the cheapest fleet of one pool that the "
        "busiest minute fills to 80 %. It knows the busiest minute beforehand; the scaler does not."
    )


def _codes_table(result: DemoResult) -> Table:
    newest: dict[str, str] = {}
    for one in result.replay.decisions:
        newest |= dict(zip(one.codes, one.sentences, strict=True))
    rows: list[dict[str, Any]] = [
        {"code": code, "times": times, "sentence": newest[code]} for code, times in result.replay.codes.items()
    ]
    columns = [Column("code", "reason code"), Column("times", "times", ",.0f"), Column("sentence", "newest", wide=True)]
    return Table(columns, rows)


def _failures_table(result: DemoResult) -> Table:
    ours = result.replay
    rows = [{"at": duration(run.at - ours.start), "error": run.failure} for run in ours.failures]
    return Table([Column("at", "at"), Column("error", "error", wide=True)], rows)


def _resources_table(result: DemoResult) -> Table:
    # By URN: the order of registration depends on the event loop.
    by_urn = sorted(result.resources, key=lambda one: one.urn)
    rows = [{"type": one.type, "name": one.name, "id": one.id if one.custom else ""} for one in by_urn]
    return Table([Column("type", "type"), Column("name", "name"), Column("id", "id")], rows)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}"


def _and(parts: Sequence[str]) -> str:
    return ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else "".join(parts)
