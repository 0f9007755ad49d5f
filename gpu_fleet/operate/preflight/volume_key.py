"""The key that encrypts the instances' volumes: the account's default for EBS, as pools name none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, Status, ok, wrong
from gpu_fleet.operate.preflight.key import described, judge_key
from gpu_fleet.operate.preflight.service_roles import AUTO_SCALING
from gpu_fleet.operate.preflight.stack_needs import Stack


def judge_key_policy(policy: str, grants: Sequence[Mapping[str, Any]]) -> Finding:
    """The user's own key lets Auto Scaling's role use it; otherwise every launch fails at once.

    https://docs.aws.amazon.com/autoscaling/ec2/userguide/key-policy-requirements-EBS-encryption.html
    """
    statements = json.loads(policy).get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    principals = [
        principal
        for statement in statements
        if statement.get("Effect") == "Allow"
        for principal in _principals(statement)
    ]
    principals += [grant.get("GranteePrincipal", "") for grant in grants]
    if any(each == "*" or each.endswith(f"/{AUTO_SCALING}") for each in principals):
        return ok(f"a key of yours that {AUTO_SCALING} may use")
    return wrong(f"is a key of yours whose policy and grants do not name {AUTO_SCALING}: every launch would fail")


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of the default key."""
    yield Check("volumes' key", "default key of EBS", (), _examine)


def _examine(aws: ReadOnlyAws) -> Finding:
    key_id = aws.get("ec2", "GetEbsDefaultKmsKeyId").get("KmsKeyId")
    if key_id is None:
        raise UnansweredError("ec2:GetEbsDefaultKmsKeyId does not name a key")
    if key_id.endswith("alias/aws/ebs"):
        return ok("AWS's own key")
    answer = described(aws, key_id)
    finding = judge_key(answer)
    if finding.status is Status.WRONG or (answer or {}).get("KeyMetadata", {}).get("KeyManager") == "AWS":
        return finding
    policy = aws.get("kms", "GetKeyPolicy", KeyId=key_id, PolicyName="default").get("Policy", "{}")
    return judge_key_policy(policy, aws.get("kms", "ListGrants", KeyId=key_id).get("Grants", ()))


def _principals(statement: Mapping[str, Any]) -> list[str]:
    """Return the ARNs, or `*`, of a statement's principal in any of its forms."""
    principal = statement.get("Principal", {})
    arns = principal.get("AWS", []) if isinstance(principal, dict) else principal
    return [arns] if isinstance(arns, str) else list(arns)
