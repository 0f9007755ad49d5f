"""The process that publishes an instance's metrics, run for real."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.user_data import FOLDER
from tests.infra.instance_world import BUSY, InstanceWorld, instance_world

VLLM = (FOLDER.parent.parent / "tests/infra/expositions/vllm.prom").read_text()
LATER = VLLM.replace("_sum", "_sum").replace('"} 100.0', '"} 200.0').replace("115500.0", "145500.0")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[InstanceWorld]:
    with instance_world(tmp_path) as world:
        # Only the engine's own network shows its connections.
        shown = '[ "$*" = "--target 4242 --net ss ${*:5}" ] && echo "rtt:2.0/0.5"'
        (tmp_path / "nsenter").write_text(f"#!/bin/bash\n{shown}\n")
        (tmp_path / "nsenter").chmod(0o755)
        yield world


@pytest.fixture
def agent() -> Iterator[socket.socket]:
    """The CloudWatch agent's StatsD."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(30)
        yield listener


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to end."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def start(instance: InstanceWorld, agent: socket.socket, **environment: str) -> subprocess.Popen[str]:
    return instance.start("metrics", STATSD_PORT=str(agent.getsockname()[1]), **environment)


def test_the_metrics_reach_the_agent(instance, agent, running) -> None:
    instance.pages = [VLLM, LATER]
    running.append(start(instance, agent))
    received: dict[str, str] = {}
    while not {"requests_running", "input_tokens", "ttft_p95_seconds", "network_latency_seconds"} <= received.keys():
        name, _, value = agent.recv(512).decode().partition(":")
        received.setdefault(name, value)
    assert received["requests_running"] == "12|g"
    assert received["input_tokens"] == "300|g"
    assert received["network_latency_seconds"] == "0.002|g"


def test_a_draining_instance_publishes_nothing(instance, agent, running) -> None:
    instance.pages, instance.state_answers = [BUSY], ["Terminated"] * 20
    running.append(start(instance, agent))
    assert agent.recv(512) == b"requests_running:1|g"
    assert instance.state_answers == []
    assert instance.requested.count("/metrics") >= 20


def test_a_draining_worker_publishes_its_jobs(instance, agent, running) -> None:
    instance.pages, instance.state_answers = ["jobs_running 1\n"], ["Terminated"] * 1000
    running.append(start(instance, agent, WORKLOAD="training"))
    assert agent.recv(512) == b"jobs_running:1|g"


def test_an_engine_that_waits_for_its_first_request_has_no_load(instance, agent, running) -> None:
    instance.pages = [""]
    running.append(start(instance, agent, ENGINE="tgi"))
    assert {agent.recv(512) for _ in range(2)} == {b"requests_running:0|g", b"requests_waiting:0|g"}


def test_a_worker_that_does_not_stand_runs_no_job(instance, agent, running) -> None:
    """It is known, not missing: a node whose jobs are unknown is never taken."""
    instance.container = False
    running.append(start(instance, agent, WORKLOAD="training"))
    assert agent.recv(512) == b"jobs_running:0|g"


def test_a_worker_of_which_nothing_is_known_publishes_nothing(instance, agent, running) -> None:
    instance.container = None
    running.append(start(instance, agent, WORKLOAD="training"))
    while len([call for call in instance.calls if "docker inspect" in call]) < 10:
        assert running[0].poll() is None
    agent.setblocking(False)
    with pytest.raises(BlockingIOError):
        agent.recv(512)


def test_a_scraper_outlives_its_engine_and_its_pages(instance, agent, running) -> None:
    instance.pages = ["\x00", 'a{b="c} 1\nvllm:num_requests_running{profile="x"} x\n', "jobs_running 1\n"]
    running.append(start(instance, agent))
    while agent.recv(512) != b"jobs_running:1|g":
        assert running[0].poll() is None


def test_only_the_standard_library_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import node.__main__"],
        capture_output=True, text=True, check=False, env={"PYTHONPATH": str(FOLDER)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
