"""`gpu-fleet demo`: the local stack in moto, an hour of traffic through the real scaler, and a report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table
    from rich.tree import Tree

    from gpu_fleet.emulator import RegisteredResource
    from gpu_fleet.replay import Replay
    from gpu_fleet.replay.demo import DemoResult, Plan

REPORT = Path("out/demo.html")


def demo(
    trace: Annotated[
        Path | None,
        typer.Option(help="Traffic, in any format of `gpu-fleet trace formats`; without it, an hour is made up."),
    ] = None,
    stack: Annotated[str, typer.Option(help="The stack to provision.")] = "local",
    service: Annotated[
        str | None, typer.Option(help="The service that gets the traffic; without it, the first.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="A policy instead of the stack's, by name or by file.")] = None,
    peak_instances: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Scale the traffic so that its busiest minute is what this many instances of the middle pool "
            "complete; 0 leaves it as it is. Without it 12, or three quarters of the pool's maximum.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        int | None, typer.Option(min=1, help="Minutes of the trace to replay; without it, 60.", show_default=False)
    ] = None,
    boot_seconds: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="From launch until the model answers; without it, as catalog and profiles say.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same run.")] = 0,
    report: Annotated[Path, typer.Option(help="Where to write the report.")] = REPORT,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw demand, capacity and instances into this SVG or PNG file.")
    ] = None,
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
) -> None:
    """Provision a stack in moto, replay traffic through the real scaler in virtual time, and write a report.

    Nothing leaves this machine: the unmodified Pulumi program runs against an AWS in this process, the scaler's own
    handler is invoked each virtual minute, and every request is served by simulated engines.
    """
    from gpu_fleet.replay.demo import DemoOptions, prepare
    from gpu_fleet.replay.demo_traffic import TrafficOptions

    traffic = TrafficOptions(trace=trace, peak_instances=peak_instances, minutes=minutes)
    options = DemoOptions(stack, service, policy, traffic=traffic, boot_seconds=boot_seconds, seed=seed)
    plan = prepare(root, options)
    _check_writable(report)
    if picture is not None:
        _check_writable(picture, (".svg", ".png"))
    _run(plan, report, picture)


def _run(plan: Plan, report: Path, picture: Path | None) -> None:
    """Play the plan on the screen, and write its report and picture."""
    from rich.console import Console

    from gpu_fleet.replay.demo import play
    from gpu_fleet.reports.demo_page import demo_page
    from gpu_fleet.reports.demo_picture import demo_picture
    from infra.package import PackageError

    # While the scaler runs, sys.stdout is where its log is read from: the screen keeps the stream of now.
    console = Console(file=sys.stdout, highlight=False)
    screen = _Screen(console, plan)
    try:
        result = play(
            plan, on_resource=screen.created, on_provisioned=lambda _: screen.provisioned(), on_minute=screen.minute
        )
    except PackageError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    finally:
        screen.close()
    console.print(_comparison(result))
    console.print(_decisions(result))
    report.write_text(demo_page(result), encoding="utf-8")
    console.print(f"Report: {report}", soft_wrap=True)
    if picture is not None:
        picture.write_bytes(demo_picture(result, picture.suffix))
        console.print(f"Picture: {picture}", soft_wrap=True)


def _check_writable(path: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Make the folder. Raises DocumentError where the file cannot be written, before any work is done for it."""
    from gpu_fleet.config.document import DocumentError, Problem

    if suffixes and path.suffix not in suffixes:
        raise DocumentError([Problem(str(path), 0, 0, "", f"must end in {' or '.join(suffixes)}")])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise DocumentError([Problem(str(path), 0, 0, "", f"cannot be written: {error.strerror}")]) from None


class _Screen:
    """The terminal while the demo runs."""

    def __init__(self, console: Console, plan: Plan) -> None:
        from rich.status import Status

        self._console, self._plan = console, plan
        self._created: list[RegisteredResource] = []
        self._status: Status | None = Status("", console=console)
        self._status.start()
        self._progress = None
        self._task = None

    def created(self, resource: RegisteredResource) -> None:
        """Show a resource that was created."""
        self._created.append(resource)
        if self._status is not None:
            self._status.update(f"creating {len(self._created)}: {short_type(resource.type)} {resource.name}")

    def provisioned(self) -> None:
        """Show all resources, what will be replayed, and the progress bar."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self.close()
        plan, console = self._plan, self._console
        console.print(tree(f"{plan.options.stack} (gpu-fleet)", self._created))
        count, of_aws = len(self._created), sum(one.custom for one in self._created)
        console.print(
            f"[bold]Resources:[/] [green]+ {count} created[/]: {of_aws} of AWS in {count - of_aws} "
            "components, in this process: no AWS, no network.\n",
            soft_wrap=True,
        )
        for line in introduction(plan):
            console.print(line, soft_wrap=True)
        console.print()
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[clock]}"),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[live]}"),
            console=console,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._progress.start()
        self._task = self._progress.add_task("replay", total=plan.traffic.trace.span_seconds, clock="0:00", live="")

    def minute(self, replay: Replay) -> None:
        """Show the minute that has ended."""
        if self._progress is None or self._task is None:
            return
        newest, total = replay.minutes[-1], replay.so_far
        pools = "  ".join(
            f"{name} {pool.ready}" + (f"+{pool.starting}" if pool.starting else "")
            for name, pool in newest.pools.items()
        )
        ttft = "-" if newest.ttft_p95_seconds is None else f"{newest.ttft_p95_seconds:.2f} s"
        attained = "-" if total.slo_attainment is None else f"{total.slo_attainment:.1%}"
        live = f"{newest.arrivals_rps:.0f}/{newest.capacity_rps:.0f} rps  {pools}  p95 {ttft}  SLO {attained}"
        at = int(newest.at)
        self._progress.update(self._task, completed=newest.at, clock=f"{at // 3600}:{at // 60 % 60:02d}", live=live)

    def close(self) -> None:
        """Release the terminal."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def short_type(token: str) -> str:
    """Return `aws:ec2/vpc:Vpc` as `pulumi up` prints it: `aws:ec2:Vpc`."""
    package, module, name = token.split(":")
    return f"{package}:{module.split('/')[0]}:{name}"


def tree(title: str, resources: Iterable[RegisteredResource]) -> Tree:
    """Return the resources as a tree under their components."""
    from rich.markup import escape
    from rich.tree import Tree

    top = Tree(f"[bold]{escape(title)}[/]", guide_style="dim")
    branches: dict[str, Tree] = {}
    for one in resources:
        parent = branches.get(one.parent, top)
        label = f"[green]+[/] {escape(short_type(one.type))}  [cyan]{escape(one.name)}[/]"
        branches[one.urn] = parent.add(label if one.custom else f"[bold]{label}[/]")
    return top


def introduction(plan: Plan) -> list[str]:
    """Say in sentences what will be replayed."""
    from rich.markup import escape

    from gpu_fleet.reports.demo_page import opening_sentence, traffic_sentence

    return [escape(traffic_sentence(plan)), escape(opening_sentence(plan))]


def _comparison(result: DemoResult) -> Table:
    from rich.table import Table

    from gpu_fleet.reports.demo_page import comparison, static_name

    table = Table("", "gpu-fleet", static_name(result), title="The same requests on both", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in comparison(result):
        table.add_row(row.measure, row.ours, row.static)
    return table


def _decisions(result: DemoResult) -> Table:
    from rich.table import Table

    table = Table("decisions by reason code", "times", title_justify="left")
    table.columns[1].justify = "right"
    for code, times in result.replay.codes.items():
        table.add_row(code, str(times))
    return table
