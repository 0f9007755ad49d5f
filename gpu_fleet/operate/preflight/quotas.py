"""Quotas on what grows with the pools: on-demand vCPUs, spot vCPUs, and storage."""

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
class VcpuNeed:
    """The sum of the pools' vCPUs at their maxima."""

    preferred: int
    """With the first type of each pool."""
    largest: int
    """With the largest type of each pool, which launches if the others are unavailable."""


def quota_value(aws: ReadOnlyAws, service: str, code: str) -> float:
    """Return the account's quota, or AWS's default if the account has none of its own.

    https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_GetServiceQuota.html
    """
    not_found = ("NoSuchResourceException",)
    answer = aws.ask("service-quotas", "GetServiceQuota", not_found=not_found, ServiceCode=service, QuotaCode=code)
    if answer is None:
        answer = aws.ask(
            "service-quotas", "GetAWSDefaultServiceQuota", not_found=not_found, ServiceCode=service, QuotaCode=code
        )
    value = (answer or {}).get("Quota", {}).get("Value")
    if value is None:
        raise UnansweredError(f"Service Quotas has no {service} {code} here")
    return value


def judge_vcpus(need: VcpuNeed, quota: float) -> Finding:
    """The quota covers every pool's maximum. Other instances of the account are not counted."""
    if quota < need.preferred:
        return wrong(f"must be at least {need.preferred} vCPUs, the sum of the pools' max (got {quota:g})")
    if quota < need.largest:
        return ok(f"{quota:g} vCPUs, the pools' max need {need.preferred}, or {need.largest} with their largest types")
    return ok(f"{quota:g} vCPUs, the pools' max need {need.preferred}")


def judge_storage(need_gib: int, quota_tib: float) -> Finding:
    """The quota covers the volumes of every pool's maximum."""
    need_tib = need_gib / GIB_PER_TIB
    if quota_tib < need_tib:
        return wrong(f"must be at least {need_tib:.1f} TiB, the volumes at the pools' max (got {quota_tib:g})")
    return ok(f"{quota_tib:g} TiB, the volumes at the pools' max need {need_tib:.1f}")


def on_demand_needs(stack: Stack) -> Mapping[str, VcpuNeed]:
    """Return the on-demand vCPUs by the catalog's key of the quota.

    Spot pools count in full: on-demand instances replace spot instances that do not come. A service with a limit on a
    quota (`vcpu_quotas`) needs no more than that limit.
    """
    quotas = stack.library.catalog.quotas
    needs: dict[str, VcpuNeed] = {}
    for service_name, service in stack.settings.services.items():
        pools = [pool for pool in stack.pools if pool.service_name == service_name]
        for key, need in _vcpu_needs(stack, pools, spot=False).items():
            limit = service.vcpu_quotas.get(quotas[key].name, math.inf)
            total = needs.get(key, VcpuNeed(0, 0))
            needs[key] = VcpuNeed(
                total.preferred + int(min(limit, need.preferred)), total.largest + int(min(limit, need.largest))
            )
    return needs


def spot_needs(stack: Stack) -> Mapping[str, VcpuNeed]:
    """Return the spot vCPUs by the catalog's key of the quota."""
    return _vcpu_needs(stack, stack.pools, spot=True)


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each vCPU quota that the pools use, and of their storage."""
    for needs in (on_demand_needs(stack), spot_needs(stack)):
        for key, need in needs.items():
            quota = stack.library.catalog.quotas[key]
            yield Check(
                "vCPU quota",
                f"{quota.name} ({quota.code})",
                (),
                lambda aws, need=need, code=quota.code: judge_vcpus(need, quota_value(aws, "ec2", code)),
            )
    need_gib = sum(pool.settings.max * pool.settings.volume_gib for pool in stack.pools)
    yield Check(
        "storage quota",
        f"gp3 storage ({GP3_STORAGE[1]})",
        (),
        lambda aws: judge_storage(need_gib, quota_value(aws, *GP3_STORAGE)),
    )


def _vcpu_needs(stack: Stack, pools: list[StackPool], *, spot: bool) -> dict[str, VcpuNeed]:
    """Return the vCPUs of the pools' maxima by quota. Of a pool's alternatives, the one that needs most counts."""
    needs: dict[str, VcpuNeed] = defaultdict(lambda: VcpuNeed(0, 0))
    catalog = stack.library.catalog
    for pool in pools:
        count = _spot_instances(pool) if spot else pool.settings.max
        by_quota: dict[str, VcpuNeed] = {}
        for type_names in (pool.settings.types, *pool.settings.alternatives):
            types = [catalog.types[name] for name in type_names]
            quotas = [each.spot_quota if spot else each.quota for each in types]
            for key in set(quotas):
                vcpus = [each.vcpus for each, quota in zip(types, quotas, strict=True) if quota == key]
                most = by_quota.get(key, VcpuNeed(0, 0))
                by_quota[key] = VcpuNeed(max(most.preferred, count * vcpus[0]), max(most.largest, count * max(vcpus)))
        for key, need in by_quota.items():
            needs[key] = VcpuNeed(needs[key].preferred + need.preferred, needs[key].largest + need.largest)
    return {key: need for key, need in needs.items() if need.preferred}


def _spot_instances(pool: StackPool) -> int:
    """Return the largest number of spot instances: of those above the base, the on-demand share is rounded up.

    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html
    """
    above = max(0, pool.settings.max - pool.settings.on_demand_base)
    return above - math.ceil(above * (100 - pool.settings.spot_percent) / 100)
