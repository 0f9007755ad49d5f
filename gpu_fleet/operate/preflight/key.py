"""KMS keys that something else is encrypted with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong


def key(answer: Mapping[str, Any] | None) -> Finding:
    """It is enabled.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
    """
    if answer is None:
        return wrong("there is no such key")
    found = answer.get("KeyMetadata", {})
    whose = "AWS's own key" if found.get("KeyManager") == "AWS" else "a key of yours"
    if found.get("KeyState") != "Enabled":
        return wrong(f"must be Enabled, is {found.get('KeyState')}")
    return ok(f"{whose}, enabled")


def described(aws: ReadOnlyAws, key_id: str) -> Mapping[str, Any] | None:
    """KMS's description of a key by id, ARN or alias; None: there is none."""
    return aws.ask("kms", "DescribeKey", absent=("NotFoundException", "InvalidArnException"), KeyId=key_id)
