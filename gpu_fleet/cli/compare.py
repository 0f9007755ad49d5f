"""`gpu-fleet compare`: a policy beside what a user would have instead, and beside the cheapest fleet possible."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpu_fleet.backtest.workers import Backend
from gpu_fleet.cli import options
from gpu_fleet.cli.thresholds import write_report

if TYPE_CHECKING:
    from gpu_fleet.backtest.backtest import Run, Setting
    from gpu_fleet.backtest.compare import Planned
    from gpu_fleet.traffic import RateTrace, Trace


def compare(
    policy: options.Policy,
    trace: options.Traces,
    scale: options.Scale = None,
    peak_instances: options.PeakInstances = None,
    boot_seconds: options.BootSeconds = 300,
    hours: options.Hours = None,
    seed: options.Seed = None,
    seeds: options.Seeds = None,
    contenders: Annotated[
        str | None, typer.Option(help="Only these, separated by commas; gpu-fleet is the policy itself.")
    ] = None,
    defaults: Annotated[
        bool | None,
        typer.Option(
            "--defaults/--no-defaults", help="Rivals with their default targets too; else only up to 6 hours."
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
    """Hold a policy against target tracking, HPA, KPA, Ray Serve, SkyServe and others, and the clairvoyant fleet.

    All run under the same simulator, start alike, see the same metrics as late as CloudWatch has them and wait for the
    same boot. Each rival is tuned on the trace itself, and runs on the pool that suits it best.
    """
    from rich.console import Console

    from gpu_fleet.backtest.backtest import setting
    from gpu_fleet.backtest.compare import compare as compare_all
    from gpu_fleet.backtest.compare import rules
    from gpu_fleet.backtest.workers import workers

    chosen = _named(
        "--contenders", lambda: rules([one.strip() for one in contenders.split(",")] if contenders else None)
    )
    held = setting(root, policy, stack, service)
    planned = plan(held, trace, scale, peak_instances, hours, seeds_of(seed, seeds), boot_seconds)
    hold_in_memory(planned, jobs)
    err = Console(stderr=True)
    with progress(err) as (begin, done), workers(backend, jobs, scheduler) as everywhere:
        runs = compare_all(
            planned, chosen, everywhere, defaults=defaults, details=report is not None, begin=begin, done=done
        )
    if output is options.Format.JSON:
        typer.echo(json.dumps([run.row() for run in runs], indent=2, allow_nan=False))
    else:
        print_tables(held, runs)
    if report:
        from gpu_fleet.reports.compare_page import compare_page

        write_report(report, compare_page(held, runs))


def seeds_of(seed: int | None, seeds: int | None) -> tuple[int, ...]:
    """The seeds asked for. Raises DocumentError where both options are given."""
    if seed is not None and seeds is not None:
        raise wrong("--seeds", "does not go with --seed: one names a seed, the other counts them from 0")
    return tuple(range(seeds)) if seeds is not None else (seed or 0,)


def plan(
    held: Setting,
    files: Sequence[Path],
    scale: float | None,
    peak_instances: float | None,
    hours: float | None,
    seeds: Sequence[int],
    boot_seconds: float,
) -> list[Planned]:
    """Traces at their height, one for each seed. Raises DocumentError for what does not go together."""
    from gpu_fleet.backtest.backtest import PEAK_INSTANCES, factor_for
    from gpu_fleet.backtest.compare import Planned
    from gpu_fleet.traffic.errors import trace_errors

    check_height(scale, peak_instances, hours)
    planned: list[Planned] = []
    for one in distinct(files):
        with trace_errors(one[0]):
            there = cut(one[1], hours)
            wanted = PEAK_INSTANCES if peak_instances is None else peak_instances
            factor = factor_for(held, there, wanted) if scale is None else scale
        planned += [Planned(held, there, factor, seed, boot_seconds) for seed in seeds]
    return planned


def check_height(scale: float | None, peak_instances: float | None, hours: float | None) -> None:
    """Raises DocumentError where the options do not say how high and how long a trace is."""
    if scale is not None and peak_instances is not None:
        raise wrong("--scale", "does not go with --peak-instances: both say how high the trace is")
    for name, value in (("--scale", scale), ("--peak-instances", peak_instances), ("--hours", hours)):
        if value is not None and not 0 < value < float("inf"):
            raise wrong(name, f"must be above 0 (got {value:g})")


BYTES_PER_REQUEST = 120
"""While single requests are repeated and sorted: three columns of 8 bytes, source, order and shift, and copies."""


def hold_in_memory(planned: Sequence[Planned], jobs: int | None) -> None:
    """Raises DocumentError where this machine's workers would need more memory for single requests than is free.

    Of rates only ten minutes are drawn at a time, whatever the length.
    """
    import os

    import psutil

    from gpu_fleet.traffic import Trace

    most = max((len(one.trace) * one.factor for one in planned if isinstance(one.trace, Trace)), default=0.0)
    need = most * BYTES_PER_REQUEST * (jobs or os.cpu_count() or 1)
    free = psutil.virtual_memory().available
    if need > free:
        said = f"{most:,.0f} requests need about {need / 2**30:.1f} GiB, and {free / 2**30:.1f} are free"
        raise wrong("--trace", f"{said}; take --hours, a lower --peak-instances or --jobs 1")


def distinct(files: Sequence[Path]) -> list[tuple[Path, Trace | RateTrace]]:
    """The traces, each under a name of its own."""
    from dataclasses import replace

    from gpu_fleet.traffic import read

    found: list[tuple[Path, Trace | RateTrace]] = []
    for path in files:
        there = read(path)
        if any(other.name == there.name for _, other in found):
            there = replace(there, name=str(path))
        if any(other.name == there.name for _, other in found):
            raise wrong("--trace", f"is given twice: {path}")
        found.append((path, there))
    return found


def cut(there: Trace | RateTrace, hours: float | None) -> Trace | RateTrace:
    """The first hours, or all."""
    from gpu_fleet.traffic import crop

    if hours is None or hours * 3600 >= there.span_seconds:
        return there
    return crop(there, 0.0, hours * 3600)


@contextmanager
def progress(console: Any) -> Iterator[tuple[Any, Any]]:
    """A bar on stderr: (what comes and how many, what is done)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[newest]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = None

        def begin(what: str, count: int) -> None:
            nonlocal task
            task = bar.add_task(what, total=count, newest="")

        def done(newest: str) -> None:
            if task is not None:
                bar.update(task, advance=1, newest=newest)

        yield begin, done


