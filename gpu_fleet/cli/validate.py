"""`gpu-fleet validate`: every error of a project's YAML at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.cases import cases
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, collect, policy_name
from gpu_fleet.config.own_files import stack_names
from gpu_fleet.config.policy_files import with_text
from gpu_fleet.config.project_file import FILE, namespace
from gpu_fleet.config.stack_file import existing_stack_file, read_stack
from gpu_fleet.config.yaml_files import library_texts, read_text
from infra.stack_problems import file_problems, file_warnings


def validate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATHS]...", help="Files or folders; without any, all of the project's YAML."),
    ] = None,
    stack: Annotated[list[str] | None, typer.Option(help="Check this stack, by name; may be repeated.")] = None,
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
) -> None:
    """Check stacks, policies, catalog and profiles, each by itself and against each other.

    Prints every error as `file:line:column: key: what is allowed (got value)`; ends with code 1 if there is one.
    What will work, but not well, is a warning on stderr.
    """
    checked = check_project(root, paths or [], stack or [])
    if checked.problems:
        raise DocumentError(checked.problems)
    for warning in checked.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(f"no errors in {len(checked.files)} files: {', '.join(checked.files)}")


@dataclass(frozen=True, slots=True)
class Checked:
    """The checked files, and what is wrong with them."""

    files: Sequence[str]
    problems: Sequence[Problem]
    """Errors."""
    warnings: Sequence[Problem]
    """What will work, but not well; empty if there are errors."""


def check_project(root: Path, paths: Sequence[Path], stacks: Sequence[str]) -> Checked:
    """Check files of a project.

    Without paths and stacks, the whole project is checked. A path that is not a stack's file is a policy (or, by its
    name, the catalog or the profiles), and replaces the project's own file of that name.
    """
    selection = _select(root, paths, stacks)
    problems = selection.problems
    library, library_problems = collect(selection.texts) if selection.texts else (None, [])
    if library is not None:
        library_problems += _case_problems(root, library, selection.texts)
    # A stack needs the whole library: any error in it counts when a stack is checked.
    problems += [p for p in library_problems if selection.stack_files or p.file in selection.library_files]
    project, name_problems = namespace(root)
    problems += name_problems if selection.stack_files else []
    for name, path in selection.stack_files.items():
        problems += file_problems(path, name, library, project)
    warnings = (
        []
        if problems
        else [warning for name, path in selection.stack_files.items() for warning in file_warnings(path, name, project)]
    )
    return Checked([*sorted(selection.library_files), *selection.stack_files], problems, warnings)


@dataclass
class _Selection:
    """The files to check, and the errors in how they were named."""

    texts: dict[str, str] = field(default_factory=dict)
    """The whole library, of which `library_files` are checked."""
    library_files: set[str] = field(default_factory=set)
    stack_files: dict[str, Path] = field(default_factory=dict)
    """By the name that errors use."""
    problems: list[Problem] = field(default_factory=list)


def _select(root: Path, paths: Sequence[Path], stacks: Sequence[str]) -> _Selection:
    selection = _Selection()
    try:
        selection.texts = library_texts(root)
    except DocumentError as error:
        selection.problems += error.problems
    if not paths and not stacks:
        selection.library_files = set(selection.texts)
        stacks = stack_names(root)
        if not stacks:
            text = "no stack file here; is this the project's root?"
            selection.problems.append(Problem("Pulumi.<stack>.yaml", 0, 0, "", text))
    for stack in stacks:
        try:
            name = existing_stack_file(root, stack)
        except DocumentError as error:
            selection.problems += error.problems
        else:
            selection.stack_files[name] = root / name
    for path in _yaml_files(paths):
        _add(path, root, selection)
    return selection


def _add(path: Path, root: Path, selection: _Selection) -> None:
    if path.name == FILE:
        selection.problems.append(Problem(str(path), 0, 0, "", "must be a stack's file or a file of policies/"))
    elif path.name.startswith("Pulumi."):
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        selection.stack_files[name] = path
    else:
        name = str(path)
        try:
            selection.texts = with_text(selection.texts, name, read_text(path, name))
        except DocumentError as error:
            selection.problems += error.problems
        else:
            selection.library_files.add(name)


def _yaml_files(paths: Sequence[Path]) -> list[Path]:
    """Return the named files, and for a folder the YAML files in it."""
    return [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]


def _case_problems(root: Path, library: Library, texts: dict[str, str]) -> list[Problem]:
    if not library.is_whole:
        return []
    names = [policy_name(path) for path in texts if policy_name(path) in library.policies]
    return cases(library, names, lambda stack: read_stack(root, stack)[0])[1]
