"""A stack's file, `Pulumi.<stack>.yaml`: its settings, and the place of each key.

Commands read the file with `read_stack`, which gives every error its place. The Pulumi program reads the values that
the engine hands over with `read_config`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gpu_fleet.config.document import Document, DocumentError, Problem, parse
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.own_files import find_stack_file, stack_file_name, stack_name, stack_names
from gpu_fleet.config.project_file import PROJECT, read_project_name
from gpu_fleet.config.rules import settings_problems
from gpu_fleet.config.rules.names import stack_name_problems
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.validation import until_hole, validate_partially
from gpu_fleet.config.wording import suggestion
from gpu_fleet.config.yaml_files import read_text

PULUMI_KEYS = ("config", "environment", "encryptionsalt", "encryptedkey", "secretsprovider")
"""Pulumi's own keys in a stack's file: https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/"""

KEYS = tuple(name for name in StackSettings.model_fields if name != "region")
"""The keys below `gpu-fleet:`, the project's name."""

_KNOWN_KEYS = ("region", *KEYS)
_REQUIRED_KEYS = tuple(name for name in KEYS if StackSettings.model_fields[name].is_required())


@dataclass(frozen=True)
class StackDocument(Document):
    """A stack's file seen as a `StackSettings`: `config.gpu-fleet:services.chat` is `services.chat`."""

    project: str = PROJECT
    stack: str = ""

    def problem(self, path: KeyPath, text: str) -> Problem:
        """Return an error at a key, named as in the file: with its namespace."""
        problem = super().problem(path, text)
        if not path:
            return problem
        first = str(path[0])
        typed = "aws:region" if first == "region" else f"{self.project}:{first}"
        return replace(problem, key=typed + problem.key.removeprefix(first))


@dataclass(frozen=True, slots=True)
class StackReading:
    """The valid part of a stack's settings, and the errors in the rest."""

    settings: StackSettings
    """With holes (`gpu_fleet.config.validation`) for the errors."""
    document: StackDocument
    problems: list[Problem]
    """Every error of the file by itself."""
    wrong: list[PlanProblem]
    """The same errors of the settings, by key."""


def read_stack(root: Path, stack: str) -> tuple[StackSettings, Document]:
    """Read a stack's settings, and the place of each key.

    Raises DocumentError with every error in the file, for a missing file, and for a stack with two files.
    """
    name = existing_stack_file(root, stack)
    return parse_stack(read_text(root / name, name), name, read_project_name(root))


def existing_stack_file(root: Path, stack: str) -> str:
    """Return a stack's file relative to `root`. Raises DocumentError unless there is exactly one."""
    name = find_stack_file(root, stack)
    if not (root / name).is_file():
        names = ", ".join(stack_names(root)) or "none"
        raise DocumentError([Problem(name, 0, 0, "", f"no such stack file; there is {names}")])
    return name


def parse_stack(text: str, file: str, project: str = PROJECT) -> tuple[StackSettings, StackDocument]:
    """Return the settings in a stack file's text, and the place of each key (paths as in `StackSettings`).

    Raises DocumentError with every error.
    """
    reading = read_stack_text(text, file, project)
    if reading.problems:
        raise DocumentError(reading.problems)
    return reading.settings, reading.document


def read_stack_text(text: str, file: str, project: str) -> StackReading:
    """Read the valid part of a stack file's text. Raises DocumentError where nothing can be read."""
    below, around = _below_config(text, file, project)
    reading = _read_settings(below)
    reported = {problem.key for problem in around}
    more = [problem for problem in reading.problems if problem.key not in reported]
    return replace(reading, problems=[*around, *more])


def read_config(
    get_object: Callable[[str], Any], region: str | None, stack: str, project: str = PROJECT, file: str = ""
) -> StackReading:
    """Read the valid part of the values that the engine hands over; `get_object` is `pulumi.Config().get_object`.

    Errors name the stack's `file` (by default the one in the root) without a line, which the engine does not pass on.
    """
    values = {key: value for key in KEYS if (value := get_object(key)) is not None}
    given = {"region": region} if region else {}
    return _read_settings(StackDocument(file or stack_file_name(stack), {**given, **values}, {}, project, stack))


