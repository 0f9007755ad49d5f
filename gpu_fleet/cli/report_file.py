"""Writing a report's file."""

from __future__ import annotations

from pathlib import Path

import typer


def write_report(path: Path, text: str) -> None:
    """Write a report and print its path. Raises DocumentError if the file cannot be written."""
    from gpu_fleet.config.document import DocumentError, Problem

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DocumentError([Problem(str(path), 0, 0, "", f"cannot be written: {error.strerror}")]) from None
    typer.echo(f"report: {path}", err=True)
