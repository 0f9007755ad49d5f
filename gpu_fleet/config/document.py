"""YAML text as plain data, with the line and column of every key.

An error reads `policies/chat.yaml:14:3: horizontal.max_step_in: must be at least 1 (got 0)`: file, line and column
(from 1, as editors count), the key as the user typed it, what is allowed, and the value. This module takes text and
opens no file, so a test, an editor and a stack's configuration are checked in the same way.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gpu_fleet.config.wording import one_line

Path = tuple[str | int, ...]
"""The keys of mappings and the indices of lists (from 0) that lead to a value."""

_MAX_VALUES = 20_000
_MAX_LEVELS = 40


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """Return `file:line:column`, which editors and terminals can follow."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error: its place, its key, and what is allowed there."""

    file: str
    line: int
    column: int
    key: str
    text: str

    def __str__(self) -> str:
        """Return one line. An error of the whole file has no key; one outside any file has no line."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.text) if part)


class DocumentError(ValueError):
    """The user's input cannot be used. `problems` holds every reason, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Document:
    """A file's values as plain Python data, and the place of each key."""

    file: str
    data: Any
    keys: Mapping[Path, tuple[int, int]] = field(repr=False)
    """Line and column of each key, and of each item of a list."""

    def place(self, path: Path = ()) -> Position:
        """Return the place of the key at `path`; for a missing key, the place of the nearest mapping above it."""
        while path and path not in self.keys:
            path = path[:-1]
        line, column = self.keys.get(path, (0, 0))
        return Position(self.file, line, column)

    def problem(self, path: Path, text: str) -> Problem:
        """Return an error at the key `path`."""
        place = self.place(path)
        return Problem(place.file, place.line, place.column, dotted(path), text)

    def has(self, path: Path) -> bool:
        """Whether the file itself has this key."""
        return path in self.keys


def dotted(path: Path) -> str:
    """Write a path as a user reads it: `services.chat.pools.l4.types[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(text: str, file: str) -> Document:
    """Parse YAML 1.2 into values and their places (`no` is a text, 010 is ten).

    Raises DocumentError for text that is not YAML (one error: nothing after it can be trusted), for a second document,
    and for all duplicate keys or all numbers that are not finite.
    """
    loaded = _load(text, file)
    keys: dict[Path, tuple[int, int]] = {(): (1, 1)}
    try:
        document = Document(file, _plain(loaded, (), keys), keys)
    except _TooLargeError as error:
        place = Document(file, None, keys).place(error.path[:1])
        limit = f"must hold at most {_MAX_VALUES} values in {_MAX_LEVELS} levels; an alias (*name) may repeat itself"
        raise DocumentError([Problem(file, place.line, place.column, str(error), limit)]) from None
    not_finite = [
        document.problem(path, f"must be a finite number (got {value})")
        for path, value in _leaves(document.data)
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if not_finite:
        raise DocumentError(not_finite)
    return document


def _load(text: str, file: str) -> Any:
    duplicates: list[Problem] = []

    class Constructor(RoundTripConstructor):
        """Collects all duplicate keys; the library would stop at the first."""

        def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
            if key not in mapping:
                return True
            mark, first_line = key_node.start_mark, mapping.lc.key(key)[0] + 1
            text = f"key given twice; the first is on line {first_line}"
            duplicates.append(Problem(file, mark.line + 1, mark.column + 1, str(key), text))
            return False

    yaml = YAML(typ="rt")
    yaml.Constructor = Constructor
    try:
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        raise DocumentError([_malformed(error, text, file)]) from None
    except (YAMLError, ValueError, TypeError) as error:
        raise DocumentError([Problem(file, 1, 1, "", f"not YAML: {one_line(str(error))}")]) from None
    if duplicates:
        raise DocumentError(duplicates)
    return loaded


def _leaves(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _leaves(value, (*path, key))
    else:
        yield path, data


def _malformed(error: MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    typed = lines[line] if line < len(lines) else ""
    reason = one_line(str(error.problem or error.context or "cannot be read"))
    if "\t" in typed[: column + 1] or "'\\t'" in reason:
        reason = "a tab cannot indent; use spaces"
    elif "expected a single document" in one_line(str(error.context or "")):
        reason = "must be one document (a second begins here)"
    elif error.context and error.problem:
        reason = f"{reason} {one_line(str(error.context))}"
    return Problem(file, line + 1, column + 1, "", f"not YAML: {reason}")


def _plain(node: Any, path: Path, keys: dict[Path, tuple[int, int]]) -> Any:
    """Return the loaded value without the library's types, and add each key's place to `keys`.

    Raises _TooLargeError where aliases (`*other`) make a short text endless.
    """
    if len(path) > _MAX_LEVELS or len(keys) > _MAX_VALUES:
        raise _TooLargeError(path)
    if isinstance(node, CommentedMap):
        plain: dict[str, Any] = {}
        for key, value in node.items():
            below = (*path, str(key))
            # A merged key (`<<: *other`) has no place of its own: it gets its mapping's.
            line, column = (node.lc.data or {}).get(key, (keys[path][0] - 1, keys[path][1] - 1))[:2]
            keys[below] = (line + 1, column + 1)
            plain[str(key)] = _plain(value, below, keys)
        return plain
    if isinstance(node, CommentedSeq):
        items: list[Any] = []
        for i, value in enumerate(node):
            below = (*path, i)
            line, column = node.lc.item(i)
            keys[below] = (line + 1, column + 1)
            items.append(_plain(value, below, keys))
        return items
    return _plain_scalar(node)


def _plain_scalar(node: Any) -> Any:
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    if isinstance(node, (dt.date, dt.datetime)):
        return node.isoformat()
    return str(node)


class _TooLargeError(Exception):
    """The text holds more values, or deeper ones, than any file of the project needs."""

    def __init__(self, path: Path) -> None:
        super().__init__(dotted(path[:3]))
        self.path = path
