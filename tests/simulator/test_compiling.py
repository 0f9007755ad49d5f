"""Compiled code is cached between processes if possible, and works without a cache otherwise."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_fleet.simulator.simulation import Engine, Simulation

ONE_RUN = """
from gpu_fleet.simulator import kernel
from gpu_fleet.simulator.simulation import Engine, Simulation
simulation = Simulation([Engine(0.0, 0.001, 0.01, 0.001, 1000.0, 4)])
simulation.drain(simulation.join(0), at=5.0, deadline=6.0)
simulation.run(10.0, [1.0], [10.0], [10.0])
for function in (kernel.run, kernel.join, kernel.drain, kernel.kill):
    assert not function.stats.cache_misses, function
    assert function.stats.cache_hits, function
"""


def test_a_second_process_does_not_compile_again(root: Path) -> None:
    simulation = Simulation([Engine(0.0, 0.001, 0.01, 0.001, 1000.0, 4)])
    simulation.drain(simulation.join(0), at=5.0, deadline=6.0)
    simulation.run(10.0, [1.0], [10.0], [10.0])
    done = subprocess.run([sys.executable, "-c", ONE_RUN], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_without_a_writable_folder_it_compiles_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "installed" / "doubling.py"
    module.parent.mkdir()
    # A file where the folder should be: neither beside the source nor under the home can a cache be made.
    (module.parent / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")
    module.write_text(
        "from gpu_fleet.simulator.kernel import compiled\n@compiled\ndef double(x: int) -> int:\n    return 2 * x\n"
    )
    spec = importlib.util.spec_from_file_location("doubling", module)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    assert loaded.double(21) == 42
    assert loaded.double.stats.cache_path is None
