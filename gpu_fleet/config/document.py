"""YAML text as a checked value, or every error in it at once, each with its place.

One error reads `policies/chat.yaml:14:3: horizontal.max_step_in: must be at least 1 (got 0)`: file, line and column
(both from 1) as editors jump to them, the key as it was typed, what is allowed, what stood there. Nothing here reads
a file: text comes in, so that a test, an editor or a stack's configuration can be checked the same way.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

Model = TypeVar("Model", bound=BaseModel)
Said = TypeVar("Said")
Path = tuple[str | int, ...]
"""Where a value stands: keys of mappings, and numbers from 0 in lists."""

_MOST_VALUES = 20_000
_MOST_LEVELS = 40
_MOST_SHOWN = 60
"""Characters of a value that an error repeats."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        """`file:line:column`, as editors and terminals understand it."""
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One error: where, which key, and what is allowed there."""

    file: str
    line: int
    column: int
    key: str
    text: str

    def __str__(self) -> str:
        """One line; the key is left out where the file as a whole is meant, the place where there is no file."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, self.text) if part)


class DocumentError(ValueError):
    """What a user wrote cannot be used. `problems` holds every reason, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Document:
    """A file's values as plain Python data, and where each of them stands."""

    file: str
    data: Any
    keys: Mapping[Path, tuple[int, int]] = field(repr=False)
    """Line and column of each key (of each item in a list)."""

    def place(self, path: Path = ()) -> Position:
        """Where the key at `path` stands; what is not there is placed at the nearest mapping that is."""
        while path and path not in self.keys:
            path = path[:-1]
        line, column = self.keys.get(path, (0, 0))
        return Position(self.file, line, column)

    def problem(self, path: Path, text: str) -> Problem:
        """An error at the key `path`."""
        place = self.place(path)
        return Problem(place.file, place.line, place.column, dotted(path), text)

    def has(self, path: Path) -> bool:
        """Whether the file itself gives this key."""
        return path in self.keys


