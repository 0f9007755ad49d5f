"""Image caches: an existing rule, or the login of the rule that the stack makes; and images that nothing caches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.config.image_registry import UPSTREAMS
from gpu_fleet.config.rules import registries
from gpu_fleet.operate.preflight import secret
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, Status, ok, warning, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack


def judge_rule(host: str, answer: Mapping[str, Any] | None) -> Finding:
    """The existing rule caches this registry."""
    rules = (answer or {}).get("pullThroughCacheRules", ())
    if not rules:
        return wrong("this account has no pull-through cache rule with this prefix")
    url = rules[0].get("upstreamRegistryUrl")
    if url != UPSTREAMS[host].url:
        return wrong(f"caches {url}, not {UPSTREAMS[host].url}")
    return ok(f"caches {url}")


def judge_login(arn: str, answer: Mapping[str, Any] | None) -> Finding:
    """The secret exists, and has the only key that ECR can use.

    https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-secret.html
    """
    finding = secret.judge_secret(arn, answer)
    key = (answer or {}).get("KmsKeyId") or secret.DEFAULT_KEY
    if finding.status is Status.OK and not key.endswith(secret.DEFAULT_KEY):
        return wrong(f"must be encrypted with aws/secretsmanager, the only key that ECR can use (got {key})")
    return finding


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each cache, and one for each image that is pulled from Docker Hub itself."""
    for host, cache in stack.settings.image_caches.items():
        if cache.existing_prefix is not None:

            def examine_rule(aws: ReadOnlyAws, host: str = host, prefix: str = cache.existing_prefix) -> Finding:
                answer = aws.ask(
                    "ecr",
                    "DescribePullThroughCacheRules",
                    not_found=("PullThroughCacheRuleNotFoundException",),
                    ecrRepositoryPrefixes=[prefix],
                )
                return judge_rule(host, answer)

            path = ("image_caches", host, "existing_prefix")
            yield Check("image cache", f"{host} as {cache.existing_prefix}", path, examine_rule)
        elif cache.credentials_arn is not None:

            def examine_login(aws: ReadOnlyAws, arn: str = cache.credentials_arn) -> Finding:
                return judge_login(arn, secret.described_secret(aws, arn))

            yield Check("image cache's login", host, ("image_caches", host, "credentials_arn"), examine_login)
    for problem in registries.warnings(stack.settings):
        service = str(problem.path[1])

        def examine_registry(_: ReadOnlyAws, text: str = problem.text) -> Finding:
            return warning(text)

        yield Check("image's registry", service, problem.path, examine_registry)
