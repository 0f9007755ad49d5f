"""The certificate of the HTTPS listener."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.account import account_of
from gpu_fleet.operate.preflight.arn import Arn
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack


def certificate(answer: Mapping[str, Any] | None) -> Finding:
    """It is issued: a listener takes no other.

    https://docs.aws.amazon.com/acm/latest/APIReference/API_CertificateDetail.html
    """
    if answer is None:
        return wrong("there is no such certificate")
    found = answer.get("Certificate", {})
    if found.get("Status") != "ISSUED":
        reason = f" ({found['FailureReason']})" if found.get("FailureReason") else ""
        return wrong(f"must be ISSUED, is {found.get('Status')}{reason}")
    until = found.get("NotAfter")
    return ok(f"{found.get('DomainName')}, issued{f', until {until:%Y-%m-%d}' if until else ''}")


def checks(stack: Stack) -> Iterator[Check]:
    """The certificate, where the stack names one."""
    arn = stack.settings.load_balancer.certificate_arn
    if arn is None:
        return

    def look(aws: ReadOnlyAws) -> Finding:
        if why := Arn.read(arn).foreign(account_of(aws)):
            return wrong(why)
        return certificate(
            aws.ask(
                "acm",
                "DescribeCertificate",
                absent=("ResourceNotFoundException", "InvalidArnException", "ValidationException"),
                CertificateArn=arn,
            )
        )

    path = ("load_balancer", "certificate_arn")
    yield Check("certificate", Arn.read(arn).resource.removeprefix("certificate/"), path, look)
