"""Pulumi.yaml: the project's name, which is its configuration's namespace and the start of its names in AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpu_fleet.config.document import DocumentError, Problem, parse
from gpu_fleet.config.rules.names import project_problems
from gpu_fleet.config.wording import quoted
from gpu_fleet.config.yaml_files import read_text

FILE = "Pulumi.yaml"

PROJECT = "gpu-fleet"
"""The shipped project's name, also used for a folder without Pulumi.yaml."""


def read_project_name(root: Path) -> str:
    """Read the project's name. Raises DocumentError where Pulumi.yaml has no usable name."""
    name, problems = namespace(root)
    if problems:
        raise DocumentError(problems)
    return name


def namespace(root: Path) -> tuple[str, list[Problem]]:
    """Return the project's name, or the best substitute, and every error in it."""
    path = root / FILE
    if not path.is_file():
        return PROJECT, []
    try:
        document = parse(read_text(path), FILE)
    except DocumentError as error:
        return PROJECT, list(error.problems)
    name: Any = document.data.get("name") if isinstance(document.data, dict) else None
    if not isinstance(name, str):
        return PROJECT, [document.problem(("name",), f"must be the project's name (got {quoted(name)})")]
    return name, [document.problem(("name",), text) for text in project_problems(name)]
