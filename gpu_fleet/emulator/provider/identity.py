"""Roles, policies, instance profiles and KMS keys."""

from __future__ import annotations

import contextlib

from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    json_text,
    makes,
    tag_list,
    tags_argument,
    to_int,
    without_none,
)


def _attach(aws: MotoAccount, role: str, policy_arn: str) -> None:
    """Attach a policy; an AWS managed policy that moto lacks is added first, allowing nothing."""
    iam = aws.client("iam")
    try:
        iam.attach_role_policy(RoleName=role, PolicyArn=policy_arn)
    except iam.exceptions.NoSuchEntityException:
        if not policy_arn.startswith(f"arn:{aws.partition}:iam::aws:policy/"):
            raise
        from moto.iam.models import AWSManagedPolicy, iam_backends

        name = policy_arn.rsplit("/", 1)[-1]
        path = "/" + policy_arn.split(":policy/", 1)[1].removesuffix(name)
        data = {
            "Arn": policy_arn,
            "CreateDate": "2015-01-01T00:00:00+00:00",
            "UpdateDate": "2015-01-01T00:00:00+00:00",
            "DefaultVersionId": "v1",
            "Path": path,
            "Document": {"Version": "2012-10-17", "Statement": []},
        }
        backend = iam_backends[aws.account][aws.partition]
        backend.managed_policies[policy_arn] = AWSManagedPolicy.from_data(name, aws.account, aws.region, data)
        iam.attach_role_policy(RoleName=role, PolicyArn=policy_arn)


@makes("aws:iam/role:Role", longest_name=64, no_effect=("forceDetachPolicies",))
def role(aws: MotoAccount, r: Resource) -> MadeResource:
    """A role with its inline and attached policies."""
    iam, i = aws.client("iam"), r.inputs
    made = iam.create_role(
        RoleName=r.physical_name,
        AssumeRolePolicyDocument=json_text(i["assumeRolePolicy"]),
        **tags_argument(i),
        **without_none(
            Path=i.get("path"),
            Description=i.get("description"),
            MaxSessionDuration=to_int(i.get("maxSessionDuration")),
            PermissionsBoundary=i.get("permissionsBoundary"),
        ),
    )["Role"]
    for inline in i.get("inlinePolicies") or []:
        iam.put_role_policy(
            RoleName=r.physical_name, PolicyName=inline["name"], PolicyDocument=json_text(inline["policy"])
        )
    for arn in i.get("managedPolicyArns") or []:
        _attach(aws, r.physical_name, arn)
    return r.physical_name, {"arn": made["Arn"], "uniqueId": made["RoleId"]}


@makes("aws:iam/rolePolicy:RolePolicy", longest_name=128)
def role_policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """An inline policy of a role."""
    aws.client("iam").put_role_policy(
        RoleName=r.inputs["role"], PolicyName=r.physical_name, PolicyDocument=json_text(r.inputs["policy"])
    )
    return f"{r.inputs['role']}:{r.physical_name}", {}


@makes("aws:iam/policy:Policy", longest_name=128)
def policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """A managed policy."""
    i = r.inputs
    made = aws.client("iam").create_policy(
        PolicyName=r.physical_name,
        PolicyDocument=json_text(i["policy"]),
        **tags_argument(i),
        **without_none(Path=i.get("path"), Description=i.get("description")),
    )["Policy"]
    return made["Arn"], {"arn": made["Arn"], "policyId": made["PolicyId"]}


@makes("aws:iam/rolePolicyAttachment:RolePolicyAttachment")
def role_policy_attachment(aws: MotoAccount, r: Resource) -> MadeResource:
    """A policy attached to a role."""
    _attach(aws, r.inputs["role"], r.inputs["policyArn"])
    return f"{r.inputs['role']}-{r.inputs['policyArn']}", {}


@makes("aws:iam/instanceProfile:InstanceProfile", longest_name=128)
def instance_profile(aws: MotoAccount, r: Resource) -> MadeResource:
    """An instance profile."""
    iam, i = aws.client("iam"), r.inputs
    made = iam.create_instance_profile(
        InstanceProfileName=r.physical_name, **tags_argument(i), **without_none(Path=i.get("path"))
    )["InstanceProfile"]
    if "role" in i:
        iam.add_role_to_instance_profile(InstanceProfileName=r.physical_name, RoleName=i["role"])
    return r.physical_name, {"arn": made["Arn"], "uniqueId": made["InstanceProfileId"]}


@makes("aws:kms/key:Key", no_effect=("deletionWindowInDays", "bypassPolicyLockoutSafetyCheck"))
def key(aws: MotoAccount, r: Resource) -> MadeResource:
    """A KMS key."""
    kms, i = aws.client("kms"), r.inputs
    made = kms.create_key(
        **without_none(
            Description=i.get("description"),
            Policy=json_text(i["policy"]) if "policy" in i else None,
            KeyUsage=i.get("keyUsage"),
            Tags=[{"TagKey": t["Key"], "TagValue": t["Value"]} for t in tag_list(i)] or None,
        ),
    )["KeyMetadata"]
    if i.get("enableKeyRotation"):
        kms.enable_key_rotation(KeyId=made["KeyId"])
    return made["KeyId"], {"arn": made["Arn"], "keyId": made["KeyId"]}


@makes("aws:kms/alias:Alias")
def alias(aws: MotoAccount, r: Resource) -> MadeResource:
    """An alias of a KMS key."""
    kms = aws.client("kms")
    with contextlib.suppress(kms.exceptions.AlreadyExistsException):
        kms.create_alias(AliasName=r.physical_name, TargetKeyId=r.inputs["targetKeyId"])
    return r.physical_name, {"arn": aws.arn("kms", r.physical_name), "targetKeyArn": r.inputs["targetKeyId"]}
