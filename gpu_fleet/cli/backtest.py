"""`gpu-fleet backtest`: one policy against traces, beside the cheapest fleet possible."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.backtest.workers import Backend
from gpu_fleet.cli import options
from gpu_fleet.cli.compare import hold_in_memory, plan, print_tables, progress, seeds_of
from gpu_fleet.cli.thresholds import write_report


def backtest(
    policy: options.Policy,
    trace: options.Traces,
    scale: options.Scale = None,
    peak_instances: options.PeakInstances = None,
    boot_seconds: options.BootSeconds = 300,
    hours: options.Hours = None,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    output: options.Output = options.Format.TABLE,
    report: Annotated[Path | None, typer.Option(help="Write a page with time lines and decisions.")] = None,
    stack: options.Stack = "local",
    service: options.Service = None,
    jobs: options.Jobs = None,
    backend: options.Computing = Backend.LOKY,
    scheduler: options.Scheduler = None,
    root: options.Root = Path(),
) -> None:
    """Run a policy against traces in the simulator: cost and attainment beside the clairvoyant fleet.

    `gpu-fleet compare` sets rivals beside it.
    """
    from rich.console import Console

    from gpu_fleet.backtest.backtest import setting
    from gpu_fleet.backtest.compare import compare, rules
    from gpu_fleet.backtest.roster import OURS
    from gpu_fleet.backtest.workers import workers

    held = setting(root, policy, stack, service)
    planned = plan(held, trace, scale, peak_instances, hours, seeds_of(seed, seeds), boot_seconds)
    hold_in_memory(planned, jobs)
    with progress(Console(stderr=True)) as (begin, done), workers(backend, jobs, scheduler) as everywhere:
        runs = compare(planned, rules([OURS]), everywhere, details=report is not None, begin=begin, done=done)
    if output is options.Format.JSON:
        typer.echo(json.dumps([run.row() for run in runs], indent=2, allow_nan=False))
    else:
        print_tables(held, runs)
    if report:
        from gpu_fleet.reports.compare_page import compare_page

        write_report(report, compare_page(held, runs))
