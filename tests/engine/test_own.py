"""A stack in the folder own/ under the real engine: found by --config-file, and missed in plain words without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def test_a_stack_in_own_is_previewed_with_its_file_and_stops_without_it(ground: Any, root: Path) -> None:
    deployment = ground.deploy((root / "Pulumi.local.yaml").read_text())
    engine, file = deployment.engine, deployment.file
    (Path(engine.project) / "own").mkdir()
    file.rename(Path(engine.project) / "own" / file.name)

    seen = engine.run("preview", "--stack", engine.stack, "--json", "--config-file", f"own/{file.name}")
    assert seen.returncode == 0, seen.stdout + seen.stderr
    digest = json.loads(seen.stdout[seen.stdout.index("{") :])
    operations = [step["op"] for step in digest["steps"]]
    assert set(operations) == {"create", "read"}, "the program reads its own last outputs"
    assert operations.count("create") > 80

    # With a passphrase, the engine writes the stack's salt beside Pulumi.yaml before the program runs.
    blind = engine.run("preview", "--stack", engine.stack)
    assert blind.returncode != 0
    assert f"give pulumi --config-file own/{file.name}" in blind.stdout + blind.stderr
