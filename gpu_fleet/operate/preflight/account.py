"""The credentials and their account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok
from gpu_fleet.operate.preflight.stack_needs import Stack


def judge_credentials(answer: Mapping[str, Any]) -> Finding:
    """AWS accepts them and names their owner."""
    return ok(str(answer.get("Arn", "")))


def account_of(aws: ReadOnlyAws) -> str | None:
    """Return the account's number. None if AWS does not say: that is a row of its own and must not spoil others."""
    try:
        return aws.get("sts", "GetCallerIdentity").get("Account")
    except UnansweredError:
        return None


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of the credentials."""
    yield Check(
        "credentials", stack.settings.region, (), lambda aws: judge_credentials(aws.get("sts", "GetCallerIdentity"))
    )
