"""IAM policies: their size, their number on a role, and deletion only when detached."""

from __future__ import annotations

import json
import re
from typing import Any

from moto.iam import models
from moto.iam.exceptions import DeleteConflictException, LimitExceededException

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="policies",
    moto="accepts policies of any length, any number of them on a role, and deletes one that is still attached",
    aws=(
        "a managed policy has at most 6144 characters, a role's inline policies together 10240 and its trust policy "
        "2048, not counting white space; a role takes 10 managed policies; deleting an attached one is a "
        "DeleteConflict"
    ),
    source=(
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html "
        "https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeletePolicy.html"
    ),
)

MANAGED_CHARACTERS, INLINE_CHARACTERS, TRUST_CHARACTERS, POLICIES_PER_ROLE = 6144, 10240, 2048, 10
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""


def patch_moto(patches: Patches) -> None:
    """Check sizes and uses before moto acts."""
    backend = models.IAMBackend
    patches.wrap(backend, "create_policy", create_policy)
    patches.wrap(backend, "create_policy_version", create_policy_version)
    patches.wrap(backend, "put_role_policy", put_role_policy)
    patches.wrap(backend, "create_role", create_role)
    patches.wrap(backend, "attach_role_policy", attach_role_policy)
    patches.wrap(backend, "delete_policy", delete_policy)


def create_policy(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreatePolicy within the size of a managed policy."""
    _check_managed(arguments(moto, backend, *args, **kwargs)["policy_document"])
    return moto(backend, *args, **kwargs)


def create_policy_version(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreatePolicyVersion within the size of a managed policy."""
    _check_managed(arguments(moto, backend, *args, **kwargs)["policy_document"])
    return moto(backend, *args, **kwargs)


def put_role_policy(moto: Any, backend: Any, role_name: str, policy_name: str, policy_json: str) -> None:
    """PutRolePolicy within the size of the role's inline policies together."""
    others = {name: text for name, text in backend.get_role(role_name).policies.items() if name != policy_name}
    if sum(map(count_characters, [*others.values(), policy_json])) > INLINE_CHARACTERS:
        raise LimitExceededException(f"Maximum policy size of {INLINE_CHARACTERS} bytes exceeded for role {role_name}")
    moto(backend, role_name, policy_name, policy_json)


def create_role(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreateRole within the size of a trust policy."""
    trust_policy = arguments(moto, backend, *args, **kwargs)["assume_role_policy_document"]
    if count_characters(trust_policy) > TRUST_CHARACTERS:
        raise LimitExceededException(f"Cannot exceed quota for ACLSizePerRole: {TRUST_CHARACTERS}")
    return moto(backend, *args, **kwargs)


def attach_role_policy(moto: Any, backend: Any, policy_arn: str, role_name: str) -> None:
    """AttachRolePolicy, at most 10 per role."""
    attached = backend.get_role(role_name).managed_policies
    if policy_arn not in attached and len(attached) >= POLICIES_PER_ROLE:
        raise LimitExceededException(f"Cannot exceed quota for PoliciesPerRole: {POLICIES_PER_ROLE}")
    moto(backend, policy_arn, role_name)


def delete_policy(moto: Any, backend: Any, policy_arn: str) -> None:
    """DeletePolicy that is attached to nothing and has no other version."""
    policy = backend.get_policy(policy_arn)
    if policy.attachment_count:
        raise DeleteConflictException("Cannot delete a policy attached to entities.")
    if len(policy.versions) > 1:
        raise DeleteConflictException(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's "
            "versions. The default version is deleted with the policy."
        )
    moto(backend, policy_arn)


def count_characters(document: Any) -> int:
    """Return the size of a policy as IAM counts it, without white space."""
    return len(re.sub(r"\s", "", document if isinstance(document, str) else json.dumps(document)))


def _check_managed(document: str) -> None:
    if count_characters(document) > MANAGED_CHARACTERS:
        raise LimitExceededException(f"Cannot exceed quota for PolicySize: {MANAGED_CHARACTERS}")
