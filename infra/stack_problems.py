"""Everything that is wrong in a stack's file, by itself and against the library, each with its place."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from infra.composition import services
from infra.settings import PoolSettings
from infra.stack_file import as_typed, below_config, read_stack, stack_file
from infra.yaml_files import library_texts, read_text
from scaling.document import DocumentError, Problem
from scaling.library import Library, PoolPlan, collect, plan_problems


def stack_problems(root: Path, stack: str, library: Library | None) -> list[Problem]:
    """Everything that is wrong in a stack's file, by itself and (where there is one) against the library."""
    try:
        settings, document = read_stack(root, stack)
    except DocumentError as error:
        return [*error.problems, *_early_problems(root, stack, library)]
    if library is None:
        return []
    try:
        services(settings, library, document)
    except DocumentError as error:
        return list(error.problems)
    return []


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


def _early_problems(root: Path, stack: str, library: Library | None) -> list[Problem]:
    """What does not fit the library in a file that is not right by itself yet: of each service as much as is plain.

    Without it a user would mend a number, only to be told then that the GPU is too small.
    """
    if library is None:
        return []
    try:
        below, _ = below_config(read_text(root / stack_file(stack)), stack_file(stack))
    except DocumentError:
        return []
    problems: list[Problem] = []
    written = below.data.get("services")
    for name, service in written.items() if isinstance(written, dict) else ():
        pools = service.get("pools") if isinstance(service, dict) else None
        if not isinstance(pools, dict) or not isinstance(service.get("policy"), str):
            continue
        plan: dict[str, PoolPlan] = {}
        for pool_name, value in pools.items():
            try:
                # Bounds are what the file gets wrong most: they do not keep the types from being checked.
                settings = PoolSettings.model_validate(
                    {"min": 0, "max": 1000, "types": value["types"], "alternatives": value.get("alternatives", ())}
                )
            except (ValidationError, TypeError, KeyError, AttributeError):
                continue
            copy = value.get("gpus_per_copy")
            copy = copy if isinstance(copy, int) and copy > 0 else None
            plan[pool_name] = PoolPlan(settings.types, 0, 1000, 0, copy, settings.alternatives)
        problems += [
            as_typed(below.problem(("services", name, *problem.path), problem.text))
            for problem in plan_problems(service["policy"], plan, library)
            if problem.path != ("pools",)
        ]
    return problems
