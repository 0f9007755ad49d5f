"""The instance's own program, run against a fake engine, a fake metadata service and a fake `aws`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.policy import Slo
from gpu_fleet.simulator.simulation import Engine, Simulation, SimulationOptions
from infra.instance.node import parse
from infra.user_data import FOLDER
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.queries import queries

if TYPE_CHECKING:
    from gpu_fleet.scaling.state import State

NODE = FOLDER / "node.py"


@pytest.fixture(scope="module")
def node() -> ModuleType:
    spec = importlib.util.spec_from_file_location("node", NODE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FIRST = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 7.0
vllm:num_requests_running{engine="1",model_name="m"} 5.0
vllm:num_requests_waiting{engine="0",model_name="m"} 2.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.40
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.60
vllm:request_prompt_tokens_sum{engine="0"} 1000.0
vllm:request_prompt_tokens_count{engine="0"} 10.0
vllm:request_generation_tokens_sum{engine="0"} 500.0
vllm:request_generation_tokens_count{engine="0"} 10.0
vllm:e2e_request_latency_seconds_count{engine="0"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.5"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="1.0"} 10.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="+Inf"} 10.0
"""
SECOND = (
    FIRST.replace('tokens_sum{engine="0"} 1000.0', 'tokens_sum{engine="0"} 4000.0')
    .replace('prompt_tokens_count{engine="0"} 10.0', 'prompt_tokens_count{engine="0"} 20.0')
    .replace('latency_seconds_count{engine="0"} 10.0', 'latency_seconds_count{engine="0"} 20.0')
    .replace('le="1.0"} 10.0', 'le="1.0"} 20.0')
    .replace('le="+Inf"} 10.0', 'le="+Inf"} 20.0')
)


def test_the_first_scrape_has_only_current_values(node: ModuleType) -> None:
    gauges = node.gauges(node.parse(FIRST), None, 10)
    assert gauges == {"requests_running": 12.0, "requests_waiting": 2.0, "kv_cache_percent": pytest.approx(50.0)}


def test_means_are_over_the_requests_that_finished_since(node: ModuleType) -> None:
    """Ten prompts with 3000 tokens finished; no answer did, so its mean is missing and not zero."""
    gauges = node.gauges(node.parse(SECOND), node.parse(FIRST), 10)
    assert gauges["input_tokens"] == 300.0
    assert "output_tokens" not in gauges
    # All ten new values are between 0.5 and 1 s; the quantile is 95 % of the way.
    assert gauges["ttft_p95_seconds"] == pytest.approx(0.975)


def test_a_restarted_engine_gives_no_negative_rates(node: ModuleType) -> None:
    gauges = node.gauges(node.parse(FIRST), node.parse(SECOND), 10)
    assert "input_tokens" not in gauges
    assert "finished_rps" not in gauges
    assert "ttft_p95_seconds" not in gauges


def test_a_finish_rate_of_zero_is_published(node: ModuleType) -> None:
    assert node.gauges(node.parse(SECOND), node.parse(FIRST), 10)["finished_rps"] == 1.0
    assert node.gauges(node.parse(FIRST), node.parse(FIRST), 10)["finished_rps"] == 0.0


def test_a_workers_job_durations_are_published(node: ModuleType) -> None:
    before = "jobs_running 1\njob_remaining_seconds 90\njob_seconds_sum 100\njob_seconds_count 1\n"
    after = "jobs_running 1\njob_remaining_seconds 80\njob_seconds_sum 500\njob_seconds_count 3\n"
    assert node.gauges(node.parse(after), node.parse(before), 10) == {
        "jobs_running": 1.0, "job_remaining_seconds": 80.0, "job_seconds": 200.0,
    }  # fmt: skip
    assert node.busy(node.parse(after)) == 1.0


