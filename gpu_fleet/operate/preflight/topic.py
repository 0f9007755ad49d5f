"""The topic that alarms notify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.arn import Arn
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.key import described, judge_key
from gpu_fleet.operate.preflight.stack_needs import Stack


def judge_topic(answer: Mapping[str, Any] | None) -> Finding:
    """The topic exists."""
    if answer is None:
        return wrong("there is no such topic")
    return ok(f"{answer.get('Attributes', {}).get('SubscriptionsConfirmed', '0')} confirmed subscriptions")


def judge_key_name(key_id: str) -> Finding | None:
    """Judge a topic's key by its name; None if KMS must be asked. Alarms may not use AWS's own key for SNS.

    https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
    """
    if not key_id:
        return ok("not encrypted with a KMS key")
    if key_id.endswith("alias/aws/sns"):
        return wrong("alarms may not use alias/aws/sns, so none would arrive; use a key of your own, or none")
    return None


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the checks of the topic and its key, if the stack names one."""
    arn = stack.settings.observability.alarm_topic_arn
    if arn is None:
        return
    name, path = Arn.parse(arn).resource, ("observability", "alarm_topic_arn")

    def attributes(aws: ReadOnlyAws) -> Mapping[str, Any] | None:
        return aws.ask("sns", "GetTopicAttributes", not_found=("NotFound", "InvalidParameter"), TopicArn=arn)

    def examine(aws: ReadOnlyAws) -> Finding:
        return judge_topic(attributes(aws))

    def examine_key(aws: ReadOnlyAws) -> Finding:
        answer = attributes(aws)
        if answer is None:
            return not_known("the topic does not exist")
        key_id = answer.get("Attributes", {}).get("KmsMasterKeyId", "")
        return judge_key_name(key_id) or judge_key(described(aws, key_id))

    yield Check("alarm topic", name, path, examine)
    yield Check("alarm topic's key", name, path, examine_key)
