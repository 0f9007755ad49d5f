"""The topic that alarms write to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.arn import Arn
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.key import described, key
from gpu_fleet.operate.preflight.stack_needs import Stack


def topic(answer: Mapping[str, Any] | None) -> Finding:
    """It is there."""
    if answer is None:
        return wrong("there is no such topic")
    return ok(f"{answer.get('Attributes', {}).get('SubscriptionsConfirmed', '0')} confirmed subscriptions")


def encryption(key_id: str) -> Finding | None:
    """What its key's name alone says; None: ask for the key. Alarms may not use AWS's own key for SNS, so none arrives.

    https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
    """
    if not key_id:
        return ok("not encrypted with a key of KMS")
    if key_id.endswith("alias/aws/sns"):
        return wrong("alarms may not use alias/aws/sns, none would arrive; take a key of your own, or none")
    return None


def checks(stack: Stack) -> Iterator[Check]:
    """The topic and its key, where the stack names one."""
    arn = stack.settings.observability.alarm_topic_arn
    if arn is None:
        return
    read, path = Arn.read(arn), ("observability", "alarm_topic_arn")

    def attributes(aws: ReadOnlyAws) -> Mapping[str, Any] | None:
        return aws.ask("sns", "GetTopicAttributes", absent=("NotFound", "InvalidParameter"), TopicArn=arn)

    def look(aws: ReadOnlyAws) -> Finding:
        return topic(attributes(aws))

    def look_at_key(aws: ReadOnlyAws) -> Finding:
        answer = attributes(aws)
        if answer is None:
            return not_known("the topic is not there")
        key_id = answer.get("Attributes", {}).get("KmsMasterKeyId", "")
        return encryption(key_id) or key(described(aws, key_id))

    yield Check("alarm topic", read.resource, path, look)
    yield Check("alarm topic's key", read.resource, path, look_at_key)
