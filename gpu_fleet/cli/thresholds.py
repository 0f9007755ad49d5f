"""`gpu-fleet thresholds`: the utilisation threshold that suits a history of demand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_fleet.cli.options import Format, Output
from gpu_fleet.cli.report_file import write_report

if TYPE_CHECKING:
    from rich.table import Table

    from gpu_fleet.scaling.policy import Policy
    from gpu_fleet.traffic.threshold_curve import ThresholdAdvice


def thresholds(
    trace: Annotated[Path, typer.Option(help="The history: any trace that `gpu-fleet trace describe` reads.")],
    policy: Annotated[
        str | None,
        typer.Option(help="A policy, by file or name, for its attainment, scale-in hold and current threshold."),
    ] = None,
    boot_seconds: Annotated[float, typer.Option(min=0, help="Time from order to first request.")] = 300,
    attainment: Annotated[
        float | None, typer.Option(help="Share of requests to be within capacity; default: the policy's, or 0.995.")
    ] = None,
    instance_rps: Annotated[
        float, typer.Option(min=0, help="Throughput of an instance, to count capacity in whole instances.")
    ] = 0,
    peak_rps: Annotated[
        float | None, typer.Option(help="Scale the history so that its highest minute has this rate.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    output: Output = Format.TABLE,
    report: Annotated[Path | None, typer.Option(help="Write a page with the curve to this file.")] = None,
) -> None:
    """Recommend a utilisation threshold for a trace.

    Replays the history with a plain rule for every threshold: capacity is the demand a lead time ago over the
    threshold. Recommends the highest threshold that keeps the share of requests over capacity within the SLO, and
    shows its uncertainty.
    """
    from gpu_fleet.reports.thresholds_page import thresholds_page
    from gpu_fleet.traffic import read, scale_to, to_rates
    from gpu_fleet.traffic.errors import trace_errors
    from gpu_fleet.traffic.threshold_curve import OrderingRule, advise

    own = _policy(policy) if policy else None
    required = attainment or (own.slo.attainment if own and own.slo else 0.995)
    hold_seconds = own.horizontal.scale_in_stabilization_seconds if own else 0.0
    current = own.sizing.target_utilization if own else None
    with trace_errors(trace):
        history = read(trace)
        if peak_rps is not None:
            history = scale_to(history, peak_rps, seed=seed)
        demand = to_rates(history)
        rule = OrderingRule(boot_seconds, hold_seconds, instance_rps)
        advice = advise(demand, rule, attainment=required, seed=seed)
    _print(advice, current, output)
    if report:
        write_report(report, thresholds_page(demand, advice, rule, current=current))


def _policy(name: str) -> Policy:
    from gpu_fleet.config.policy_files import policy_file
    from gpu_fleet.config.validation import read
    from gpu_fleet.config.yaml_files import read_text
    from gpu_fleet.scaling.policy import Policy

    file = policy_file(Path(), name)
    return read(read_text(Path(file), file), file, Policy)


def _print(advice: ThresholdAdvice, current: float | None, output: Format) -> None:
    from rich.console import Console

    from gpu_fleet.reports.thresholds_page import verdict

    if output is Format.JSON:
        typer.echo(json.dumps(asdict(advice), indent=2, allow_nan=False))
        return
    console = Console()
    console.print(_table(advice))
    console.print(verdict(advice, current), soft_wrap=True, highlight=False)


def _table(advice: ThresholdAdvice) -> Table:
    from rich.table import Table

    from gpu_fleet.reports.thresholds_page import worth_showing

    table = Table("threshold", "over capacity", "90 % interval", "cost / demand", box=None, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for point in worth_showing(advice):
        best = point is advice.recommended
        if best or round(point.threshold * 100) % 5 == 0:
            table.add_row(
                f"{point.threshold:.0%}",
                f"{point.over:.2%}",
                f"{point.over_low:.2%} to {point.over_high:.2%}",
                f"{point.cost:.2f}",
                style="bold green" if best else None,
            )
    return table
