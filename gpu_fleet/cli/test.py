"""`gpu-fleet test`: the cases that policy files carry."""

# ruff: noqa: PT028 - a command named test is no test

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from gpu_fleet.cases import CaseResult, cases, run
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import CATALOG, PROFILES, library, policy_name
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts, read_text
from gpu_fleet.scaling.decide import decide


def test(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]...", help="Policy files or folders of them; without any, policies/."),
    ] = None,
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every decision's sentences, not only of failures.")
    ] = False,
) -> None:
    """Run the cases of policies: what is given, what the scaler would decide, and whether that is what is expected."""
    texts = library_texts(root)
    files = _policy_files(paths or [root / "policies"])
    for path in files:
        for known in [name for name in texts if Path(name).name == path.name]:
            del texts[known]
        name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        texts[name] = read_text(path, name)

    @cache
    def stack(name: str) -> StackSettings:
        return read_stack(root, name)[0]

    found, problems = cases(library(texts), [policy_name(path.name) for path in files], stack)
    if problems:
        raise DocumentError(problems)
    console = Console(highlight=False, soft_wrap=True)
    outcomes = [run(case, decide) for case in found]
    for outcome in outcomes:
        _print(console, outcome, explain=explain)
    failed = sum(not outcome.passed for outcome in outcomes)
    console.print(f"{len(outcomes)} cases in {len(files)} policies, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _policy_files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [file for file in sorted(path.glob("*.yaml")) if file.name not in (CATALOG, PROFILES)]
        elif path.is_file():
            files.append(path)
        else:
            raise DocumentError([Problem(str(path), 0, 0, "", "no such file")])
    return files


def _print(console: Console, outcome: CaseResult, *, explain: bool) -> None:
    case = outcome.case
    mark = "[green]passed[/]" if outcome.passed else "[red]FAILED[/]"
    console.print(f"{mark}  {escape(case.place)}: {escape(case.name)}")
    for difference in outcome.differences:
        console.print(
            f"        {escape(difference.key)}: wanted [green]{escape(difference.wanted)}[/], "
            f"got [red]{escape(difference.got)}[/]"
        )
    if explain or not outcome.passed:
        for reason in outcome.decision.reasons:
            console.print(f"        [dim]{reason.step}[/] {escape(reason.code)}: {escape(reason.sentence)}")
