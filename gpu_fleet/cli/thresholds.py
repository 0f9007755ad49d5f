"""`gpu-fleet thresholds`: which utilisation threshold suits a history of demand."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.cli.options import Format, Output


def thresholds(
    trace: Annotated[Path, typer.Option(help="The history: any trace that `gpu-fleet trace describe` reads.")],
    policy: Annotated[
        str | None,
        typer.Option(help="A policy, by file or by name: its attainment, its scale-in hold, its threshold now."),
    ] = None,
    boot_seconds: Annotated[float, typer.Option(min=0, help="Time from order to first request.")] = 300,
    attainment: Annotated[
        float | None, typer.Option(help="Share of requests within capacity; else the policy's, else 0.995.")
    ] = None,
    instance_rps: Annotated[
        float, typer.Option(min=0, help="What one instance carries: capacity then comes in whole ones.")
    ] = 0,
    peak_rps: Annotated[
        float | None, typer.Option(help="Scale the history so that its highest minute is this.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    output: Output = Format.TABLE,
    report: Annotated[Path | None, typer.Option(help="Write a page with the curve to this file.")] = None,
) -> None:
    """Say which utilisation threshold suits a trace.

    Replays the history with a plain rule (capacity = demand of the lead time ago / threshold) for every threshold, and
    recommends the highest that keeps the share of requests over capacity within the SLO, with its uncertainty.
    """
    from rich.console import Console

    from gpu_fleet.reports.thresholds_page import thresholds_page, verdict
    from gpu_fleet.traffic import read, scale_to, to_rates
    from gpu_fleet.traffic.errors import trace_errors
    from gpu_fleet.traffic.threshold_curve import OrderingRule, advise

    known = _policy(policy) if policy else None
    wanted = attainment or (known.slo.attainment if known and known.slo else 0.995)
    hold_seconds = known.horizontal.scale_in_stabilization_seconds if known else 0.0
    current = known.sizing.target_utilization if known else None
    with trace_errors(trace):
        history = read(trace)
        if peak_rps is not None:
            history = scale_to(history, peak_rps, seed=seed)
        demand = to_rates(history)
        rule = OrderingRule(boot_seconds, hold_seconds, instance_rps)
        found = advise(demand, rule, attainment=wanted, seed=seed)
    if output is Format.JSON:
        typer.echo(json.dumps(asdict(found), indent=2, allow_nan=False))
    else:
        console = Console()
        console.print(_table(found))
        console.print(verdict(found, current), soft_wrap=True, highlight=False)
    if report:
        text = thresholds_page(demand, found, rule, current=current)
        write_report(report, text)


def write_report(path: Path, text: str) -> None:
    """Writes a report and says where. Raises DocumentError where the file cannot be written."""
    from gpu_fleet.config.document import DocumentError, Problem

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DocumentError([Problem(str(path), 0, 0, "", f"cannot be written: {error.strerror}")]) from None
    typer.echo(f"report: {path}", err=True)


def _policy(name: str):  # noqa: ANN202  (imported when it runs)
    from gpu_fleet.config.policy_files import policy_file
    from gpu_fleet.config.validation import read
    from gpu_fleet.config.yaml_files import read_text
    from gpu_fleet.scaling.policy import Policy

    file = policy_file(Path(), name)
    return read(read_text(Path(file), file), file, Policy)


def _table(found):  # noqa: ANN001, ANN202  (imported when it runs)
    from rich.table import Table

    from gpu_fleet.reports.thresholds_page import worth_showing

    table = Table("threshold", "over capacity", "90 % interval", "cost / demand", box=None, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for point in worth_showing(found):
        best = point is found.recommended
        if best or round(point.threshold * 100) % 5 == 0:
            table.add_row(
                f"{point.threshold:.0%}",
                f"{point.over:.2%}",
                f"{point.over_low:.2%} to {point.over_high:.2%}",
                f"{point.cost:.2f}",
                style="bold green" if best else None,
            )
    return table