def print_tables(held: Setting, runs: Sequence[Run]) -> None:
    """One table a trace; figures are means over the seeds."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gpu_fleet.backtest.backtest import ROOM
    from gpu_fleet.reports.compare_page import lines

    console = Console()
    if not console.is_terminal:
        # Nobody resizes a file: the table is written as wide as it is.
        console = Console(width=max(console.width, 140))
    for name in dict.fromkeys(run.trace for run in runs):
        of_trace = [run for run in runs if run.trace == name]
        first = of_trace[0]
        seeds = sorted({run.seed for run in of_trace})
        console.print(
            f"[bold]{escape(name)}[/bold]  {first.span_seconds / 3600:.3g} h, {first.result.requests:,} requests "
            f"({first.factor:.3g} times the trace's), boot {first.boot_seconds:g} s, "
            f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}",
            highlight=False,
        )
        table = Table(box=None, header_style="bold")
        for title in ("contender", "within SLO", "USD", "of clairvoyant", "GPU h", "p95 TTFT s", "lost", "rejected",
                      "changes", "target"):  # fmt: skip
            table.add_column(title, justify="left" if title == "contender" else "right")
        for line in lines(of_trace):
            ttft = "-" if line.p95_ttft_seconds is None else f"{line.p95_ttft_seconds:.2f}"
            table.add_row(
                escape(line.contender),
                f"{line.slo_attainment:.3%}",
                f"{line.cost_usd:,.2f}",
                f"{line.ratio:.3f}",
                f"{line.gpu_hours:,.1f}",
                ttft,
                f"{line.lost:,.0f}",
                f"{line.rejected:,.0f}",
                f"{line.scale_events:,.0f}",
                line.target,
                style="bold" if line.ours else ("dim" if not line.meets_slo else None),
            )
        table.add_row("clairvoyant fleet", "", f"{first.clairvoyant_usd:,.2f}", "1.000")
        table.add_row(
            "clairvoyant, boot paid",
            "",
            f"{first.clairvoyant_with_boot_usd:,.2f}",
            f"{first.clairvoyant_with_boot_usd / first.clairvoyant_usd:.3f}" if first.clairvoyant_usd else "",
        )
        console.print(table)
        console.print(
            f"static peak at least {first.static_usd:,.2f} USD; 1 - mean/peak is {first.most_saving:.1%}", style="dim"
        )
    for note in (
        *held.notes,
        f"maxima of the pools were raised to {ROOM:g} times what the peak needs; dim: misses the SLO",
    ):
        console.print(f"note: {note}", style="dim", highlight=False)


def _named(option: str, value: Any) -> Any:
    """A ValueError as one of this option."""
    try:
        return value()
    except ValueError as error:
        raise wrong(option, str(error)) from None


def wrong(option: str, text: str) -> Exception:
    """What is wrong with an option, as the error that the command line prints."""
    from gpu_fleet.config.document import DocumentError, Problem

    return DocumentError([Problem("", 0, 0, option, text)])
