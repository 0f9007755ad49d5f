"""Everything that is wrong in a stack's file, by itself and against the library, each with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpu_fleet.config.composition import compose
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, collect
from gpu_fleet.config.project_file import namespace
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.stack_file import (
    StackReading,
    key_problems,
    read_config,
    read_stack,
    read_text_of_stack,
    stack_file,
)
from gpu_fleet.config.yaml_files import library_texts, read_library, read_text
from gpu_fleet.scaling.service import Service
from infra import sizes


def stack_problems(root: Path, stack: str, library: Library | None, project: str | None = None) -> list[Problem]:
    """Everything that is wrong in a stack's file, by itself and (where there is one) against the library.

    `project` is the name in Pulumi.yaml, read from `root` where it is not given.
    """
    problems: list[Problem] = []
    if project is None:
        project, problems = namespace(root)
    path = root / stack_file(stack)
    try:
        if not path.is_file():
            read_stack(root, stack)  # says which there are
        reading = read_text_of_stack(read_text(path), path.name, project)
    except DocumentError as error:
        return [*problems, *error.problems]
    return [*problems, *(reading.problems if library is None else _composed(reading, library)[1])]


def read_engine(
    root: Path, get_object: Callable[[str], Any], region: str | None, stack: str, project: str
) -> tuple[StackSettings, tuple[Service, ...]]:
    """What the Pulumi program makes a stack of; `get_object` is `pulumi.Config().get_object`.

    Raises DocumentError with everything that is wrong in the stack's file, Pulumi.yaml and policies/, each with its
    place as far as the files show it: the engine hands values over without saying where they stood.
    """
    try:
        reading = read_config(get_object, region, stack, project)
        services, problems = _composed(reading, read_library(root))
        problems += key_problems(root, stack, project)
        problems += namespace(root)[1]
        if problems:
            raise DocumentError(problems)  # noqa: TRY301 both kinds are given their places
    except DocumentError as error:
        raise placed(error, root, stack) from None
    return reading.settings, services


def _composed(reading: StackReading, library: Library) -> tuple[tuple[Service, ...], list[Problem]]:
    document = reading.document
    services, found = compose(reading.settings, library, reading.wrong)
    found += sizes.problems(document.project, document.stack, reading.settings, services)
    told = {problem.path for problem in reading.wrong}
    more = [document.problem(problem.path, problem.text) for problem in found if problem.path not in told]
    return services, [*reading.problems, *more]


def placed(error: DocumentError, root: Path, stack: str) -> DocumentError:
    """The errors of the stack's file and policies/ with their lines, where reading them again shows any.

    The engine hands values over without saying where they stood; the file is still there to tell.
    """
    try:
        found, problems = collect(library_texts(root))
    except DocumentError as unread:
        found, problems = None, list(unread.problems)
    problems += stack_problems(root, stack, found)
    return DocumentError(problems) if problems else error
