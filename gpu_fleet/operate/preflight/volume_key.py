"""The key that the instances' volumes are encrypted with: the account's default for EBS, as pools name none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, Status, ok, wrong
from gpu_fleet.operate.preflight.key import described, key
from gpu_fleet.operate.preflight.service_roles import AUTO_SCALING
from gpu_fleet.operate.preflight.stack_needs import Stack


def lets_auto_scaling(policy: str, grants: Sequence[Mapping[str, Any]]) -> Finding:
    """A key of the user's must let Auto Scaling's own role use it, or every launch ends at once.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html
    """
    statements = json.loads(policy).get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    named = [one for statement in statements if statement.get("Effect") == "Allow" for one in _principals(statement)]
    named += [grant.get("GranteePrincipal", "") for grant in grants]
    if any(one == "*" or one.endswith(f"/{AUTO_SCALING}") for one in named):
        return ok(f"a key of yours that {AUTO_SCALING} may use")
    return wrong(f"is a key of yours whose policy and grants do not name {AUTO_SCALING}: every launch would fail")


def checks(stack: Stack) -> Iterator[Check]:
    """The default key."""
    yield Check("volumes' key", "default key of EBS", (), _look)


def _look(aws: ReadOnlyAws) -> Finding:
    key_id = aws.get("ec2", "GetEbsDefaultKmsKeyId").get("KmsKeyId")
    if key_id is None:
        raise UnansweredError("ec2:GetEbsDefaultKmsKeyId does not name a key")
    if key_id.endswith("alias/aws/ebs"):
        return ok("AWS's own key")
    answer = described(aws, key_id)
    found = key(answer)
    if found.status is Status.WRONG or (answer or {}).get("KeyMetadata", {}).get("KeyManager") == "AWS":
        return found
    policy = aws.get("kms", "GetKeyPolicy", KeyId=key_id, PolicyName="default").get("Policy", "{}")
    return lets_auto_scaling(policy, aws.get("kms", "ListGrants", KeyId=key_id).get("Grants", ()))


def _principals(statement: Mapping[str, Any]) -> list[str]:
    """The ARNs, or `*`, of a statement's principal, however it is written."""
    principal = statement.get("Principal", {})
    named = principal.get("AWS", []) if isinstance(principal, dict) else principal
    return [named] if isinstance(named, str) else list(named)
