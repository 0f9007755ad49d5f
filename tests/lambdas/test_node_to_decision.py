"""From an instance to the decision: instances publish the metrics that the scaler reads, and the model acts on them.

The agent's configuration and the scraper come from the boot script. The test plays the agent: it renames metrics and
publishes one series for each set of `aggregation_dimensions`. No metric name is written twice.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-Agent-Configuration-File-Details.html
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Slo
from gpu_fleet.scaling.state import State
from infra.iam import METRICS_NAMESPACE
from infra.user_data import BootSettings, render_script
from tests.scaling.builders import remembered

Metric = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, name, dimensions."""
HOST = {"usage_active": "cpu_percent", "used_percent": "memory_percent", "utilization_gpu": "gpu_percent"}
"""The agent's name of a measurement: the policy's key of its limit."""


def engine_page(running: int, waiting: int, ended: int, kv_share: float) -> str:
    """Return a page of vLLM's metrics, with prompts of 100 tokens and answers of 50, of which one in nine is slow."""
    return (
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
        f"vllm:kv_cache_usage_perc {kv_share}\nvllm:e2e_request_latency_seconds_count {ended}\n"
        f"vllm:request_prompt_tokens_sum {100 * ended}\nvllm:request_prompt_tokens_count {ended}\n"
        f"vllm:request_generation_tokens_sum {50 * ended}\nvllm:request_generation_tokens_count {ended}\n"
        f'vllm:time_to_first_token_seconds_bucket{{le="1.0"}} {ended}\n'
        f'vllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {ended}\n'
        f'vllm:request_time_per_output_token_seconds_bucket{{le="0.1"}} {ended - ended // 9}\n'
        f'vllm:request_time_per_output_token_seconds_bucket{{le="+Inf"}} {ended}\n'
    )


