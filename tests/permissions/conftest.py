"""The program as the engine sees it, as in tests/infra."""

from __future__ import annotations

from tests.infra.conftest import program

__all__ = ["program"]
