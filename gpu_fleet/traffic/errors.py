"""Errors in traces, with their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpu_fleet.config.document import DocumentError, Problem


class TraceError(DocumentError):
    """A trace that cannot be read or used. Its text is `file:line:column: key: problem (got value)`."""

    def __init__(self, key: str, text: str, file: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__([Problem(file, line, column, key, text)])


@contextmanager
def trace_errors(file: Path | str) -> Iterator[None]:
    """Raise a computation's ValueError about a trace as a TraceError that names the trace's file."""
    try:
        yield
    except DocumentError:
        raise
    except ValueError as error:
        raise TraceError("", str(error), str(file)) from error
