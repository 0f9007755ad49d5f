"""Quotas of what grows with the pools: vCPUs on demand and as spot, and storage."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack, StackPool

GIB_PER_TIB = 1024
GP3_STORAGE = ("ebs", "L-7A658B76")
"""Storage for General Purpose SSD (gp3) volumes, in TiB: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html"""


@dataclass(frozen=True, slots=True)
class Need:
    """vCPUs that the pools come to at their maxima."""

    preferred: int
    """With the type that each pool names first."""
    largest: int
    """With the largest type of each, which launches where the others cannot be had."""


def applied(aws: ReadOnlyAws, service: str, code: str) -> float:
    """The account's quota; AWS's default where the account has none of its own.

    https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html
    """
    missing = ("NoSuchResourceException",)
    answer = aws.ask("service-quotas", "GetServiceQuota", absent=missing, ServiceCode=service, QuotaCode=code)
    if answer is None:
        answer = aws.ask(
            "service-quotas", "GetAWSDefaultServiceQuota", absent=missing, ServiceCode=service, QuotaCode=code
        )
    value = (answer or {}).get("Quota", {}).get("Value")
    if value is None:
        raise UnansweredError(f"Service Quotas has no {service} {code} here")
    return value


def vcpus(need: Need, quota: float) -> Finding:
    """The quota carries every pool's maximum. What other instances of the account use of it is not taken off."""
    if quota < need.preferred:
        return wrong(f"must be at least {need.preferred} vCPUs, the sum of the pools' max (got {quota:g})")
    if quota < need.largest:
        return ok(
            f"{quota:g} vCPUs, the pools' max come to {need.preferred}; to {need.largest} with their largest types"
        )
    return ok(f"{quota:g} vCPUs, the pools' max come to {need.preferred}")


def storage(need_gib: int, quota_tib: float) -> Finding:
    """The volumes of every pool's maximum fit into the quota."""
    need_tib = need_gib / GIB_PER_TIB
    if quota_tib < need_tib:
        return wrong(f"must be at least {need_tib:.1f} TiB, the volumes at the pools' max (got {quota_tib:g})")
    return ok(f"{quota_tib:g} TiB, the volumes at the pools' max come to {need_tib:.1f}")


def on_demand_needs(stack: Stack) -> Mapping[str, Need]:
    """By the catalog's key of the quota. Spot counts in full: what cannot be had is made up by on-demand instances.

    A service that is bound to part of a quota needs no more than that.
    """
    quotas = stack.library.catalog.quotas
    needs: dict[str, Need] = {}
    for service_name, service in stack.settings.services.items():
        pools = [pool for pool in stack.pools if pool.service_name == service_name]
        for key, need in _needs(stack, pools, spot=False).items():
            most = service.vcpu_quotas.get(quotas[key].name, math.inf)
            before = needs.get(key, Need(0, 0))
            needs[key] = Need(
                before.preferred + int(min(most, need.preferred)), before.largest + int(min(most, need.largest))
            )
    return needs


def spot_needs(stack: Stack) -> Mapping[str, Need]:
    """By the catalog's key of the quota."""
    return _needs(stack, stack.pools, spot=True)


def checks(stack: Stack) -> Iterator[Check]:
    """Each vCPU quota that the pools draw on, and their storage."""
    for needs in (on_demand_needs(stack), spot_needs(stack)):
        for key, need in needs.items():
            quota = stack.library.catalog.quotas[key]
            yield Check(
                "vCPU quota",
                f"{quota.name} ({quota.code})",
                (),
                lambda aws, need=need, code=quota.code: vcpus(need, applied(aws, "ec2", code)),
            )
    need_gib = sum(pool.settings.max * pool.settings.volume_gib for pool in stack.pools)
    yield Check(
        "storage quota",
        f"gp3 storage ({GP3_STORAGE[1]})",
        (),
        lambda aws: storage(need_gib, applied(aws, *GP3_STORAGE)),
    )


def _needs(stack: Stack, pools: list[StackPool], *, spot: bool) -> dict[str, Need]:
    """What the pools' maxima come to, by quota. Of a pool with alternatives each quota must carry the most of them."""
    needs: dict[str, Need] = defaultdict(lambda: Need(0, 0))
    catalog = stack.library.catalog
    for pool in pools:
        count = _spot_instances(pool) if spot else pool.settings.max
        of_pool: dict[str, Need] = {}
        for types in (pool.settings.types, *pool.settings.alternatives):
            kinds = [catalog.types[name] for name in types]
            for key in {kind.spot_quota if spot else kind.quota for kind in kinds}:
                sizes = [kind.vcpus for kind in kinds if key == (kind.spot_quota if spot else kind.quota)]
                before = of_pool.get(key, Need(0, 0))
                of_pool[key] = Need(max(before.preferred, count * sizes[0]), max(before.largest, count * max(sizes)))
        for key, need in of_pool.items():
            needs[key] = Need(needs[key].preferred + need.preferred, needs[key].largest + need.largest)
    return {key: need for key, need in needs.items() if need.preferred}


def _spot_instances(pool: StackPool) -> int:
    """The most of a pool that are spot: above the base, on-demand instances are rounded up.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html
    """
    above = max(0, pool.settings.max - pool.settings.on_demand_base)
    return above - math.ceil(above * (100 - pool.settings.spot_percent) / 100)
