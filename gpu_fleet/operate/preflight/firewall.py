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


def judge_web_acl(answer: Mapping[str, Any] | None) -> Finding:
    """The web ACL exists."""
    if answer is None:
        return wrong("there is no such web ACL")
    return ok(f"regional, {answer.get('WebACL', {}).get('Capacity', 0)} capacity units")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of the web ACL, if the stack names one."""
    arn = stack.settings.load_balancer.waf_acl_arn
    if arn is None:
        return
    parsed = Arn.parse(arn)

    def examine(aws: ReadOnlyAws) -> Finding:
        if problem := parsed.foreign_problem(account_of(aws)):
            return wrong(problem)
        name, acl_id = parsed.resource.split("/")[2:]
        return judge_web_acl(
            aws.ask(
                "wafv2",
                "GetWebACL",
                not_found=("WAFNonexistentItemException", "WAFInvalidParameterException"),
                Name=name,
                Scope="REGIONAL",
                Id=acl_id,
            )
        )

    yield Check("web ACL", parsed.resource.split("/")[2], ("load_balancer", "waf_acl_arn"), examine)
