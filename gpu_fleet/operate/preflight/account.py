"""Whose credentials these are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok
from gpu_fleet.operate.preflight.stack_needs import Stack


def credentials(answer: Mapping[str, Any]) -> Finding:
    """AWS takes them, and says whose they are."""
    return ok(str(answer.get("Arn", "")))


def account_of(aws: ReadOnlyAws) -> str | None:
    """The account's number; None where AWS does not say, which is a row of its own and need not spoil others."""
    try:
        return aws.get("sts", "GetCallerIdentity").get("Account")
    except UnansweredError:
        return None


def checks(stack: Stack) -> Iterator[Check]:
    """The credentials."""
    yield Check("credentials", stack.settings.region, (), lambda aws: credentials(aws.get("sts", "GetCallerIdentity")))
