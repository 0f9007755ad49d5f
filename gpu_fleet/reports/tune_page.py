"""The report of `gpu-fleet tune`: the trials, the Pareto front, and the candidates on the held-out part."""

from __future__ import annotations

from typing import Any

import polars as pl

from gpu_fleet.backtest.knobs import Values
from gpu_fleet.backtest.tune import SeedFigures, TuneResult
from gpu_fleet.reports import charts
from gpu_fleet.reports.page import Block, Chart, Column, PageSection, Table, Text, page
from gpu_fleet.reports.trace_page import duration

METHOD = (
    "Trials run on the training part. The rest of the trace, with seeds that the search has not used, decides: a "
    "candidate is recommended if it reaches the SLO there and is cheaper on every seed."
)


def tune_page(policy: str, trace: str, result: TuneResult, diff: str) -> str:
    """Return the whole page."""
    train, holdout = (end - begin for begin, end in (result.train_seconds, result.holdout_seconds))
    blocks: list[Block] = [Text(line) for line in verdict_lines(result)]
    blocks += [Text(line, quiet=True) for line in diff.splitlines() if line[:1] in "+-"]
    sections = [
        PageSection("Recommendation", blocks, METHOD),
        PageSection("Trials in training", [_scatter(result), _front(result)]),
    ]
    if result.verdicts:
        sections.append(PageSection("On the held-out part", [_holdout(result)]))
    subtitle = (
        f"{trace}: trained on {duration(train)}, held out {duration(holdout)}; {len(result.trials)} trials; "
        f"SLO: {result.slo * 100:.4g} % of requests."
    )
    return page(f"Tuning of policy {policy}", sections, subtitle=subtitle)


def verdict_lines(result: TuneResult) -> list[str]:
    """Return the outcome as sentences."""
    train, holdout = result.train.attainment, result.holdout.attainment
    lines = [f"The policy as it is: {train:.3%} within the SLO in training, {holdout:.3%} on the held-out part."]
    if not result.verdicts:
        gain = "reaches the SLO" if train < result.slo else "reaches the SLO for less"
        lines.append(f"None of {len(result.trials)} trials {gain} in training. Nothing is recommended.")
        return lines
    lines += [f"{'Recommended' if one.accepted else 'Refused'}: {one.why}." for one in result.verdicts]
    if result.recommended is None:
        lines.append("What won in training does not win on traffic that it has not seen. Nothing is recommended.")
    return lines


def values_text(values: Values) -> str:
    """Return changed keys in one line."""
    return ", ".join(f"{key} {value}" for key, value in values.items()) or "the policy as it is"


def _scatter(result: TuneResult) -> Chart:
    on_front = {id(trial) for trial in result.front}
    rows = [
        {
            "contender": "the policy" if not trial.values else f"{number}" if id(trial) in on_front else "",
            "cost_usd": trial.train.cost_usd,
            "slo_attainment": trial.train.attainment,
            "ours": not trial.values,
        }
        for number, trial in enumerate(result.trials)
    ]
    return charts.cost_against_attainment(
        pl.DataFrame(rows),
        target=result.slo,
        bound_usd=sum(result.train.clairvoyant_usd) / len(result.train.clairvoyant_usd),
        title="Cost against attainment; the Pareto front is numbered",
    )


def _front(result: TuneResult) -> Table:
    numbers = {id(trial): number for number, trial in enumerate(result.trials)}
    columns = [
        Column("trial", "trial", ".0f"),
        Column("cost_usd", "cost", ",.2f", "$"),
        Column("ratio", "of clairvoyant", ".3f"),
        Column("attainment", "within the SLO", ".3%"),
        Column("changes", "changes", wide=True),
    ]
    rows = [
        _figures(trial.train) | {"trial": numbers[id(trial)], "changes": values_text(trial.values)}
        for trial in result.front
    ]
    return Table(columns, rows, title="Pareto front")


def _holdout(result: TuneResult) -> Table:
    columns = [
        Column("what", "", wide=True),
        Column("cost_usd", "cost", ",.2f", "$"),
        Column("ratio", "of clairvoyant", ".3f"),
        Column("attainment", "within the SLO", ".3%"),
        Column("low", "cost, least change", "+.1%"),
        Column("high", "most", "+.1%"),
    ]
    rows: list[dict[str, Any]] = [_figures(result.holdout) | {"what": "the policy as it is"}]
    for verdict in result.verdicts:
        savings = verdict.holdout.savings(result.holdout)
        rows.append(
            _figures(verdict.holdout)
            | {
                "what": values_text(verdict.trial.values),
                "low": -max(savings),
                "high": -min(savings),
                "recommended": verdict.accepted,
            }
        )
    note = f"Means over {result.seeds} seeds; changes are seed by seed."
    return Table(columns, rows, note=note, highlight="recommended")


def _figures(figures: SeedFigures) -> dict[str, Any]:
    return {"cost_usd": figures.cost_usd, "ratio": figures.ratio, "attainment": figures.attainment}
