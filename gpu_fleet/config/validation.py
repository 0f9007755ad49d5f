"""Documents as pydantic models: whole, or as far as they are valid.

A partial model has holes: reading a value that is wrong or missing raises AttributeError, and `until_hole` stops
there. So every check that can run does run, and one error hides no other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from gpu_fleet.config.document import Document, DocumentError, Path, parse
from gpu_fleet.config.model_errors import (
    annotation,
    is_model,
    members,
    moved_to_named_key,
    problems_in,
    typed_path,
)
from gpu_fleet.config.wording import quoted

Model = TypeVar("Model", bound=BaseModel)
Item = TypeVar("Item")


def read(text: str, file: str, model: type[Model]) -> Model:
    """Read text as a `model`. Raises DocumentError with every error in it."""
    return check(parse(text, file), model)


def check(document: Document, model: type[Model], at: Path = ()) -> Model:
    """Return the part of a document at `at` as a `model`. Raises DocumentError with every error in it.

    Values keep their YAML types (pydantic's strict mode over JSON): "5" is not a number, and `true` is not 1.
    """
    data = document.data
    for part in at:
        data = data[part]
    if not isinstance(data, dict):
        raise DocumentError([document.problem(at, f"must be a mapping of keys to values (got {quoted(data)})")])
    value, problems = validate_partially(data, model)
    if problems:
        raise DocumentError(document.problem((*at, *path), text) for path, text in problems)
    return value


def validate_partially(data: Mapping[str, Any], model: type[Model]) -> tuple[Model, list[tuple[Path, str]]]:
    """Return the valid part of a mapping as a `model` with holes, and the key and text of every error."""
    try:
        return model.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        problems = problems_in(error, model, data)
        wrong = {typed_path(detail, data) for detail in error.errors(include_url=False)}
        partial = _Partial(wrong, problems)
        return partial.model(model, data, ()), list(dict.fromkeys(problems))


def until_hole(rule: Callable[..., Iterable[Item]], *arguments: Any) -> list[Item]:
    """Collect what a rule yields, up to the first hole that it reads."""
    items: list[Item] = []
    try:
        for item in rule(*arguments):
            items.append(item)  # noqa: PERF402 the items before the hole count
    except AttributeError as error:
        if not _is_hole(error):
            raise
    return items


def _is_hole(error: AttributeError) -> bool:
    return isinstance(error.obj, BaseModel) and error.name in type(error.obj).model_fields


_HOLE = object()


@dataclass(frozen=True)
class _Partial:
    """Builds models from data of which some places are wrong."""

    wrong: AbstractSet[Path]
    problems: list[tuple[Path, str]] = field(repr=False)
    """Grows by the errors that the models' own checks find."""

    def model(self, model: type[Model], data: Mapping[str, Any], path: Path) -> Model:
        """Return the mapping at `path` as a `model` with a hole for each wrong value."""
        values: dict[str, Any] = {}
        for name, info in model.model_fields.items():
            if name not in data:
                if not info.is_required():
                    values[name] = info.get_default(call_default_factory=True, validated_data=values)
                continue
            value = self.value(annotation(model, name), data[name], (*path, name))
            if value is not _HOLE:
                values[name] = value
        made = model.model_construct(**values)
        for name in model.model_fields.keys() - values.keys():
            vars(made).pop(name, None)
        self._run_checks(made, data, path)
        return made

    def _run_checks(self, made: BaseModel, data: Mapping[str, Any], path: Path) -> None:
        """Run the model's own checks over several keys; a check that reads a hole is skipped."""
        model = type(made)
        for validator in model.__pydantic_decorators__.model_validators.values():
            if validator.info.mode == "after":
                try:
                    validator.func(made)
                except ValueError as error:
                    allowed = list(model.model_fields)
                    self.problems.append(moved_to_named_key(path, str(error), data, allowed, depth=len(path)))
                except AttributeError as error:
                    if not _is_hole(error):
                        raise

    def value(self, wanted: Any, value: Any, path: Path) -> Any:
        """Return the value at `path` as the type `wanted`, or `_HOLE`."""
        if not any(place[: len(path)] == path for place in self.wrong):
            return TypeAdapter(wanted).validate_json(json.dumps(value), strict=True)
        if not isinstance(value, dict):
            return _HOLE
        choices = [member for _, member in members(wanted)]
        models = [member for member in choices if is_model(member)]
        if models:
            likeliest = max(models, key=lambda member: len(member.model_fields.keys() & value.keys()))
            return self.model(likeliest, value, path)
        for member in choices:
            if get_origin(member) is dict:
                return self._mapping(get_args(member)[1], value, path)
        return _HOLE

    def _mapping(self, wanted: Any, value: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """Return a mapping of names to `wanted`; an entry that should be a model and is no mapping is all holes."""
        below = {key: self.value(wanted, inner, (*path, key)) for key, inner in value.items()}
        models = [member for _, member in members(wanted) if is_model(member)]
        if models:
            below = {key: _all_holes(models[0]) if inner is _HOLE else inner for key, inner in below.items()}
        return {key: inner for key, inner in below.items() if inner is not _HOLE}


def _all_holes(model: type[Model]) -> Model:
    made = model.model_construct()
    vars(made).clear()
    return made