def dotted(path: Path) -> str:
    """The path as one reads it: `services.chat.pools.l4.types[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def parse(text: str, file: str) -> Document:
    """The text's values with their places.

    Numbers, texts and booleans follow YAML 1.2 (`no` is a text, 010 is ten). Raises DocumentError for text that is not
    YAML (one error: nothing after it can be trusted), for more than one document, for keys given twice and for
    numbers that are not finite (all of them).
    """
    duplicates: list[tuple[int, int, str, int]] = []

    class Constructor(RoundTripConstructor):
        """Collects keys that were given twice, where the library stops at the first."""

        def check_mapping_key(self, node: Any, key_node: Any, mapping: Any, key: Any, value: Any) -> bool:
            if key not in mapping:
                return True
            mark = key_node.start_mark
            duplicates.append((mark.line + 1, mark.column + 1, str(key), mapping.lc.key(key)[0] + 1))
            return False

    yaml = YAML(typ="rt")
    yaml.Constructor = Constructor
    try:
        loaded = yaml.load(text)
    except MarkedYAMLError as error:
        raise DocumentError([_malformed(error, text, file)]) from None
    except (YAMLError, ValueError, TypeError) as error:
        raise DocumentError([Problem(file, 1, 1, "", f"not YAML: {_one_line(str(error))}")]) from None
    if duplicates:
        raise DocumentError(
            Problem(file, line, column, key, f"key given twice; the first is on line {first}")
            for line, column, key, first in duplicates
        )
    keys: dict[Path, tuple[int, int]] = {(): (1, 1)}
    try:
        document = Document(file, _plain(loaded, (), keys), keys)
    except _TooMuchError as error:
        place = Document(file, None, keys).place(error.path[:1])
        said = f"must hold at most {_MOST_VALUES} values in {_MOST_LEVELS} levels; an alias (*name) may repeat itself"
        raise DocumentError([Problem(file, place.line, place.column, str(error), said)]) from None
    endless = [
        document.problem(path, f"must be a finite number (got {value})")
        for path, value in _leaves(document.data)
        if isinstance(value, float) and not math.isfinite(value)
    ]
    if endless:
        raise DocumentError(endless)
    return document


def _leaves(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(data, (dict, list)):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from _leaves(value, (*path, key))
    else:
        yield path, data


def read(text: str, file: str, model: type[Model]) -> Model:
    """The text as a `model`. Raises DocumentError with every error in it."""
    return check(parse(text, file), model)


def check(document: Document, model: type[Model], at: Path = ()) -> Model:
    """The part of a document at `at` as a `model`. Raises DocumentError with every error in it.

    Types are taken at their word (pydantic's strict mode over JSON): "5" is not a number, and `true` is not 1.
    """
    data = document.data
    for part in at:
        data = data[part]
    if not isinstance(data, dict):
        raise DocumentError([document.problem(at, f"must be a mapping of keys to values (got {shown(data)})")])
    found, problems = partly(data, model)
    if problems:
        raise DocumentError(document.problem((*at, *path), text) for path, text in problems)
    return found


def partly(data: Mapping[str, Any], model: type[Model]) -> tuple[Model, list[tuple[Path, str]]]:
    """As much of a mapping as is right, and what is wrong in it: each key with what is allowed there.

    What is wrong or missing is a hole: reading it raises AttributeError, which `asked` understands. So checks over
    several keys, the model's own and others', run on all that could be read, and one error hides no other.
    """
    text = json.dumps(data)
    try:
        return model.model_validate_json(text, strict=True), []
    except ValidationError as error:
        problems = _problems(error, model, data)
        wrong = {
            _existing(detail["loc"], data, missing=detail["type"] == "missing")
            for detail in error.errors(include_url=False)
        }
        found = _with_holes(model, data, (), wrong, problems)
        return found, list(dict.fromkeys(problems))


def asked(rule: Callable[..., Iterable[Said]], *arguments: Any) -> list[Said]:
    """What a rule says; up to the first hole (see `partly`) where it comes upon one."""
    said: list[Said] = []
    try:
        for one in rule(*arguments):
            said.append(one)  # noqa: PERF402 what was said before the hole counts
    except AttributeError as error:
        if not _is_hole(error):
            raise
    return said


def _is_hole(error: AttributeError) -> bool:
    return isinstance(error.obj, BaseModel) and error.name in type(error.obj).model_fields


def _with_holes(
    model: type[Model], data: Mapping[str, Any], path: Path, wrong: AbstractSet[Path], problems: list[tuple[Path, str]]
) -> Model:
    """The mapping as a `model` without what is wrong in it. What the model's own checks say is added to `problems`."""
    values: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if name not in data:
            if not info.is_required():
                values[name] = info.get_default(call_default_factory=True, validated_data=values)
            continue
        kind = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        value = _value_with_holes(kind, data[name], (*path, name), wrong, problems)
        if value is not _HOLE:
            values[name] = value
    made = model.model_construct(**values)
    for name in model.model_fields.keys() - values.keys():
        vars(made).pop(name, None)
    for validator in model.__pydantic_decorators__.model_validators.values():
        if validator.info.mode == "after":
            try:
                validator.func(made)
            except ValueError as error:
                problems.append(_moved(path, str(error), data, list(model.model_fields), depth=len(path)))
            except AttributeError as error:
                if not _is_hole(error):
                    raise
    return made


_HOLE = object()


def _value_with_holes(
    kind: Any, value: Any, path: Path, wrong: AbstractSet[Path], problems: list[tuple[Path, str]]
) -> Any:
    if not any(one[: len(path)] == path for one in wrong):
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    if not isinstance(value, dict):
        return _HOLE
    members = [member for _, member in _members(kind)]
    models = [member for member in members if _is_model(member)]
    if models:
        likeliest = max(models, key=lambda one: len(one.model_fields.keys() & value.keys()))
        return _with_holes(likeliest, value, path, wrong, problems)
    for member in members:
        if get_origin(member) is dict:
            inner = get_args(member)[1]
            below = {key: _value_with_holes(inner, one, (*path, key), wrong, problems) for key, one in value.items()}
            empty = [one for _, one in _members(inner) if _is_model(one)]
            if empty:  # what is no mapping is there all the same: nothing of it can be read
                below = {key: _nothing(empty[0]) if one is _HOLE else one for key, one in below.items()}
            return {key: one for key, one in below.items() if one is not _HOLE}
    return _HOLE


def _nothing(model: type[Model]) -> Model:
    made = model.model_construct()
    vars(made).clear()
    return made


def check_mapping(data: Mapping[str, Any], source: str, model: type[Model]) -> Model:
    """Values that came from elsewhere than a file as a `model`; the errors have `source` for a place.

    Raises DocumentError with every error.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        document = Document(source, data, {})
        raise DocumentError(document.problem(*one) for one in _problems(error, model, dict(data))) from None


def shown(value: object) -> str:
    """A value as an error repeats it: short, as it would be typed."""
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = _one_line(text)
    if isinstance(value, str) and (not text or _reads_as_other(text)):
        text = f'"{text}"'
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """`did you mean max_step_in?` for a name that is not allowed, else the list of those that are."""
    allowed = list(allowed)
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.65)
    close = close or [other for other in allowed if name and other.startswith(name)]
    if close:
        return f"did you mean {close[0]}?"
    return f"allowed: {', '.join(allowed)}" if allowed else "none is allowed here"


def _reads_as_other(text: str) -> bool:
    return text.lower() in {"true", "false", "null", "nothing"} or re.fullmatch(r"[-+.\d][\d.eE+-]*", text) is not None


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _malformed(error: MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.splitlines()
    here = lines[line] if line < len(lines) else ""
    said = _one_line(str(error.problem or error.context or "cannot be read"))
    if "\t" in here[: column + 1] or "'\\t'" in said:
        said = "a tab cannot indent; use spaces"
    elif "expected a single document" in _one_line(str(error.context or "")):
        said = "must be one document (a second begins here)"
    elif error.context and error.problem:
        said = f"{said} {_one_line(str(error.context))}"
    return Problem(file, line + 1, column + 1, "", f"not YAML: {said}")


def _plain(node: Any, path: Path, keys: dict[Path, tuple[int, int]]) -> Any:
    """The loaded value without the library's types; fills in the places on the way.

    Raises _TooMuchError where aliases (`*other`) make a short text endless.
    """
    if len(path) > _MOST_LEVELS or len(keys) > _MOST_VALUES:
        raise _TooMuchError(path)
    if isinstance(node, CommentedMap):
        plain: dict[str, Any] = {}
        for key, value in node.items():
            below = (*path, str(key))
            # A key that came by a merge (`<<: *other`) has no place of its own: it is given its mapping's.
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
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    if isinstance(node, (dt.date, dt.datetime)):
        return node.isoformat()
    return str(node)


class _TooMuchError(Exception):
    """More values, or deeper ones, than any file of ours holds."""

    def __init__(self, path: Path) -> None:
        super().__init__(dotted(path[:3]))
        self.path = path


def _problems(error: ValidationError, model: type[BaseModel], data: Any) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for detail in error.errors(include_url=False):
        # pydantic counts only the items that are right: one wrong item is not also a list that is too short.
        if detail["type"] == "too_short" and len(detail["input"]) >= detail.get("ctx", {})["min_length"]:
            continue
        path = _existing(detail["loc"], data, missing=detail["type"] == "missing")
        text = _text(detail, model, path)
        if detail["type"] in ("value_error", "assertion_error"):
            path, text = _moved(path, text, data, _keys_at(model, detail["loc"]))
        found.append((path, text))
    return found


def _existing(loc: Sequence[str | int], data: Any, *, missing: bool) -> Path:
    """Pydantic's place without what it adds of its own (names of a union's members, `[key]`)."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        items: Mapping[Any, Any] = data if isinstance(data, dict) else {}
        if isinstance(data, list):
            items = dict(enumerate(data))
        if part in items:
            path.append(part)
            data = items[part]
        elif missing and i == len(loc) - 1:
            path.append(part)
    return tuple(path)


