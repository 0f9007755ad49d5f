"""Where a container's image is pulled from: its own registry, or ECR's pull-through cache of that registry.

A stack with a cache keeps the image's usual name in its YAML. Instances pull `vllm/vllm-openai:v0.29.0` as
`123456789012.dkr.ecr.us-east-1.amazonaws.com/gpu-fleet-prod/docker-hub/vllm/vllm-openai:v0.29.0`, and at the first pull
ECR fetches it from Docker Hub: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.config import naming
from gpu_fleet.config.settings import StackSettings

DOCKER_HUB = "docker.io"

DOCKER_HUB_PULLS_PER_HOUR = 10
"""Of one IPv4 address without a login; a login to a free account has 100: https://docs.docker.com/docker-hub/usage/"""

MAX_PREFIX = 30
"""Of a cache's repositories: https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html
(ecrRepositoryPrefix)"""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A registry that ECR can cache."""

    short_name: str
    """Last part of the prefix that the stack's rule has."""
    url: str
    """As the rule names it."""
    needs_credentials: bool


UPSTREAMS: Mapping[str, Upstream] = {
    DOCKER_HUB: Upstream("docker-hub", "registry-1.docker.io", needs_credentials=True),
    "ghcr.io": Upstream("ghcr", "ghcr.io", needs_credentials=True),
    "registry.gitlab.com": Upstream("gitlab", "registry.gitlab.com", needs_credentials=True),
    "quay.io": Upstream("quay", "quay.io", needs_credentials=False),
    "registry.k8s.io": Upstream("k8s", "registry.k8s.io", needs_credentials=False),
    "public.ecr.aws": Upstream("ecr-public", "public.ecr.aws", needs_credentials=False),
}
"""By the host in an image's name. ECR knows no cache of nvcr.io; it knows Azure's and another ECR, which have one host
per customer: https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html"""


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image as an instance pulls it."""

    name: str
    cached: bool
    """Whether it comes through a pull-through cache, so that the first pull creates its repository."""


def host_and_path(image: str) -> tuple[str, str]:
    """Return the registry of an image, and the rest of its name as the registry knows it.

    `redis:7` is `library/redis:7` of docker.io:
    https://github.com/distribution/reference/blob/main/normalize.go
    """
    first, _, rest = image.partition("/")
    if rest and ("." in first or ":" in first or first == "localhost"):
        host, path = first, rest
    else:
        host, path = DOCKER_HUB, image
    if host in (DOCKER_HUB, "index.docker.io"):
        return DOCKER_HUB, path if "/" in path else f"library/{path}"
    return host, path


def cache_prefix(name: str, host: str) -> str:
    """Return the prefix of the repositories of a stack's own cache; `name` is `PROJECT-STACK`.

    A name that does not fit is cut and ends in four digits of its hash, so that two stacks do not share a cache.
    """
    short_name = UPSTREAMS[host].short_name
    return f"{naming.cut(name, MAX_PREFIX - len(short_name) - 1)}/{short_name}"


def cache_prefixes(settings: StackSettings, name: str) -> dict[str, str]:
    """Return the prefix of each cached registry, by its host; `name` is `PROJECT-STACK`.

    Registries that ECR cannot cache, which `validate` refuses, are left out.
    """
    return {
        host: cache.existing_prefix or cache_prefix(name, host)
        for host, cache in settings.image_caches.items()
        if host in UPSTREAMS
    }


def ecr_registry(account: str, region: str) -> str:
    """Return the host of an account's registry.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/Registries.html
    """
    return f"{account}.dkr.ecr.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def pulled_image(image: str, prefixes: Mapping[str, str], registry: str) -> PulledImage:
    """Return the image as an instance pulls it; `registry` is the account's, `prefixes` are those of its caches."""
    host, path = host_and_path(image)
    if host not in prefixes:
        return PulledImage(image, cached=False)
    return PulledImage(f"{registry}/{prefixes[host]}/{path}", cached=True)
