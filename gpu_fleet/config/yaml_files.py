"""The project's YAML files as texts, and the library that its policy files form."""

from __future__ import annotations

from pathlib import Path

from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library
from gpu_fleet.config.own_files import library_files


def library_texts(root: Path) -> dict[str, str]:
    """Return the texts of the library's files by their path: `policies/chat.yaml`, `own/policies/catalog.yaml`.

    Raises DocumentError as `library_files` does, and for files that cannot be read.
    """
    return {file: read_text(root / file, file) for file in library_files(root)}


def read_library(root: Path) -> Library:
    """Read the library of `policies/` and `own/policies/`. Raises DocumentError with every error in its files."""
    return library(library_texts(root))


def read_text(path: Path, name: str | None = None) -> str:
    """Read a file; errors call it `name`. Raises DocumentError for a file that is missing, unreadable or not UTF-8."""
    name = name or path.name
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DocumentError([Problem(name, 0, 0, "", "no such file")]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DocumentError([Problem(name, line, 1, "", "must be UTF-8 text")]) from None
    except OSError as error:
        raise DocumentError([Problem(name, 0, 0, "", f"cannot be read: {error.strerror}")]) from None
