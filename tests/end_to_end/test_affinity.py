"""Routing by hash, by cookie and by algorithm: what the program creates, an update changes, and a replay serves."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.emulator import EmbeddedCloud
from gpu_fleet.replay import Opening, Replay, replay_cloud, service_hardware
from gpu_fleet.scaling.hashing import DIGITS, digit_weights
from gpu_fleet.traffic import crop, hour

STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {{zones: [us-east-1a, us-east-1b], nat: none}}
  gpu-fleet:load_balancer: {{internal: true}}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      algorithm: {algorithm}
      container: {{image: "vllm/vllm-openai:v1"}}
      pools:
        l4: {{types: [g6.xlarge], min: 1, max: 8}}
        l40s: {{types: [g6e.xlarge], min: 1, max: 4}}
"""
HASH = "routing: {strategy: hash, hash_header: x-session-id}\n"
STICKY = "routing: {strategy: sticky, stickiness_seconds: 600}\n"
NEARLY_NONE = 0.002
"""Share that a lightly loaded fleet refuses: now and then a prompt with 2 s comes while an L4 reads one of 14000 tokens
for 2.7 s."""
Provision = Callable[..., EmbeddedCloud]


@pytest.fixture
def stack(root: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that writes a stack with this routing, and returns its folder."""

    def write(routing: str, algorithm: str = "least_outstanding_requests") -> Path:
        (tmp_path / "policies").mkdir()
        for name in ("catalog.yaml", "profiles.yaml"):
            (tmp_path / "policies" / name).symlink_to(root / "policies" / name)
        (tmp_path / "policies/chat.yaml").write_text(
            "model: llama-3.1-8b-fp8\nslo: {ttft_seconds: 2, tpot_seconds: 0.1, attainment: 0.99}\n" + routing
        )
        (tmp_path / "Pulumi.yaml").symlink_to(root / "Pulumi.yaml")
        (tmp_path / "Pulumi.local.yaml").write_text(STACK.format(algorithm=algorithm))
        shutil.copytree(root / "infra", tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__"))
        with zipfile.ZipFile(tmp_path / "scaler.zip", "w") as archive:
            archive.writestr("lambdas/__init__.py", "")
        return tmp_path

    return write


def rules(cloud: EmbeddedCloud) -> list[dict[str, Any]]:
    """The listener's rules but the default one, in the order in which they are asked."""
    bindings = cloud.services["chat"]["bindings"]
    elb = cloud.client("elbv2")
    described = elb.describe_rules(RuleArns=[bindings["listener_rule_arn"], *bindings.get("hash_rule_arns", ())])
    return sorted(described["Rules"], key=lambda rule: int(rule["Priority"]))


def headers(rule: dict[str, Any]) -> list[str]:
    return [v for c in rule["Conditions"] for v in c.get("HttpHeaderConfig", {}).get("Values", [])]


def attributes(cloud: EmbeddedCloud, pool: str = "l4") -> dict[str, str]:
    arn = cloud.services["chat"]["bindings"]["pools"][pool]["target_group_arn"]
    found = cloud.client("elbv2").describe_target_group_attributes(TargetGroupArn=arn)["Attributes"]
    return {one["Key"]: one["Value"] for one in found}


def replay(root: Path, folder: Path, seconds: float = 600.0) -> tuple[Any, list[dict[str, Any]], dict[str, str]]:
    """Serve ten minutes; return the result, the rules and a target group's attributes at the end."""
    settings, _ = read_stack(folder, "local")
    hardware = service_hardware(settings, "chat", read_library(folder))
    trace = crop(hour(6.0, seed=1).sample(1), 0, seconds)
    with replay_cloud("local", folder, boot_seconds=100) as cloud:
        with Replay(cloud, "chat", trace, hardware, Opening({"l4": 2, "l40s": 1})) as run:
            result = run.run()
        return result, rules(cloud), attributes(cloud)


def test_hashing_has_a_rule_for_each_digit_before_the_services_own(root: Path, stack: Callable[..., Path]) -> None:
    result, ordered, _ = replay(root, stack(HASH))
    assert result.failures == ()
    assert [headers(rule) for rule in ordered[:16]] == [[f"*{digit}"] for digit in DIGITS]
    assert headers(ordered[16]) == []
    assert all(
        {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/v1/*"]}}.items()
        <= {"Field": c["Field"], "PathPatternConfig": c.get("PathPatternConfig")}.items()
        for rule in ordered
        for c in rule["Conditions"]
        if c["Field"] == "path-pattern"
    )
    assert [int(rule["Priority"]) for rule in ordered] == [*range(450, 466), 500]
    own, *_ = (shares(rule) for rule in ordered[16:])
    assert [shares(rule) for rule in ordered[:16]] == [dict(one) for one in digit_weights(own)]
    assert result.rejected <= NEARLY_NONE * result.requests
    assert result.requests > 1000


def shares(rule: dict[str, Any]) -> dict[str, int]:
    groups = rule["Actions"][0]["ForwardConfig"]["TargetGroups"]
    return {group["TargetGroupArn"].split("/")[1].split("-")[1]: group["Weight"] for group in groups}


def test_sticky_clients_are_served(root: Path, stack: Callable[..., Path]) -> None:
    result, (rule,), found = replay(root, stack(STICKY))
    assert result.failures == ()
    assert rule["Actions"][0]["ForwardConfig"]["TargetGroupStickinessConfig"]["DurationSeconds"] == 600
    assert found["stickiness.enabled"] == "true"
    assert result.rejected <= NEARLY_NONE * result.requests


@pytest.mark.parametrize(("algorithm", "mitigation"), [("round_robin", "off"), ("weighted_random", "on")])
def test_the_target_groups_have_the_services_algorithm(
    root: Path, stack: Callable[..., Path], algorithm: str, mitigation: str
) -> None:
    result, _, found = replay(root, stack("", algorithm), 120.0)
    assert found["load_balancing.algorithm.type"] == algorithm
    assert found["load_balancing.algorithm.anomaly_mitigation"] == mitigation
    assert result.requests > 0
