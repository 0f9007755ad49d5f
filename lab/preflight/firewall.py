"""The web ACL in front of the load balancer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lab.preflight.account import account_of
from lab.preflight.arn import Arn
from lab.preflight.aws import Aws
from lab.preflight.check import Check
from lab.preflight.finding import Finding, ok, wrong
from lab.preflight.stack import Stack


def web_acl(answer: Mapping[str, Any] | None) -> Finding:
    """It is there."""
    if answer is None:
        return wrong("there is no such web ACL")
    return ok(f"regional, {answer.get('WebACL', {}).get('Capacity', 0)} capacity units")


def misnamed(resource: str) -> str:
    """Why an ARN's resource names no regional web ACL; empty where it does.

    `regional/webacl/NAME/ID`; `global/` is CloudFront's:
    https://docs.aws.amazon.com/waf/latest/APIReference/API_AssociateWebACL.html
    """
    parts = resource.split("/")
    if parts[0] == "global":
        return "is global, for CloudFront; a load balancer takes a regional one"
    if len(parts) != 4 or parts[:2] != ["regional", "webacl"]:
        return "must be the ARN of a web ACL, ...:regional/webacl/NAME/ID"
    return ""


def checks(stack: Stack) -> Iterator[Check]:
    """The web ACL, where the stack names one."""
    arn = stack.settings.load_balancer.waf_acl_arn
    if arn is None:
        return
    read = Arn.read(arn)

    def look(aws: Aws) -> Finding:
        if why := misnamed(read.resource) or read.elsewhere(aws.region, account_of(aws)):
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

    yield Check("web ACL", "/".join(read.resource.split("/")[2:3]) or arn, ("load_balancer", "waf_acl_arn"), look)
