"""The report of `gpu-fleet tune`: what was tried, the Pareto front, and how candidates did on the held-out part."""

from __future__ import annotations

from typing import Any

import polars as pl

from lab.commands.tune import shown, verdict_lines
from lab.report import charts
from lab.report.page import Block, Column, Section, Table, Text, page
from lab.report.trace_page import duration
from lab.tune import Answer, Figures

HOW = (
    "Trials run on the training part; what the search has not used, the rest of the trace and other seeds, decides. "
    "A candidate is recommended when it reaches the SLO there and is cheaper on every seed."
)


def tune_page(policy: str, trace: str, found: Answer, change: str) -> str:
    """The whole page."""
    train, holdout = (span[1] - span[0] for span in (found.train_seconds, found.holdout_seconds))
    blocks: list[Block] = [Text(line) for line in verdict_lines(found)]
    blocks += [Text(line, quiet=True) for line in change.splitlines() if line[:1] in "+-"]
    sections = [
        Section("Recommendation", blocks, HOW),
        Section("Tried in training", [_scatter(found), _front(found)]),
    ]
    if found.verdicts:
        sections.append(Section("On the held-out part", [_holdout(found)]))
    subtitle = (
        f"{trace}: trained on {duration(train)}, held out {duration(holdout)}; {len(found.trials)} trials; "
        f"{found.slo * 100:.4g} % of requests within the SLO asked for."
    )
    return page(f"Tuning of policy {policy}", sections, subtitle=subtitle)


def _scatter(found: Answer) -> Any:
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


def _front(found: Answer) -> Table:
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


def _holdout(found: Answer) -> Table:
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


def _row(one: Figures) -> dict[str, Any]:
    return {"cost_usd": one.cost_usd, "ratio": one.ratio, "attainment": one.attainment}
