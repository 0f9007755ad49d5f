"""Reading the stack as the last update left it."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import deployed
from infra.deployed import NOT_DEPLOYED, DeployedRule, DeployedService, DeployedStack

ELB = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
RULE, L4, H100 = f"{ELB}:listener-rule/app/a/1/2/3", f"{ELB}:targetgroup/chat-l4/1", f"{ELB}:targetgroup/chat-h100/1"
CHAT = {
    "workload": "inference", "port": 8000.0, "health_path": "/health", "rule": RULE,
    "target_groups": {"l4": L4, "h100": H100},
}  # fmt: skip
SUBNETS = {"us-east-1a": ["subnet-0"], "us-east-1b": ["subnet-1", "subnet-2"]}
OUTPUTS = {
    "region": "us-east-1", "internal": False, "vpc_id": "vpc-1", "vpc_cidr": "10.0.0.0/16",
    "subnets": {"us-east-1a": ["subnet-0"]}, "services": {"chat": CHAT},
}  # fmt: skip


def fake_pulumi(monkeypatch: pytest.MonkeyPatch, outputs: Any, rule: Any, instances: Any = None) -> list[str]:
    """Fake the last update's outputs and the answers of AWS, and return the names that were read. An answer that is an
    exception is raised.
    """
    read: list[str] = []

    def invoke(token: str, args: dict[str, Any]) -> Any:
        read.append(token.rsplit(":", 1)[-1])
        if "getInstances" in token:
            assert args["filters"] == [{"name": "subnet-id", "values": ["subnet-1", "subnet-2"]}]
        answer = rule if "Rule" in token else instances
        if isinstance(answer, Exception):
            raise answer
        return type("Answer", (), {"value": answer})

    class LastUpdate:
        def __init__(self, name: str) -> None:
            read.append(name)
            self.outputs = self

        def future(self) -> Any:
            return {"stands": outputs, "url": "http://x"} if outputs else None

    monkeypatch.setattr(pulumi.runtime, "invoke", invoke)
    monkeypatch.setattr(pulumi, "StackReference", LastUpdate)
    monkeypatch.setattr(deployed, "_sync_await", lambda value: value)
    monkeypatch.setattr(deployed.aws, "get_caller_identity", lambda: None)
    return read


def rule(*shares: tuple[str, float], **forward: Any) -> dict[str, Any]:
    groups = [{"arn": arn, "weight": weight} for arn, weight in shares]
    return {"priority": 500.0, "actions": [{"type": "forward", "forwards": [{"targetGroups": groups, **forward}]}]}


def test_nothing_is_deployed_before_the_first_update(monkeypatch: pytest.MonkeyPatch) -> None:
    read = fake_pulumi(monkeypatch, None, None)
    assert deployed.read(["us-east-1a"]) == NOT_DEPLOYED
    assert read == [f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"]


def test_the_last_updates_outputs_and_the_weights_in_aws_are_combined(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(monkeypatch, OUTPUTS, rule((H100, 70.0), (L4, 30.0)))
    stack = deployed.read(["us-east-1a"])
    assert stack == DeployedStack(
        region="us-east-1",
        internal=False,
        vpc_id="vpc-1",
        vpc_cidr="10.0.0.0/16",
        services={
            "chat": DeployedService(
                "inference", 8000, "/health", {"l4": L4, "h100": H100}, DeployedRule(500, {H100: 70, L4: 30})
            )
        },
    )
    assert stack.services["chat"].weights == {"l4": 30, "h100": 70}


def test_a_block_that_the_provider_returns_without_its_list_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {"priority": 500.0, "actions": [{"forwards": {"targetGroups": [{"arn": L4, "weight": 9.0}]}}]}
    fake_pulumi(monkeypatch, OUTPUTS, flat)
    assert deployed.read(["us-east-1a"]).services["chat"].weights == {"l4": 9}


def test_a_deleted_rule_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(monkeypatch, OUTPUTS, Exception("reading ELB Listener Rule Data Source: couldn't find resource"))
    assert deployed.read(["us-east-1a"]).services["chat"].weights == {}


def test_an_update_fails_if_a_rule_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown weights are not zero: the update would send all traffic where it went at first."""
    fake_pulumi(monkeypatch, OUTPUTS, Exception("operation error: Throttling: Rate exceeded"))
    with pytest.raises(deployed.UnreadableError, match=f"weights of {RULE} cannot be read.*Throttling"):
        deployed.read(["us-east-1a"])


def test_instances_in_a_removed_zone_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(monkeypatch, {**OUTPUTS, "subnets": SUBNETS}, rule((L4, 1.0)), {"ids": ["i-1", "i-2", "i-3"]})
    assert deployed.read(["us-east-1a"]).left_behind == {"us-east-1b": 3}


def test_an_update_fails_if_instances_in_a_removed_zone_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pulumi(monkeypatch, {**OUTPUTS, "subnets": SUBNETS}, rule((L4, 1.0)), Exception("UnauthorizedOperation"))
    with pytest.raises(deployed.UnreadableError, match="instances in subnet-1, subnet-2 cannot be read"):
        deployed.read(["us-east-1a"])


def test_a_training_service_has_no_rule_and_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"workload": "training", "port": 8000.0, "health_path": "/health", "target_groups": {}, "rule": None}
    fake_pulumi(monkeypatch, {**OUTPUTS, "services": {"tune": training}}, Exception("must not be called"))
    assert deployed.read(["us-east-1a"]).services == {"tune": DeployedService("training", 8000, "/health")}


@pytest.mark.parametrize("block", [{"enabled": True}, [{"enabled": True}]])
def test_a_rule_that_keeps_clients_is_sticky(monkeypatch: pytest.MonkeyPatch, block: Any) -> None:
    fake_pulumi(monkeypatch, OUTPUTS, rule((L4, 1.0), stickinesses=block))
    found = deployed.read(["us-east-1a"]).services["chat"].rule
    assert found is not None
    assert found.sticky


def test_the_priorities_of_the_rules_for_digits_are_those_of_the_last_update(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = {**CHAT, "hash_priorities": [450.0, 451.0]}
    fake_pulumi(monkeypatch, {**OUTPUTS, "services": {"chat": chat}}, rule((L4, 1.0)))
    assert deployed.read(["us-east-1a"]).services["chat"].hash_priorities == (450, 451)
