"""A stack's file, `Pulumi.<stack>.yaml`: its settings, and the place of each of them.

A tool reads the file with `read_stack`, which places every error in it; the Pulumi program reads what the engine hands
it with `from_config`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.settings import StackSettings
from infra.yaml_files import read_text
from scaling.document import Document, DocumentError, Problem, check, check_mapping, parse, suggestion

PROJECT = "gpu-fleet"
"""The project's name in Pulumi.yaml, which is the namespace of its configuration."""

PULUMI_KEYS = ("config", "environment", "encryptionsalt", "encryptedkey", "secretsprovider")
"""What Pulumi itself knows in a stack's file: https://www.pulumi.com/docs/iac/concepts/projects/stack-settings-file/"""

KEYS = tuple(name for name in StackSettings.model_fields if name != "region")
"""The keys below `gpu-fleet:`."""


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
    return parse_stack(read_text(path), name)


def parse_stack(text: str, file: str) -> tuple[StackSettings, Document]:
    """The settings in a stack file's text, and where each of them stands (paths as in `StackSettings`).

    Raises DocumentError with every error.
    """
    below, problems = below_config(text, file)
    try:
        settings = check(below, StackSettings)
    except DocumentError as error:
        told = {problem.key for problem in problems}
        wrong = map(as_typed, error.problems)
        raise DocumentError([*problems, *(problem for problem in wrong if problem.key not in told)]) from None
    if problems:
        raise DocumentError(problems)
    return settings, below


def from_config(get_object: Callable[[str], Any], region: str, stack: str) -> StackSettings:
    """The settings that the Pulumi engine hands over; `get_object` is `pulumi.Config().get_object`.

    Raises DocumentError with every error; they name the stack's file, whose lines the engine does not tell.
    """
    values = {key: value for key in KEYS if (value := get_object(key)) is not None}
    try:
        return check_mapping({"region": region, **values}, stack_file(stack), StackSettings)
    except DocumentError as error:
        raise DocumentError(map(as_typed, error.problems)) from None


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


def below_config(text: str, file: str) -> tuple[Document, list[Problem]]:
    """The file seen as a `StackSettings` (`config.gpu-fleet:services.chat` becomes `services.chat`), and what is wrong
    around it. Raises DocumentError where there is nothing to see.
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
    problems += _encrypted(document, config, ("config",))
    names: dict[tuple[str | int, ...], str] = {}
    for key in config:
        namespace, _, name = key.partition(":")
        if key == "aws:region":
            names["config", key] = "region"
        elif namespace == PROJECT:
            names["config", key] = name
    values = {name: config[path[1]] for path, name in names.items()}
    if "region" not in values:
        place = document.place(("config",))
        problems.append(Problem(place.file, place.line, place.column, "aws:region", "is missing"))
        # Only so that the rest can be checked against some region: this file is refused.
        values["region"] = next((zone[:-1] for zone in _zones(values) if isinstance(zone, str)), "us-east-1")
    keys = {(): document.keys["config",]} | {
        (names[path[:2]], *path[2:]): place for path, place in document.keys.items() if path[:2] in names
    }
    return Document(file, values, keys), problems


def _zones(values: Mapping[str, Any]) -> list[Any]:
    network = values.get("network")
    zones = network.get("zones") if isinstance(network, dict) else None
    return zones if isinstance(zones, list) else []


def _encrypted(document: Document, value: Any, path: tuple[str | int, ...]) -> list[Problem]:
    """Pulumi's encrypted values (`secure: v1:...`) among our keys: they could be checked only when it is too late."""
    if isinstance(value, dict):
        if list(value) == ["secure"] and str(path[1]).startswith(f"{PROJECT}:"):
            said = "must not be encrypted; name a secret of Secrets Manager in container.secrets instead"
            problem = document.problem(path, said)
            return [replace(problem, key=problem.key.removeprefix("config."))]
        return [found for key, inner in value.items() for found in _encrypted(document, inner, (*path, key))]
    if isinstance(value, list):
        return [found for i, inner in enumerate(value) for found in _encrypted(document, inner, (*path, i))]
    return []


def as_typed(problem: Problem) -> Problem:
    """The key as the file has it: with its namespace."""
    first = re.match(r"[^.\[]+", problem.key)
    if first is None:
        return problem
    key = "aws:region" if first[0] == "region" else f"{PROJECT}:{first[0]}"
    return replace(problem, key=key + problem.key[first.end() :])
