"""The report of `gpu-fleet thresholds`: the curve, the recommendation and the rule behind it."""

from __future__ import annotations

import polars as pl

from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Block, Column, Figure, Figures, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration
from gpu_fleet.traffic.threshold_curve import OrderingRule, ThresholdAdvice, ThresholdPoint
from gpu_fleet.traffic.trace import RateTrace

RULE = (
    "The replayed rule orders, at each step, the current demand over the threshold; capacity is what was ordered a "
    "lead time ago. A request beyond capacity counts as a breach. The interval comes from a block bootstrap of the "
    "history. The recommended threshold is the highest whose interval keeps to the target."
)


def thresholds_page(demand: RateTrace, answer: ThresholdAdvice, rule: OrderingRule, *, current: float | None) -> str:
    """Return the whole page. `current` is the policy's threshold."""
    best = answer.recommended
    blocks: list[Block] = [_figures(answer), Text(verdict(answer, current))]
    blocks.append(
        charts.threshold_curve(
            curve(answer), target=answer.target, recommended=best.threshold if best else None, current=current
        )
    )
    sections = [PageSection("Which threshold", blocks)]
    replayed = best or answer.plain
    if replayed:
        capacity = rule.capacity_rps(demand.rps, demand.step_seconds, replayed.threshold)
        frame = pl.DataFrame(
            {"at_seconds": demand.at_seconds + (demand.starts_at or 0.0), "demand": demand.rps, "capacity": capacity}
        )
        sections.append(PageSection(f"The history at {replayed.threshold:.0%}", [charts.demand_and_capacity(frame)]))
    sections.append(PageSection("The curve in figures", [_table(answer)], RULE))
    subtitle = (
        f"{demand.name}: {duration(demand.span_seconds)}, lead time {duration(rule.lead_seconds)}, "
        f"{(1 - answer.target) * 100:.4g} % of requests must be within capacity."
    )
    return page("Utilisation threshold", sections, subtitle=subtitle)


def verdict(answer: ThresholdAdvice, current: float | None = None) -> str:
    """Return the recommendation as sentences."""
    best, allowed = answer.recommended, f"{answer.target * 100:.3g} %"
    if best is None:
        sentence = (
            f"No threshold keeps requests over capacity below {allowed} with confidence on this history: "
            "demand rises faster than instances start. Reserve for the peak, shorten the lead time, or forecast."
        )
        if answer.plain:
            plain = answer.plain
            sentence += f" On this history {plain.threshold:.0%} kept to it, at {plain.cost:.2f} times the demand."
        return sentence
    sentence = (
        f"{best.threshold:.0%}: {best.over:.2%} of requests over capacity "
        f"(90 % interval {best.over_low:.2%} to {best.over_high:.2%}), "
        f"capacity {best.cost:.2f} times the demand; static peak capacity takes {answer.static_cost:.2f}."
    )
    if answer.static_is_cheaper:
        sentence += " Static capacity for the peak costs no more: a threshold saves nothing on this demand."
    if answer.plain and answer.plain.threshold > best.threshold:
        sentence += f" On this history {answer.plain.threshold:.0%} would have been enough"
        if answer.plain_low is not None and answer.plain_high is not None:
            sentence += f" (over resamples {answer.plain_low:.0%} to {answer.plain_high:.0%})"
        sentence += "; the next one may be less kind."
    if answer.blocks < 20:
        sentence += f" The history is short ({answer.blocks} blocks): the interval is rough."
    if current is not None and (now := _nearest(answer, current)):
        sentence += f" The policy's {current:.0%} gives {now.over:.2%} at {now.cost:.2f} times the demand."
    return sentence


def worth_showing(answer: ThresholdAdvice) -> tuple[ThresholdPoint, ...]:
    """Return the points that cost at most 1.5 times static peak capacity; lower thresholds help nobody."""
    kept = tuple(point for point in answer.points if point.cost <= 1.5 * answer.static_cost)
    return kept or answer.points


def curve(answer: ThresholdAdvice) -> pl.DataFrame:
    """Return the points worth showing as a table: threshold, over, over_low, over_high, cost."""
    return pl.DataFrame(
        [
            {"threshold": p.threshold, "over": p.over, "over_low": p.over_low, "over_high": p.over_high, "cost": p.cost}
            for p in worth_showing(answer)
        ]
    )


def _figures(answer: ThresholdAdvice) -> Figures:
    best = answer.recommended
    if best is None:
        return Figures(
            [
                Figure("none", "threshold that keeps the SLO share", "bad"),
                Figure(f"{answer.static_cost:.2f}", "static peak, times the demand"),
            ]
        )
    return Figures(
        [
            Figure(f"{best.threshold:.0%}", "recommended threshold", "good"),
            Figure(f"{best.over:.2%}", "requests over capacity"),
            Figure(f"{best.cost:.2f}", "capacity, times the demand"),
            Figure(f"{1 - best.cost / answer.static_cost:.0%}", "saved against static peak"),
        ]
    )


def _table(answer: ThresholdAdvice) -> Table:
    columns = [
        Column("threshold", "threshold", ".0%"),
        Column("over", "over capacity", ".3%"),
        Column("over_low", "90 % from", ".3%"),
        Column("over_high", "to", ".3%"),
        Column("cost", "cost, times the demand", ".2f"),
    ]
    best = answer.recommended
    rows = [
        {
            "threshold": p.threshold,
            "over": p.over,
            "over_low": p.over_low,
            "over_high": p.over_high,
            "cost": p.cost,
            "best": p is best,
        }
        for p in worth_showing(answer)
        if p is best or round(p.threshold * 100) % 5 == 0
    ]
    return Table(columns, rows, highlight="best")


def _nearest(answer: ThresholdAdvice, threshold: float) -> ThresholdPoint | None:
    return min(answer.points, key=lambda point: abs(point.threshold - threshold), default=None)