def _moved(path: Path, text: str, data: Any, allowed: Sequence[str], depth: int = 0) -> tuple[Path, str]:
    """A check over several keys names the one that it means: `sizing.mode: slo needs the key slo`.

    `data` stands at the first `depth` parts of the path.
    """
    match = re.match(r"([a-z_][\w.-]*(?:\[\d+\][\w.-]*)*): (.+)", text, re.DOTALL)
    if match is None:
        return path, text
    named: list[str | int] = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", match[1])]
    for part in path[depth:]:
        data = data[part]
    if not isinstance(data, dict) or (named[0] not in data and named[0] not in allowed):
        return path, text
    return (*path, *named), match[2]


def _text(detail: ErrorDetails, model: type[BaseModel], path: Path) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    got = f" (got {shown(value)})"
    match kind:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"unknown key; {suggestion(str(detail['loc'][-1]), _keys_at(model, detail['loc'][:-1]))}"
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}{got}"
        case "greater_than":
            return f"must be above {_number(context['gt'])}{got}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}{got}"
        case "less_than":
            return f"must be below {_number(context['lt'])}{got}"
        case "enum" | "literal_error":
            return f"must be one of {_choices(context['expected'])}{got}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"must be a whole number{got}"
        case "float_type" | "float_parsing":
            return f"must be a number{got}"
        case "finite_number":
            return f"must be a finite number{got}"
        case "bool_type" | "bool_parsing":
            return f"must be true or false{got}"
        case "string_type":
            return f"must be a text{got}"
        case "string_too_short":
            return f"must not be empty{got}"
        case "tuple_type" | "list_type":
            return f"must be a list{got}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must be a mapping of keys to values{got}"
        case "too_long":
            return f"must be at most {context['max_length']} {_plural(path)} (got {len(value)})"
        case "too_short":
            return f"must be at least {context['min_length']} {_plural(path)} (got {len(value)})"
        case "date_from_datetime_parsing" | "date_type" | "date_parsing":
            return f"must be a date like 2026-01-31{got}"
        case "value_error" | "assertion_error":
            return str(context.get("error", detail["msg"]))
        case _:
            return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}{got}"


