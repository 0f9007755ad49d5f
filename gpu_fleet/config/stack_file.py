"""A stack's file, `Pulumi.<stack>.yaml`: its settings, and the place of each of them.

A tool reads the file with `read_stack`, which places every error in it; the Pulumi program reads what the engine hands
it with `read_config`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_fleet.config.document import Document, DocumentError, Problem, asked, parse, partly, suggestion
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.project_file import PROJECT, read_project_name
from gpu_fleet.config.rules import settings_problems
from gpu_fleet.config.rules.names import stack_name_problems
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.yaml_files import read_text

PULUMI_KEYS = ("config", "environment", "encryptionsalt", "encryptedkey", "secretsprovider")
"""What Pulumi itself knows in a stack's file: https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/"""

KEYS = tuple(name for name in StackSettings.model_fields if name != "region")
"""The keys below `gpu-fleet:`, the project's name."""


@dataclass(frozen=True)
class StackDocument(Document):
    """A stack's file seen as a `StackSettings`: `config.gpu-fleet:services.chat` is `services.chat`."""

    project: str = PROJECT
    stack: str = ""

    def problem(self, path: KeyPath, text: str) -> Problem:
        """An error at a key, which is named as the file has it: with its namespace."""
        found = super().problem(path, text)
        if not path:
            return found
        first = str(path[0])
        typed = "aws:region" if first == "region" else f"{self.project}:{first}"
        return replace(found, key=typed + found.key.removeprefix(first))


@dataclass(frozen=True, slots=True)
class StackReading:
    """As much of a stack's settings as could be read."""

    settings: StackSettings
    """With holes (`gpu_fleet.config.document.partly`) where there are problems."""
    document: StackDocument
    problems: list[Problem]
    """Everything that is wrong in the file by itself."""
    wrong: list[PlanProblem]
    """The same, of the settings: which key, and what is allowed there."""


def stack_file(stack: str) -> str:
    """Name of a stack's file."""
    return f"Pulumi.{stack}.yaml"


def read_stack(root: Path, stack: str) -> tuple[StackSettings, Document]:
    """The settings in a stack's file, and where each of them stands.

    Raises DocumentError with every error in it, or that there is no such file.
    """
    name = stack_file(stack)
    path = root / name
    if not path.is_file():
        there = sorted(p.name[len("Pulumi.") : -len(".yaml")] for p in root.glob("Pulumi.*.yaml"))
        raise DocumentError([Problem(name, 0, 0, "", f"no such stack file; there is {', '.join(there) or 'none'}")])
    return parse_stack(read_text(path), name, read_project_name(root))


def parse_stack(text: str, file: str, project: str = PROJECT) -> tuple[StackSettings, StackDocument]:
    """The settings in a stack file's text, and where each of them stands (paths as in `StackSettings`).

    Raises DocumentError with every error.
    """
    reading = read_text_of_stack(text, file, project)
    if reading.problems:
        raise DocumentError(reading.problems)
    return reading.settings, reading.document


def read_text_of_stack(text: str, file: str, project: str) -> StackReading:
    """As much of a stack file's text as is right. Raises DocumentError where nothing can be read."""
    below, around = _below_config(text, file, project)
    reading = _reading(below)
    told = {problem.key for problem in around}
    more = [problem for problem in reading.problems if problem.key not in told]
    return replace(reading, problems=[*around, *more])


def read_config(
    get_object: Callable[[str], Any], region: str | None, stack: str, project: str = PROJECT
) -> StackReading:
    """As much as is right of what the Pulumi engine hands over; `get_object` is `pulumi.Config().get_object`.

    Errors name the stack's file, whose lines the engine does not tell.
    """
    values = {key: value for key in KEYS if (value := get_object(key)) is not None}
    given = {"region": region} if region else {}
    return _reading(StackDocument(stack_file(stack), {**given, **values}, {}, project, stack))


def key_problems(root: Path, stack: str, project: str) -> list[Problem]:
    """Keys of a stack's file that nobody reads: the engine hands them over, and the program does not ask for them."""
    path = root / stack_file(stack)
    if not path.is_file():
        return []
    below, around = _below_config(read_text(path), path.name, project)
    return [
        *(problem for problem in around if problem.key != "aws:region"),
        *(below.problem((key,), f"unknown key; {suggestion(key, KEYS)}") for key in below.data if key not in _KNOWN),
    ]


