"""Batches for API calls that accept a limited number of names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batches(items: list[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in order, `size` at a time; the last batch holds the rest."""
    for first in range(0, len(items), size):
        yield items[first : first + size]
