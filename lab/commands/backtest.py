"""`gpu-fleet backtest`: one policy against traces, beside the cheapest fleet possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lab.commands.compare import hold_in_memory, plan, print_tables, progress, seeds_of
from lab.commands.thresholds import Format, write_report
from lab.workers import Backend


def backtest(
    policy: Annotated[str, typer.Argument(help="A policy: a file, or a name of policies/.")],
    trace: Annotated[list[Path], typer.Option(help="A trace; may be repeated. `gpu-fleet trace formats` lists all.")],
    scale: Annotated[float | None, typer.Option(help="So many times the trace's requests.")] = None,
    peak_instances: Annotated[
        float | None,
        typer.Option(help="So high that the busiest minute needs so many instances of the middle pool (default 24)."),
    ] = None,
    boot_seconds: Annotated[float, typer.Option(min=0, help="Time from order to first request, of every pool.")] = 300,
    hours: Annotated[float | None, typer.Option(help="Only the first so many hours of each trace.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn (default 0).")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="So many seeds, from 0 on.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    report: Annotated[Path | None, typer.Option(help="Write a page with time lines and decisions.")] = None,
    stack: Annotated[str, typer.Option(help="The stack whose pools are used.")] = "local",
    service: Annotated[str | None, typer.Option(help="Its service; else the one that has the policy.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time; default: as many as there are cores.")] = None,
    backend: Annotated[Backend, typer.Option(help="Who computes.")] = Backend.LOKY,
    scheduler: Annotated[str | None, typer.Option(help="Address of the Dask or Ray cluster.")] = None,
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
) -> None:
    """Run a policy against traces in the simulator: cost and attainment beside the clairvoyant fleet.

    `gpu-fleet compare` sets rivals beside it.
    """
    from rich.console import Console

    from lab.backtest import setting
    from lab.compare import compare, rules
    from lab.contenders.roster import OURS
    from lab.workers import workers

    held = setting(root, policy, stack, service)
    planned = plan(held, trace, scale, peak_instances, hours, seeds_of(seed, seeds), boot_seconds)
    hold_in_memory(planned, jobs)
    with progress(Console(stderr=True)) as (begin, done), workers(backend, jobs, scheduler) as everywhere:
        runs = compare(planned, rules([OURS]), everywhere, details=report is not None, begin=begin, done=done)
    if output is Format.JSON:
        typer.echo(json.dumps([run.row() for run in runs], indent=2, allow_nan=False))
    else:
        print_tables(held, runs)
    if report:
        from lab.report.compare_page import compare_page

        write_report(report, compare_page(held, runs))
