"""`gpu-fleet trace`: describe a trace, export one from CloudWatch, or generate one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_fleet.cli.options import Format, Output
from gpu_fleet.cli.report_file import write_report
from gpu_fleet.traffic.steps import Gaps

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.table import Table
    from types_boto3_cloudwatch.client import CloudWatchClient

    from gpu_fleet.traffic import RateTrace, Statistics, Trace
    from gpu_fleet.traffic.export import Endpoint

app = typer.Typer(
    help="Describe a trace, export one from CloudWatch, or generate one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

BARS = "▁▂▃▄▅▆▇█"


@app.command()
def describe(
    file: Annotated[Path, typer.Argument(help="A trace; `gpu-fleet trace formats` lists the formats.")],
    report: Annotated[Path | None, typer.Option(help="Write a page with charts to this file.")] = None,
    output: Output = Format.TABLE,
    gaps: Annotated[
        Gaps | None, typer.Option(help="How to fill missing steps; by default linear, or zero for RequestCount.")
    ] = None,
) -> None:
    """Show rate, peak to mean, burstiness, periodicity, tokens, and the largest saving that autoscaling can reach."""
    from rich.console import Console

    from gpu_fleet.reports.trace_page import trace_page
    from gpu_fleet.traffic import describe as describe_trace
    from gpu_fleet.traffic import read
    from gpu_fleet.traffic.errors import trace_errors

    with trace_errors(file):
        trace = read(file, gaps=gaps)
        statistics = describe_trace(trace)
    if output is Format.JSON:
        typer.echo(json.dumps(asdict(statistics) | {"most_saving": statistics.most_saving}, indent=2))
    else:
        console = Console()
        width = max(20, min(console.width - 14, 100))
        console.print(f"[bold]{trace.name}[/bold]", sparkline(trace, width), highlight=False)
        console.print(_summary(trace, statistics))
        console.print(_peaks(statistics))
        console.print("most saving: 1 - mean/peak, the saving that no autoscaler can exceed at that step", style="dim")
        for note in statistics.notes:
            console.print(f"note: {note}", highlight=False, style="dim")
    if report:
        write_report(report, trace_page(trace, statistics))


@app.command()
def export(
    stack: Annotated[str, typer.Option(help="The stack, as Pulumi names it.")],
    days: Annotated[
        float, typer.Option(min=0.01, help="Days to export, up to now; beyond 15 days CloudWatch has 5-minute steps.")
    ] = 14,
    service: Annotated[list[str] | None, typer.Option(help="Only this service; may be repeated.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A .csv file for one service, or a folder for STACK-SERVICE.csv.")
    ] = Path(),
    region: Annotated[str | None, typer.Option(help="AWS region; by default the AWS CLI's.")] = None,
    root: Annotated[Path, typer.Option(help="The project's root, whose Pulumi.yaml names it.")] = Path(),
) -> None:
    """Write the requests of a live stack's services, from CloudWatch, as CSV.

    Needs ssm:GetParametersByPath and cloudwatch:GetMetricData. Minutes without a sign of life are gaps, not zeros.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    from gpu_fleet.config.project_file import read_project_name
    from gpu_fleet.traffic.errors import TraceError
    from gpu_fleet.traffic.export import endpoints, period_seconds

    period_seconds(days)
    settings = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)
    try:
        ssm = boto3.client("ssm", region_name=region, config=settings)
        cloudwatch = boto3.client("cloudwatch", region_name=region, config=settings)
        known = endpoints(ssm, stack, read_project_name(root))
        if unknown := sorted(set(service or []) - {endpoint.service for endpoint in known}):
            names = ", ".join(endpoint.service for endpoint in known)
            raise TraceError("--service", f"the stack {stack} has {names} (got {', '.join(unknown)})")
        chosen = [endpoint for endpoint in known if not service or endpoint.service in service]
        to_one_file = output.suffix == ".csv"
        if to_one_file and len(chosen) > 1:
            names = ", ".join(endpoint.service for endpoint in chosen)
            raise TraceError(
                "--output", f"one file cannot take several services ({names}): name a folder, or one --service"
            )
        paths = {output if to_one_file else output / f"{stack}-{one.service}.csv": one for one in chosen}
        _export_all(cloudwatch, paths, days)
    except (BotoCoreError, ClientError) as error:
        raise TraceError("", f"AWS did not answer: {error}") from None


def _export_all(cloudwatch: CloudWatchClient, paths: Mapping[Path, Endpoint], days: float) -> None:
    """Write each endpoint's trace of the last `days` to its path."""
    from rich.console import Console
    from rich.progress import Progress

    from gpu_fleet.traffic.export import default_end
    from gpu_fleet.traffic.export import export as export_trace

    until = default_end()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        for path, endpoint in paths.items():
            task = bar.add_task(endpoint.service, total=1.0)
            trace = export_trace(
                cloudwatch,
                endpoint,
                days=days,
                until=until,
                progress=lambda share, task=task: bar.update(task, completed=share),
            )
            _write(trace, path)
            typer.echo(
                f"{path}: {len(trace)} steps of {trace.step_seconds:g} s, {trace.expected_requests:,.0f} requests"
            )
            for note in trace.notes:
                typer.echo(f"note: {note}", err=True)


def _write(trace: Trace | RateTrace, path: Path) -> None:
    from gpu_fleet.traffic import write
    from gpu_fleet.traffic.errors import TraceError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(trace, path)
    except OSError as error:
        raise TraceError("", f"cannot be written: {error.strerror}", str(path)) from None


