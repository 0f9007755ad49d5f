"""What the program learns of the stack that stands."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from infra import standing
from infra.standing import NOTHING, Standing, StandingRule, StandingService

ELB = "arn:aws:elasticloadbalancing:us-east-1:123456789012"
RULE, L4, H100 = f"{ELB}:listener-rule/app/a/1/2/3", f"{ELB}:targetgroup/chat-l4/1", f"{ELB}:targetgroup/chat-h100/1"


def tags(**more: str) -> dict[str, str]:
    return {"gpu-fleet:stack": "gpu-fleet-dev", "gpu-fleet:service": "chat", **more}


STATE: list[tuple[str, dict[str, Any]]] = [
    ("pulumi:pulumi:Stack", {}),
    ("aws:ec2/vpc:Vpc", {"cidrBlock": "10.0.0.0/16"}),
    ("aws:lb/loadBalancer:LoadBalancer", {"arn": f"{ELB}:loadbalancer/app/a/1", "internal": False, "vpcId": "vpc-1"}),
    ("aws:lb/listenerRule:ListenerRule", {"arn": RULE, "tags": tags(), "priority": 500.0}),
    ("aws:autoscaling/group:Group", {"tags": [{"key": k, "value": v} for k, v in tags().items()]}),
    *(
        (
            "aws:lb/targetGroup:TargetGroup",
            {"arn": arn, "port": 8000.0, "healthCheck": {"path": "/health"}, "tags": tags(**{"gpu-fleet:pool": pool})},
        )
        for arn, pool in ((L4, "l4"), (H100, "h100"))
    ),
]


def answers(monkeypatch: pytest.MonkeyPatch, state: Any, rule: Any, instances: Any = None) -> list[str]:
    """Lets the engine answer so; an exception is raised, a list is given one answer after the other."""
    asked: list[str] = []

    def invoke(token: str, args: dict[str, Any]) -> Any:
        asked.append(token.rsplit(":", 1)[-1])
        if "getInstances" in token:
            assert args["filters"] == [{"name": "subnet-id", "values": ["subnet-1", "subnet-2"]}]
        answer = state if "readStack" in token else rule if "Rule" in token else instances
        answer = answer.pop(0) if isinstance(answer, list) else answer
        if isinstance(answer, Exception):
            raise answer
        return type("Answer", (), {"value": answer})

    monkeypatch.setattr(pulumi.runtime, "invoke", invoke)
    monkeypatch.setattr(standing.time, "sleep", lambda _seconds: None)
    return asked


def resources(state: list[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    return {"outputs": {f"urn:{i}": {"type": kind, "outputs": outputs} for i, (kind, outputs) in enumerate(state)}}


def rule(*shares: tuple[str, float]) -> dict[str, Any]:
    groups = [{"arn": arn, "weight": weight} for arn, weight in shares]
    return {"priority": 500.0, "actions": [{"type": "forward", "forwards": [{"targetGroups": groups}]}]}


def test_nothing_stands_before_the_first_update(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, {"outputs": {}}, None)
    assert standing.read(["us-east-1a"]) == NOTHING
    assert asked == ["readStackResourceOutputs"]


def test_the_state_tells_what_stands_and_aws_tells_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, resources(STATE), rule((H100, 70.0), (L4, 30.0)))
    found = standing.read(["us-east-1a"])
    assert found == Standing(
        region="us-east-1",
        internal=False,
        vpc_id="vpc-1",
        vpc_cidr="10.0.0.0/16",
        services={
            "chat": StandingService(
                target_groups={L4: "l4", H100: "h100"},
                rule=StandingRule(500, {H100: 70, L4: 30}),
                port=8000,
                health_path="/health",
            )
        },
    )
    assert found.services["chat"].weights == {"l4": 30, "h100": 70}


def test_a_rule_with_its_block_of_one_given_as_itself_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = {"priority": 500.0, "actions": [{"forwards": {"targetGroups": [{"arn": L4, "weight": 9.0}]}}]}
    answers(monkeypatch, resources(STATE), flat)
    assert standing.read(["us-east-1a"]).services["chat"].weights == {"l4": 9}


def test_a_rule_that_somebody_deleted_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, resources(STATE), Exception("reading ELB Listener Rule Data Source: couldn't find resource"))
    assert standing.read(["us-east-1a"]).services["chat"].weights == {}


def test_a_rule_that_cannot_be_read_ends_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are not known are not zero: the update would send all traffic to where it once began."""
    answers(monkeypatch, resources(STATE), Exception("operation error: Throttling: Rate exceeded"))
    with pytest.raises(standing.UnreadableError, match=f"weights of {RULE} cannot be read.*Throttling"):
        standing.read(["us-east-1a"])


def test_a_state_that_is_just_being_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, [Exception("failed to load checkpoint: EOF"), resources(STATE)], rule((L4, 1.0)))
    assert standing.read(["us-east-1a"]).region == "us-east-1"
    assert asked == ["readStackResourceOutputs", "readStackResourceOutputs", "getListenerRule"]


def test_a_state_that_cannot_be_read_ends_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, Exception("failed to load checkpoint: EOF"), None)
    with pytest.raises(standing.UnreadableError, match=r"state of .* cannot be read.*EOF"):
        standing.read(["us-east-1a"])


SUBNETS = [
    ("aws:ec2/subnet:Subnet", {"id": f"subnet-{i}", "availabilityZone": f"us-east-1{zone}"})
    for i, zone in enumerate("abb")
]


def test_instances_in_a_zone_that_goes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, resources([*STATE, *SUBNETS]), rule((L4, 1.0)), {"ids": ["i-1", "i-2", "i-3"]})
    assert standing.read(["us-east-1a"]).left_behind == {"us-east-1b": 3}


def test_instances_in_a_zone_that_goes_which_cannot_be_counted_end_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, resources([*STATE, *SUBNETS]), rule((L4, 1.0)), Exception("UnauthorizedOperation"))
    with pytest.raises(standing.UnreadableError, match="instances in subnet-1, subnet-2 cannot be read"):
        standing.read(["us-east-1a"])


def test_of_two_target_groups_of_one_pool_the_one_with_traffic_counts() -> None:
    """An interrupted change of `internal` leaves both in the state."""
    old = f"{ELB}:targetgroup/chat-l4/0"
    state = [*STATE, ("aws:lb/targetGroup:TargetGroup", {"arn": old, "tags": tags(**{"gpu-fleet:pool": "l4"})})]
    found = standing.standing(state, {RULE: StandingRule(500, {old: 40, H100: 60})})
    assert found.services["chat"].weights == {"l4": 40, "h100": 60}


def test_a_training_service_is_known_by_its_queue() -> None:
    state = [
        ("aws:autoscaling/group:Group", {"tags": [{"key": k, "value": v} for k, v in tags().items()]}),
        ("aws:sqs/queue:Queue", {"tags": tags()}),
    ]
    assert standing.standing(state, {}).services == {"chat": StandingService(training=True)}
