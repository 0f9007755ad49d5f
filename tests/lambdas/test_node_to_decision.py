"""From an instance to the decision: what boots there publishes what the scaler reads, and the model acts on it.

The agent's configuration and the scraper are those of the boot script. What the agent makes of them (a renamed metric,
one series for each set of `aggregation_dimensions`) is played here; names are nowhere given twice.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-Agent-Configuration-File-Details.html
"""

from __future__ import annotations

import json
import re
from types import ModuleType
from typing import Any

import pytest

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import State
from infra.iam import METRICS_NAMESPACE
from infra.user_data import BootSettings, render_user_data
from tests.scaling.builders import remembered

Metric = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, name, dimensions."""
HOST = {"usage_active": "cpu_percent", "used_percent": "memory_percent", "utilization_gpu": "gpu_percent"}
"""The agent's own name of a measurement -> the policy's key of its limit."""


def told(running: int, waiting: int, ended: int, kv_share: float) -> str:
    """A page of vLLM's metrics: 100 tokens each prompt, 50 each answer."""
    return (
        f"vllm:num_requests_running {running}\nvllm:num_requests_waiting {waiting}\n"
        f"vllm:kv_cache_usage_perc {kv_share}\nvllm:e2e_request_latency_seconds_count {ended}\n"
        f"vllm:request_prompt_tokens_sum {100 * ended}\nvllm:request_prompt_tokens_count {ended}\n"
        f"vllm:request_generation_tokens_sum {50 * ended}\nvllm:request_generation_tokens_count {ended}\n"
        f'vllm:time_to_first_token_seconds_bucket{{le="1.0"}} {ended}\n'
        f'vllm:time_to_first_token_seconds_bucket{{le="+Inf"}} {ended}\n'
    )