def _reading(document: StackDocument) -> StackReading:
    settings, found = partly(document.data, StackSettings)
    wrong = [*(PlanProblem(path, text) for path, text in found), *settings_problems(settings)]
    # What is wrong by itself is not also told to be wrong beside others.
    told = {problem.path for problem in wrong[: len(found)]}
    wrong = [problem for i, problem in enumerate(wrong) if i < len(found) or problem.path not in told]
    problems = [document.problem(problem.path, problem.text) for problem in wrong]
    if document.stack:
        access_logs = any(asked(lambda: [settings.load_balancer.access_logs]))
        problems += [
            Problem(document.file, 1, 1, "stack name", text)
            for text in stack_name_problems(document.project, document.stack, access_logs=access_logs)
        ]
    return StackReading(settings, document, problems, wrong)


def pulumi_config(root: Path, stack: str) -> dict[str, str]:
    """The configuration of a stack as the Pulumi engine hands it to the program: by full key, objects as JSON.

    Raises DocumentError as `read_stack` does, but checks no more than the YAML itself.
    """
    path = root / stack_file(stack)
    if not path.is_file():
        read_stack(root, stack)
    document = parse(read_text(path), path.name)
    config = document.data.get("config", {}) if isinstance(document.data, dict) else {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def _below_config(text: str, file: str, project: str) -> tuple[StackDocument, list[Problem]]:
    """The file seen as a `StackSettings`, and what is wrong around it. Raises DocumentError where there is nothing to
    see.
    """
    document = parse(text, file)
    config = document.data.get("config") if isinstance(document.data, dict) else None
    if not isinstance(config, dict):
        raise DocumentError([document.problem(("config",), "must be a mapping of keys to values")])
    problems = [
        document.problem((key,), f"unknown key; {suggestion(key, PULUMI_KEYS)}")
        for key in document.data
        if key not in PULUMI_KEYS
    ]
    names: dict[tuple[str | int, ...], str] = {}
    for key in config:
        namespace, _, name = key.partition(":")
        if key == "aws:region":
            names["config", key] = "region"
        elif namespace == project:
            names["config", key] = name
            problems += _encrypted(document, config[key], ("config", key))
        elif name in _REQUIRED and f"{project}:{name}" not in config:
            place = document.place(("config", key))
            said = f"must begin with {project}:, the project's name in Pulumi.yaml"
            problems.append(Problem(place.file, place.line, place.column, key, said))
    values = {name: config[path[1]] for path, name in names.items()}
    if "region" not in values:
        place = document.place(("config",))
        problems.append(Problem(place.file, place.line, place.column, "aws:region", "is missing"))
        # Only so that the rest can be checked against some region: this file is refused.
        values["region"] = next((zone[:-1] for zone in _zones(values) if isinstance(zone, str)), "us-east-1")
    keys = {(): document.keys["config",]} | {
        (names[path[:2]], *path[2:]): place for path, place in document.keys.items() if path[:2] in names
    }
    stack = re.fullmatch(r"Pulumi\.(.+)\.yaml", file)
    return StackDocument(file, values, keys, project, stack[1] if stack else ""), problems


_KNOWN = ("region", *KEYS)
_REQUIRED = tuple(name for name in KEYS if StackSettings.model_fields[name].is_required())


def _zones(values: Mapping[str, Any]) -> list[Any]:
    network = values.get("network")
    zones = network.get("zones") if isinstance(network, dict) else None
    return zones if isinstance(zones, list) else []


def _encrypted(document: Document, value: Any, path: tuple[str | int, ...]) -> list[Problem]:
    """Pulumi's encrypted values (`secure: v1:...`) among our keys: they could be checked only when it is too late."""
    if isinstance(value, dict):
        if list(value) == ["secure"]:
            said = "must not be encrypted; name a secret of Secrets Manager in container.secrets instead"
            problem = document.problem(path, said)
            return [replace(problem, key=problem.key.removeprefix("config."))]
        return [found for key, inner in value.items() for found in _encrypted(document, inner, (*path, key))]
    if isinstance(value, list):
        return [found for i, inner in enumerate(value) for found in _encrypted(document, inner, (*path, i))]
    return []
