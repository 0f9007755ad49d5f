"""The scaler's package: a zip of lambdas/, gpu_fleet/scaling/ and the locked dependencies for the Lambda's platform.

`pulumi up` builds it. It fetches the dependencies once for each content of the lock, and rebuilds the zip when a source
or the lock changes. The same input gives the same bytes (with the same zlib): sorted names, fixed times and modes, no
bytecode, and nothing specific to the building machine.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = "lambdas/scaler/requirements.txt"
SOURCE_FOLDERS = ("lambdas", "gpu_fleet/scaling")
PACKAGE_INIT = "gpu_fleet/__init__.py"
"""Without it Python cannot import `gpu_fleet.scaling`."""

PYTHON = "3.13"
ARCHITECTURE = "arm64"
PLATFORMS = ("manylinux_2_34_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
"""python3.13 runs on Amazon Linux 2023, whose glibc is 2.34:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html"""

ENTRY_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


INSTALLATION_RECORDS = frozenset({"RECORD", "REQUESTED", "INSTALLER", "direct_url.json"})
"""https://packaging.python.org/en/latest/specifications/recording-installed-packages/"""


class PackageError(RuntimeError):
    """The package cannot be built."""


def build(root: Path = ROOT) -> Path:
    """Return the path of the zip; build it if it is missing.

    Raises PackageError if missing dependencies cannot be fetched.
    """
    lock = (root / LOCK).read_bytes()
    digest = hashlib.sha256(_recipe() + lock)
    for path, name in _sources(root):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    archive = root / "build" / f"scaler-{digest.hexdigest()[:16]}.zip"
    if not archive.exists():
        files = [*_sources(root), *_dependency_files(_dependencies(root, lock))]
        archive.parent.mkdir(exist_ok=True)
        _write(archive, files)
        _delete_old_packages(archive.parent)
    return archive


def _recipe() -> bytes:
    """Return what the content depends on beside sources and lock: a change of it makes a new package."""
    return "\n".join(("1", PYTHON, *PLATFORMS)).encode()


def _sources(root: Path) -> list[tuple[Path, str]]:
    """Return our own files with their names in the zip, sorted by name."""
    paths = [root / PACKAGE_INIT, *(path for folder in SOURCE_FOLDERS for path in (root / folder).rglob("*.py"))]
    return sorted(((path, path.relative_to(root).as_posix()) for path in paths), key=lambda pair: pair[1])


def _dependency_files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the dependencies' files that the Lambda needs, with their names in the zip.

    Leave out bytecode, console scripts (which contain the path of the local Python) and the records of the installation
    (which contain the scripts' digests).
    """
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith("bin/") or "__pycache__" in path.parts or path.suffix == ".pyc":
            continue
        if path.parent.name.endswith(".dist-info") and path.name in INSTALLATION_RECORDS:
            continue
        yield path, name


def _dependencies(root: Path, lock: bytes) -> Path:
    """Return the folder of the locked dependencies for the Lambda's platform; fetch them if it is missing."""
    folder = root / "build" / f"wheels-{hashlib.sha256(_recipe() + lock).hexdigest()[:16]}"
    if folder.exists():
        return folder
    folder.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        target = Path(temporary) / "wheels"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--target", str(target), "--requirement", str(root / LOCK), "--require-hashes", "--no-deps"]
        command += ["--no-compile", "--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON]
        for platform in PLATFORMS:
            command += ["--platform", platform]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
        if done.returncode:
            raise PackageError(f"cannot fetch the dependencies of the scaler's package, {LOCK}:\n{done.stderr.strip()}")
        _move_into_place(target, folder)
    return folder


def _delete_old_packages(folder: Path, keep: int = 5) -> None:
    """Delete all packages but the newest `keep`: another run may still read an older one."""
    by_age = sorted(folder.glob("scaler-*.zip"), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-keep]:
        old.unlink(missing_ok=True)


def _move_into_place(temporary: Path, final: Path) -> None:
    """Move a finished file or folder to its place in one step; another process may have been faster."""
    try:
        temporary.rename(final)
    except OSError:
        if not final.exists():
            raise


def _write(archive: Path, files: list[tuple[Path, str]]) -> None:
    handle, temporary = tempfile.mkstemp(dir=archive.parent, suffix=".part")
    os.close(handle)
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as zipped:
        for path, name in sorted(files, key=lambda pair: pair[1]):
            entry = zipfile.ZipInfo(name, ENTRY_TIME)
            entry.create_system = 3
            entry.external_attr = (0o755 if path.suffix == ".so" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, path.read_bytes())
    _move_into_place(Path(temporary), archive)


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
