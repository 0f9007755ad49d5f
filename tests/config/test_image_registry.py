"""Names of images, and what instances pull in their place."""

from __future__ import annotations

import re
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.config.image_registry import (
    MAX_PREFIX,
    UPSTREAMS,
    PulledImage,
    cache_prefix,
    ecr_registry,
    host_and_path,
    pulled_image,
)

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
PREFIXES = {"docker.io": "hub", "ghcr.io": "team/ghcr"}


@pytest.mark.parametrize(
    ("image", "host", "path"),
    [
        ("vllm/vllm-openai:v0.29.0", "docker.io", "vllm/vllm-openai:v0.29.0"),
        ("redis", "docker.io", "library/redis"),
        ("redis:7@sha256:ab", "docker.io", "library/redis:7@sha256:ab"),
        ("docker.io/redis:7", "docker.io", "library/redis:7"),
        ("index.docker.io/vllm/vllm-openai", "docker.io", "vllm/vllm-openai"),
        ("ghcr.io/ggml-org/llama.cpp:server", "ghcr.io", "ggml-org/llama.cpp:server"),
        ("localhost/own", "localhost", "own"),
        ("registry:5000/own:1", "registry:5000", "own:1"),
        (f"{REGISTRY}/engine:1", REGISTRY, "engine:1"),
    ],
)
def test_a_name_without_a_host_is_docker_hubs(image: str, host: str, path: str) -> None:
    assert host_and_path(image) == (host, path)


@pytest.mark.parametrize(
    ("image", "pulled"),
    [
        ("vllm/vllm-openai:v0.29.0", f"{REGISTRY}/hub/vllm/vllm-openai:v0.29.0"),
        ("redis@sha256:ab", f"{REGISTRY}/hub/library/redis@sha256:ab"),
        ("ghcr.io/a/b:1", f"{REGISTRY}/team/ghcr/a/b:1"),
    ],
)
def test_an_image_of_a_cached_registry_is_pulled_through_ecr(image: str, pulled: str) -> None:
    assert pulled_image(image, PREFIXES, REGISTRY) == PulledImage(pulled, cached=True)


@pytest.mark.parametrize("image", ["nvcr.io/nvidia/tritonserver:1", f"{REGISTRY}/engine:1", "quay.io/a/b"])
def test_any_other_image_keeps_its_name(image: str) -> None:
    assert pulled_image(image, PREFIXES, REGISTRY) == PulledImage(image, cached=False)


def test_the_registry_has_the_partitions_domain() -> None:
    assert ecr_registry("123456789012", "us-east-1") == REGISTRY
    assert ecr_registry("123456789012", "cn-north-1").endswith(".dkr.ecr.cn-north-1.amazonaws.com.cn")


def rule_model(member: str) -> Any:
    model = botocore.session.get_session().get_service_model("ecr")
    return model.operation_model("CreatePullThroughCacheRule").input_shape.members[member]


@given(st.from_regex(r"[a-z][a-z0-9]{0,20}(-[a-z0-9]{1,20}){1,2}", fullmatch=True), st.sampled_from(sorted(UPSTREAMS)))
def test_a_stacks_prefix_is_one_that_ecr_takes(name: str, host: str) -> None:
    shape = rule_model("ecrRepositoryPrefix")
    prefix = cache_prefix(name, host)
    assert shape.metadata["max"] == MAX_PREFIX
    assert shape.metadata["min"] <= len(prefix) <= MAX_PREFIX
    assert re.fullmatch(shape.metadata["pattern"].replace("\\/", "/"), prefix)


def test_two_stacks_with_long_names_have_two_prefixes() -> None:
    assert cache_prefix("gpu-fleet-production-eu-1", "docker.io") != cache_prefix(
        "gpu-fleet-production-eu-2", "docker.io"
    )
    assert cache_prefix("gpu-fleet-prod", "docker.io") == "gpu-fleet-prod/docker-hub"


def test_ecr_knows_each_upstream() -> None:
    text = rule_model("upstreamRegistryUrl").documentation
    assert [host for host, upstream in UPSTREAMS.items() if f"<code>{upstream.url}</code>" not in text] == []
