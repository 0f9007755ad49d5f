"""Types that change in place, end to end: the stack's program, the real handler and model, and a lifelike moto."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, Traffic, faults, provision
from gpu_fleet.replay import cloudwatch_delays
from gpu_fleet.replay.function import Invocation, ScalerFunction
from gpu_fleet.scaling.profile import load_share, work_share

POLICY = """\
model: llama-3.1-8b-fp8
request: {input_tokens: 1155, output_tokens: 211}
slo: {ttft_seconds: 2, ttft_seconds_per_1000_input_tokens: 1, tpot_seconds: 0.1}
sizing: {mode: threshold}
forecast: {method: none, max_headroom_percent: 0}
vertical: {method: in_place, minimum_stay_seconds: 7200}
"""
STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {zones: [us-east-1a, us-east-1b], nat: none}
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:services:
    chat:
      policy: rolling
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v1"}
      pools:
        gpu: {types: [g6.xlarge], alternatives: [[g6e.xlarge]], min: 1, max: 16}
"""


@pytest.fixture
def cloud(root: Path, tmp_path: Path) -> Iterator[EmbeddedCloud]:
    """Provision a stack of one service whose types change in place."""
    project = tmp_path / "project"
    (project / "policies").mkdir(parents=True)
    for name in ("catalog.yaml", "profiles.yaml"):
        (project / "policies" / name).symlink_to(root / "policies" / name)
    (project / "policies/rolling.yaml").write_text(POLICY)
    (project / "Pulumi.yaml").symlink_to(root / "Pulumi.yaml")
    (project / "Pulumi.local.yaml").write_text(STACK)
    # The program reads the policies beside it: a link would lead back to this project's.
    shutil.copytree(root / "infra", project / "infra", ignore=shutil.ignore_patterns("__pycache__"))
    with provision("local", project, CloudOptions(boot_seconds=120, delays=cloudwatch_delays())) as cloud:
        yield cloud


class Life:
    """A service under traffic, minute by minute, with the scaler's run at the end of each."""

    def __init__(self, cloud: EmbeddedCloud, function: ScalerFunction) -> None:
        self.cloud, self.function = cloud, function
        parameter = cloud.services["chat"]
        self.pool = parameter["service"]["pools"][0]
        binding = parameter["bindings"]["pools"]["gpu"]
        self.group, self.target_group = binding["group"], binding["target_group_arn"]
        self.balancer = parameter["bindings"]["load_balancer"]
        self.least_capacity: float = 1e9
        self.runs: list[Invocation] = []

    def described(self) -> dict[str, Any]:
        groups = self.cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[self.group])
        found: dict[str, Any] = groups["AutoScalingGroups"][0]
        return found

    def types(self) -> dict[str, str]:
        """Return the types of the healthy targets by instance id."""
        health = self.cloud.client("elbv2").describe_target_health(TargetGroupArn=self.target_group)
        ready = {
            h["Target"]["Id"] for h in health["TargetHealthDescriptions"] if h["TargetHealth"]["State"] == "healthy"
        }
        return {i["InstanceId"]: i["InstanceType"] for i in self.described()["Instances"] if i["InstanceId"] in ready}

    def carries(self) -> float:
        """Return the requests per second that the ready instances complete at the policy's load of 80 %."""
        return sum(usable(self.pool, kind) for kind in self.types().values())

    def minutes(self, count: int, rps: float) -> None:
        for _ in range(count):
            begin = self.cloud.now
            for second in range(10, 70, 10):
                self.cloud.advance(begin + second)
                self.least_capacity = min(self.least_capacity, self.carries())
                ready = self.types()
                use = rps / sum(rate(self.pool, kind) for kind in ready.values())
                engines = {id_: gauges(self.pool, kind, use) for id_, kind in ready.items()}
                self.cloud.publish(at=self.cloud.now - 10, engines=engines)
            self.cloud.publish(
                at=begin,
                traffic={self.target_group: Traffic(round(60 * rps), response_seconds=30 * rps)},
                rejected={self.balancer: 0},
            )
            self.runs.append(self.function.invoke({"source": "schedule"}))

    def runs_with(self, code: str) -> list[int]:
        """Return the numbers of the runs that gave this reason."""
        return [n for n, run in enumerate(self.runs) if any(code in one.codes for one in run.decisions)]


def figures(pool: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = pool if kind == "g6.xlarge" else pool["alternatives"][0]
    return found


def rate(pool: dict[str, Any], kind: str) -> float:
    return float(figures(pool, kind)["throughput_rps"])


def gauges(pool: dict[str, Any], kind: str, use: float) -> dict[str, float]:
    """Return the gauges of an engine that does this share of its work."""
    own = figures(pool, kind)
    return {
        "requests_running": float(own["capacity"]) * load_share(use, float(own["slowdown"])),
        "requests_waiting": 0.0,
        "finished_rps": use * rate(pool, kind),
        "input_tokens": 1155.0,
        "output_tokens": 211.0,
    }


def usable(pool: dict[str, Any], kind: str) -> float:
    return rate(pool, kind) * work_share(0.8, float(figures(pool, kind)["slowdown"]))


@pytest.fixture
def life(cloud: EmbeddedCloud) -> Iterator[Life]:
    """Start on nine small instances, two more than 12 requests a second need."""
    with ScalerFunction(cloud) as function:
        life = Life(cloud, function)
        cloud.client("autoscaling").set_desired_capacity(AutoScalingGroupName=life.group, DesiredCapacity=9)
        cloud.advance((cloud.now // 60 + 6) * 60)
        yield life


def test_types_follow_the_load_up_and_down_with_enough_capacity_throughout(life: Life) -> None:
    """Two large instances replace seven small ones, and two hours later small ones replace a large one."""
    life.minutes(30, 12.0)
    assert set(life.types().values()) == {"g6e.xlarge"}
    assert life.described()["DesiredCapacity"] == 2
    assert life.least_capacity >= 12.0
    life.least_capacity = 1e9
    life.minutes(110, 2.5)
    assert sorted(life.types().values()) == ["g6.xlarge"] * 2
    assert life.described()["DesiredCapacity"] == 2
    assert life.least_capacity >= 2.5
    assert not [run.failure for run in life.runs if run.failure]
    assert not [fault for run in life.runs for one in run.decisions for fault in one.faults]
    up, down = life.runs_with("vertical.refresh")
    assert down - up >= 120
    assert {up + 1, down + 1} <= set(life.runs_with("vertical.wait"))


def test_a_refresh_to_types_without_capacity_leaves_the_service_as_it_was(life: Life) -> None:
    with faults.no_capacity(life.cloud, faults.Shortage(type="g6e.xlarge")):
        life.minutes(40, 12.0)
    assert set(life.types().values()) == {"g6.xlarge"}
    assert life.least_capacity >= 12.0
    assert len(life.runs_with("vertical.refresh")) == 1  # not again each minute
    assert not [run.failure for run in life.runs if run.failure]
