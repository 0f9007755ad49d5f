"""Listener rules."""

from __future__ import annotations

import pytest

from lambdas.scaler import rules
from lambdas.scaler.rules import Rule, Stickiness

OFF = Stickiness(enabled=False)


def rule(**weights: int) -> Rule:
    config = {"TargetGroups": [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in weights.items()]}
    return Rule("rule", ({"Type": "forward", "Order": 1, "ForwardConfig": config},))


def test_new_weights_are_sent_as_a_whole_action():
    (action,) = rule(a=100, b=0).with_weights({"a": 30, "b": 70}, Stickiness(enabled=True, seconds=600))
    assert action == {
        "Type": "forward",
        "Order": 1,
        "ForwardConfig": {
            "TargetGroups": [{"TargetGroupArn": "a", "Weight": 30}, {"TargetGroupArn": "b", "Weight": 70}],
            "TargetGroupStickinessConfig": {"Enabled": True, "DurationSeconds": 600},
        },
    }


def test_authentication_before_the_forward_action_stays():
    login = {"Type": "authenticate-oidc", "Order": 1, "AuthenticateOidcConfig": {"Issuer": "x"}}
    forward = {"Type": "forward", "Order": 2, "TargetGroupArn": "a"}
    sent = Rule("rule", (login, forward)).with_weights({"a": 5}, OFF)
    assert sent[0] == login
    assert sent[1]["ForwardConfig"]["TargetGroups"] == [{"TargetGroupArn": "a", "Weight": 5}]
    assert "TargetGroupArn" not in sent[1]


def test_a_target_group_that_was_just_added_keeps_its_weight():
    (action,) = rule(a=100, new=7).with_weights({"a": 50}, OFF)
    assert action["ForwardConfig"]["TargetGroups"][1] == {"TargetGroupArn": "new", "Weight": 7}


@pytest.mark.parametrize("weight", [-1, 1000])
def test_a_weight_out_of_range_is_refused(weight):
    with pytest.raises(ValueError, match=r"a: weight must be 0 to 999"):
        rule(a=1).with_weights({"a": weight}, OFF)


def test_a_sixth_target_group_is_refused():
    with pytest.raises(ValueError, match=r"at most 5 target groups \(got 6\)"):
        rule(a=1, b=1, c=1, d=1, e=1).with_weights({"f": 1}, OFF)


def test_a_rule_that_does_not_forward_has_no_weights():
    fixed = Rule("rule", ({"Type": "fixed-response"},))
    assert fixed.weights == {}
    with pytest.raises(ValueError, match="has no forward action"):
        fixed.with_weights({"a": 1}, OFF)


def test_a_missing_weight_is_one():
    config = {"TargetGroups": [{"TargetGroupArn": "a"}]}
    assert Rule("rule", ({"Type": "forward", "ForwardConfig": config},)).weights == {"a": 1}


def test_a_rule_that_is_gone_does_not_hide_the_others(world):
    world.stand("chat")
    world.stand("code")
    gone = world.rules["chat"]
    world.clients.elbv2.delete_rule(RuleArn=gone)
    described = rules.describe(world.clients.elbv2, [gone, world.rules["code"]])
    assert list(described.found) == [world.rules["code"]]
    assert described.faults[gone].code == "UnknownRule"


def test_twenty_one_rules_take_two_calls(world):
    with world.board.answering(
        "elbv2.DescribeRules",
        lambda arguments: {"Rules": [{"RuleArn": arn, "Actions": []} for arn in arguments["RuleArns"]]},
    ):
        found = rules.describe(world.clients.elbv2, [f"arn:{i:02d}" for i in range(21)]).found
    assert len(found) == 21
    assert [
        len(arguments["RuleArns"]) for operation, arguments in world.board.calls if operation == "elbv2.DescribeRules"
    ] == [20, 1]


def test_a_throttled_call_is_not_taken_for_a_rule_that_is_gone(world):
    world.stand()
    with world.board.failing("elbv2.DescribeRules"):
        described = rules.describe(world.clients.elbv2, [world.rules["chat"], "arn:other"])
    assert {fault.code for fault in described.faults.values()} == {"Throttled"}
    assert described.found == {}