def key_problems(root: Path, stack: str, project: str) -> list[Problem]:
    """Return the unknown keys of a stack's file: the engine hands them over, and the program never asks for them."""
    name = find_stack_file(root, stack)
    if not (root / name).is_file():
        return []
    below, around = _below_config(read_text(root / name, name), name, project)
    unknown = [key for key in below.data if key not in _KNOWN_KEYS]
    return [
        *(problem for problem in around if problem.key != "aws:region"),
        *(below.problem((key,), f"unknown key; {suggestion(key, KEYS)}") for key in unknown),
    ]


def pulumi_config(root: Path, stack: str) -> dict[str, str]:
    """Return a stack's configuration as the Pulumi engine hands it to the program: by full key, objects as JSON.

    Raises DocumentError for a missing file and for text that is not YAML; the values are not checked.
    """
    name = existing_stack_file(root, stack)
    document = parse(read_text(root / name, name), name)
    config = document.data.get("config", {}) if isinstance(document.data, dict) else {}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}


def _read_settings(document: StackDocument) -> StackReading:
    settings, invalid = validate_partially(document.data, StackSettings)
    wrong = [PlanProblem(path, text) for path, text in invalid]
    # A key that is wrong by itself is not also reported by the rules over several keys.
    reported = {problem.path for problem in wrong}
    wrong += [problem for problem in settings_problems(settings) if problem.path not in reported]
    problems = [document.problem(problem.path, problem.text) for problem in wrong]
    if document.stack:
        access_logs = any(until_hole(lambda: [settings.load_balancer.access_logs]))
        problems += [
            Problem(document.file, 1, 1, "stack name", text)
            for text in stack_name_problems(document.project, document.stack, access_logs=access_logs)
        ]
    return StackReading(settings, document, problems, wrong)


def _below_config(text: str, file: str, project: str) -> tuple[StackDocument, list[Problem]]:
    """Return the file seen as a `StackSettings`, and the errors around it. Raises DocumentError without `config`."""
    document = parse(text, file)
    config = document.data.get("config") if isinstance(document.data, dict) else None
    if not isinstance(config, dict):
        raise DocumentError([document.problem(("config",), "must be a mapping of keys to values")])
    problems = [
        document.problem((key,), f"unknown key; {suggestion(key, PULUMI_KEYS)}")
        for key in document.data
        if key not in PULUMI_KEYS
    ]
    names: dict[KeyPath, str] = {}
    for key in config:
        namespace, _, name = key.partition(":")
        if key == "aws:region":
            names["config", key] = "region"
        elif namespace == project:
            names["config", key] = name
            problems += _encrypted_problems(document, config[key], ("config", key))
        elif name in _REQUIRED_KEYS and f"{project}:{name}" not in config:
            place = document.place(("config", key))
            text = f"must begin with {project}:, the project's name in Pulumi.yaml"
            problems.append(Problem(place.file, place.line, place.column, key, text))
    values = {name: config[path[1]] for path, name in names.items()}
    if "region" not in values:
        place = document.place(("config",))
        problems.append(Problem(place.file, place.line, place.column, "aws:region", "is missing"))
        # The file is refused; this region only lets the other checks run.
        values["region"] = next((zone[:-1] for zone in _zones(values) if isinstance(zone, str)), "us-east-1")
    keys = {(): document.keys["config",]} | {
        (names[path[:2]], *path[2:]): place for path, place in document.keys.items() if path[:2] in names
    }
    return StackDocument(file, values, keys, project, stack_name(file) or ""), problems


def _zones(values: Mapping[str, Any]) -> list[Any]:
    network = values.get("network")
    zones = network.get("zones") if isinstance(network, dict) else None
    return zones if isinstance(zones, list) else []


def _encrypted_problems(document: Document, value: Any, path: KeyPath) -> list[Problem]:
    """Return Pulumi's encrypted values (`secure: v1:...`) among our keys, which no check before the update can read."""
    if isinstance(value, dict):
        if list(value) == ["secure"]:
            text = "must not be encrypted; name a secret of Secrets Manager in container.secrets instead"
            problem = document.problem(path, text)
            return [replace(problem, key=problem.key.removeprefix("config."))]
        return [
            problem for key, inner in value.items() for problem in _encrypted_problems(document, inner, (*path, key))
        ]
    if isinstance(value, list):
        return [
            problem for i, inner in enumerate(value) for problem in _encrypted_problems(document, inner, (*path, i))
        ]
    return []