class Node:
    """An instance of a pool as its boot script leaves it."""

    def __init__(self, world: Any, pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
        script = render_user_data(BootSettings("us-east-1", "vllm/vllm-openai:v0.11.0", "/gpu-fleet/test", 900))
        self.agent: dict[str, Any] = json.loads(_file(script, "/etc/gpu-fleet/agent.json"))["metrics"]
        self.scraper = ModuleType("node")
        exec(_file(script, "/opt/gpu-fleet/node.py"), self.scraper.__dict__)
        self.world, self.pool, self.patch = world, pool, monkeypatch
        self.published: set[Metric] = set()

    def publish(
        self, at: float, pages: list[str], host: dict[str, float] | None = None, round_trip_seconds: float = 0.0
    ) -> None:
        """Both scrape and agent for one period after the other, the last of which begins at `at`."""
        rows = self._scraped(pages, round_trip_seconds)
        for i, row in enumerate(rows):
            for name, value in {**row, **self._renamed(host or {})}.items():
                self._put(name, value, at - 10 * (len(rows) - 1 - i))

    def _scraped(self, pages: list[str], round_trip_seconds: float) -> list[dict[str, float]]:
        """What each turn of the scraper's loop sends to the agent's StatsD."""
        rows: list[dict[str, float]] = []
        left = list(pages)

        def pause(_: float) -> None:
            if not left:
                raise StopIteration

        clock = iter(range(0, 10 * len(pages) * 2, 5))
        patch = self.patch.setitem
        patch(self.scraper.__dict__, "scrape", lambda: self.scraper.parse(left.pop(0)))
        patch(self.scraper.__dict__, "network", lambda: round_trip_seconds)
        patch(self.scraper.__dict__, "leaving", lambda: False)
        patch(self.scraper.__dict__, "publish", lambda values, _: rows.append(values))
        patch(self.scraper.__dict__, "time", _Time(lambda: float(next(clock)), pause))
        with pytest.raises(StopIteration):
            self.scraper.metrics()
        return rows

    def _renamed(self, host: dict[str, float]) -> dict[str, float]:
        measured = [m for part in self.agent["metrics_collected"].values() for m in part.get("measurement", ())]
        return {m["rename"]: host[m["name"]] for m in measured if m["name"] in host}

    def _put(self, name: str, value: float, at: float) -> None:
        standing = self.world.pools["chat"][self.pool]
        for id_ in self.world.ids(self.pool):
            known = {"${aws:AutoScalingGroupName}": standing.group, "${aws:InstanceId}": id_}
            own = {key: known[value_] for key, value_ in self.agent["append_dimensions"].items()}
            for kept in self.agent["aggregation_dimensions"]:
                dimensions = {key: own[key] for key in kept}
                self.published.add((self.agent["namespace"], name, frozenset(dimensions.items())))
                self.world.publish(name, value, at, namespace=self.agent["namespace"], **dimensions)


class _Time:
    def __init__(self, monotonic: Any, sleep: Any) -> None:
        self.monotonic, self.sleep = monotonic, sleep


def _file(script: str, path: str) -> str:
    found = re.search(rf"cat > {re.escape(path)} <<'GPU_FLEET_END'\n(.*?)\nGPU_FLEET_END\n", script, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def node(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`node(policy)`: the instances of a service's only pool, two of them, and a minute of 1 request per second."""

    def stand(policy: dict[str, Any]) -> Node:
        world.stand(pools={"l4": 2}, policy=policy)
        for minutes in (2, 1):
            world.publish_requests("l4", _minute(world) - 60 * minutes, 60, healthy=2)
        return Node(world, "l4", monkeypatch)

    return stand


def decided(world: Any) -> Decision:
    """The model's decision on what is seen now, made true; the service has been looked at before."""
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
    """120 % of the limit on both nodes: half a node's worth more than two is wanted, so three."""
    above = 1.19 * LIMITS[signal]
    host = {own: above if key == signal else 10.0 for own, key in HOST.items()}
    kv_share = above / 100 if signal == "kv_cache_percent" else 0.1
    latency = above if signal == "network_latency_seconds" else 0.001
    node({"thresholds": LIMITS}).publish(
        _minute(world) - 10, [told(4, 0, 10 * i, kv_share) for i in range(6)], host, latency
    )
    decision = decided(world)
    assert [r.numbers["value"] for r in decision.reasons if signal in r.sentence] == [pytest.approx(above, rel=1e-4)]
    assert world.desired()["l4"] == 3


def test_no_node_signal_at_its_limit_adds_any(world: Any, node: Any) -> None:
    node({"thresholds": LIMITS}).publish(
        _minute(world) - 10, [told(4, 0, 10 * i, 0.8) for i in range(6)], dict.fromkeys(HOST, 80.0), 0.2
    )
    decision = decided(world)
    assert not [reason for reason in decision.reasons if any(signal in reason.sentence for signal in LIMITS)]
    assert world.desired()["l4"] == 2


def test_whatever_the_scaler_asks_of_instances_is_published_under_that_very_name(world: Any, node: Any) -> None:
    """Namespace, name and dimensions, of pool and instance; the instance may publish there and nowhere else."""
    made = node({"thresholds": LIMITS, "slo": {"ttft_seconds": 2}})
    made.publish(_minute(world) - 10, [told(4, 0, 10 * i, 0.5) for i in range(6)], dict.fromkeys(HOST, 10.0), 0.001)
    world.observe(state=remembered(at=world.now - 60, loads_wanted=1))
    asked = {
        (metric["Namespace"], metric["MetricName"], frozenset((d["Name"], d["Value"]) for d in metric["Dimensions"]))
        for operation, arguments in world.board.calls
        if operation == "cloudwatch.GetMetricData"
        for metric in (query["MetricStat"]["Metric"] for query in arguments["MetricDataQueries"])
        if not metric["Namespace"].startswith("AWS/")
    }
    assert {name for _, name, _ in asked} >= {"requests_running", "requests_waiting", "finished_rps", *LIMITS}
    assert any("InstanceId" in dict(dimensions) for _, _, dimensions in asked)
    assert asked <= made.published
    assert made.agent["namespace"] == METRICS_NAMESPACE


def test_what_the_engines_count_is_what_the_model_sees(world: Any, node: Any) -> None:
    """Two nodes, each with 6 running and 2 waiting, and with one more in the last 10 s."""
    end = _minute(world) + 10
    pages = [told(6, 2, 9 * i, 0.5) for i in range(7)] + [told(6, 3, 9 * 7, 0.5)]
    node({"slo": {"ttft_seconds": 2}}).publish(end - 10, pages)
    seen = world.observe(state=remembered(at=world.now - 60, loads_wanted=1))
    pool = seen.pools["l4"]
    assert pool.running == Reading(12, end)
    assert pool.waiting is not None
    assert pool.waiting.value == pytest.approx(2 * (2 + 1 / 6))
    assert pool.load == Reading(pool.running.value + pool.waiting.value, end)
    assert pool.kv_cache_percent is not None
    assert pool.kv_cache_percent.value == pytest.approx(50)
    assert (seen.input_tokens and seen.input_tokens.value, seen.output_tokens and seen.output_tokens.value) == (100, 50)
    assert pool.ttft_seconds is not None
    assert pool.ttft_seconds.value == pytest.approx(0.95)
    # Each ended 9 in 10 s, and holds one more than 10 s before.
    assert seen.burst_rps is not None
    assert seen.burst_rps.value == pytest.approx(2 * (0.9 + 0.1))
    assert all(instance.load is not None for instance in pool.instances)
