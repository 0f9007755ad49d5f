"""KMS keys that encrypt something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong


def judge_key(answer: Mapping[str, Any] | None) -> Finding:
    """The key is enabled.

    https://docs.aws.amazon.com/kms/latest/developerguide/key-state.html
    """
    if answer is None:
        return wrong("there is no such key")
    metadata = answer.get("KeyMetadata", {})
    owner = "AWS's own key" if metadata.get("KeyManager") == "AWS" else "a key of yours"
    if metadata.get("KeyState") != "Enabled":
        return wrong(f"must be Enabled, is {metadata.get('KeyState')}")
    return ok(f"{owner}, enabled")


def described(aws: ReadOnlyAws, key_id: str) -> Mapping[str, Any] | None:
    """Return KMS's description of a key by id, ARN or alias; None if it does not exist."""
    return aws.ask("kms", "DescribeKey", not_found=("NotFoundException", "InvalidArnException"), KeyId=key_id)
