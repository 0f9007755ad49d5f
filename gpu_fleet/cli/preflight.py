"""`gpu-fleet preflight`: what `pulumi up` would die of, before anything is made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gpu_fleet.cli import options
from gpu_fleet.cli.validate import check_project

if TYPE_CHECKING:
    from rich.table import Table

    from gpu_fleet.operate.preflight.check import Row

SOMETHING_WRONG = 1
BAD_CALL = 2
NOT_KNOWN = 3

STATUSES = ("ok", "wrong", "not known")
"""As they are counted."""


def preflight(
    stack: Annotated[str, typer.Option(help="The stack, by name.")],
    output: options.Output = options.Format.TABLE,
    root: options.Root = Path(),
) -> None:
    """Ask AWS, read-only, for all that a stack's `pulumi up` would die of. Makes and changes nothing.

    Reads the stack's file and asks, in its region and with the AWS credentials of this shell: for instance types in
    their zones, quotas, AMIs, images, secrets and keys, certificate, web ACL, topic, Lambda concurrency, service-linked
    roles, and a given VPC's subnets and ways out. Each row is `ok`, `wrong` or `not known`; the last says which right
    is missing, or what failed. docs/preflight.md has the policy with the rights.

    Ends with 0: all is ok; 1: something is wrong; 2: a wrong call, or YAML that `gpu-fleet validate` refuses;
    3: nothing is wrong, but something is not known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from gpu_fleet.config.stack_file import read_stack
    from gpu_fleet.config.yaml_files import read_library
    from gpu_fleet.operate.preflight.all_checks import plan
    from gpu_fleet.operate.preflight.aws import ReadOnlyAws
    from gpu_fleet.operate.preflight.check import run
    from gpu_fleet.operate.preflight.stack_needs import Stack

    _, problems = check_project(root, [], [stack])
    if problems:
        for problem in sorted(set(problems)):
            typer.echo(str(problem), err=True)
        raise typer.Exit(BAD_CALL)
    settings, document = read_stack(root, stack)
    checks = plan(Stack(stack, settings, read_library(root)))

    err = Console(stderr=True)
    columns = (
        TextColumn("asking AWS"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[newest]}", style="dim"),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=len(checks), newest="")
        rows = run(
            checks, ReadOnlyAws(settings.region), document, lambda newest: bar.update(task, advance=1, newest=newest)
        )

    counts = Counter(row.finding.status.value for row in rows)
    if output is options.Format.JSON:
        answer = {
            "stack": stack,
            "region": settings.region,
            "counts": {status: counts[status] for status in STATUSES},
            "rows": [row.as_json() for row in rows],
        }
        typer.echo(json.dumps(answer, indent=2))
    else:
        console = Console(highlight=False)
        if not console.is_terminal:
            # Nobody resizes a file: the table is written as wide as it is.
            console = Console(highlight=False, width=max(console.width, 140))
        console.print(_table(rows))
        console.print(_summary(rows), soft_wrap=True, markup=False)
    if counts["wrong"]:
        raise typer.Exit(SOMETHING_WRONG)
    if counts["not known"]:
        raise typer.Exit(NOT_KNOWN)


def _table(rows: Sequence[Row]) -> Table:
    """One line a check."""
    from rich.markup import escape
    from rich.table import Table

    from gpu_fleet.operate.preflight.finding import Status

    styles = {Status.OK: "green", Status.WRONG: "bold red", Status.NOT_KNOWN: "yellow"}
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
    """What is wrong, as `validate` would say it; how many rows have which status; the rights that are missing."""
    lines = [_said(row) for row in rows if row.finding.status.value == "wrong"]
    counts = Counter(row.finding.status.value for row in rows)
    lines.append(", ".join(f"{counts[status]} {status}" for status in STATUSES))
    if rights := sorted({row.finding.missing_right for row in rows} - {""}):
        lines.append(f"missing rights: {', '.join(rights)}")
    return "\n" + "\n".join(lines)


def _said(row: Row) -> str:
    if row.at is None:
        return f"{row.check}: {row.subject}: {row.finding.text}"
    return str(replace(row.at, text=f"{row.check}: {row.finding.text}"))
