"""Pydantic's errors in the project's words: which key, and what is allowed there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from gpu_fleet.config.document import Path
from gpu_fleet.config.wording import quoted, suggestion


def problems_in(error: ValidationError, model: type[BaseModel], data: Any) -> list[tuple[Path, str]]:
    """Return the key and the text of each error that `model` found in `data`."""
    problems: list[tuple[Path, str]] = []
    for detail in error.errors(include_url=False):
        # pydantic counts only the valid items: a list with one wrong item is not also too short.
        if detail["type"] == "too_short" and len(detail["input"]) >= detail.get("ctx", {})["min_length"]:
            continue
        path = typed_path(detail, data)
        text = _text(detail, model, path)
        if detail["type"] in ("value_error", "assertion_error"):
            path, text = moved_to_named_key(path, text, data, _allowed_keys(model, detail["loc"]))
        problems.append((path, text))
    return problems


def typed_path(detail: ErrorDetails, data: Any) -> Path:
    """Return the place of an error without the parts that pydantic adds (tags of a union's members, `[key]`)."""
    is_missing = detail["type"] == "missing"
    path: list[str | int] = []
    for i, part in enumerate(detail["loc"]):
        items: Mapping[Any, Any] = data if isinstance(data, dict) else {}
        if isinstance(data, list):
            items = dict(enumerate(data))
        if part in items:
            path.append(part)
            data = items[part]
        elif is_missing and i == len(detail["loc"]) - 1:
            path.append(part)
    return tuple(path)


def moved_to_named_key(path: Path, text: str, data: Any, allowed: Sequence[str], depth: int = 0) -> tuple[Path, str]:
    """Move an error of a check over several keys to the key that its text names: `sizing.mode: slo needs the key slo`.

    `data` is the value at the first `depth` parts of the path.
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


_LIMITS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("above", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("below", "lt"),
}
"""Pydantic's name of an error about a bound: our word, and the bound's key in the error's context."""

_TYPES: Mapping[str, Sequence[str]] = {
    "must be a whole number": ("int_type", "int_parsing", "int_from_float"),
    "must be a number": ("float_type", "float_parsing"),
    "must be a finite number": ("finite_number",),
    "must be true or false": ("bool_type", "bool_parsing"),
    "must be a text": ("string_type",),
    "must not be empty": ("string_too_short",),
    "must be a list": ("tuple_type", "list_type"),
    "must be a mapping of keys to values": ("dict_type", "model_type", "model_attributes_type"),
    "must be a date like 2026-01-31": ("date_from_datetime_parsing", "date_type", "date_parsing"),
}
_TYPE_TEXTS = {error: text for text, errors in _TYPES.items() for error in errors}


def _text(detail: ErrorDetails, model: type[BaseModel], path: Path) -> str:
    error, context = detail["type"], detail.get("ctx", {})
    got = f" (got {quoted(detail['input'])})"
    if error in _TYPE_TEXTS:
        return f"{_TYPE_TEXTS[error]}{got}"
    if error in _LIMITS:
        word, bound = _LIMITS[error]
        return f"must be {word} {_number(context[bound])}{got}"
    match error:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"unknown key; {suggestion(str(detail['loc'][-1]), _allowed_keys(model, detail['loc'][:-1]))}"
        case "enum" | "literal_error":
            return f"must be one of {_choices(context['expected'])}{got}"
        case "too_long":
            return f"must be at most {context['max_length']} {_items(path)} (got {len(detail['input'])})"
        case "too_short":
            return f"must be at least {context['min_length']} {_items(path)} (got {len(detail['input'])})"
        case "value_error" | "assertion_error":
            return str(context.get("error", detail["msg"]))
        case _:
            return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}{got}"


def _items(path: Path) -> str:
    return str(path[-1]) if path and isinstance(path[-1], str) else "items"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _choices(expected: str) -> str:
    """Return pydantic's `'a', 'b' or 'c'` as `a, b, c`."""
    return ", ".join(re.findall(r"'([^']*)'", expected)) or expected


def _allowed_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """Return the keys allowed in the mapping at pydantic's `loc`, whose parts are keys, indices and union tags."""
    types: list[tuple[str, Any]] = [("", model)]
    for part in loc:
        tagged = [(tag, member) for tag, member in types if tag and tag == part]
        if tagged:
            types = [("", member) for _, member in tagged]
            continue
        below: list[tuple[str, Any]] = []
        for _, member in types:
            if not is_model(member):
                below += [inner for argument in get_args(member) for inner in members(argument)]
            elif part in member.model_fields:
                below += members(annotation(member, str(part)))
        types = below
    return list(dict.fromkeys(name for _, member in types if is_model(member) for name in member.model_fields))


def annotation(model: type[BaseModel], name: str) -> Any:
    """Return a field's type with its constraints."""
    info = model.model_fields[name]
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def is_model(candidate: Any) -> bool:
    """Whether a type is a pydantic model."""
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)


def members(candidate: Any, tag: str = "") -> list[tuple[str, Any]]:
    """Return the models and containers in an annotation, each with its tag in a tagged union."""
    if is_model(candidate) or get_origin(candidate) in (dict, tuple, list):
        return [(tag, candidate)]
    if get_origin(candidate) is Annotated:
        inner, *metadata = get_args(candidate)
        tag = next((item.tag for item in metadata if isinstance(item, Tag)), tag)
        return members(inner, tag)
    return [member for argument in get_args(candidate) for member in members(argument, tag)]
