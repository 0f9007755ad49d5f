"""The report of `gpu-fleet tune`: what was tried, the Pareto front, and how candidates did on the held-out part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from gpu_fleet.backtest.tune import SeedFigures, TuneResult
from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Block, Column, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration

HOW = (
    "Trials run on the training part; what the search has not used, the rest of the trace and other seeds, decides. "
    "A candidate is recommended when it reaches the SLO there and is cheaper on every seed."
)


def tune_page(policy: str, trace: str, found: TuneResult, change: str) -> str:
    """The whole page."""
    train, holdout = (span[1] - span[0] for span in (found.train_seconds, found.holdout_seconds))
    blocks: list[Block] = [Text(line) for line in verdict_lines(found)]
    blocks += [Text(line, quiet=True) for line in change.splitlines() if line[:1] in "+-"]
    sections = [
        PageSection("Recommendation", blocks, HOW),
        PageSection("Tried in training", [_scatter(found), _front(found)]),
    ]
    if found.verdicts:
        sections.append(PageSection("On the held-out part", [_holdout(found)]))
    subtitle = (
        f"{trace}: trained on {duration(train)}, held out {duration(holdout)}; {len(found.trials)} trials; "
        f"{found.slo * 100:.4g} % of requests within the SLO asked for."
    )
    return page(f"Tuning of policy {policy}", sections, subtitle=subtitle)


def verdict_lines(found: TuneResult) -> list[str]:
    """What became of it, as sentences."""
    before = found.holdout
    there = f"{found.train.attainment:.3%} within the SLO in training, {before.attainment:.3%} on the held-out part"
    said = [f"The policy as it is: {there}."]
    if not found.verdicts:
        better = "reaches the SLO" if found.train.attainment < found.slo else "reaches the SLO for less"
        said.append(f"None of {len(found.trials)} trials {better} in training. Nothing is recommended.")
        return said
    said += [f"{'Recommended' if one.accepted else 'Refused'}: {one.why}." for one in found.verdicts]
    if found.recommended is None:
        said.append("What won in training does not hold on traffic it has not seen. Nothing is recommended.")
    return said


def shown(values: Sequence[tuple[str, Any]]) -> str:
    """Changed keys in one line."""
    return ", ".join(f"{key} {value}" for key, value in values) or "the policy as it is"


def _scatter(found: TuneResult) -> Any:
    on_front = {id(one) for one in found.front}
    rows = [
        {
            "contender": "the policy" if not one.values else f"{number}" if id(one) in on_front else "",
            "cost_usd": one.train.cost_usd,
            "slo_attainment": one.train.attainment,
            "ours": not one.values,
        }
        for number, one in enumerate(found.trials)
    ]
    return charts.cost_against_attainment(
        pl.DataFrame(rows),
        target=found.slo,
        bound_usd=sum(found.train.clairvoyant_usd) / len(found.train.clairvoyant_usd),
        title="Cost against attainment; the Pareto front is numbered",
    )


def _front(found: TuneResult) -> Table:
    numbers = {id(one): number for number, one in enumerate(found.trials)}
    columns = [
        Column("trial", "trial", ".0f"),
        Column("cost_usd", "cost", ",.2f", "$"),
        Column("ratio", "of clairvoyant", ".3f"),
        Column("attainment", "within the SLO", ".3%"),
        Column("changes", "changes", wide=True),
    ]
    rows = [
        _row(one.train) | {"trial": numbers[id(one)], "changes": shown(list(one.values.items()))} for one in found.front
    ]
    return Table(columns, rows, title="Pareto front")


def _holdout(found: TuneResult) -> Table:
    columns = [
        Column("what", "", wide=True),
        Column("cost_usd", "cost", ",.2f", "$"),
        Column("ratio", "of clairvoyant", ".3f"),
        Column("attainment", "within the SLO", ".3%"),
        Column("low", "cost, least change", "+.1%"),
        Column("high", "most", "+.1%"),
    ]
    rows: list[dict[str, Any]] = [_row(found.holdout) | {"what": "the policy as it is"}]
    for one in found.verdicts:
        savings = one.holdout.savings(found.holdout)
        rows.append(
            _row(one.holdout)
            | {
                "what": shown(list(one.trial.values.items())),
                "low": -max(savings),
                "high": -min(savings),
                "recommended": one.accepted,
            }
        )
    return Table(columns, rows, note=f"Means over {found.seeds} seeds; changes seed by seed.", highlight="recommended")


def _row(one: SeedFigures) -> dict[str, Any]:
    return {"cost_usd": one.cost_usd, "ratio": one.ratio, "attainment": one.attainment}
