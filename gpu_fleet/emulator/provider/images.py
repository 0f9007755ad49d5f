"""Container images: pull-through cache rules."""

from __future__ import annotations

from gpu_fleet.emulator.provider.registry import MadeResource, MotoAccount, Resource, makes, without_none


@makes("aws:ecr/pullThroughCacheRule:PullThroughCacheRule", named="ecrRepositoryPrefix")
def pull_through_cache_rule(aws: MotoAccount, r: Resource) -> MadeResource:
    """A pull-through cache rule. A secret that moto lacks is created first: the real one belongs to the account."""
    secret = r.inputs.get("credentialArn")
    made = aws.client("ecr").create_pull_through_cache_rule(
        ecrRepositoryPrefix=r.physical_name,
        upstreamRegistryUrl=r.inputs["upstreamRegistryUrl"],
        **without_none(credentialArn=_secret(aws, secret) if secret else None),
    )
    return r.physical_name, {"registryId": made["registryId"]}


def _secret(aws: MotoAccount, arn: str) -> str:
    client = aws.client("secretsmanager")
    try:
        return str(client.describe_secret(SecretId=arn)["ARN"])
    except client.exceptions.ResourceNotFoundException:
        # An ARN ends in a hyphen and six random characters, which the name does not have.
        name = arn.split(":secret:", 1)[1][:-7]
        return str(client.create_secret(Name=name, SecretString="{}")["ARN"])
