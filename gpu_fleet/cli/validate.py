"""`gpu-fleet validate`: every error of a project's YAML at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.cases import cases
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import collect, policy_name
from gpu_fleet.config.project_file import namespace
from gpu_fleet.config.stack_file import read_stack, stack_file
from gpu_fleet.config.yaml_files import library_texts, read_text
from infra.stack_problems import stack_problems


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
    """
    checked, problems = check_project(root, paths or [], stack or [])
    if problems:
        raise DocumentError(problems)
    typer.echo(f"no errors in {len(checked)} files: {', '.join(checked)}")


def check_project(root: Path, paths: list[Path], stacks: list[str]) -> tuple[list[str], list[Problem]]:
    """Which files were checked, and everything that is wrong in them.

    Without paths and stacks all of the project is checked. A path that is not a stack's file is a policy (or the
    catalog, or the profiles, by its name), and stands in for the project's own file of that name.
    """
    problems: list[Problem] = []
    texts: dict[str, str] = {}
    try:
        texts = library_texts(root)
    except DocumentError as error:
        problems += error.problems
    everything = not paths and not stacks
    asked = set(texts) if everything else set()
    stack_files = [root / stack_file(name) for name in stacks]
    if everything:
        stack_files = sorted(root.glob("Pulumi.*.yaml"))
        if not stack_files:
            problems.append(Problem("Pulumi.<stack>.yaml", 0, 0, "", "no stack file here; is this the project's root?"))
    for path in _files(paths):
        if path.name == "Pulumi.yaml":
            problems.append(Problem(str(path), 0, 0, "", "must be a stack's file or a file of policies/"))
            continue
        if path.name.startswith("Pulumi."):
            stack_files.append(path)
            continue
        name = str(path)
        try:
            text = read_text(path, name)
        except DocumentError as error:
            problems += error.problems
            continue
        for other in [known for known in texts if Path(known).name == path.name]:
            del texts[other]
        texts[name] = text
        asked.add(name)
    library, found = collect(texts) if texts else (None, [])
    if library is not None and library.is_whole:
        names = [policy_name(path) for path in texts if policy_name(path) in library.policies]
        found += cases(library, names, lambda name: read_stack(root, name)[0])[1]
    # A stack stands on the whole library: an error anywhere in it counts when a stack is to be checked.
    problems += [p for p in found if stack_files or p.file in asked]
    project, wrong = namespace(root)
    problems += wrong if stack_files else []
    for path in stack_files:
        name = path.name.removeprefix("Pulumi.").removesuffix(".yaml")
        problems += stack_problems(path.parent, name, library, project)
    return sorted(asked) + [path.name for path in stack_files], problems


def _files(paths: list[Path]) -> list[Path]:
    """The YAML files named, those of a folder in place of the folder."""
    return [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
