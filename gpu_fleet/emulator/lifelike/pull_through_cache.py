"""ECR's pull-through cache rules: create, describe, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.ecr.responses import ECRResponse
from moto.secretsmanager.models import secretsmanager_backends

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="pull-through cache rules",
    moto="CreatePullThroughCacheRule, DescribePullThroughCacheRules and DeletePullThroughCacheRule are missing",
    aws=(
        "a rule's prefix is unique in its account and region; a registry with a login needs a secret there, and "
        "its name begins with ecr-pullthroughcache/; other registries than those that AWS lists are refused"
    ),
    source=(
        "https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_CreatePullThroughCacheRule.html "
        "https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache-creating-rule.html"
    ),
)

_WITH_LOGIN = ("registry-1.docker.io", "ghcr.io", "registry.gitlab.com")
_WITHOUT = ("quay.io", "registry.k8s.io", "public.ecr.aws")

Rule = dict[str, Any]


def patch_moto(patches: Patches) -> None:
    """Add the three operations."""
    for name, operation in (("create", _create), ("delete", _delete)):
        patches.replace(ECRResponse, f"{name}_pull_through_cache_rule", _answers(operation))
    patches.replace(ECRResponse, "describe_pull_through_cache_rules", _answers(_describe))


def _answers(operation: Callable[[Any], Rule]) -> Callable[[Any], ActionResult]:
    return lambda request: ActionResult(operation(request))


def _rules(request: Any) -> dict[str, Rule]:
    """Return the rules of the request's account and region, by prefix."""
    return vars(request.ecr_backend).setdefault("pull_through_cache_rules", {})


def _create(request: Any) -> Rule:
    prefix, url = request._get_param("ecrRepositoryPrefix"), request._get_param("upstreamRegistryUrl")
    secret, account = request._get_param("credentialArn"), request.current_account
    if url not in (*_WITH_LOGIN, *_WITHOUT):
        raise JsonRESTError("UnsupportedUpstreamRegistryException", f"The upstream registry {url} is not supported")
    if url in _WITH_LOGIN and not secret:
        raise JsonRESTError("InvalidParameterException", f"The upstream registry {url} needs a credentialArn")
    if secret and not secret.split(":secret:", 1)[-1].startswith("ecr-pullthroughcache/"):
        raise JsonRESTError("InvalidParameterException", "credentialArn must name a secret ecr-pullthroughcache/...")
    if secret and not _has_secret(account, request.region, secret):
        raise JsonRESTError("SecretNotFoundException", f"The secret {secret} does not exist")
    if prefix in _rules(request):
        raise JsonRESTError(
            "PullThroughCacheRuleAlreadyExistsException", f"A pull through cache rule with prefix {prefix} exists"
        )
    rule = {"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": url, "registryId": account, "credentialArn": secret}
    _rules(request)[prefix] = {key: value for key, value in rule.items() if value is not None}
    return _rules(request)[prefix]


def _has_secret(account: str, region: str, arn: str) -> bool:
    return any(each.arn == arn for each in secretsmanager_backends[account][region].secrets.values())


def _describe(request: Any) -> Rule:
    wanted = request._get_param("ecrRepositoryPrefixes") or list(_rules(request))
    return {"pullThroughCacheRules": [_rule(request, prefix) for prefix in wanted]}


def _delete(request: Any) -> Rule:
    rule = _rule(request, request._get_param("ecrRepositoryPrefix"))
    return _rules(request).pop(rule["ecrRepositoryPrefix"])


def _rule(request: Any, prefix: str) -> Rule:
    if prefix not in _rules(request):
        text = f"The pull through cache rule with prefix {prefix} does not exist"
        raise JsonRESTError("PullThroughCacheRuleNotFoundException", text)
    return _rules(request)[prefix]
