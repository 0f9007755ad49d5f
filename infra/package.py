"""The scaler's package: a zip of lambdas/, gpu_fleet/scaling/ and the locked dependencies for the Lambda's platform.

`pulumi up` builds it by itself. The dependencies are fetched once for each content of the lock, the zip is made anew
when a source or the lock changed. The same input gives the same bytes (with the same zlib): names in order, fixed
times and modes, no bytecode, nothing that tells of this machine.
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
ROOMS = ("lambdas", "gpu_fleet/scaling")
PACKAGE = "gpu_fleet/__init__.py"
"""Without it `gpu_fleet.scaling` could not be imported."""

PYTHON = "3.13"
ARCHITECTURE = "arm64"
PLATFORMS = ("manylinux_2_34_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
"""python3.13 runs on Amazon Linux 2023, whose glibc is 2.34:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html"""

TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest that a zip can tell."""


class PackageError(RuntimeError):
    """The package cannot be built here."""


def build(root: Path = ROOT) -> Path:
    """Path of the zip, built where it is not there yet.

    Raises PackageError when the dependencies must be fetched and cannot be.
    """
    lock = (root / LOCK).read_bytes()
    digest = hashlib.sha256(_recipe() + lock)
    for path, name in _sources(root):
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    archive = root / "build" / f"scaler-{digest.hexdigest()[:16]}.zip"
    if not archive.exists():
        files = [*_sources(root), *_files(_dependencies(root, lock))]
        archive.parent.mkdir(exist_ok=True)
        _write(archive, files)
        _forget_old(archive.parent)
    return archive


def _recipe() -> bytes:
    """What else the content hangs on: a change of this makes a new package."""
    return "\n".join(("1", PYTHON, *PLATFORMS)).encode()


def _sources(root: Path) -> list[tuple[Path, str]]:
    """Our own files and their names in the zip, in order."""
    paths = [root / PACKAGE, *(path for room in ROOMS for path in (root / room).rglob("*.py"))]
    return sorted(((path, path.relative_to(root).as_posix()) for path in paths), key=lambda pair: pair[1])


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """What of the dependencies the Lambda needs: no bytecode, no console scripts, no records of the installation (the
    scripts hold this machine's path of Python, and the records the scripts' digests).
    """
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name.startswith("bin/") or "__pycache__" in path.parts or path.suffix == ".pyc":
            continue
        if path.parent.name.endswith(".dist-info") and path.name in {
            "RECORD",
            "REQUESTED",
            "INSTALLER",
            "direct_url.json",
        }:
            continue
        yield path, name


def _dependencies(root: Path, lock: bytes) -> Path:
    """Folder of the locked dependencies for the Lambda's platform, fetched where it is not there yet."""
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
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
        if done.returncode:
            raise PackageError(f"cannot fetch what {LOCK} names for the scaler's package:\n{done.stderr.strip()}")
        _settle(target, folder)
    return folder


def _forget_old(folder: Path, keep: int = 5) -> None:
    """Deletes all packages but the newest ones: another run may still be reading the one before."""
    by_age = sorted(folder.glob("scaler-*.zip"), key=lambda path: path.stat().st_mtime)
    for old in by_age[:-keep]:
        old.unlink(missing_ok=True)


def _settle(made: Path, place: Path) -> None:
    """Moves what was made to its place at once; another process may have been faster."""
    try:
        made.rename(place)
    except OSError:
        if not place.exists():
            raise


def _write(archive: Path, files: list[tuple[Path, str]]) -> None:
    handle, temporary = tempfile.mkstemp(dir=archive.parent, suffix=".part")
    os.close(handle)
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for path, name in sorted(files, key=lambda pair: pair[1]):
            entry = zipfile.ZipInfo(name, TIME)
            entry.create_system = 3
            entry.external_attr = (0o755 if path.suffix == ".so" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, path.read_bytes())
    _settle(Path(temporary), archive)


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
