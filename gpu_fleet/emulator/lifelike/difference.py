"""A difference between moto and AWS, named and sourced, and how it is mended for a while."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that moto does otherwise than AWS."""

    name: str
    moto: str
    """What moto does."""
    aws: str
    """What AWS documents."""
    source: str
    """Where AWS documents it."""


class Patches(contextlib.ExitStack):
    """Replaced attributes of moto's classes; all are put back at the end."""

    def put(self, owner: Any, name: str, value: Any) -> Any:
        """Replace `owner.name` (or add it) until the end. Returns what stood there, None where nothing did."""
        before = getattr(owner, name, None)
        self.enter_context(mock.patch.object(owner, name, value, create=True))
        return before
