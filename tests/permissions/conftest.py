"""The `program` fixture of tests/infra."""

from __future__ import annotations

from tests.infra.conftest import program

__all__ = ["program"]