class Node:
    """The instances of a pool, as their boot script configures them."""

    def __init__(self, world: Any, pool: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        boot = BootSettings("us-east-1", "vllm/vllm-openai:v0.11.0", "/gpu-fleet/test", 900, slo=Slo(ttft_seconds=2))
        script = render_script(boot)
        for line in _file(script, "/etc/gpu-fleet/node.env").splitlines():
            monkeypatch.setenv(*line.split("=", 1))
        self.agent: dict[str, Any] = json.loads(_file(script, "/etc/gpu-fleet/agent.json"))["metrics"]
        self.scraper = _imported(script, folder, monkeypatch)
        self.world, self.pool, self.patch = world, pool, monkeypatch
        self.published: set[Metric] = set()

    def publish(
        self, at: float, pages: list[str], host: dict[str, float] | None = None, round_trip_seconds: float = 0.0
    ) -> None:
        """Publish as scraper and agent, one period for each page; the last period begins at `at`."""
        rows = self._scraped(pages, round_trip_seconds)
        for i, row in enumerate(rows):
            for name, value in {**row, **self._renamed(host or {})}.items():
                self._put(name, value, at - 10 * (len(rows) - 1 - i))

    def _scraped(self, pages: list[str], round_trip_seconds: float) -> list[dict[str, float]]:
        """Return what each turn of the scraper's loop sends to the agent's StatsD."""
        rows: list[dict[str, float]] = []
        remaining = list(pages)

        def pause(_: float) -> None:
            if not remaining:
                raise StopIteration

        clock = iter(range(0, 10 * len(pages) * 2, 5))
        scraper, patch = self.scraper, self.patch.setattr
        patch(scraper.container, "scrape", lambda: scraper.container.parse(remaining.pop(0)))
        patch(scraper.container, "network_latency_seconds", lambda: round_trip_seconds)
        patch(scraper, "silent", lambda: False)
        patch(scraper, "publish", lambda values, _: rows.append(values))
        patch(scraper, "time", _Time(lambda: float(next(clock)), pause))
        with pytest.raises(StopIteration):
            scraper.run()
        return rows

    def _renamed(self, host: dict[str, float]) -> dict[str, float]:
        measured = [m for part in self.agent["metrics_collected"].values() for m in part.get("measurement", ())]
        return {m["rename"]: host[m["name"]] for m in measured if m["name"] in host}

    def _put(self, name: str, value: float, at: float) -> None:
        group = self.world.pools["chat"][self.pool].group
        for id_ in self.world.ids(self.pool):
            placeholders = {"${aws:AutoScalingGroupName}": group, "${aws:InstanceId}": id_}
            appended = {key: placeholders[text] for key, text in self.agent["append_dimensions"].items()}
            for keys in self.agent["aggregation_dimensions"]:
                dimensions = {key: appended[key] for key in keys}
                self.published.add((self.agent["namespace"], name, frozenset(dimensions.items())))
                self.world.publish(name, value, at, namespace=self.agent["namespace"], **dimensions)


class _Time:
    def __init__(self, monotonic: Any, sleep: Any) -> None:
        self.monotonic, self.sleep = monotonic, sleep


def _imported(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the scraper as the script writes it, with the settings of the environment."""
    package = folder / "node"
    package.mkdir()
    for name in re.findall(r"cat > /opt/gpu-fleet/node/(\w+\.py) ", script):
        (package / name).write_text(_file(script, f"/opt/gpu-fleet/node/{name}"))
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "node"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("node.scraper")


def _file(script: str, path: str) -> str:
    match = re.search(rf"cat > {re.escape(path)} <<'GPU_FLEET_END'\n(.*?)\n?GPU_FLEET_END\n", script, re.DOTALL)
    assert match is not None
    return match[1]


@pytest.fixture
def node(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`node(policy)`: the two instances of a service's only pool, after two minutes of 1 request per second."""

    def stand(policy: dict[str, Any]) -> Node:
        world.stand(pools={"l4": 2}, policy=policy)
        for minutes in (2, 1):
            world.publish_requests("l4", _minute(world) - 60 * minutes, 60, healthy=2)
        return Node(world, "l4", tmp_path, monkeypatch)

    return stand


def decide_now(world: Any) -> Decision:
    """Run the scaler with the real model, as after an earlier run, and return the decision that it applied."""
    scaler = world.scaler(decide)
    scaler.store.write("chat", State(at=world.now - 60), 0)
    return world.run(decide)["chat"].decision


def _minute(world: Any) -> float:
    return world.now // 60 * 60


LIMITS = {
    "cpu_percent": 80,
    "memory_percent": 80,
    "gpu_percent": 80,
    "kv_cache_percent": 80,
    "network_latency_seconds": 0.2,
}


@pytest.mark.parametrize("signal", LIMITS)
def test_each_node_signal_over_its_limit_adds_instances(world: Any, node: Any, signal: str) -> None:
    """119 % of the limit on both nodes requires 2.4 nodes, so three."""
    above = 1.19 * LIMITS[signal]
    host = {own: above if key == signal else 10.0 for own, key in HOST.items()}
    kv_share = above / 100 if signal == "kv_cache_percent" else 0.1
    latency = above if signal == "network_latency_seconds" else 0.001
    node({"thresholds": LIMITS}).publish(
        _minute(world) - 10, [engine_page(4, 0, 10 * i, kv_share) for i in range(6)], host, latency
    )
    decision = decide_now(world)
    assert [r.numbers["value"] for r in decision.reasons if signal in r.sentence] == [pytest.approx(above, rel=1e-4)]
    assert world.desired()["l4"] == 3


def test_no_node_signal_at_its_limit_adds_any(world: Any, node: Any) -> None:
    node({"thresholds": LIMITS}).publish(
        _minute(world) - 10, [engine_page(4, 0, 10 * i, 0.8) for i in range(6)], dict.fromkeys(HOST, 80.0), 0.2
    )
    decision = decide_now(world)
    assert [r.sentence for r in decision.reasons if r.numbers.keys() >= {"value", "limit"}] == []
    assert world.desired()["l4"] == 2


def test_each_metric_that_the_scaler_reads_from_instances_is_published_under_that_name(world: Any, node: Any) -> None:
    """Compare namespace, name and dimensions. An instance may publish in this namespace only."""
    pool = node({"thresholds": LIMITS, "slo": {"ttft_seconds": 2}})
    pool.publish(
        _minute(world) - 10, [engine_page(4, 0, 10 * i, 0.5) for i in range(6)], dict.fromkeys(HOST, 10.0), 0.001
    )
    world.observe(state=remembered(at=world.now - 60, loads_wanted_since=world.now - 60))
    read = {
        (metric["Namespace"], metric["MetricName"], frozenset((d["Name"], d["Value"]) for d in metric["Dimensions"]))
        for operation, arguments in world.board.calls
        if operation == "cloudwatch.GetMetricData"
        for metric in (query["MetricStat"]["Metric"] for query in arguments["MetricDataQueries"])
        if not metric["Namespace"].startswith("AWS/")
    }
    assert {name for _, name, _ in read} >= {"requests_running", "requests_waiting", "finished_rps", *LIMITS}
    assert any("InstanceId" in dict(dimensions) for _, _, dimensions in read)
    assert read <= pool.published
    assert pool.agent["namespace"] == METRICS_NAMESPACE


def test_the_model_sees_what_the_engines_count(world: Any, node: Any) -> None:
    """Two nodes, each with 6 running and 2 waiting requests, and one more waiting in the last 10 s."""
    end = _minute(world) + 10
    pages = [engine_page(6, 2, 9 * i, 0.5) for i in range(7)] + [engine_page(6, 3, 9 * 7, 0.5)]
    node({"slo": {"ttft_seconds": 2}}).publish(end - 10, pages)
    observation = world.observe(state=remembered(at=world.now - 60, loads_wanted_since=world.now - 60))
    pool = observation.pools["l4"]
    assert pool.running == Reading(12, end)
    assert pool.waiting is not None
    assert pool.waiting.value == pytest.approx(2 * (2 + 1 / 6))
    assert pool.load == Reading(pool.running.value + pool.waiting.value, end)
    assert pool.kv_cache_percent is not None
    assert pool.kv_cache_percent.value == pytest.approx(50)
    assert (
        observation.input_tokens and observation.input_tokens.value,
        observation.output_tokens and observation.output_tokens.value,
    ) == (100, 50)
    assert pool.ttft_seconds is not None
    assert pool.ttft_seconds.value == pytest.approx(0.95)
    # Of the nine requests that each node finished in each 10 s, one took more than 0.1 s a token.
    assert observation.late_share is not None
    assert (observation.late_share.value, observation.late_share.at) == (pytest.approx(1 / 9), end)
    # Each finished 9 requests in 10 s, and holds one more than 10 s before.
    assert observation.burst_rps is not None
    assert observation.burst_rps.value == pytest.approx(2 * (0.9 + 0.1))
    assert all(instance.load is not None for instance in pool.instances)
