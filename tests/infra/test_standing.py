"""What the program learns of the stack that stands."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import standing
from infra.standing import NOTHING, Standing, StandingRule, StandingService

ELB = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
RULE, L4, H100 = f"{ELB}:listener-rule/app/a/1/2/3", f"{ELB}:targetgroup/chat-l4/1", f"{ELB}:targetgroup/chat-h100/1"
CHAT = {
    "workload": "inference", "port": 8000.0, "health_path": "/health", "rule": RULE,
    "target_groups": {"l4": L4, "h100": H100},
}  # fmt: skip
SUBNETS = {"us-east-1a": ["subnet-0"], "us-east-1b": ["subnet-1", "subnet-2"]}
TOLD = {
    "region": "us-east-1", "internal": False, "vpc_id": "vpc-1", "vpc_cidr": "10.0.0.0/16",
    "subnets": {"us-east-1a": ["subnet-0"]}, "services": {"chat": CHAT},
}  # fmt: skip


def answers(monkeypatch: pytest.MonkeyPatch, told: Any, rule: Any, instances: Any = None) -> list[str]:
    """Lets the last update and AWS say so; an exception is raised."""
    asked: list[str] = []

    def invoke(token: str, args: dict[str, Any]) -> Any:
        asked.append(token.rsplit(":", 1)[-1])
        if "getInstances" in token:
            assert args["filters"] == [{"name": "subnet-id", "values": ["subnet-1", "subnet-2"]}]
        answer = rule if "Rule" in token else instances
        if isinstance(answer, Exception):
            raise answer
        return type("Answer", (), {"value": answer})

    class Before:
        def __init__(self, name: str) -> None:
            asked.append(name)
            self.outputs = self

        def future(self) -> Any:
            return {"stands": told, "url": "http://x"} if told else None

    monkeypatch.setattr(pulumi.runtime, "invoke", invoke)
    monkeypatch.setattr(pulumi, "StackReference", Before)
    monkeypatch.setattr(standing, "_sync_await", lambda value: value)
    monkeypatch.setattr(standing.aws, "get_caller_identity", lambda: None)
    return asked


def rule(*shares: tuple[str, float]) -> dict[str, Any]:
    groups = [{"arn": arn, "weight": weight} for arn, weight in shares]
    return {"priority": 500.0, "actions": [{"type": "forward", "forwards": [{"targetGroups": groups}]}]}


def test_nothing_stands_before_the_first_update(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, None, None)
    assert standing.read(["us-east-1a"]) == NOTHING
    assert asked == [f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"]


def test_the_last_update_tells_what_stands_and_aws_tells_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, TOLD, rule((H100, 70.0), (L4, 30.0)))
    found = standing.read(["us-east-1a"])
    assert found == Standing(
        region="us-east-1",
        internal=False,
        vpc_id="vpc-1",
        vpc_cidr="10.0.0.0/16",
        services={
            "chat": StandingService(
                "inference", 8000, "/health", {"l4": L4, "h100": H100}, StandingRule(500, {H100: 70, L4: 30})
            )
        },
    )
    assert found.services["chat"].weights == {"l4": 30, "h100": 70}


def test_a_rule_with_its_block_of_one_given_as_itself_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {"priority": 500.0, "actions": [{"forwards": {"targetGroups": [{"arn": L4, "weight": 9.0}]}}]}
    answers(monkeypatch, TOLD, flat)
    assert standing.read(["us-east-1a"]).services["chat"].weights == {"l4": 9}


def test_a_rule_that_somebody_deleted_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, TOLD, Exception("reading ELB Listener Rule Data Source: couldn't find resource"))
    assert standing.read(["us-east-1a"]).services["chat"].weights == {}


def test_a_rule_that_cannot_be_read_ends_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are not known are not zero: the update would send all traffic to where it once began."""
    answers(monkeypatch, TOLD, Exception("operation error: Throttling: Rate exceeded"))
    with pytest.raises(standing.UnreadableError, match=f"weights of {RULE} cannot be read.*Throttling"):
        standing.read(["us-east-1a"])


def test_instances_in_a_zone_that_goes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {**TOLD, "subnets": SUBNETS}, rule((L4, 1.0)), {"ids": ["i-1", "i-2", "i-3"]})
    assert standing.read(["us-east-1a"]).left_behind == {"us-east-1b": 3}


def test_instances_in_a_zone_that_goes_which_cannot_be_counted_end_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, {**TOLD, "subnets": SUBNETS}, rule((L4, 1.0)), Exception("UnauthorizedOperation"))
    with pytest.raises(standing.UnreadableError, match="instances in subnet-1, subnet-2 cannot be read"):
        standing.read(["us-east-1a"])


def test_a_training_service_has_no_rule_and_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    training = {"workload": "training", "port": 8000.0, "health_path": "/health", "target_groups": {}, "rule": None}
    answers(monkeypatch, {**TOLD, "services": {"tune": training}}, Exception("nothing is asked"))
    assert standing.read(["us-east-1a"]).services == {"tune": StandingService("training", 8000, "/health")}
