"""Values of the model as JSON and back: the state item, the decision log, and what `explain` and `replay` read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Record:
    """One evaluation, whole: from the first four the fifth can be computed again."""

    service: Service
    observation: Observation
    state: State
    now: float
    decision: Decision


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def dump(value: object) -> str:
    """The value as one line of JSON; what stands at its default is left out."""
    return _adapter(type(value)).dump_json(value, exclude_defaults=True).decode()


def load(kind: type[T], text: str | bytes) -> T:
    """The value that `dump` wrote. Raises ValueError when the text is not one."""
    try:
        value: T = _adapter(kind).validate_json(text)
    except ValidationError as error:
        raise ValueError(f"not a {kind.__name__}: {error}") from error
    return value
