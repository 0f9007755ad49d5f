"""The serving container, as the instance's program sees it through Docker, systemd and the kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.instance.node import boot_progress, container


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder before all others of PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def program(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/bash\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("docker", "stands"),
    [
        ("echo true", True),
        ("echo false", False),
        ("echo 'Error: No such object: engine' >&2; exit 1", False),
        ("echo 'error during connect: is the docker daemon running?' >&2; exit 1", None),
    ],
)
def test_a_container_that_docker_does_not_tell_of_is_unknown(path: Path, docker: str, stands: bool | None) -> None:
    program(path, "docker", docker)
    assert container.stands() is stands


@pytest.mark.parametrize(("systemctl", "restarts"), [("echo 7", 7), ("echo", None), ("exit 1", None)])
def test_restarts_are_systemds(path: Path, systemctl: str, restarts: int | None) -> None:
    program(path, "systemctl", systemctl)
    assert container.restarts() == restarts


def test_the_newest_log_line_may_be_on_either_stream(path: Path) -> None:
    program(path, "docker", '[ "$*" = "logs --tail 1 engine" ] && echo "Capturing CUDA graphs: 40 %" >&2')
    assert container.last_log_line() == b"Capturing CUDA graphs: 40 %\n"
    program(path, "docker", "exit 1")
    assert container.last_log_line() is None


def test_the_signs_of_this_machine_are_there(path: Path) -> None:
    program(path, "docker", "exit 1")
    program(path, "systemctl", "echo 0")
    signs = boot_progress.look()
    assert signs.used_bytes > 2**20
    assert signs.received_bytes >= 0
    assert signs.read_bytes >= 0
    assert (signs.log_line, signs.restarts) == (None, 0)


def test_what_is_written_is_seen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one file system, whether Docker and the weights share it with the root or not."""
    monkeypatch.setattr(boot_progress, "FOLDERS", (str(path), str(path), str(path / "missing")))
    once = boot_progress._used_bytes()
    monkeypatch.setattr(boot_progress, "FOLDERS", (str(path),))
    assert once == pytest.approx(boot_progress._used_bytes(), rel=0.01)


# --- the round trip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "docker",
    [
        "exit 1",
        "echo 0",
        "echo 0 172.17.0.1",
        "echo",
        "sleep 60",
    ],
    ids=["no engine", "host network", "stopped", "nothing", "silent"],
)
def test_an_unreadable_round_trip_is_missing_and_not_zero(
    path: Path, monkeypatch: pytest.MonkeyPatch, docker: str
) -> None:
    program(path, "docker", docker)
    program(path, "nsenter", "exit 1")
    if docker.startswith("sleep"):
        run = subprocess.run
        patched = lambda *args, **kwargs: run(*args, **{**kwargs, "timeout": 0.05})  # noqa: E731
        monkeypatch.setattr(container.subprocess, "run", patched)
    assert container.network_latency_seconds() is None


def test_the_round_trip_is_of_the_load_balancers_connections(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real nsenter and ss in a network namespace: scrapes from the gateway do not count."""
    if not all(shutil.which(name) for name in ("unshare", "nsenter", "ss", "ip")):
        pytest.skip("needs unshare, nsenter, ss and ip")
    engine = subprocess.Popen(
        ["unshare", "--net", sys.executable, "-c", ENGINE_IN_ITS_NETWORK],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert engine.stdout is not None
    assert engine.stdin is not None
    if engine.stdout.readline() != "ready\n":
        pytest.skip("may not make a network namespace")
    program(path, "docker", f"echo {engine.pid} 172.17.0.1")
    monkeypatch.setattr(container, "ENGINE_URL", "http://127.0.0.1:8000")
    seen: list[str] = []
    monkeypatch.setattr(container, "round_trip_seconds", seen.append)
    container.network_latency_seconds()
    engine.stdin.close()
    engine.wait(10)
    assert [line.split()[3] for line in seen[0].splitlines() if ":8000" in line] == ["10.9.0.7:40000"]
    assert "rtt:" in seen[0]


ENGINE_IN_ITS_NETWORK = """
import socket, subprocess, sys
for command in ("link set lo up", "address add 10.9.0.7/32 dev lo", "address add 172.17.0.1/32 dev lo",
                "address add 172.17.0.2/32 dev lo"):
    subprocess.run(["ip", *command.split()], check=True)
server = socket.create_server(("0.0.0.0", 8000))
kept = []
for source in (("10.9.0.7", 40000), ("172.17.0.1", 40001), ("127.0.0.1", 40002)):
    target = "127.0.0.1" if source[0].startswith("127") else "172.17.0.2"
    kept += [socket.create_connection((target, 8000), source_address=source), server.accept()[0]]
print("ready", flush=True)
sys.stdin.read()
"""