@app.command()
def generate(
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV file to write.")],
    days: Annotated[float, typer.Option(help="Length in days, starting on Monday at midnight.")] = 7,
    *,
    hour: Annotated[bool, typer.Option("--hour", help="The demo's hour instead: a rise, a dip, a burst.")] = False,
    peak_rps: Annotated[float, typer.Option(help="Requests per second of the highest step.")] = 20,
    night_share: Annotated[float, typer.Option(help="The night's rate as a share of the day's.")] = 0.2,
    weekend_share: Annotated[float, typer.Option(help="The weekend's rate as a share of a working day's.")] = 0.55,
    bursts_per_day: Annotated[float, typer.Option(help="Mean number of bursts a day.")] = 4,
    burst_factor: Annotated[float, typer.Option(help="Factor by which a burst multiplies the rate.")] = 1.8,
    burstiness: Annotated[float, typer.Option(help="Variation of the times between requests; 1 is Poisson.")] = 1.5,
    requests: Annotated[
        bool, typer.Option("--requests", help="Write each request with its tokens instead of the rates.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same trace.")] = 0,
) -> None:
    """Generate a trace: days and weeks with bursts, or the demo's hour."""
    from gpu_fleet.traffic import Shape
    from gpu_fleet.traffic import generate as generate_trace
    from gpu_fleet.traffic import hour as one_hour
    from gpu_fleet.traffic.errors import TraceError

    try:
        made = (
            one_hour(peak_rps, seed)
            if hour
            else generate_trace(
                Shape(
                    days=days,
                    peak_rps=peak_rps,
                    night_share=night_share,
                    weekend_share=weekend_share,
                    bursts_per_day=bursts_per_day,
                    burst_factor=burst_factor,
                    burstiness=burstiness,
                ),
                seed,
            )
        )
    except ValueError as error:
        name, _, text = str(error).partition(": ")
        raise TraceError(f"--{name.replace('_', '-')}", text) from None
    _write(made.sample(seed) if requests else made, output)
    typer.echo(f"{output}: {made.expected_requests:,.0f} requests in {made.span_seconds / 3600:g} h")


@app.command()
def formats() -> None:
    """List the trace formats that can be read."""
    from gpu_fleet.traffic.columns import known_formats

    typer.echo(known_formats())


def sparkline(trace: Trace | RateTrace, width: int) -> str:
    """Draw the rate as a row of bars, each the maximum of its interval, so no peak is lost."""
    import numpy as np

    from gpu_fleet.traffic import RateTrace, to_rates

    step_seconds = trace.step_seconds if isinstance(trace, RateTrace) else max(1.0, trace.span_seconds / width / 2)
    rps = to_rates(trace, step_seconds).rps if trace.span_seconds >= step_seconds else np.ones(1)
    maxima = [interval.max() for interval in np.array_split(rps, min(width, len(rps)))]
    highest = max(maxima) or 1.0
    return "".join(BARS[min(7, int(rate / highest * 8))] for rate in maxima)


def _summary(trace: Trace | RateTrace, statistics: Statistics) -> Table:
    from rich.table import Table

    from gpu_fleet.reports.trace_page import duration
    from gpu_fleet.traffic import RateTrace
    from gpu_fleet.traffic.statistics import strength

    table = Table(box=None, show_header=False)
    table.add_column(style="bold")
    table.add_column()
    table.add_row("span", duration(statistics.span_seconds))
    table.add_row("requests", f"{statistics.requests:,.0f}" + (" expected" if isinstance(trace, RateTrace) else ""))
    table.add_row("mean", f"{statistics.mean_rps:,.3g} requests per second")
    if statistics.steepest_rise is not None:
        table.add_row(
            "steepest rise", f"{statistics.steepest_rise:.0%} of the peak within {duration(statistics.rise_seconds)}"
        )
    if statistics.dispersion:
        values = ", ".join(f"{value:.3g} at {window:g} s" for window, value in statistics.dispersion.items())
        table.add_row("dispersion of counts", f"{values} (Poisson: 1)")
    if statistics.gap_variation is not None:
        table.add_row("variation of gaps", f"{statistics.gap_variation:.3g} squared (Poisson: 1)")
    if isinstance(trace, RateTrace):
        table.add_row("burstiness", f"not in rates; requests are drawn with a variation of {trace.burstiness:g}")
    for name, value in statistics.rhythms.items():
        table.add_row(f"same time last {name}", f"correlation {value:.2f}: {strength(value)}")
    for name, lengths in (("prompt", statistics.input_tokens), ("answer", statistics.output_tokens)):
        if lengths:
            quantiles = {"p50": lengths.p50, "p95": lengths.p95, "p99": lengths.p99, "longest": lengths.most}
            rest = ", ".join(f"{key} {value:,.0f}" for key, value in quantiles.items())
            table.add_row(f"{name} tokens", f"mean {lengths.mean:,.0f}, {rest}")
    return table


def _peaks(statistics: Statistics) -> Table:
    from rich.table import Table

    from gpu_fleet.reports.trace_page import duration

    table = Table(
        "step",
        "peak rps",
        "trough rps",
        "peak / mean",
        "most saving",
        box=None,
        header_style="bold",
    )
    for column in table.columns:
        column.justify = "right"
    for peak in statistics.peaks:
        table.add_row(
            duration(peak.step_seconds),
            f"{peak.peak_rps:,.3g}",
            f"{peak.trough_rps:,.3g}",
            f"{peak.ratio:.2f}",
            f"{peak.most_saving:.1%}",
        )
    return table
