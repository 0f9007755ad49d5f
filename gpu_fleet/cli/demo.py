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
        typer.Option(help="Traffic, in any format of `gpu-fleet trace formats`; without one, an hour is made up."),
    ] = None,
    stack: Annotated[str, typer.Option(help="The stack to provision.")] = "local",
    service: Annotated[str | None, typer.Option(help="The service that gets the traffic; else the first.")] = None,
    policy: Annotated[str | None, typer.Option(help="Another policy than the stack's, by name or by file.")] = None,
    peak_instances: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Scale the traffic so that its busiest minute is what so many instances of the middle pool complete; "
            "0 leaves it alone. Without it 12, or three quarters of what the pool may have.",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        int | None, typer.Option(min=1, help="Replay so much of the trace; without it an hour.", show_default=False)
    ] = None,
    boot_seconds: Annotated[
        float | None,
        typer.Option(
            min=0, help="From launch until the model answers; else as catalog and profiles say.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same run.")] = 0,
    report: Annotated[Path, typer.Option(help="The report.")] = REPORT,
    picture: Annotated[
        Path | None, typer.Option(help="Draw demand, capacity and pools into this SVG or PNG file, too.")
    ] = None,
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
) -> None:
    """Provision a stack in moto, replay traffic through the real scaler in virtual time, and write a report.

    Nothing leaves this machine: the unmodified Pulumi program runs against an AWS in this process, the scaler's own
    handler is invoked each virtual minute, and every request is served by simulated engines.
    """
    from rich.console import Console

    from gpu_fleet.replay.demo import play, prepare
    from gpu_fleet.reports.demo_page import demo_page
    from gpu_fleet.reports.demo_picture import demo_picture
    from infra.package import PackageError

    # What the scaler prints is its log, and is read from sys.stdout while it runs: the screen keeps its own way out.
    console = Console(file=sys.stdout, highlight=False)
    plan = prepare(
        root,
        stack=stack,
        service=service,
        trace=trace,
        peak_instances=peak_instances,
        minutes=minutes,
        boot_seconds=boot_seconds,
        seed=seed,
        policy=policy,
    )
    _can_write(report)
    if picture is not None:
        _can_write(picture, (".svg", ".png"))
    screen = _Screen(console, plan)
    try:
        outcome = play(
            plan, on_resource=screen.created, on_provisioned=lambda _: screen.provisioned(), on_minute=screen.minute
        )
    except PackageError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    finally:
        screen.close()
    console.print(_comparison(outcome))
    console.print(_decisions(outcome))
    report.write_text(demo_page(outcome), encoding="utf-8")
    console.print(f"Report: {report}", soft_wrap=True)
    if picture is not None:
        picture.write_bytes(demo_picture(outcome, picture.suffix))
        console.print(f"Picture: {picture}", soft_wrap=True)


def _can_write(path: Path, suffixes: tuple[str, ...] = ()) -> None:
    """Makes the folder. Raises DocumentError where the file could not be written, before anything is done for it."""
    from gpu_fleet.config.document import DocumentError, Problem

    if suffixes and path.suffix not in suffixes:
        raise DocumentError([Problem(str(path), 0, 0, "", f"must end in {' or '.join(suffixes)}")])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise DocumentError([Problem(str(path), 0, 0, "", f"cannot be written: {error.strerror}")]) from None


class _Screen:
    """What is shown while the demo runs."""

    def __init__(self, console: Console, plan: Plan) -> None:
        from rich.status import Status

        self._console, self._plan = console, plan
        self._made: list[RegisteredResource] = []
        self._status: Status | None = Status("", console=console)
        self._status.start()
        self._progress = None
        self._task = None

    def created(self, resource: RegisteredResource) -> None:
        """One more resource stands."""
        self._made.append(resource)
        if self._status is not None:
            self._status.update(f"creating {len(self._made)}: {short_type(resource.type)} {resource.name}")

    def provisioned(self) -> None:
        """All of them stand: show them, then what is about to be replayed, then the bar."""
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        self.close()
        plan, console = self._plan, self._console
        console.print(tree(f"{plan.stack} (gpu-fleet)", self._made))
        made = sum(one.custom for one in self._made)
        console.print(
            f"[bold]Resources:[/] [green]+ {len(self._made)} created[/]: {made} of AWS in {len(self._made) - made} "
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
        """One more minute is over."""
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
        """Let the terminal go."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def short_type(token: str) -> str:
    """`aws:ec2/vpc:Vpc` as `pulumi up` prints it: `aws:ec2:Vpc`."""
    package, module, name = token.split(":")
    return f"{package}:{module.split('/')[0]}:{name}"


def tree(title: str, resources: Iterable[RegisteredResource]) -> Tree:
    """The resources under their components."""
    from rich.markup import escape
    from rich.tree import Tree

    top = Tree(f"[bold]{escape(title)}[/]", guide_style="dim")
    places: dict[str, Tree] = {}
    for one in resources:
        above = places.get(one.parent, top)
        label = f"[green]+[/] {escape(short_type(one.type))}  [cyan]{escape(one.name)}[/]"
        places[one.urn] = above.add(label if one.custom else f"[bold]{label}[/]")
    return top


def introduction(plan: Plan) -> list[str]:
    """What is replayed, in sentences."""
    from rich.markup import escape

    from gpu_fleet.reports.demo_page import opening_sentence, traffic_sentence

    return [escape(traffic_sentence(plan)), escape(opening_sentence(plan))]


def _comparison(outcome: DemoResult) -> Table:
    from rich.table import Table

    from gpu_fleet.reports.demo_page import comparison, static_name

    table = Table("", "gpu-fleet", static_name(outcome), title="The same requests on both", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in comparison(outcome):
        table.add_row(row.measure, row.ours, row.static)
    return table


def _decisions(outcome: DemoResult) -> Table:
    from rich.table import Table

    table = Table("decisions by reason code", "times", title_justify="left")
    table.columns[1].justify = "right"
    for code, times in outcome.replay.codes.items():
        table.add_row(code, str(times))
    return table
