"""Image caches, and images that nothing caches."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.image_registry import DOCKER_HUB, DOCKER_HUB_PULLS_PER_HOUR, UPSTREAMS, host_and_path
from gpu_fleet.config.rules import each
from gpu_fleet.config.rules.regions import place_problems
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.wording import suggestion

SECRET_START = "secret:ecr-pullthroughcache/"  # noqa: S105 the start of a name
"""https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html (credentialArn)"""

_PREFIX = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")


def problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check each cache."""
    prefixes: dict[str, str] = {}
    for host, cache in settings.image_caches.items():
        at = ("image_caches", host)
        upstream = UPSTREAMS.get(host)
        if upstream is None:
            allowed = suggestion(host, UPSTREAMS)
            yield PlanProblem(at, f"must be a registry that ECR can cache; {allowed} (got {host})")
            continue
        prefix, credentials = getattr(cache, "existing_prefix", None), getattr(cache, "credentials_arn", None)
        if prefix is not None:
            here = (*at, "existing_prefix")
            if _PREFIX.fullmatch(prefix) is None or not 2 <= len(prefix) <= 30:
                yield PlanProblem(
                    here, f"must be 2 to 30 characters a-z, 0-9 with / . _ - between two of them (got {prefix})"
                )
            if prefix in prefixes:
                yield PlanProblem(here, f"must be another than that of {prefixes[prefix]} (got {prefix})")
            prefixes[prefix] = host
            if credentials is not None:
                yield PlanProblem(
                    (*at, "credentials_arn"), f"must be left out: the existing rule has its own (got {credentials})"
                )
        elif credentials is not None and not upstream.needs_credentials:
            yield PlanProblem((*at, "credentials_arn"), f"must be left out: {host} needs none (got {credentials})")
        elif credentials is not None:
            yield from place_problems((*at, "credentials_arn"), credentials, SECRET_START, settings.region)
        elif upstream.needs_credentials and hasattr(cache, "credentials_arn"):
            yield PlanProblem(
                at,
                f"must have credentials_arn, a secret with a login to {host}, or existing_prefix, "
                "that of a rule that exists (got neither)",
            )


def warnings(settings: StackSettings) -> Iterator[PlanProblem]:
    """Yield each image that instances pull from Docker Hub itself."""
    if DOCKER_HUB in settings.image_caches:
        return
    for name, service in each.services(settings):
        image = service.container.image
        if host_and_path(image)[0] == DOCKER_HUB:
            most = sum(pool.max for _, pool in each.pools(service))
            yield PlanProblem(("services", name, "container", "image"), docker_hub_warning(most))


def docker_hub_warning(most_instances: int) -> str:
    """Return what happens to a service of so many instances whose image is pulled from Docker Hub itself."""
    return (
        f"Docker Hub serves {DOCKER_HUB_PULLS_PER_HOUR} pulls an hour to each public address, which all instances "
        f"behind a NAT gateway share, and this service has up to {most_instances}; set image_caches or use an image in "
        "ECR (docs/boot.md)"
    )
