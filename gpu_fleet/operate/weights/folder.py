"""A model in a local folder."""

from __future__ import annotations

from pathlib import Path

from gpu_fleet.operate.weights.model_file import ModelFile, WeightsError


def folder_files(folder: Path) -> list[ModelFile]:
    """Return the files below a folder, links followed. Raises WeightsError for a folder without files."""
    files = [
        ModelFile(
            path.relative_to(folder).as_posix(),
            (status := path.stat()).st_size,
            f"{status.st_size}-{status.st_mtime_ns}",
            lambda path=path: path.open("rb"),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    if not files:
        raise WeightsError("", "must be a folder with a model's files (got none)", str(folder))
    return files