def test_everything_that_the_scaler_reads_is_published(node: ModuleType) -> None:
    agent = json.loads((FOLDER / "agent.json").read_text().replace("@REGION@", "us-east-1"))["metrics"][
        "metrics_collected"
    ]
    published = {*node.GAUGES, *node.SHARES, *node.MEANS, "ttft_p95_seconds", "finished_rps", "network_latency_seconds"}
    published |= {"judged_requests", "late_requests"}
    assert set(agent["statsd"]["drop_original_metrics"]) == published
    published |= {m["rename"] for k in ("nvidia_gpu", "cpu", "mem") for m in agent[k]["measurement"]}
    limits = {
        "cpu_percent": 1,
        "memory_percent": 1,
        "gpu_percent": 1,
        "kv_cache_percent": 1,
        "network_latency_seconds": 1,
    }
    pool = {"name": "a", "types": ["g6.xlarge"], "min_instances": 0, "max_instances": 1, "capacity": 1,
            "throughput_rps": 1, "on_demand_usd_per_hour": 1}  # fmt: skip
    for workload in ("inference", "training"):
        policy = {"model": "m", "workload": workload, "thresholds": limits, "slo": {"ttft_seconds": 1}}
        parameter = ServiceParameter.model_validate(
            {
                "service": {"name": "s", "policy": policy, "pools": [pool]},
                "bindings": {"load_balancer": "app/l", "pools": {"a": {"group": "g", "target_group_arn": "t"}}},
            }
        )
        state = cast("State", SimpleNamespace(wants_instance_loads=True, wants_history=True))
        minute_queries = queries(parameter, state, {"a": ["i-1"]}).minute()
        assert {query.name for query in minute_queries if query.namespace == "GpuFleet"} <= published


def test_sglang_and_a_users_own_worker_are_understood(node: ModuleType) -> None:
    sglang = 'sglang:num_running_reqs{m="x"} 3\nsglang:num_queue_reqs{m="x"} 1\nsglang:token_usage{m="x"} 0.25\n'
    assert node.gauges(node.parse(sglang), None, 10) == {
        "requests_running": 3.0, "requests_waiting": 1.0, "kv_cache_percent": 25.0,
    }  # fmt: skip
    assert node.gauges(node.parse("jobs_running 2\n"), None, 10) == {"jobs_running": 2.0}


def test_missing_metrics_are_not_published(node: ModuleType) -> None:
    assert node.gauges(node.parse("some_other_metric 4\n<html>\n"), None, 10) == {}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6), st.floats(0.01, 1))
def test_a_quantile_lies_within_the_buckets(node: ModuleType, counts: list[int], share: float) -> None:
    total, new = 0.0, {}
    for i, count in enumerate(counts):
        total += count
        new[float(i + 1)] = total
    new[float("inf")] = total
    quantile = node.quantile(new, {}, share)
    assert quantile is None if total == 0 else 0 <= quantile <= len(counts)


def test_a_quantile_beyond_the_last_bound_is_that_bound(node: ModuleType) -> None:
    assert node.quantile({1.0: 0.0, float("inf"): 5.0}, {}, 0.95) == 1.0


# --- requests that miss the SLO ------------------------------------------------------------------------------------

ENGINES = {
    "vllm": ("time_to_first_token_seconds", "request_time_per_output_token_seconds", "request_prompt_tokens"),
    "sglang": ("time_to_first_token_seconds", "request_time_per_output_token_seconds", "prompt_tokens_histogram"),
}


Samples = dict[str, list[tuple[str, float]]]


def histogram(name: str, bounds: Sequence[float], values: Sequence[float]) -> str:
    """Return a Prometheus histogram of the values: each bucket counts those up to its bound."""
    counts = np.searchsorted(np.sort(values), bounds, side="right")
    lines = [f'{name}_bucket{{le="{bound}"}} {count}' for bound, count in zip(bounds, counts, strict=True)]
    lines += [f'{name}_bucket{{le="+Inf"}} {len(values)}', f"{name}_sum {sum(values)}", f"{name}_count {len(values)}"]
    return "\n".join(lines) + "\n"


