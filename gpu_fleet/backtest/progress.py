"""How a long computation reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Progress:
    """Two callbacks; by default both do nothing."""

    begin: Callable[[str, int], None] = _ignore
    """Called before each stage, with its name and its number of tasks."""
    done: Callable[[str], None] = _ignore
    """Called after each task, with its name."""


SILENT = Progress()
