"""What is wrong with a trace, and where."""

from __future__ import annotations

from scaling.document import DocumentError, Problem


class TraceError(DocumentError):
    """A trace that cannot be read or used. Its text is `file:line:column: key: what is wrong (got value)`."""

    def __init__(self, key: str, text: str, file: str = "", line: int = 0, column: int = 0) -> None:
        super().__init__([Problem(file, line, column, key, text)])
