"""The tables of `gpu-fleet compare` and `gpu-fleet backtest`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gpu_fleet.backtest.run import Run
    from gpu_fleet.backtest.setting import Setting

FILE_WIDTH = 160
"""Least columns of a table that goes to a file, since nobody can widen a file."""
COLUMNS = (
    "contender",
    "within SLO",
    "USD",
    "launches",
    "of clairvoyant",
    "of one in SLO",
    "GPU h",
    "p95 TTFT s",
    "lost",
    "rejected",
    "refused",
    "changes",
    "target",
)


def wide_console() -> Console:
    """Return a console that is wide enough for a table, also if stdout is a file."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, FILE_WIDTH))


def print_tables(setting: Setting, runs: Sequence[Run]) -> None:
    """Print a table for each trace; figures are means over the seeds."""
    from gpu_fleet.backtest.scenario import MAXIMUM_FACTOR

    console = wide_console()
    for name in dict.fromkeys(run.trace for run in runs):
        of_trace = [run for run in runs if run.trace == name]
        first = of_trace[0]
        console.print(_heading(of_trace), highlight=False)
        console.print(_table(of_trace))
        console.print(
            f"static peak at least {first.static_usd:,.2f} USD; 1 - mean/peak is {first.most_saving:.1%}", style="dim"
        )
    for note in (
        *setting.notes,
        "launches: what they cost beside the instances' hours, within USD; the bounds leave it out",
        "refused: those of the rejected that an engine with a full queue turned away; TTFT is of the served requests",
        f"maxima of the pools were raised to {MAXIMUM_FACTOR:g} times what the peak needs; dim: misses the SLO",
    ):
        console.print(f"note: {note}", style="dim", highlight=False)


def _heading(runs: Sequence[Run]) -> str:
    from rich.markup import escape

    first = runs[0]
    seeds = sorted({run.seed for run in runs})
    return (
        f"[bold]{escape(first.trace)}[/bold]  {first.span_seconds / 3600:.3g} h, {first.result.requests:,} requests "
        f"({first.factor:.3g} times the trace's), boot {first.boot_seconds:g} s, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    )


def _table(runs: Sequence[Run]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    from gpu_fleet.reports.compare_page import lines, slo_bound_line

    table = Table(box=None, header_style="bold")
    for title in COLUMNS:
        table.add_column(title, justify="left" if title == "contender" else "right")
    for line in lines(runs):
        table.add_row(
            escape(line.contender),
            f"{line.slo_attainment:.3%}",
            f"{line.cost_usd:,.2f}",
            f"{line.launch_usd:,.2f}",
            f"{line.ratio:.3f}",
            "-" if line.slo_ratio is None else f"{line.slo_ratio:.3f}",
            f"{line.gpu_hours:,.1f}",
            "-" if line.p95_ttft_seconds is None else f"{line.p95_ttft_seconds:.2f}",
            f"{line.lost:,.0f}",
            f"{line.rejected:,.0f}",
            f"{line.refused:,.0f}",
            f"{line.scale_events:,.0f}",
            line.target,
            style="bold" if line.ours else ("dim" if not line.meets_slo else None),
        )
    first = runs[0]
    at_once, with_boot = first.clairvoyant_usd, first.clairvoyant_with_boot_usd
    table.add_row("clairvoyant fleet", "", f"{at_once:,.2f}", "", "1.000")
    table.add_row(
        "clairvoyant, boot paid", "", f"{with_boot:,.2f}", "", f"{with_boot / at_once:.3f}" if at_once else ""
    )
    fleet = slo_bound_line(runs)
    if fleet is not None:
        cells = (
            f"{fleet.slo_attainment:.3%}",
            f"{fleet.cost_usd:,.2f}",
            f"{fleet.launch_usd:,.2f}",
            f"{fleet.ratio:.3f}",
        )
        table.add_row(fleet.contender, *cells, "1.000" if fleet.meets_slo else "-")
    return table
