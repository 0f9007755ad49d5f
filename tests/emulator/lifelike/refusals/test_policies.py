from __future__ import annotations

import json
from typing import Any

import pytest


def document(characters: int, *, spaces: int = 0) -> str:
    """Return a policy of `characters` characters, not counting `spaces` spaces."""

    def text(resource: str) -> str:
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{resource}"}
        return json.dumps({"Version": "2012-10-17", "Statement": [statement]}, separators=(",", ":"))

    made = text("x" * (characters - len(text(""))))
    assert len(made) == characters
    return made.replace('"Statement"', " " * spaces + '"Statement"')


def policy(account: Any, text: str) -> str:
    return str(account.iam.create_policy(PolicyName=account.name(), PolicyDocument=text)["Policy"]["Arn"])


def test_a_managed_policy_has_6144_characters_white_space_aside(account: Any, refused: Any) -> None:
    arn = policy(account, document(6144, spaces=500))
    with refused("LimitExceeded", "PolicySize: 6144"):
        policy(account, document(6145))
    with refused("LimitExceeded"):
        account.iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(6145))


def test_the_inline_policies_of_a_role_have_10240_characters_together(account: Any, refused: Any) -> None:
    role = account.role()
    account.iam.put_role_policy(RoleName=role, PolicyName="one", PolicyDocument=document(10_000))
    with refused("LimitExceeded", "10240"):
        account.iam.put_role_policy(RoleName=role, PolicyName="two", PolicyDocument=document(241))
    account.iam.put_role_policy(RoleName=role, PolicyName="two", PolicyDocument=document(240))
    account.iam.put_role_policy(RoleName=role, PolicyName="one", PolicyDocument=document(9999))


def test_a_trust_policy_has_2048_characters(account: Any, refused: Any) -> None:
    def trust(principals: int) -> str:
        who = {"AWS": [f"arn:aws:iam::{i:012d}:root" for i in range(principals)]}
        return json.dumps({"Statement": [{"Effect": "Allow", "Principal": who, "Action": "sts:AssumeRole"}]})

    with refused("LimitExceeded", "2048"):
        account.role(AssumeRolePolicyDocument=trust(80))
    account.role(AssumeRolePolicyDocument=trust(50))


def test_a_role_takes_ten_managed_policies(account: Any, refused: Any) -> None:
    role, arns = account.role(), [policy(account, document(200)) for _ in range(11)]
    for arn in arns[:10]:
        account.iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    with refused("LimitExceeded", "PoliciesPerRole: 10"):
        account.iam.attach_role_policy(RoleName=role, PolicyArn=arns[10])
    account.iam.attach_role_policy(RoleName=role, PolicyArn=arns[0])  # it is there
    account.iam.detach_role_policy(RoleName=role, PolicyArn=arns[0])
    account.iam.attach_role_policy(RoleName=role, PolicyArn=arns[10])


def test_an_attached_policy_and_a_role_with_policies_cannot_be_deleted(account: Any, refused: Any) -> None:
    role, arn = account.role(), policy(account, document(200))
    account.iam.attach_role_policy(RoleName=role, PolicyArn=arn)
    with refused("DeleteConflict"):
        account.iam.delete_policy(PolicyArn=arn)
    with refused("DeleteConflict"):
        account.iam.delete_role(RoleName=role)
    account.iam.detach_role_policy(RoleName=role, PolicyArn=arn)
    account.iam.delete_policy(PolicyArn=arn)
    account.iam.delete_role(RoleName=role)


def test_a_policy_with_other_versions_cannot_be_deleted(account: Any, refused: Any) -> None:
    arn = policy(account, document(200))
    account.iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(201), SetAsDefault=True)
    with refused("DeleteConflict", "more than one version"):
        account.iam.delete_policy(PolicyArn=arn)
    account.iam.delete_policy_version(PolicyArn=arn, VersionId="v1")
    account.iam.delete_policy(PolicyArn=arn)


@pytest.mark.parametrize("call", ["role", "profile"])
def test_a_role_in_a_profile_cannot_be_deleted(account: Any, refused: Any, call: str) -> None:
    role = account.role()
    account.iam.create_instance_profile(InstanceProfileName="profile")
    account.iam.add_role_to_instance_profile(InstanceProfileName="profile", RoleName=role)
    with refused("DeleteConflict"):
        if call == "role":
            account.iam.delete_role(RoleName=role)
        else:
            account.iam.delete_instance_profile(InstanceProfileName="profile")
    account.iam.remove_role_from_instance_profile(InstanceProfileName="profile", RoleName=role)
    account.iam.delete_instance_profile(InstanceProfileName="profile")
    account.iam.delete_role(RoleName=role)
