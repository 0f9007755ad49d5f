"""The account's Lambda concurrency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack

LEAST_UNRESERVED = 100
"""Concurrency that AWS keeps for functions without a reservation:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html"""


def judge_concurrency(reserved: int | None, own: int, limit: Mapping[str, Any]) -> Finding:
    """The account can reserve what the stack asks for or, without a reservation, has some concurrency left.

    `own` is what the scaler's function has reserved already.
    """
    unreserved = limit.get("UnreservedConcurrentExecutions")
    if unreserved is None:
        raise UnansweredError("lambda:GetAccountSettings does not say how much is unreserved")
    usage = f"{unreserved} of {limit.get('ConcurrentExecutions')} are unreserved"
    if reserved is None:
        return ok(usage) if unreserved > 0 else wrong(f"{usage}: the scaler could never run")
    if unreserved + own - reserved < LEAST_UNRESERVED:
        return wrong(f"{usage}, and AWS keeps {LEAST_UNRESERVED} of them: {reserved} cannot be reserved")
    return ok(f"{usage}, {reserved} can be reserved")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of the account's limit."""
    reserved = stack.settings.scaler.reserved_concurrency
    function = f"{stack.full_name}-scaler"

    def examine(aws: ReadOnlyAws) -> Finding:
        limit = aws.get("lambda", "GetAccountSettings").get("AccountLimit", {})
        current = None
        if reserved is not None:
            not_found = ("ResourceNotFoundException",)
            current = aws.ask("lambda", "GetFunctionConcurrency", not_found=not_found, FunctionName=function)
        return judge_concurrency(reserved, (current or {}).get("ReservedConcurrentExecutions") or 0, limit)

    path = () if reserved is None else ("scaler", "reserved_concurrency")
    yield Check("Lambda concurrency", function, path, examine)
