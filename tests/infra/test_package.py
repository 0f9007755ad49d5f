"""The scaler's package: the same bytes for the same input, for the Lambda's platform, and nothing superfluous."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra import package

HANDLER = "lambdas/scaler/handler.py"


def wheel(folder: Path, name: str = "dep", tag: str = "py3-none-any") -> str:
    """Write a wheel with a module, an extension and a console script, and return its line in a lock."""
    path = folder / f"{name}-1.0-{tag}.whl"
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}/__init__.py": "X = 1\n",
        f"{name}/native.so": "not really",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(path, "w") as z:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            z.writestr(file, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only source that pip has."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def project(folder: Path, lock: str) -> Path:
    files = {
        "gpu_fleet/__init__.py": "",
        "lambdas/__init__.py": "",
        HANDLER: "def handle(event, context): ...\n",
        "gpu_fleet/scaling/model.py": "A = 1\n",
        "gpu_fleet/config/document.py": "import ruamel.yaml\n",
        package.LOCK: lock,
        "lambdas/scaler/notes.txt": "not code",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as z:
        return z.namelist()


def test_two_machines_build_the_same_bytes(tmp_path: Path, wheels: Path) -> None:
    """Different times and modes, bytecode, another order of files: the same package."""
    lock = wheel(wheels)
    one = package.build(project(tmp_path / "one", lock))
    other_root = project(tmp_path / "other" / "deeper", lock)
    cache = other_root / "gpu_fleet/scaling/__pycache__"
    cache.mkdir()
    (cache / "model.cpython-311.pyc").write_bytes(b"\0")
    os.utime(other_root / HANDLER, (0, 0))
    (other_root / HANDLER).chmod(0o600)
    other = package.build(other_root)
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()


def test_it_contains_code_and_nothing_specific_to_the_machine(tmp_path: Path, wheels: Path) -> None:
    archive = package.build(project(tmp_path / "p", wheel(wheels)))
    assert names(archive) == [
        "dep-1.0.dist-info/METADATA", "dep-1.0.dist-info/WHEEL", "dep-1.0.dist-info/entry_points.txt",
        "dep/__init__.py", "dep/native.so", "gpu_fleet/__init__.py", "gpu_fleet/scaling/model.py",
        "lambdas/__init__.py", HANDLER,
    ]  # fmt: skip
    with zipfile.ZipFile(archive) as z:
        assert {entry.date_time for entry in z.infolist()} == {package.ENTRY_TIME}
        modes = {entry.filename: entry.external_attr >> 16 for entry in z.infolist()}
        assert all(str(tmp_path).encode() not in z.read(n) for n in z.namelist())
    assert modes["dep/native.so"] == 0o755
    assert modes[HANDLER] == 0o644


def test_it_is_rebuilt_only_when_its_content_changes(tmp_path: Path, wheels: Path) -> None:
    root = project(tmp_path / "p", wheel(wheels))
    first = package.build(root)
    built_at = first.stat().st_mtime_ns
    (root / "gpu_fleet/config/document.py").write_text("# not in the package\n")
    (root / "lambdas/scaler/notes.txt").write_text("another")
    assert package.build(root) == first
    assert first.stat().st_mtime_ns == built_at
    (root / "gpu_fleet/scaling/model.py").write_text("A = 2\n")
    second = package.build(root)
    assert second != first
    with zipfile.ZipFile(second) as z:
        assert z.read("gpu_fleet/scaling/model.py") == b"A = 2\n"


def test_a_changed_source_needs_no_registry(tmp_path: Path, wheels: Path) -> None:
    root = project(tmp_path / "p", wheel(wheels))
    package.build(root)
    shutil.rmtree(wheels)
    (root / "gpu_fleet/scaling/model.py").write_text("A = 3\n")
    assert package.build(root).exists()


def test_a_wheel_that_is_not_in_the_lock_is_refused(tmp_path: Path, wheels: Path) -> None:
    wheel(wheels)
    root = project(tmp_path / "p", "dep==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(package.PackageError, match=r"(?i)hash"):
        package.build(root)
    assert not list((root / "build").glob("scaler-*"))


@pytest.mark.parametrize(("tag", "fits"), [
    ("cp313-cp313-manylinux_2_17_aarch64", True), ("cp313-cp313-manylinux_2_17_x86_64", False),
    ("cp311-cp311-manylinux_2_17_aarch64", False), ("cp313-cp313-manylinux_2_39_aarch64", False),
])  # fmt: skip
def test_only_wheels_for_the_lambdas_platform_are_accepted(
    tmp_path: Path, wheels: Path, tag: str, *, fits: bool
) -> None:
    root = project(tmp_path / "p", wheel(wheels, tag=tag))
    if fits:
        assert "dep/native.so" in names(package.build(root))
    else:
        with pytest.raises(package.PackageError, match=re.escape(package.LOCK)):
            package.build(root)


# --- the real package -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(root: Path) -> Path:
    """The package as it would be deployed."""
    try:
        return package.build(root)
    except package.PackageError as error:
        pytest.skip(f"needs the package registry, or a package built before: {error}")


def test_the_real_package_is_for_arm_and_the_lambdas_python(real: Path) -> None:
    """ELF: byte 18 is the machine, 0xB7 for AArch64."""
    with zipfile.ZipFile(real) as z:
        binaries = [n for n in z.namelist() if ".so" in n]
        assert binaries
        for name in binaries:
            assert z.read(name)[18:20] == b"\xb7\x00", name
            assert "cpython-313-aarch64" in name
        assert [n for n in z.namelist() if "__pycache__" in n or n.endswith(".pyc")] == []


def test_the_real_package_is_far_below_lambdas_limits(real: Path) -> None:
    """50 MB zipped, 250 MB unzipped: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
    with zipfile.ZipFile(real) as z:
        unzipped = sum(entry.file_size for entry in z.infolist())
    assert real.stat().st_size < 25e6
    assert unzipped < 125e6


REFUSE = """
import sys, importlib.abc
sys.path.insert(0, sys.argv[1])
allowed = set(sys.argv[2].split(",")) | set(sys.stdlib_module_names)
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError("not in the package: " + name, name=name)
sys.meta_path.insert(0, Refuse())
import lambdas.scaler.handler as handler
assert handler.__file__.startswith(sys.argv[1]), handler.__file__
print(callable(handler.handle))
"""
IN_THE_RUNTIME = {"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six"}
"""The runtime has boto3: https://docs.aws.amazon.com/lambda/latest/dg/lambda-python.html#python-sdk-included"""


def test_the_handler_imports_nothing_outside_the_package(real: Path, root: Path, tmp_path: Path) -> None:
    """The package's binaries are for another processor. So its own code comes from the zip, its dependencies from this
    environment, and an import of anything that is not in the zip is refused.
    """
    if not (root / HANDLER).exists():
        pytest.skip("there is no handler yet")
    with zipfile.ZipFile(real) as z:
        tops = {n.partition("/")[0].removesuffix(".py") for n in z.namelist()}
        z.extractall(tmp_path, [n for n in z.namelist() if n.startswith(("lambdas/", "gpu_fleet/"))])
    environment = {"SERVICES_PATH": "/x", "STATE_TABLE": "t", "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(
        [sys.executable, "-c", REFUSE, str(tmp_path), ",".join(tops | IN_THE_RUNTIME)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True"
