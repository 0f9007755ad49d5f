"""Fixtures that run the whole loop in a few virtual minutes: program, handler, moto and simulator."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import botocore.endpoint
import numpy as np
import pytest

from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.replay import Opening, Replay, replay_cloud, service_hardware
from gpu_fleet.traffic import RateTrace, Trace
from infra import package

Loop = Callable[..., Replay]

SECOND_SERVICE = """
    code:
      policy: chat
      paths: ["/code/*"]
      priority: 200
      container:
        image: vllm/vllm-openai:v0.11.0
        args: [--model, RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8]
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 4}
"""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore pauses between attempts; nobody here waits for them."""
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda _: None)


@pytest.fixture(autouse=True)
def small_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The handler runs from the sources here: what the function's package holds is for tests/infra."""
    archive = tmp_path / "scaler.zip"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("lambdas/__init__.py", "")
    monkeypatch.setattr(package, "build", lambda _root: archive)


def traffic(*parts: tuple[int, float], seed: int = 0) -> Trace:
    """Draw a trace from parts, each of some minutes at some requests per second."""
    rps = np.concatenate([np.full(minutes, rate, float) for minutes, rate in parts])
    return RateTrace("steps", np.arange(len(rps)) * 60.0, rps, 60.0).sample(seed)


@pytest.fixture
def two_services(root: Path, tmp_path: Path) -> Path:
    """Write a project whose stack `local` has a second service."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text((root / "Pulumi.yaml").read_text())
    text = (root / "Pulumi.local.yaml").read_text().rstrip("\n")
    (folder / "Pulumi.local.yaml").write_text(text + SECOND_SERVICE)
    for name in ("infra", "policies"):
        (folder / name).symlink_to(root / name)
    return folder


@pytest.fixture
def spot(root: Path, tmp_path: Path) -> Path:
    """Write a project whose stack `local` has a pool of spot instances beside one on demand."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Pulumi.yaml").write_text((root / "Pulumi.yaml").read_text())
    text = (root / "Pulumi.local.yaml").read_text()
    before = "l4: {types: [g6.xlarge, g6.2xlarge], min: 0, max: 40}"
    assert before in text
    after = before.replace("}", ", on_demand_base: 1, spot_percent: 100}")
    (folder / "Pulumi.local.yaml").write_text(text.replace(before, after))
    for name in ("infra", "policies"):
        (folder / name).symlink_to(root / name)
    return folder


@pytest.fixture
def loop(root: Path) -> Iterator[Loop]:
    """Begin a replay: `loop([(minutes, rps), ...], ready={"l4": 2})`. Boots take a minute."""
    with contextlib.ExitStack() as stack:

        def begin(
            parts: Sequence[tuple[int, float]],
            *,
            ready: Mapping[str, int] | None = None,
            project: Path = root,
            boot_seconds: float = 60.0,
        ) -> Replay:
            settings, _ = read_stack(project, "local")
            cloud = stack.enter_context(replay_cloud("local", project, boot_seconds=boot_seconds))
            hardware = service_hardware(settings, "chat", read_library(project))
            replay = Replay(cloud, "chat", traffic(*parts), hardware, Opening(ready or {}))
            return stack.enter_context(replay)

        yield begin
