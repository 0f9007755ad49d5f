"""The files of a model, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from gpu_fleet.config.document import DocumentError, Problem

SAFETENSORS = ".safetensors"
OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".tflite")
"""The same weights for other programs, beside `.safetensors`."""


class WeightsError(DocumentError):
    """The weights cannot be read or written."""

    def __init__(self, key: str, text: str, file: str = "") -> None:
        super().__init__([Problem(file, 0, 0, key, text)])


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model."""

    path: str
    """Relative to the model, with slashes."""
    size_bytes: int
    version: str
    """Changes with the file's content, so that a file in S3 with this version and size is not sent again."""
    open: Callable[[], AbstractContextManager[BinaryIO]]


def served_files(files: Sequence[ModelFile]) -> list[ModelFile]:
    """Return what an engine loads: with safetensors, no other format of the same weights; no hidden files.

    Many repositories hold their weights two or three times; each instance would copy all of them.
    """
    visible = [file for file in files if not any(part.startswith(".") for part in PurePosixPath(file.path).parts)]
    if not any(file.path.endswith(SAFETENSORS) for file in visible):
        return visible
    return [
        file
        for file in visible
        if not file.path.endswith(OTHER_FORMATS) and PurePosixPath(file.path).parts[0] != "original"
    ]
