"""`gpu-fleet preflight`: find what would make `pulumi up` fail, before it creates anything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_fleet.cli import options
from gpu_fleet.cli.validate import check_project

if TYPE_CHECKING:
    from rich.table import Table

    from gpu_fleet.config.document import Document
    from gpu_fleet.operate.preflight.check import Check, Row

SOMETHING_WRONG = 1
BAD_CALL = 2
NOT_KNOWN = 3

STATUSES = ("ok", "warning", "wrong", "not known")
"""In the order of the summary."""


def preflight(
    stack: Annotated[str, typer.Option(help="The stack, by name.")],
    output: options.Output = options.Format.TABLE,
    root: options.Root = Path(),
) -> None:
    """Ask AWS for everything that would make a stack's `pulumi up` fail. Read-only: creates and changes nothing.

    Reads the stack's file and checks, in its region and with this shell's AWS credentials: instance types in their
    zones, quotas, AMIs, images, secrets and keys, certificate, web ACL, topic, Lambda concurrency, service-linked
    roles, image caches, and the subnets and routes of an existing VPC. Each row is `ok`, `warning` (it will work, but
    not well), `wrong` or `not known`, which names the missing right, or what failed. docs/preflight.md has a policy
    with the rights.

    Exit codes: 0: all is ok, but for warnings; 1: something is wrong; 2: a wrong call, or YAML that `gpu-fleet
    validate` refuses; 3: nothing is wrong, but something is not known.
    """
    from gpu_fleet.config.stack_file import read_stack
    from gpu_fleet.config.yaml_files import read_library
    from gpu_fleet.operate.preflight.all_checks import plan
    from gpu_fleet.operate.preflight.stack_needs import Stack

    if problems := check_project(root, [], [stack]).problems:
        for problem in sorted(set(problems)):
            typer.echo(str(problem), err=True)
        raise typer.Exit(BAD_CALL)
    settings, document = read_stack(root, stack)
    rows = _run_with_progress(plan(Stack(stack, settings, read_library(root))), settings.region, document)
    if output is options.Format.JSON:
        typer.echo(json.dumps(_as_json(stack, settings.region, rows), indent=2))
    else:
        _print(rows)
    counts = _count(rows)
    if counts["wrong"]:
        raise typer.Exit(SOMETHING_WRONG)
    if counts["not known"]:
        raise typer.Exit(NOT_KNOWN)


def _run_with_progress(checks: Sequence[Check], region: str, document: Document) -> list[Row]:
    """Run the checks; a terminal shows how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gpu_fleet.operate.preflight.aws import ReadOnlyAws
    from gpu_fleet.operate.preflight.check import run

    console = Console(stderr=True)
    columns = (
        TextColumn("asking AWS"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[newest]}", style="dim"),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=len(checks), newest="")
        return run(checks, ReadOnlyAws(region), document, lambda newest: bar.update(task, advance=1, newest=newest))


def _count(rows: Sequence[Row]) -> Mapping[str, int]:
    """Return the number of rows with each status."""
    counts = Counter(row.finding.status.value for row in rows)
    return {status: counts[status] for status in STATUSES}


def _as_json(stack: str, region: str, rows: Sequence[Row]) -> Mapping[str, object]:
    return {"stack": stack, "region": region, "counts": _count(rows), "rows": [row.as_json() for row in rows]}


def _print(rows: Sequence[Row]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        # Nobody can resize a file, so its table may be wider than a terminal.
        console = Console(highlight=False, width=max(console.width, 140))
    console.print(_table(rows))
    console.print(_summary(rows), soft_wrap=True, markup=False)


def _table(rows: Sequence[Row]) -> Table:
    """Return a table with one row for each check."""
    from rich.markup import escape
    from rich.table import Table

    from gpu_fleet.operate.preflight.finding import Status

    styles = {Status.OK: "green", Status.WARNING: "yellow", Status.WRONG: "bold red", Status.NOT_KNOWN: "yellow"}
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("status", no_wrap=True)
    table.add_column("check")
    table.add_column("of", overflow="fold")
    table.add_column("found", overflow="fold")
    for row in rows:
        style = styles[row.finding.status]
        table.add_row(
            f"[{style}]{row.finding.status}[/]", escape(row.check), escape(row.subject), escape(row.finding.text)
        )
    return table


def _summary(rows: Sequence[Row]) -> str:
    """Return the summary: wrong rows as `validate` prints problems, counts by status, and missing rights."""
    lines = [_problem_line(row) for row in rows if row.finding.status.value == "wrong"]
    lines.append(", ".join(f"{count} {status}" for status, count in _count(rows).items()))
    if rights := sorted({row.finding.missing_right for row in rows} - {""}):
        lines.append(f"missing rights: {', '.join(rights)}")
    return "\n" + "\n".join(lines)


def _problem_line(row: Row) -> str:
    if row.at is None:
        return f"{row.check}: {row.subject}: {row.finding.text}"
    return str(replace(row.at, text=f"{row.check}: {row.finding.text}"))
