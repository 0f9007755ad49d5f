"""`gpu-fleet schema`: JSON Schemas for editors and the table of keys, from the models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gpu_fleet.cases import EXAMPLE, MODELS
from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.project_file import read_project_name
from gpu_fleet.config.schemas import README, SCHEMAS, readme, schemas


def schema(
    root: Annotated[Path, typer.Option(help="The project's root.")] = Path(),
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; end with code 1 if a file is out of date.")
    ] = False,
) -> None:
    """Write the JSON Schemas and the table of every key (`policies/schema/`, `policies/README.md`)."""
    project = read_project_name(root)
    texts = {f"{SCHEMAS}/{name}": text for name, text in schemas(MODELS, project).items()}
    texts[README] = readme(MODELS, EXAMPLE, project)
    stale = [name for name, text in texts.items() if _text(root / name) != text]
    if not stale:
        typer.echo(f"{len(texts)} files are current")
        return
    if check:
        raise DocumentError(Problem(name, 0, 0, "", "is not current; run `gpu-fleet schema`") for name in stale)
    for name in stale:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(texts[name], encoding="utf-8")
        typer.echo(f"wrote {name}")


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