def latencies(
    ttft: Sequence[float], tpot: Sequence[float], prompts: Sequence[float] = (), engine: str = "vllm"
) -> Samples:
    """Return what an engine's page says of its first tokens, and of the requests that ended."""
    names = [f"{engine}:{name}" for name in ENGINES[engine]]
    return parse(
        histogram(names[0], (0.5, 1.0, 2.5), ttft)
        + histogram(names[1], (0.05, 0.1), tpot)
        + (histogram(names[2], (1000.0,), prompts) if prompts else "")
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_late_requests_are_counted_beside_those_that_ended(
    node: ModuleType, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Since the last scrape four requests ended, two of them too slowly; one first token of two came late."""
    monkeypatch.setattr(node, "SLO", [1.0, 0.0, 0.1])
    before = latencies([0.4, 3.0], [0.01, 0.3], engine=engine)
    after = latencies([0.4, 3.0, 0.4, 3.0], [0.01, 0.3, 0.01, 0.04, 0.3, 0.3], engine=engine)
    assert node.misses(after, before) == {"judged_requests": 4.0, "late_requests": 2.0}
    assert node.misses(after, after) == {"judged_requests": 0.0, "late_requests": 0.0}


def test_a_request_late_by_both_limits_counts_once(node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "SLO", [1.0, 0.0, 0.1])
    before = latencies([], [])
    assert node.misses(latencies([3.0], [0.3]), before)["late_requests"] == 1.0
    assert node.misses(latencies([3.0, 3.0], [0.3]), before)["late_requests"] == 2.0


def test_a_longer_prompt_may_wait_longer(node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """1 s, and 0.5 s more for each 1000 tokens: 2.5 s for a prompt of 3000 tokens, 2 s for 2000."""
    monkeypatch.setattr(node, "SLO", [1.0, 0.5, 0.1])
    nothing = latencies([], [], prompts=[3000.0])
    long = latencies([2.0, 3.0], [0.01, 0.01], prompts=[3000.0, 3000.0])
    assert node.misses(long, nothing)["late_requests"] == 1.0
    # No request has ended since: the mean of all prompts so far stands in.
    assert node.misses(latencies([2.0, 3.0, 3.0], [0.01, 0.01], prompts=[3000.0, 3000.0]), long) == {
        "judged_requests": 0.0,
        "late_requests": 1.0,
    }
    short = latencies([3.0], [0.01, 0.01], prompts=[3000.0, 1000.0])
    assert node.misses(short, nothing)["late_requests"] == 1.0


def test_without_the_limits_or_the_histograms_nothing_is_published(
    node: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gaps between tokens are no substitute for each request's mean: one prompt read in between makes a long gap."""
    whole = latencies([0.4], [0.01])
    monkeypatch.setattr(node, "SLO", [])
    assert node.misses(whole, {}) == {}
    monkeypatch.setattr(node, "SLO", [1.0, 0.0, 0.1])
    assert node.misses(whole, {}) == {"judged_requests": 1.0, "late_requests": 0.0}
    first = histogram("vllm:time_to_first_token_seconds", (1.0,), [0.4])
    for name in ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"):
        page = parse(first + histogram(name, (0.1,), [0.3]))
        assert node.misses(page, parse(first)) == {}
    monkeypatch.setattr(node, "SLO", [1.0, 0.5, 0.1])
    assert node.misses(whole, {}) == {}, "the length of the prompts is not known"


def test_a_restarted_engine_has_no_late_requests(node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "SLO", [1.0, 0.0, 0.1])
    one, two = latencies([0.4], [0.01]), latencies([0.4, 0.4], [0.01, 0.01])
    assert node.misses(one, two) == {}
    assert node.misses(latencies([0.4], [0.01, 0.01, 0.01]), two) == {}


def test_a_bucket_that_holds_the_limit_is_split_as_the_histogram_falls_off(node: ModuleType) -> None:
    """Of all so far 100 are above 1 s and 1 above 2.5 s, so 4.64 above 2 s: 3.64 of the 99 between. Linear, it would be
    33. Of the ten that are new in that bucket 0.368 are late."""
    new = {1.0: 900.0, 2.5: 999.0, float("inf"): 1000.0}
    old = {1.0: 900.0, 2.5: 989.0, float("inf"): 990.0}
    assert node.beyond(new, {}, 2.0) == pytest.approx(4.64, abs=0.01)
    assert node.beyond(new, old, 2.0) == pytest.approx(0.368, abs=0.001)


@given(
    st.lists(st.floats(0.001, 9.0), max_size=40), st.lists(st.floats(0.001, 9.0), max_size=10), st.floats(0.01, 12.0)
)
def test_the_late_are_never_more_than_came_nor_fewer_than_the_buckets_prove(
    node: ModuleType, before: list[float], since: list[float], limit: float
) -> None:
    def page(values: list[float]) -> dict[float, float]:
        parsed = parse(histogram("x", bounds, values))
        return {float(bound): value for bound, value in parsed["x_bucket"]}

    bounds = (0.5, 1.0, 2.5, 5.0)
    late = node.beyond(page(before + since), page(before), limit)
    upper = min(bound for bound in (*bounds, float("inf")) if bound >= limit)
    lower = max(bound for bound in (0.0, *bounds) if bound < limit)
    assert sum(value > upper for value in since) <= late + 1e-9
    assert late <= sum(value > lower for value in since) + 1e-9
    for bound in bounds:
        assert node.beyond(page(before + since), page(before), bound) == pytest.approx(sum(v > bound for v in since))


def test_what_the_node_counts_is_what_the_requests_suffered(node: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine at 0.2 %, 3 % and 34 % of misses, scraped every 10 s through vLLM's buckets, against its requests."""
    slo = Slo(ttft_seconds=2, ttft_seconds_per_1000_input_tokens=1, tpot_seconds=0.1)
    monkeypatch.setattr(node, "SLO", [2.0, 1.0, 0.1])
    random = np.random.default_rng(1)
    for rps, least in ((1.0, 0.001), (1.2, 0.02), (1.5, 0.3)):
        n = random.poisson(rps * 1200)
        at = np.sort(random.uniform(0, 1200, n))
        prompts, answers = random.lognormal(6.7, 0.8, n).round() + 1, random.lognormal(5.0, 0.6, n).round() + 1
        engine = Engine(0.01, 1 / 5000, 0.02, 0.0015, 200_000, 64)
        simulation = Simulation([engine], slo=slo, options=SimulationOptions(keep_requests=True))
        simulation.join(0)
        simulation.run(2400, at, prompts, answers)
        log = simulation.requests()
        missed = 1 - (simulation.window().total.slo_attainment or 0)
        ttft, tpot = log.first_token_at - at, (log.finished_at - log.first_token_at) / np.maximum(answers - 1, 1)
        old, judged, late = parse(""), 0.0, 0.0
        for now in range(10, 2400, 10):
            ended = log.finished_at <= now
            page = histogram("vllm:time_to_first_token_seconds", TTFT_BUCKETS, ttft[log.first_token_at <= now].tolist())
            page += histogram("vllm:request_time_per_output_token_seconds", TPOT_BUCKETS, tpot[ended].tolist())
            page += histogram("vllm:request_prompt_tokens", (1000.0,), prompts[ended].tolist())
            new = parse(page)
            counted = node.misses(new, old)
            judged, late = judged + counted.get("judged_requests", 0.0), late + counted.get("late_requests", 0.0)
            old = new
        assert judged == n
        assert missed > least
        assert late / judged == pytest.approx(missed, rel=0.02)


TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    *(160.0, 640.0, 2560.0),
)
TPOT_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
"""Of vLLM: https://github.com/vllm-project/vllm/blob/main/vllm/v1/metrics/loggers.py"""


def test_the_round_trip_is_the_mean_of_the_connections(node: ModuleType) -> None:
    output = "0 0 10.0.1.5:8000 10.0.128.9:4242\n\t cubic rto:204 rtt:0.8/0.2 mss:1448\n\t cubic rtt:1.2/0.1 ato:40\n"
    assert node.round_trip_seconds(output) == pytest.approx(0.001)
    assert node.round_trip_seconds("") is None


# --- a whole instance ---------------------------------------------------------------------------------------------


@dataclass
class FakeInstance:
    """An engine and instance metadata on one port, and a PATH with fake programs."""

    port: int
    folder: Path
    health: int = 200
    loads: list[str] = field(default_factory=lambda: ["vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"])
    """Answers of /metrics, in order; the last repeats."""
    state: str = "InService"
    group_answers: list[str] = field(default_factory=lambda: ["gpu-fleet-chat-l4"])
    requested: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, str]:
        self.requested.append(path)
        if path == "/health":
            return self.health, ""
        if path == "/metrics":
            return 200, self.loads.pop(0) if len(self.loads) > 1 else self.loads[0]
        meta = path.removeprefix("/latest/meta-data/")
        if meta == "instance-id":
            return 200, "i-1"
        if meta.startswith("tags/instance/"):
            name = self.group_answers.pop(0) if len(self.group_answers) > 1 else self.group_answers[0]
            return (200, name) if name else (404, "")
        if meta == "autoscaling/target-lifecycle-state":
            return 200, self.state
        return 404, ""

    def program(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/bash\necho {name} "$@" >> {self.folder}/calls\n{body}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def actions(self) -> list[str]:
        """Return the calls about hooks, without instance and group."""
        return [
            c.split(" --")[0].split()[-1] + " " + c.split("hook-name ")[1].split()[0]
            for c in self.calls
            if "hook-name" in c
        ]


RUNNING_ENGINE = """\
case "$*" in
  "inspect --format {{.State.Running}} engine") echo true ;;
  "inspect --format {{.State.Pid}} "*" engine") echo 4242 172.17.0.1 ;;
  *) exit 1 ;;
esac"""


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[FakeInstance]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/latest/meta-data" in self.path and self.headers.get("X-aws-ec2-metadata-token") != "token":
                self.send_error(401)
                return
            code, text = fake.answer(self.path)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(text.encode())

        def do_PUT(self) -> None:
            self.send_response(200 if self.path == "/latest/api/token" else 404)
            self.end_headers()
            self.wfile.write(b"token")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeInstance(server.server_address[1], tmp_path)
    fake.program("aws", "exit 0")
    fake.program("docker", RUNNING_ENGINE)
    fake.program("systemctl", "exit 0")
    # Only the engine's own network shows its connections.
    fake.program("nsenter", 'if [ "$*" = "--target 4242 --net ss ${*:5}" ]; then echo "cubic rtt:2.0/0.5"; fi')
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()


def start(instance: FakeInstance, command: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(NODE), command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={
            "PATH": f"{instance.folder}:/usr/bin:/bin",
            "PORT": str(instance.port),
            "IMDS_URL": f"http://127.0.0.1:{instance.port}",
            "POLL_SECONDS": "0.01",
            "HEARTBEAT_SECONDS": "0",
            "SCRAPE_SECONDS": "0.01",
            "MAX_DRAIN_SECONDS": "30",
            "LAUNCHING_HOOK": "model-answers",
            "TERMINATING_HOOK": "drained",
            "WORKLOAD": "inference",
            **environment,
        },
    )


def until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Wait until `reached`; a process that ends first fails the test."""
    pause = threading.Event()
    for _ in range(3000):
        if reached():
            return
        assert process.poll() is None, process.stdout and process.stdout.read()
        pause.wait(0.01)
    pytest.fail("not reached in 30 s")


def test_an_instance_enters_service_once_its_model_answers(instance: FakeInstance) -> None:
    instance.health, instance.group_answers = 503, ["", "gpu-fleet-chat-l4"]
    process = start(instance, "lifecycle")
    until(process, lambda: instance.requested.count("/health") > 3)
    assert instance.actions() == []
    instance.health = 200
    until(process, lambda: bool(instance.actions()))
    process.kill()
    process.wait()
    assert instance.actions() == ["complete-lifecycle-action model-answers"]
    assert (
        "--auto-scaling-group-name gpu-fleet-chat-l4 --instance-id i-1 --lifecycle-action-result CONTINUE"
        in instance.calls[0]
    )


def test_a_terminating_instance_finishes_its_requests(instance: FakeInstance) -> None:
    busy = "vllm:num_requests_running 1\nvllm:num_requests_waiting 3\n"
    idle = "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\n"
    instance.state, instance.loads = "Terminated", [busy, busy, idle, busy, idle, idle]
    process = start(instance, "lifecycle")
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert json.loads(output.splitlines()[0])["drained"] is True
    # The idle moment between two requests did not count: six scrapes with a heartbeat each, then the end.
    assert instance.requested.count("/metrics") == 6
    assert instance.actions()[-1] == "complete-lifecycle-action drained"
    assert instance.actions().count("record-lifecycle-action-heartbeat drained") == 6


def test_a_drain_ends_at_its_limit(instance: FakeInstance) -> None:
    instance.state, instance.loads = "Terminated", ["vllm:num_requests_running 1\n"]
    process = start(instance, "lifecycle", MAX_DRAIN_SECONDS="0.2")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output.splitlines()[0])["drained"] is False
    assert instance.actions()[-1] == "complete-lifecycle-action drained"


def test_a_running_engine_that_does_not_answer_counts_as_busy(instance: FakeInstance) -> None:
    instance.state, instance.loads = "Terminated", ["\x00not metrics nan nan\nvllm:num_requests_running x\n"]
    process = start(instance, "lifecycle", MAX_DRAIN_SECONDS="0.2")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output.splitlines()[0])["drained"] is False


def test_a_stopped_engine_is_idle(instance: FakeInstance) -> None:
    instance.state, instance.loads = "Terminated", ["vllm:num_requests_running x\n"]
    instance.program("docker", 'if [ "$1" = inspect ]; then echo false; fi')
    process = start(instance, "lifecycle")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output.splitlines()[0])["drained"] is True


def test_a_training_node_finishes_its_job_and_takes_no_other(instance: FakeInstance) -> None:
    """The node stops the worker and waits until it has ended."""
    instance.state = "Terminated"
    polls = instance.folder / "polls"
    instance.program(
        "docker", f'echo . >> {polls}; if [ "$(wc -l < {polls})" -gt 4 ]; then echo false; else echo true; fi'
    )
    process = start(instance, "lifecycle", WORKLOAD="training")
    output, _ = process.communicate(timeout=60)
    assert json.loads(output.splitlines()[0])["drained"] is True
    assert "systemctl --no-block stop engine" in instance.calls
    assert len(polls.read_text().splitlines()) == 6
    assert instance.actions()[-1] == "complete-lifecycle-action drained"


def test_completing_a_missing_hook_is_given_up(instance: FakeInstance) -> None:
    instance.program("aws", "echo No active Lifecycle Action >&2; exit 254")
    process = start(instance, "lifecycle")
    until(process, lambda: len(instance.actions()) == 10)
    seen = instance.requested.count("/health")
    until(process, lambda: instance.requested.count("/latest/meta-data/autoscaling/target-lifecycle-state") > seen + 20)
    process.kill()
    process.wait()
    assert len(instance.actions()) == 10


def test_the_metrics_reach_the_agent(instance: FakeInstance) -> None:
    instance.loads = [FIRST, SECOND]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(30)
        process = start(instance, "metrics", STATSD_PORT=str(agent.getsockname()[1]))
        received: dict[str, str] = {}
        while not {"requests_running", "input_tokens", "ttft_p95_seconds", "network_latency_seconds"} <= set(received):
            name, _, value = agent.recv(512).decode().partition(":")
            received.setdefault(name, value)
        process.kill()
        process.wait()
    assert received["requests_running"] == "12|g"
    assert received["input_tokens"] == "300|g"
    assert received["network_latency_seconds"] == "0.002|g"


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
    node: ModuleType, instance: FakeInstance, monkeypatch: pytest.MonkeyPatch, docker: str
) -> None:
    instance.program("docker", docker)
    instance.program("nsenter", "exit 1")
    monkeypatch.setenv("PATH", f"{instance.folder}:/usr/bin:/bin")
    if docker.startswith("sleep"):
        run = subprocess.run
        monkeypatch.setattr(node.subprocess, "run", lambda *args, **kwargs: run(*args, **{**kwargs, "timeout": 0.05}))
    assert node.network() is None


def test_the_round_trip_is_of_the_load_balancers_connections(
    node: ModuleType, instance: FakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    instance.program("docker", f"echo {engine.pid} 172.17.0.1")
    (instance.folder / "nsenter").unlink()
    monkeypatch.setenv("PATH", f"{instance.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(node, "ENGINE", "http://127.0.0.1:8000")
    seen: list[str] = []
    monkeypatch.setattr(node, "round_trip_seconds", seen.append)
    node.network()
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


def test_a_draining_instance_publishes_nothing(instance: FakeInstance) -> None:
    instance.state = "Terminated"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(30)
        process = start(instance, "metrics", STATSD_PORT=str(agent.getsockname()[1]))
        until(process, lambda: instance.requested.count("/latest/meta-data/autoscaling/target-lifecycle-state") > 3)
        agent.setblocking(False)
        with pytest.raises(BlockingIOError):
            agent.recv(512)
        agent.settimeout(30)
        instance.state = "InService"
        assert agent.recv(512) == b"requests_running:0|g"
        process.kill()
        process.wait()


def test_a_draining_worker_publishes_its_jobs(instance: FakeInstance) -> None:
    instance.state, instance.loads = "Terminated", ["jobs_running 1\n"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(30)
        process = start(instance, "metrics", STATSD_PORT=str(agent.getsockname()[1]), WORKLOAD="training")
        assert agent.recv(512) == b"jobs_running:1|g"
        process.kill()
        process.wait()


def test_a_scraper_outlives_its_engine(instance: FakeInstance) -> None:
    instance.loads = ["vllm:num_requests_running x\n", "jobs_running 1\n"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as agent:
        agent.bind(("127.0.0.1", 0))
        agent.settimeout(30)
        process = start(instance, "metrics", STATSD_PORT=str(agent.getsockname()[1]))
        assert agent.recv(512) == b"jobs_running:1|g"
        process.kill()
        process.wait()


def test_only_the_standard_library_is_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import runpy; runpy.run_path({str(NODE)!r})"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
