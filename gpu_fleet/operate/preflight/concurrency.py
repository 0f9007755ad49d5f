"""Room for the scaler among the account's Lambda functions."""

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


def concurrency(reserved: int | None, own: int, limit: Mapping[str, Any]) -> Finding:
    """What the stack reserves can be, or something is left for a scaler without a reservation.

    `own` is what its function has reserved already.
    """
    unreserved = limit.get("UnreservedConcurrentExecutions")
    if unreserved is None:
        raise UnansweredError("lambda:GetAccountSettings does not say how much is unreserved")
    of = f"{unreserved} of {limit.get('ConcurrentExecutions')} are unreserved"
    if reserved is None:
        return ok(of) if unreserved > 0 else wrong(f"{of}: the scaler could never run")
    if unreserved + own - reserved < LEAST_UNRESERVED:
        return wrong(f"{of}, and AWS keeps {LEAST_UNRESERVED} so: {reserved} cannot be reserved")
    return ok(f"{of}, {reserved} can be reserved")


def checks(stack: Stack) -> Iterator[Check]:
    """The account's limit."""
    reserved = stack.settings.scaler.reserved_concurrency
    function = f"{stack.full_name}-scaler"

    def look(aws: ReadOnlyAws) -> Finding:
        limit = aws.get("lambda", "GetAccountSettings").get("AccountLimit", {})
        standing = None
        if reserved is not None:
            missing = ("ResourceNotFoundException",)
            standing = aws.ask("lambda", "GetFunctionConcurrency", absent=missing, FunctionName=function)
        return concurrency(reserved, (standing or {}).get("ReservedConcurrentExecutions") or 0, limit)

    path = () if reserved is None else ("scaler", "reserved_concurrency")
    yield Check("Lambda concurrency", function, path, look)
