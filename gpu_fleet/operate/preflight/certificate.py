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


def judge_certificate(answer: Mapping[str, Any] | None) -> Finding:
    """The certificate is issued: a listener accepts no other.

    https://docs.aws.amazon.com/acm/latest/APIReference/API_CertificateDetail.html
    """
    if answer is None:
        return wrong("there is no such certificate")
    details = answer.get("Certificate", {})
    if details.get("Status") != "ISSUED":
        reason = f" ({details['FailureReason']})" if details.get("FailureReason") else ""
        return wrong(f"must be ISSUED, is {details.get('Status')}{reason}")
    expiry = details.get("NotAfter")
    return ok(f"{details.get('DomainName')}, issued{f', until {expiry:%Y-%m-%d}' if expiry else ''}")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of the certificate, if the stack names one."""
    arn = stack.settings.load_balancer.certificate_arn
    if arn is None:
        return

    def examine(aws: ReadOnlyAws) -> Finding:
        if problem := Arn.parse(arn).foreign_problem(account_of(aws)):
            return wrong(problem)
        return judge_certificate(
            aws.ask(
                "acm",
                "DescribeCertificate",
                not_found=("ResourceNotFoundException", "InvalidArnException", "ValidationException"),
                CertificateArn=arn,
            )
        )

    path = ("load_balancer", "certificate_arn")
    yield Check("certificate", Arn.parse(arn).resource.removeprefix("certificate/"), path, examine)
