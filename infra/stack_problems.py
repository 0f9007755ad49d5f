"""Every error of a stack's file, by itself and against the library, each with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_fleet.config.composition import compose
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, collect
from gpu_fleet.config.own_files import OWN, find_stack_file, stack_names
from gpu_fleet.config.project_file import namespace
from gpu_fleet.config.rules import affinity, registries
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import (
    StackReading,
    existing_stack_file,
    key_problems,
    read_config,
    read_stack_text,
)
from gpu_fleet.config.yaml_files import library_texts, read_library, read_text
from gpu_fleet.scaling.service import Service
from infra import engine_problems, sizes


def stack_problems(root: Path, stack: str, library: Library | None, project: str | None = None) -> list[Problem]:
    """Return every error of a stack's file, by itself and, with a `library`, against it.

    `project` is the name in Pulumi.yaml; without it, the name is read from `root`.
    """
    problems: list[Problem] = []
    if project is None:
        project, problems = namespace(root)
    try:
        file = existing_stack_file(root, stack)
    except DocumentError as error:
        return [*problems, *error.problems]
    return [*problems, *file_problems(root / file, file, library, project)]


def file_problems(path: Path, name: str, library: Library | None, project: str) -> list[Problem]:
    """Return every error of the stack's file at `path`; errors call it `name`."""
    try:
        reading = read_stack_text(read_text(path, name), name, project)
    except DocumentError as error:
        return list(error.problems)
    return reading.problems if library is None else _composed(reading, library)[1]


def file_warnings(path: Path, name: str, project: str) -> list[Problem]:
    """Return what in a stack's file without errors will work, but not well."""
    reading = read_stack_text(read_text(path, name), name, project)
    return [reading.document.problem(warning.path, warning.text) for warning in registries.warnings(reading.settings)]


def read_engine(
    root: Path, get_object: Callable[[str], Any], region: str | None, stack: str, project: str
) -> tuple[StackSettings, tuple[Service, ...]]:
    """Return the settings and services of the Pulumi program; `get_object` is `pulumi.Config().get_object`.

    Raises DocumentError with every error in the stack's file, Pulumi.yaml and the library, each with its place as far
    as the files show it: the engine hands values over without their places.
    """
    try:
        file = find_stack_file(root, stack)
        reading = read_config(get_object, region, stack, project, file)
        if file.startswith(f"{OWN}/") and reading.document.data.keys() <= {"region"}:
            text = f"the engine has not read this file; give pulumi the option --config-file {file}"
            raise DocumentError([Problem(file, 0, 0, "", text)])  # noqa: TRY301 all kinds are given their places
        services, problems = _composed(reading, read_library(root))
        problems += key_problems(root, stack, project)
        problems += namespace(root)[1]
        if problems:
            raise DocumentError(problems)  # noqa: TRY301 all kinds are given their places
    except DocumentError as error:
        raise placed(error, root, stack) from None
    return reading.settings, services


def _composed(reading: StackReading, library: Library) -> tuple[tuple[Service, ...], list[Problem]]:
    document = reading.document
    services, problems = compose(reading.settings, library, reading.wrong)
    problems += affinity.problems(reading.settings, library)
    problems += engine_problems.problems(reading.settings, services)
    problems += sizes.problems(document.project, document.stack, reading.settings, services)
    reported = {problem.path for problem in reading.wrong}
    more = [document.problem(problem.path, problem.text) for problem in problems if problem.path not in reported]
    return services, [*reading.problems, *more]


def placed(error: DocumentError, root: Path, stack: str) -> DocumentError:
    """Return the errors of the stack's file and the library with their lines, or `error` if reading them shows none.

    The engine hands values over without their places, but the files are still there.
    """
    try:
        library, problems = collect(library_texts(root))
    except DocumentError as unread:
        library, problems = None, list(unread.problems)
    # A stack without a file here has one elsewhere, named by `--config-file`.
    problems += stack_problems(root, stack, library) if stack in stack_names(root) else error.problems
    return DocumentError(problems) if problems else error
