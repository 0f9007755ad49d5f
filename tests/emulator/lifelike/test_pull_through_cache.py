"""Pull-through cache rules, and what ECR refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import EmbeddedCloud

HUB = "registry-1.docker.io"


@pytest.fixture
def cloud() -> Iterator[EmbeddedCloud]:
    with EmbeddedCloud() as cloud:
        yield cloud


def login(cloud: EmbeddedCloud, name: str = "ecr-pullthroughcache/hub") -> str:
    return cloud.client("secretsmanager").create_secret(Name=name, SecretString="{}")["ARN"]


def code_of(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def test_a_rule_is_created_described_and_deleted(cloud: EmbeddedCloud) -> None:
    ecr = cloud.client("ecr")
    ecr.create_pull_through_cache_rule(
        ecrRepositoryPrefix="hub", upstreamRegistryUrl=HUB, credentialArn=(arn := login(cloud))
    )
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="quay", upstreamRegistryUrl="quay.io")
    rules = {r["ecrRepositoryPrefix"]: r for r in ecr.describe_pull_through_cache_rules()["pullThroughCacheRules"]}
    assert rules["hub"]["credentialArn"] == arn
    assert rules["quay"]["upstreamRegistryUrl"] == "quay.io"
    assert ecr.delete_pull_through_cache_rule(ecrRepositoryPrefix="quay")["ecrRepositoryPrefix"] == "quay"
    assert code_of(ecr.describe_pull_through_cache_rules, ecrRepositoryPrefixes=["quay"]) == (
        "PullThroughCacheRuleNotFoundException"
    )
    assert code_of(ecr.delete_pull_through_cache_rule, ecrRepositoryPrefix="quay") == (
        "PullThroughCacheRuleNotFoundException"
    )


def test_a_prefix_is_taken_once(cloud: EmbeddedCloud) -> None:
    ecr = cloud.client("ecr")
    ecr.create_pull_through_cache_rule(ecrRepositoryPrefix="quay", upstreamRegistryUrl="quay.io")
    assert (
        code_of(ecr.create_pull_through_cache_rule, ecrRepositoryPrefix="quay", upstreamRegistryUrl="public.ecr.aws")
        == "PullThroughCacheRuleAlreadyExistsException"
    )


@pytest.mark.parametrize(
    ("url", "secret", "code"),
    [
        ("nvcr.io", None, "UnsupportedUpstreamRegistryException"),
        (HUB, None, "InvalidParameterException"),
        (HUB, "hub", "InvalidParameterException"),
        (HUB, "ecr-pullthroughcache/other", "SecretNotFoundException"),
    ],
)
def test_a_rule_that_could_fetch_nothing_is_refused(
    cloud: EmbeddedCloud, url: str, secret: str | None, code: str
) -> None:
    arn = (
        login(cloud, "hub")
        if secret == "hub"
        else f"arn:aws:secretsmanager:us-east-1:123456789012:secret:{secret}-AbCdEf"
    )
    given = {"credentialArn": arn} if secret else {}
    ecr = cloud.client("ecr")
    assert (
        code_of(ecr.create_pull_through_cache_rule, ecrRepositoryPrefix="hub", upstreamRegistryUrl=url, **given) == code
    )
