"""The web ACL in front of the load balancer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.account import account_of
from gpu_fleet.operate.preflight.arn import Arn
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack


def web_acl(answer: Mapping[str, Any] | None) -> Finding:
    """It is there."""
    if answer is None:
        return wrong("there is no such web ACL")
    return ok(f"regional, {answer.get('WebACL', {}).get('Capacity', 0)} capacity units")


def checks(stack: Stack) -> Iterator[Check]:
    """The web ACL, where the stack names one."""
    arn = stack.settings.load_balancer.waf_acl_arn
    if arn is None:
        return
    read = Arn.read(arn)

    def look(aws: ReadOnlyAws) -> Finding:
        if why := read.foreign(account_of(aws)):
            return wrong(why)
        name, identity = read.resource.split("/")[2:]
        return web_acl(
            aws.ask(
                "wafv2",
                "GetWebACL",
                absent=("WAFNonexistentItemException", "WAFInvalidParameterException"),
                Name=name,
                Scope="REGIONAL",
                Id=identity,
            )
        )

    yield Check("web ACL", read.resource.split("/")[2], ("load_balancer", "waf_acl_arn"), look)
