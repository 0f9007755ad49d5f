"""A documented difference between moto and AWS, and the patches that remove it for a while."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(frozen=True, slots=True)
class Difference:
    """One behaviour in which moto differs from AWS."""

    name: str
    moto: str
    """What moto does."""
    aws: str
    """What AWS documents."""
    source: str
    """The pages where AWS documents it."""


class Patches(contextlib.ExitStack):
    """Replaced attributes of moto's classes; the originals return on exit."""

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set `owner.name`, which need not exist yet, until exit."""
        self.enter_context(mock.patch.object(owner, name, value, create=True))

    def wrap(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        """Replace the method `owner.name` until exit.

        `wrapper` receives moto's own function first (None where moto has no such method), then the instance and the
        arguments of the call.
        """
        moto = getattr(owner, name, None)

        def method(*args: Any, **kwargs: Any) -> Any:
            return wrapper(moto, *args, **kwargs)

        # Keeps the signature, which `arguments` reads, through several wrappers.
        self.replace(owner, name, method if moto is None else functools.wraps(moto)(method))


def arguments(function: Callable[..., Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the arguments of a call by parameter name, defaults included."""
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments
