"""Pulumi.yaml: the project's name, which is the namespace of its configuration and the beginning of AWS's names."""

from __future__ import annotations

from pathlib import Path

from gpu_fleet.config.document import DocumentError, Problem, parse, shown
from gpu_fleet.config.rules.names import project_problems
from gpu_fleet.config.yaml_files import read_text

FILE = "Pulumi.yaml"

PROJECT = "gpu-fleet"
"""The project's name as it is shipped, and where a folder has no Pulumi.yaml."""


def read_project_name(root: Path) -> str:
    """The project's name. Raises DocumentError where Pulumi.yaml has none that can be used."""
    path = root / FILE
    if not path.is_file():
        return PROJECT
    document = parse(read_text(path), FILE)
    name = document.data.get("name") if isinstance(document.data, dict) else None
    if not isinstance(name, str):
        raise DocumentError([document.problem(("name",), f"must be the project's name (got {shown(name)})")])
    problems = [document.problem(("name",), text) for text in project_problems(name)]
    if problems:
        raise DocumentError(problems)
    return name


def namespace(root: Path) -> tuple[str, list[Problem]]:
    """The project's name as far as it can be read, and what is wrong with it."""
    try:
        return read_project_name(root), []
    except DocumentError as error:
        path = root / FILE
        try:
            data = parse(read_text(path), FILE).data
        except DocumentError:
            return PROJECT, list(error.problems)
        name = data.get("name") if isinstance(data, dict) else None
        return name if isinstance(name, str) else PROJECT, list(error.problems)
