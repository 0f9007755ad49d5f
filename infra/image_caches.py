"""ECR's pull-through caches of the registries from which the services' images come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config.image_registry import UPSTREAMS, cache_prefix
from gpu_fleet.config.settings import ImageCache


@dataclass(frozen=True, slots=True)
class ImageCachesArgs:
    """The caches in the stack's YAML, by the registry's host."""

    settings: Mapping[str, ImageCache]


class ImageCaches(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:ImageCaches`. A pull-through cache rule for each registry that has none yet.

    The repositories that ECR creates under a rule's prefix are not the stack's, and stay when it is destroyed.
    """

    rules: Sequence[aws.ecr.PullThroughCacheRule]

    def __init__(self, name: str, args: ImageCachesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:ImageCaches", name, None, opts)
        self.rules = [
            aws.ecr.PullThroughCacheRule(
                f"{name}-{UPSTREAMS[host].short_name}",
                ecr_repository_prefix=cache_prefix(name, host),
                upstream_registry_url=UPSTREAMS[host].url,
                credential_arn=cache.credentials_arn,
                # A prefix is unique in its account and region, so the old rule must go before the new one comes.
                opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
            )
            for host, cache in args.settings.items()
            if cache.existing_prefix is None
        ]
        self.register_outputs({"prefixes": [rule.ecr_repository_prefix for rule in self.rules]})
