"""The content of Pulumi's assets and archives."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pulumi

_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time in a zip: the archive must not depend on the time of its files."""


def zip_archive(value: Any) -> bytes:
    """Return the zip that Pulumi would upload. Raises ValueError for an empty archive."""
    if isinstance(value, pulumi.FileArchive) and Path(value.path).suffix == ".zip":
        return Path(value.path).read_bytes()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        _add(archive, "", value)
        if not archive.namelist():
            raise ValueError("the function's code is an empty archive")
    return out.getvalue()


def read_asset(value: Any) -> bytes:
    """Return the content of an asset. Raises TypeError for a type that is not modelled."""
    if isinstance(value, pulumi.StringAsset):
        return value.text.encode()
    if isinstance(value, pulumi.FileAsset):
        return Path(value.path).read_bytes()
    raise TypeError(f"cannot read an asset of type {type(value).__name__}")


def _add(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    match value:
        case pulumi.AssetArchive():
            for key, item in sorted(value.assets.items()):
                _add(archive, f"{name}/{key}".strip("/"), item)
        case pulumi.StringAsset():
            _write(archive, name or "data", value.text.encode())
        case pulumi.FileAsset() | pulumi.FileArchive():
            source = Path(value.path)
            if source.is_dir():
                for file in sorted(f for f in source.rglob("*") if f.is_file() and "__pycache__" not in f.parts):
                    _write(archive, f"{name}/{file.relative_to(source)}".strip("/"), file.read_bytes())
            elif source.suffix == ".zip" and isinstance(value, pulumi.FileArchive):
                with zipfile.ZipFile(source) as inner:
                    for entry in inner.namelist():
                        _write(archive, f"{name}/{entry}".strip("/"), inner.read(entry))
            else:
                _write(archive, name or source.name, source.read_bytes())
        case _:
            raise TypeError(f"cannot read an archive of type {type(value).__name__}")


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name.removeprefix("./"), _TIME), content)
