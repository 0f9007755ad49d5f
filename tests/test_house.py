"""The house keeps its order: one name for one thing, short functions, and a wheel that holds our package alone."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from setuptools import find_packages

ROOMS = ("gpu_fleet", "infra", "lambdas")
LONGEST = 60
"""Lines of a function, its docstring included."""


def sources(root: Path) -> Iterator[Path]:
    for room in ROOMS:
        yield from sorted((root / room).rglob("*.py"))


def module_of(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def test_no_two_public_classes_have_one_name(root: Path) -> None:
    found = defaultdict(list)
    for path in sources(root):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module_of(path, root))
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_no_two_modules_have_one_name(root: Path) -> None:
    """But for commands, named for what one types, and for the sentences of a step, named for the step."""
    found = defaultdict(list)
    for path in sources(root):
        module = module_of(path, root)
        named_for_another = module.startswith(("gpu_fleet/cli/", "gpu_fleet/scaling/reasons/"))
        if path.name not in {"__init__.py", "__main__.py"} and not named_for_another:
            found[path.name].append(module)
    # A package and its main module share a name: gpu_fleet/backtest has no backtest.py, gpu_fleet/replay has replay.py.
    assert {name: where for name, where in found.items() if len(where) > 1} == {}


def test_no_function_is_longer_than_a_page(root: Path) -> None:
    longer = [
        f"{module_of(path, root)}:{node.lineno}: {node.name} has {lines} lines"
        for path in sources(root)
        if not module_of(path, root).startswith("gpu_fleet/cli/")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST
    ]
    assert longer == []


def test_a_command_is_no_longer_than_its_options_make_it(root: Path) -> None:
    longer = [
        f"{module_of(path, root)}: {node.name}"
        for path in sorted((root / "gpu_fleet/cli").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or node.lineno) - node.body[0].lineno + 1 > LONGEST
    ]
    assert longer == []


def test_the_wheel_holds_nothing_beside_the_package(root: Path) -> None:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = find_packages(str(root), include=settings["packages"]["find"]["include"])
    assert {name.partition(".")[0] for name in packages} == {"gpu_fleet"}


@pytest.mark.parametrize("room", ROOMS)
def test_every_folder_with_code_is_a_package(root: Path, room: str) -> None:
    folders = {path.parent for path in (root / room).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists() and folder.name != "instance"] == []
