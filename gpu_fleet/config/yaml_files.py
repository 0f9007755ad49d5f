"""The texts of the project's YAML files, and the library that those of `policies` make up."""

from __future__ import annotations

from pathlib import Path

from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.library import Library, library


def library_texts(root: Path) -> dict[str, str]:
    """The texts of the library's files by their path, `policies/chat.yaml`.

    Raises DocumentError without the folder, and for files that nobody would read because of their name.
    """
    folder = root / "policies"
    if not folder.is_dir():
        raise DocumentError([Problem("policies", 0, 0, "", "no such folder")])
    misnamed = [path.name for path in sorted(folder.glob("*.yml"))]
    if misnamed:
        raise DocumentError(Problem(f"policies/{name}", 0, 0, "", "must end in .yaml") for name in misnamed)
    return {f"policies/{path.name}": read_text(path, f"policies/{path.name}") for path in sorted(folder.glob("*.yaml"))}


def read_library(root: Path) -> Library:
    """The library of the folder `policies`. Raises DocumentError with every error in its files."""
    return library(library_texts(root))


def read_text(path: Path, name: str | None = None) -> str:
    """A file's text. Raises DocumentError where it is not there, cannot be read or is not UTF-8."""
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
