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
from gpu_fleet.config.catalog import CATALOG, PROFILES
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import library, policy_name
from gpu_fleet.config.policy_files import with_text
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts, read_text
from gpu_fleet.scaling.decide import decide


def test(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATHS]...", help="Policy files or folders of them; without any, policies/ and own/policies/."
        ),
    ] = None,
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print every decision's sentences, not only those of failed cases.")
    ] = False,
) -> None:
    """Run the cases of policies: decide each case as the scaler would, and compare the decision with `expect`."""
    texts = library_texts(root)
    files = _policy_files(paths) if paths else [root / file for file in texts if _is_policy(Path(file))]
    for path in files:
        name = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        texts = with_text(texts, name, read_text(path, name))

    @cache
    def stack(name: str) -> StackSettings:
        return read_stack(root, name)[0]

    to_run, problems = cases(library(texts), [policy_name(path.name) for path in files], stack)
    if problems:
        raise DocumentError(problems)
    console = Console(highlight=False, soft_wrap=True)
    results = [run(case, decide) for case in to_run]
    for result in results:
        _print(console, result, explain=explain)
    failed = sum(not result.passed for result in results)
    console.print(f"{len(results)} cases in {len(files)} policies, {failed} failed")
    if failed:
        raise typer.Exit(1)


def _policy_files(paths: list[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += [file for file in sorted(path.glob("*.yaml")) if _is_policy(file)]
        elif path.is_file():
            files.append(path)
        else:
            raise DocumentError([Problem(str(path), 0, 0, "", "no such file")])
    return files


def _is_policy(file: Path) -> bool:
    return file.name not in (CATALOG, PROFILES)


def _print(console: Console, result: CaseResult, *, explain: bool) -> None:
    case = result.case
    mark = "[green]passed[/]" if result.passed else "[red]FAILED[/]"
    console.print(f"{mark}  {escape(case.place)}: {escape(case.name)}")
    for mismatch in result.mismatches:
        console.print(
            f"        {escape(mismatch.key)}: wanted [green]{escape(mismatch.wanted)}[/], "
            f"got [red]{escape(mismatch.got)}[/]"
        )
    if explain or not result.passed:
        for reason in result.decision.reasons:
            console.print(f"        [dim]{reason.step}[/] {escape(reason.code)}: {escape(reason.sentence)}")
