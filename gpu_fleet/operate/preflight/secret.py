"""The secrets that instances read at boot, and their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.account import account_of
from gpu_fleet.operate.preflight.arn import Arn
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.key import described, key
from gpu_fleet.operate.preflight.stack_needs import Stack

CURRENT = "AWSCURRENT"
"""Label of the version that is read: https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html"""


def secret(arn: str, answer: Mapping[str, Any] | None) -> Finding:
    """It has a value that an instance may read. The value itself is not asked for: nobody need see it."""
    if answer is None:
        return wrong("there is no such secret")
    if answer.get("DeletedDate"):
        return wrong("is scheduled for deletion")
    if not any(CURRENT in stages for stages in answer.get("VersionIdsToStages", {}).values()):
        return wrong("has no value yet")
    # The instances' role names it by this ARN, and IAM knows only the whole one:
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen
    if answer.get("ARN") not in (None, arn):
        return wrong(f"must be the whole ARN, {answer['ARN']}")
    return ok("there, and has a value")


def secret_key(arn: str, account: str | None, answer: Mapping[str, Any]) -> Finding | None:
    """What a secret says of its key; None: ask for the key. AWS's own key cannot be shared with another account.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_examples_cross.html
    """
    key_id = answer.get("KmsKeyId") or "alias/aws/secretsmanager"
    if not key_id.endswith("alias/aws/secretsmanager"):
        return None
    owner = Arn.read(arn).account
    if account is not None and owner != account:
        return wrong(f"a secret of account {owner} under AWS's own key cannot be read from {account}")
    return ok("AWS's own key")


def checks(stack: Stack) -> Iterator[Check]:
    """Each secret, once."""
    paths = {}
    for service_name, service in stack.settings.services.items():
        for variable, arn in service.container.secrets.items():
            paths.setdefault(arn, ("services", service_name, "container", "secrets", variable))
    for arn, path in paths.items():
        subject = Arn.read(arn).resource.removeprefix("secret:")

        def look(aws: ReadOnlyAws, arn: str = arn) -> Finding:
            return secret(arn, _described(aws, arn))

        def look_at_key(aws: ReadOnlyAws, arn: str = arn) -> Finding:
            answer = _described(aws, arn)
            if answer is None:
                return not_known("the secret is not there")
            return secret_key(arn, account_of(aws), answer) or key(described(aws, answer["KmsKeyId"]))

        yield Check("secret", subject, path, look)
        yield Check("secret's key", subject, path, look_at_key)


def _described(aws: ReadOnlyAws, arn: str) -> Mapping[str, Any] | None:
    return aws.ask(
        "secretsmanager",
        "DescribeSecret",
        absent=("ResourceNotFoundException", "InvalidParameterException", "ValidationException"),
        SecretId=arn,
    )
