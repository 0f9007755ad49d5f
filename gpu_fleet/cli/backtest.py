"""`gpu-fleet backtest`: one policy against traces, beside the cheapest possible fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.backtest.workers import Backend
from gpu_fleet.cli import options
from gpu_fleet.cli.compare import print_comparison
from gpu_fleet.cli.progress_bar import progress_bar
from gpu_fleet.cli.scenario_options import TraceOptions, check_memory, scenario_specs, seeds_of


def backtest(
    policy: options.Policy,
    trace: options.Traces,
    scale: options.Scale = None,
    peak_instances: options.PeakInstances = None,
    boot_seconds: options.BootSeconds = None,
    hours: options.Hours = None,
    clients: options.Clients = 1000,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    bound: Annotated[
        bool | None,
        typer.Option(
            "--bound/--no-bound",
            help="Also search the cheapest clairvoyant fleet that keeps the SLO; by default only on traces up to "
            "6 hours, since it takes many runs.",
        ),
    ] = None,
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

    `gpu-fleet compare` adds rivals.
    """
    from gpu_fleet.backtest.compare import compare, rules
    from gpu_fleet.backtest.rival_targets import LONG_SECONDS
    from gpu_fleet.backtest.roster import CLAIRVOYANT, OURS
    from gpu_fleet.backtest.setting import read_setting
    from gpu_fleet.backtest.workers import workers

    setting = read_setting(root, policy, stack, service)
    traces = TraceOptions(scale, peak_instances, hours, clients)
    specs = scenario_specs(setting, trace, traces, seeds_of(seed, seeds), boot_seconds)
    check_memory(specs, jobs)
    if bound is None:
        bound = all(spec.trace.span_seconds <= LONG_SECONDS for spec in specs)
    contenders = (*rules([OURS]), *((CLAIRVOYANT,) if bound else ()))
    with progress_bar() as progress, workers(backend, jobs, scheduler) as pool:
        runs = compare(specs, contenders, pool, details=report is not None, progress=progress)
    print_comparison(setting, runs, output, report)
