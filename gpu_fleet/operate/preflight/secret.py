"""The secrets that instances read at boot, and their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.operate.preflight.account import account_of
from gpu_fleet.operate.preflight.arn import Arn
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.key import described, judge_key
from gpu_fleet.operate.preflight.stack_needs import Stack

CURRENT = "AWSCURRENT"
"""Label of the version that instances read: https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html"""


DEFAULT_KEY = "alias/aws/secretsmanager"
"""AWS's own key, which a secret has unless it names another."""


def judge_secret(arn: str, answer: Mapping[str, Any] | None) -> Finding:
    """The secret has a value. The check does not read the value itself."""
    if answer is None:
        return wrong("there is no such secret")
    if answer.get("DeletedDate"):
        return wrong("is scheduled for deletion")
    if not any(CURRENT in stages for stages in answer.get("VersionIdsToStages", {}).values()):
        return wrong("has no value yet")
    # The instances' role names the secret by this ARN, and IAM matches only the whole ARN:
    # https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html#ARN_secretnamehyphen
    if answer.get("ARN") not in (None, arn):
        return wrong(f"must be the whole ARN, {answer['ARN']}")
    return ok("exists, and has a value")


def judge_key_name(arn: str, account: str | None, answer: Mapping[str, Any]) -> Finding | None:
    """Judge a secret's key by its name; None if KMS must be asked. AWS cannot share its own key with another account.

    https://docs.aws.amazon.com/secretsmanager/latest/userguide/auth-and-access_examples_cross.html
    """
    key_id = answer.get("KmsKeyId") or DEFAULT_KEY
    if not key_id.endswith(DEFAULT_KEY):
        return None
    owner = Arn.parse(arn).account
    if account is not None and owner != account:
        return wrong(f"a secret of account {owner} under AWS's own key cannot be read from {account}")
    return ok("AWS's own key")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield one check for each secret."""
    paths = {}
    for service_name, service in stack.settings.services.items():
        for variable, arn in service.container.secrets.items():
            paths.setdefault(arn, ("services", service_name, "container", "secrets", variable))
    for arn, path in paths.items():
        subject = Arn.parse(arn).resource.removeprefix("secret:")

        def examine(aws: ReadOnlyAws, arn: str = arn) -> Finding:
            return judge_secret(arn, described_secret(aws, arn))

        def examine_key(aws: ReadOnlyAws, arn: str = arn) -> Finding:
            answer = described_secret(aws, arn)
            if answer is None:
                return not_known("the secret does not exist")
            return judge_key_name(arn, account_of(aws), answer) or judge_key(described(aws, answer["KmsKeyId"]))

        yield Check("secret", subject, path, examine)
        yield Check("secret's key", subject, path, examine_key)


def described_secret(aws: ReadOnlyAws, arn: str) -> Mapping[str, Any] | None:
    """Return a secret without its value; None if it does not exist."""
    return aws.ask(
        "secretsmanager",
        "DescribeSecret",
        not_found=("ResourceNotFoundException", "InvalidParameterException", "ValidationException"),
        SecretId=arn,
    )
