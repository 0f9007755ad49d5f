"""Edits that an update refuses because they would interrupt service."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpu_fleet.config.composition import services
from gpu_fleet.config.stack_file import parse_stack
from gpu_fleet.config.yaml_files import read_library
from infra.deployed import NOT_DEPLOYED, DeployedService, DeployedStack
from infra.edits import refused_edits

STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {cidr: 10.0.0.0/16, zones: [us-east-1a, us-east-1b]}
  gpu-fleet:load_balancer: {allowed_cidrs: [10.0.0.0/8]}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v1", port: 8000, health_path: /health}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 4}
"""
EXISTING = (
    "{vpc_id: vpc-0a1b2c3d4e5f67890, public_subnet_ids: [subnet-0a1b2c3d4e5f67890, subnet-0b1c2d3e4f5a67891], "
    "private_subnet_ids: [subnet-0c1d2e3f4a5b67892]}"
)
DEPLOYED = DeployedStack(
    region="us-east-1",
    internal=False,
    vpc_id="vpc-0f0f0f0f0f0f0f0f0",
    vpc_cidr="10.0.0.0/16",
    services={"chat": DeployedService("inference", 8000, "/health")},
)


def texts(root: Path, deployed: DeployedStack, old: str = "", new: str = "") -> list[tuple[str, str]]:
    settings, _ = parse_stack(STACK.replace(old, new), "Pulumi.dev.yaml")
    problems = refused_edits(deployed, settings, services(settings, read_library(root)))
    return [(".".join(map(str, problem.path)), problem.text) for problem in problems]


def test_an_unchanged_stack_is_not_refused(root: Path) -> None:
    assert texts(root, DEPLOYED) == []


def test_nothing_is_refused_at_the_first_update(root: Path) -> None:
    assert texts(root, NOT_DEPLOYED) == []


EDITS = [
    ("region", "us-east-1", "eu-west-1", "must stay us-east-1 while this stack serves (got eu-west-1): bring up a"),
    ("network.cidr", "10.0.0.0/16", "10.1.0.0/16", "must stay 10.0.0.0/16 while this stack serves (got 10.1.0.0/16)"),
    (
        "load_balancer.internal", "allowed_cidrs: [10.0.0.0/8]", "internal: true",
        "must stay false while this stack serves (got true)",
    ),
    (
        "network.vpc_id", "{cidr: 10.0.0.0/16, zones: [us-east-1a, us-east-1b]}", EXISTING,
        "must stay vpc-0f0f0f0f0f0f0f",
    ),
    ("services.chat.container.port", "port: 8000", "port: 9000", "must stay 8000 while this stack serves (got 9000)"),
    (
        "services.chat.container.health_path", "path: /health", "path: /ok",
        "must stay /health while this stack serves (got /ok): add a second service with it, wait until it is ready",
    ),
    (
        "services.chat.policy",
        'policy: chat\n      paths: ["/v1/*"]\n      priority: 100\n',
        "policy: training\n",
        "must stay a policy for inference while this stack serves (got a policy for training)",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "old", "new", "text"), EDITS)
def test_a_disruptive_edit_is_refused_with_an_alternative(root: Path, key: str, old: str, new: str, text: str) -> None:
    ((found_key, message),) = texts(root, DEPLOYED, old, new)
    assert found_key == key
    assert text in message
    assert message.endswith("; or set allow_disruption: true")


@pytest.mark.parametrize(("key", "old", "new", "text"), EDITS)
def test_a_disruptive_edit_is_applied_if_the_stack_allows_it(
    root: Path, key: str, old: str, new: str, text: str
) -> None:
    del key, text
    allowed = STACK.replace(old, new) + "  gpu-fleet:allow_disruption: true\n"
    settings, _ = parse_stack(allowed, "Pulumi.dev.yaml")
    assert refused_edits(DEPLOYED, settings, services(settings, read_library(root))) == []


def test_an_existing_network_cannot_become_a_new_one(root: Path) -> None:
    ((key, text),) = texts(root, DeployedStack(region="us-east-1", internal=False, vpc_id="vpc-0f0f0f0f0f0f0f0f0"))
    assert key == "network"
    assert "must stay in vpc-0f0f0f0f0f0f0f0f0 while this stack serves (got a VPC of its own, 10.0.0.0/16)" in text


@pytest.mark.parametrize("allowed", ["false", "true"])
def test_a_zone_with_instances_cannot_be_removed(root: Path, allowed: str) -> None:
    """AWS deletes no subnet in use, so no setting allows it."""
    settings, _ = parse_stack(STACK + f"  gpu-fleet:allow_disruption: {allowed}\n", "Pulumi.dev.yaml")
    deployed = DeployedStack(vpc_cidr="10.0.0.0/16", left_behind={"us-east-1c": 2, "us-east-1d": 0})
    (problem,) = refused_edits(deployed, settings, services(settings, read_library(root)))
    assert problem.path == ("network", "zones")
    assert problem.text.startswith("must keep us-east-1c while it has instances (got 2 of them): give the pools zones")
