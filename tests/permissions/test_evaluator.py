"""The evaluation itself, on cases whose answer IAM's pages give."""

from __future__ import annotations

from typing import Any

import pytest

from tests.permissions.evaluator import Grant, granted_by, grants, request

GROUP = "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:1-2-3:autoScalingGroupName/chat"
COMPLETE = "autoscaling:CompleteLifecycleAction"


def policy(action: str | list[str], resource: str | list[str], **condition: Any) -> list[Any]:
    statement = {"Sid": "One", "Effect": "Allow", "Action": action, "Resource": resource}
    return [{"Statement": [{**statement, **({"Condition": condition} if condition else {})}]}]


@pytest.mark.parametrize(
    ("action", "resource", "allowed"),
    [
        (COMPLETE, GROUP, True),
        (COMPLETE, "*", True),
        ("autoscaling:Complete*", GROUP, True),
        (COMPLETE, "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/chat", True),
        (COMPLETE, "arn:aws:autoscaling:*:123456789012:autoScalingGroup:*:autoScalingGroupName/c?at", True),
        (COMPLETE, "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/code", False),
        (COMPLETE, "arn:aws:autoscaling:*:autoScalingGroup:*:autoScalingGroupName/chat", False),
        (COMPLETE, "arn:aws:autoscaling:us-east-1:999999999999:autoScalingGroup:*", False),
        ("autoscaling:RecordLifecycleActionHeartbeat", GROUP, False),
    ],
)
def test_actions_and_resources_match_part_by_part(action: str, resource: str, allowed: bool) -> None:
    assert bool(granted_by(policy(action, resource), request(COMPLETE, GROUP))) == allowed


@pytest.mark.parametrize(
    ("condition", "allowed"),
    [
        ({"StringEquals": {"aws:ResourceTag/stack": "dev"}}, True),
        ({"StringEquals": {"AWS:ResourceTag/stack": "dev"}}, True),
        ({"StringEquals": {"aws:ResourceTag/stack": ["prod", "dev"]}}, True),
        ({"StringEquals": {"aws:ResourceTag/stack": "de*"}}, False),
        ({"StringLike": {"aws:ResourceTag/stack": "de*"}}, True),
        ({"StringEquals": {"aws:ResourceTag/stack": "dev", "aws:ResourceTag/service": "chat"}}, False),
        ({"StringEquals": {"aws:ResourceTag/stack": "dev"}, "StringLike": {"aws:ResourceTag/stack": "p*"}}, False),
    ],
)
def test_all_conditions_must_hold_and_one_on_a_missing_key_does_not(condition: Any, allowed: bool) -> None:
    asked = request(COMPLETE, GROUP, {"aws:ResourceTag/stack": "dev"})
    assert bool(granted_by(policy(COMPLETE, "*", **condition), asked)) == allowed


def test_a_key_that_the_action_does_not_bring_is_missing() -> None:
    """A condition on it never holds, however the caller is."""
    asked = request("ssmmessages:OpenDataChannel", "*", {"aws:ResourceTag/stack": "dev"})
    condition = {"StringEquals": {"aws:ResourceTag/stack": "dev"}}
    assert granted_by(policy("ssmmessages:*", "*", **condition), asked) == set()


def test_an_arn_is_compared_as_a_pattern() -> None:
    template = "arn:aws:ec2:us-east-1:123456789012:launch-template/lt-0123456789abcdef0"
    instance = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"
    asked = request("ec2:RunInstances", instance, {"ec2:LaunchTemplate": template})
    for wanted, allowed in ((template, True), (template[:-1] + "?", True), (template[:-1] + "1", False)):
        condition = {"ArnLike": {"ec2:LaunchTemplate": [wanted]}}
        assert bool(granted_by(policy("ec2:RunInstances", "*", **condition), asked)) == allowed


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("autoscaling:CompleteLifecycleActions", GROUP),
        (COMPLETE, "*"),
        (COMPLETE, "arn:aws:sqs:us-east-1:123456789012:jobs"),
        ("ec2:DescribeTags", GROUP),
    ],
)
def test_a_request_that_aws_does_not_know_is_refused(action: str, resource: str) -> None:
    with pytest.raises(AssertionError):
        request(action, resource)


@pytest.mark.parametrize(
    "change",
    [{"Effect": "Deny"}, {"NotAction": "s3:*"}, {"NotResource": "*"}, {"Principal": "*"}],
)
def test_what_is_not_evaluated_is_not_passed_over(change: Any) -> None:
    (document,) = policy(COMPLETE, "*")
    document["Statement"][0] |= change
    with pytest.raises(NotImplementedError):
        granted_by([document], request(COMPLETE, GROUP))


def test_an_operator_that_is_not_evaluated_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        granted_by(
            policy(COMPLETE, "*", StringNotEquals={"aws:ResourceTag/stack": "dev"}),
            request(COMPLETE, GROUP, {"aws:ResourceTag/stack": "dev"}),
        )


def test_grants_are_counted_one_by_one() -> None:
    documents = policy(["s3:GetObject", "s3:PutObject"], ["a", "b"])
    assert grants(documents) == {
        Grant("One", "s3:GetObject", "a"), Grant("One", "s3:GetObject", "b"),
        Grant("One", "s3:PutObject", "a"), Grant("One", "s3:PutObject", "b"),
    }  # fmt: skip
