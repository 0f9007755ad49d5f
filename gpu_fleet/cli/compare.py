"""`gpu-fleet compare`: a policy beside the rules that a user would have instead, and the cheapest possible fleet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_fleet.backtest.workers import Backend
from gpu_fleet.cli import options
from gpu_fleet.cli.comparison_table import print_tables
from gpu_fleet.cli.progress_bar import progress_bar
from gpu_fleet.cli.report_file import write_report
from gpu_fleet.cli.scenario_options import TraceOptions, check_memory, option_error, scenario_specs, seeds_of

if TYPE_CHECKING:
    from gpu_fleet.backtest.run import Run
    from gpu_fleet.backtest.setting import Setting


def compare(
    policy: options.Policy,
    trace: options.Traces,
    scale: options.Scale = None,
    peak_instances: options.PeakInstances = None,
    boot_seconds: options.BootSeconds = None,
    hours: options.Hours = None,
    clients: options.Clients = 1000,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    contenders: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; gpu-fleet is the policy itself.")
    ] = None,
    defaults: Annotated[
        bool | None,
        typer.Option(
            "--defaults/--no-defaults",
            help="Also run rivals with their default targets; by default only on traces up to 6 hours.",
        ),
    ] = None,
    output: options.Output = options.Format.TABLE,
    report: Annotated[Path | None, typer.Option(help="Write a page with table, scatter and time lines.")] = None,
    stack: options.Stack = "local",
    service: options.Service = None,
    jobs: options.Jobs = None,
    backend: options.Computing = Backend.LOKY,
    scheduler: options.Scheduler = None,
    root: options.Root = Path(),
) -> None:
    """Compare a policy with target tracking, HPA, KPA, Ray Serve, SkyServe and others, and the clairvoyant fleet.

    All run in the same simulator, start alike, see metrics with CloudWatch's delays and wait for the same boot. Each
    rival is tuned on the trace itself, and runs on the pool that suits it best.
    """
    from gpu_fleet.backtest.compare import compare as compare_all
    from gpu_fleet.backtest.roster import CLAIRVOYANT
    from gpu_fleet.backtest.setting import read_setting
    from gpu_fleet.backtest.workers import workers

    rules = _rules(contenders)
    setting = read_setting(root, policy, stack, service)
    traces = TraceOptions(scale, peak_instances, hours, clients)
    specs = scenario_specs(setting, trace, traces, seeds_of(seed, seeds), boot_seconds)
    check_memory(specs, jobs)
    with progress_bar() as progress, workers(backend, jobs, scheduler) as pool:
        runs = compare_all(
            specs,
            (*rules, CLAIRVOYANT),
            pool,
            defaults=defaults,
            details=report is not None,
            progress=progress,
        )
    print_comparison(setting, runs, output, report)


def _rules(contenders: str | None) -> tuple[str, ...]:
    """Return the contenders that the option names. Raises DocumentError for an unknown name."""
    from gpu_fleet.backtest.compare import rules

    try:
        return rules([name.strip() for name in contenders.split(",")] if contenders else None)
    except ValueError as error:
        raise option_error("--contenders", str(error)) from None


def print_comparison(setting: Setting, runs: Sequence[Run], output: options.Format, report: Path | None) -> None:
    """Print the runs, and write the report if a path is given."""
    if output is options.Format.JSON:
        typer.echo(json.dumps([run.row() for run in runs], indent=2, allow_nan=False))
    else:
        print_tables(setting, runs)
    if report:
        from gpu_fleet.reports.compare_page import compare_page

        write_report(report, compare_page(setting, runs))
