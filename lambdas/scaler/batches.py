"""Calls take so many names at most: many are asked for in batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: list[Item], most: int) -> Iterator[list[Item]]:
    """The items in their order, `most` at a time; the last batch has what is left."""
    for first in range(0, len(items), most):
        yield items[first : first + most]
