"""IAM policies: how long they may be, how many a role takes, and when one may be deleted."""

from __future__ import annotations

import json
import re
from typing import Any

from moto.iam import models
from moto.iam.exceptions import DeleteConflictException, LimitExceededException

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="policies",
    moto="takes policies of any length, any number of them on a role, and deletes one that is still attached",
    aws=(
        "a managed policy has 6144 characters, the inline ones of a role 10240 and its trust policy 2048, white space "
        "not counted; a role takes 10 managed policies; an attached one is a DeleteConflict"
    ),
    source=(
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html "
        "https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeletePolicy.html"
    ),
)

MANAGED_CHARACTERS, INLINE_CHARACTERS, TRUST_CHARACTERS, POLICIES_PER_ROLE = 6144, 10240, 2048, 10
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""


def characters(document: Any) -> int:
    """What IAM counts of a policy: everything but white space."""
    return len(re.sub(r"\s", "", document if isinstance(document, str) else json.dumps(document)))


def mend(patches: Patches) -> None:
    """Count before moto acts."""
    backend = models.IAMBackend

    def create_policy(self: Any, description: str, path: str, policy_document: str, *more: Any, **named: Any) -> Any:
        _check_managed(policy_document)
        return moto_policy(self, description, path, policy_document, *more, **named)

    def create_policy_version(self: Any, policy_arn: str, policy_document: str, *more: Any, **named: Any) -> Any:
        _check_managed(policy_document)
        return moto_version(self, policy_arn, policy_document, *more, **named)

    def put_role_policy(self: Any, role_name: str, policy_name: str, policy_json: str) -> None:
        others = {name: text for name, text in self.get_role(role_name).policies.items() if name != policy_name}
        if sum(map(characters, [*others.values(), policy_json])) > INLINE_CHARACTERS:
            raise LimitExceededException(
                f"Maximum policy size of {INLINE_CHARACTERS} bytes exceeded for role {role_name}"
            )
        moto_inline(self, role_name, policy_name, policy_json)

    def create_role(self: Any, role_name: str, assume_role_policy_document: str, *more: Any, **named: Any) -> Any:
        if characters(assume_role_policy_document) > TRUST_CHARACTERS:
            raise LimitExceededException(f"Cannot exceed quota for ACLSizePerRole: {TRUST_CHARACTERS}")
        return moto_role(self, role_name, assume_role_policy_document, *more, **named)

    def attach_role_policy(self: Any, policy_arn: str, role_name: str) -> None:
        attached = self.get_role(role_name).managed_policies
        if policy_arn not in attached and len(attached) >= POLICIES_PER_ROLE:
            raise LimitExceededException(f"Cannot exceed quota for PoliciesPerRole: {POLICIES_PER_ROLE}")
        moto_attach(self, policy_arn, role_name)

    def delete_policy(self: Any, policy_arn: str) -> None:
        policy = self.get_policy(policy_arn)
        if policy.attachment_count:
            raise DeleteConflictException("Cannot delete a policy attached to entities.")
        if len(policy.versions) > 1:
            raise DeleteConflictException(
                "This policy has more than one version. Before you delete a policy, you must delete the policy's "
                "versions. The default version is deleted with the policy."
            )
        moto_delete(self, policy_arn)

    moto_policy = patches.put(backend, "create_policy", create_policy)
    moto_version = patches.put(backend, "create_policy_version", create_policy_version)
    moto_inline = patches.put(backend, "put_role_policy", put_role_policy)
    moto_role = patches.put(backend, "create_role", create_role)
    moto_attach = patches.put(backend, "attach_role_policy", attach_role_policy)
    moto_delete = patches.put(backend, "delete_policy", delete_policy)


def _check_managed(document: str) -> None:
    if characters(document) > MANAGED_CHARACTERS:
        raise LimitExceededException(f"Cannot exceed quota for PolicySize: {MANAGED_CHARACTERS}")