def _plural(path: Path) -> str:
    return str(path[-1]) if path and isinstance(path[-1], str) else "items"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choices(expected: str) -> str:
    """Pydantic's `'a', 'b' or 'c'` as `a, b, c`."""
    return ", ".join(re.findall(r"'([^']*)'", expected)) or expected


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that are allowed in the mapping at pydantic's `loc`, whose parts are keys, numbers and unions' tags."""
    kinds: list[tuple[str, Any]] = [("", model)]
    for part in loc:
        tagged = [(tag, kind) for tag, kind in kinds if tag and tag == part]
        if tagged:
            kinds = [("", kind) for _, kind in tagged]
            continue
        below: list[tuple[str, Any]] = []
        for _, kind in kinds:
            if not _is_model(kind):
                below += [member for argument in get_args(kind) for member in _members(argument)]
            elif part in kind.model_fields:
                info = kind.model_fields[part]
                below += _members(Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation)
        kinds = below
    return list(dict.fromkeys(name for _, kind in kinds if _is_model(kind) for name in kind.model_fields))


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _members(annotation: Any, tag: str = "") -> list[tuple[str, Any]]:
    """The models and containers in an annotation, each with the tag that a union knows it by."""
    if _is_model(annotation) or get_origin(annotation) in (dict, tuple, list):
        return [(tag, annotation)]
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        tag = next((item.tag for item in metadata if isinstance(item, Tag)), tag)
        return _members(inner, tag)
    return [member for argument in get_args(annotation) for member in _members(argument, tag)]
