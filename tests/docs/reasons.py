"""The reason codes and what they mean, from the constructors in gpu_fleet/scaling/reasons."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_fleet.scaling import reasons
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.forecast import Outlook
from gpu_fleet.scaling.mix import Move
from gpu_fleet.scaling.observation import JobQueue
from gpu_fleet.scaling.policy import Vertical
from gpu_fleet.scaling.reasons.sizing import ArticleFigures
from gpu_fleet.scaling.reasons.vertical import Choice

SAMPLES: dict[Any, Any] = {
    str: "l4",
    float: 2.0,
    int: 2,
    int | None: 2,
    float | None: 2.0,
    tuple[str, ...]: ("g6.xlarge",),
    Iterable[str]: ("l4",),
    Collection[str]: ("i-1",),
    Sequence[str]: ("i-1",),
    Mapping[str, int]: {"l4": 2, "l40s": 1},
    Mapping[str, float]: {"l4": 2.0},
    Mapping[str, float] | None: {"saving_usd_per_hour": 2.0},
    Mapping[str, float | None]: {"i-1": 300.0, "i-2": None},
    ArticleFigures: (1.0, 0.5, 0.8),
    Outlook: Outlook(2.0, 3.0, "<method>", 5.0),
    Move: Move({"l4": 2}, {"l40s": 1}, 1.86, 0.64, 25.0, 0.3),
    Vertical: Vertical(),
    Choice: Choice(("g6.xlarge",), 2, 1.6),
    JobQueue: JobQueue(2, 300.0, 60.0),
}
"""A value for each type of argument that a constructor takes."""


@dataclass(frozen=True)
class Constructor:
    """A constructor of a reason, with what it makes of sample values."""

    module: str
    name: str
    reason: Reason
    meaning: str


def constructors() -> Iterator[Constructor]:
    """Every public function of the reasons that makes a reason. Raises KeyError for an argument without a sample."""
    for info in pkgutil.iter_modules(reasons.__path__):
        module = importlib.import_module(f"{reasons.__name__}.{info.name}")
        for name, function in vars(module).items():
            if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_"):
                hints = typing.get_type_hints(function)
                if hints.pop("return") is Reason:
                    made = _made(function, hints)
                    yield Constructor(info.name, name, made, " ".join((inspect.getdoc(function) or "").split()))


def _made(function: Callable[..., Reason], hints: Mapping[str, Any]) -> Reason:
    return function(**{name: SAMPLES[hint] for name, hint in hints.items()})


def table() -> str:
    """Return the table of all codes, in the order of the steps."""
    steps = ["demand", "sizing", "mix", "guard", "routing"]
    rows = sorted(constructors(), key=lambda one: (steps.index(one.reason.step), one.reason.code, one.name))
    lines = ["| code | step | meaning |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| `{one.reason.code}` | {one.reason.step} | {one.meaning} |" for one in rows)])
