"""The evaluation itself, on cases that IAM's documentation answers."""

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
def test_all_conditions_must_hold_and_a_missing_key_fails(condition: Any, allowed: bool) -> None:
    call = request(COMPLETE, GROUP, {"aws:ResourceTag/stack": "dev"})
    assert bool(granted_by(policy(COMPLETE, "*", **condition), call)) == allowed


def test_a_key_that_the_action_does_not_carry_is_missing() -> None:
    """A condition on it never holds, whoever the caller is."""
    call = request("ssmmessages:OpenDataChannel", "*", {"aws:ResourceTag/stack": "dev"})
    condition = {"StringEquals": {"aws:ResourceTag/stack": "dev"}}
    assert granted_by(policy("ssmmessages:*", "*", **condition), call) == set()


def test_an_arn_is_compared_as_a_pattern() -> None:
    template = "arn:aws:ec2:us-east-1:123456789012:launch-template/lt-0123456789abcdef0"
    instance = "arn:aws:ec2:us-east-1:123456789012:instance/i-1"
    call = request("ec2:RunInstances", instance, {"ec2:LaunchTemplate": template})
    for pattern, allowed in ((template, True), (template[:-1] + "?", True), (template[:-1] + "1", False)):
        condition = {"ArnLike": {"ec2:LaunchTemplate": [pattern]}}
        assert bool(granted_by(policy("ec2:RunInstances", "*", **condition), call)) == allowed


@pytest.mark.parametrize(
    ("action", "resource"),
    [
        ("autoscaling:CompleteLifecycleActions", GROUP),
        (COMPLETE, "*"),
        (COMPLETE, "arn:aws:sqs:us-east-1:123456789012:jobs"),
        ("ec2:DescribeTags", GROUP),
    ],
)
def test_a_request_unknown_to_aws_is_refused(action: str, resource: str) -> None:
    with pytest.raises(AssertionError):
        request(action, resource)


@pytest.mark.parametrize(
    "change",
    [{"Effect": "Deny"}, {"NotAction": "s3:*"}, {"NotResource": "*"}, {"Principal": "*"}],
)
def test_an_unknown_element_is_not_ignored(change: Any) -> None:
    (document,) = policy(COMPLETE, "*")
    document["Statement"][0] |= change
    with pytest.raises(NotImplementedError):
        granted_by([document], request(COMPLETE, GROUP))


def test_an_unknown_operator_is_not_ignored() -> None:
    with pytest.raises(KeyError):
        granted_by(
            policy(COMPLETE, "*", StringNotEquals={"aws:ResourceTag/stack": "dev"}),
            request(COMPLETE, GROUP, {"aws:ResourceTag/stack": "dev"}),
        )


def test_each_action_on_each_resource_is_a_grant() -> None:
    documents = policy(["s3:GetObject", "s3:PutObject"], ["a", "b"])
    assert grants(documents) == {
        Grant("One", "s3:GetObject", "a"), Grant("One", "s3:GetObject", "b"),
        Grant("One", "s3:PutObject", "a"), Grant("One", "s3:PutObject", "b"),
    }  # fmt: skip
