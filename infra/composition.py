"""Settings, policies, catalog and profiles put together: the services of the scaling model."""

from __future__ import annotations

from collections.abc import Mapping

from infra.settings import PoolSettings, ServiceSettings, StackSettings
from infra.stack_file import PROJECT, as_typed
from scaling import profile
from scaling.document import Document, DocumentError
from scaling.library import Library, PlanProblem, PoolPlan, plan_problems
from scaling.policy import LoadUnit
from scaling.service import Alternative, Pool, Service


def service_problems(settings: StackSettings, library: Library) -> list[PlanProblem]:
    """Everything in which the services and the library do not fit together; paths as in `StackSettings`."""
    problems: list[PlanProblem] = []
    quotas = {quota.name for quota in library.catalog.quotas.values()}
    for name, service in settings.services.items():
        at = ("services", name)
        wrong = plan_problems(service.policy, plans(service.pools), library)
        problems += [PlanProblem((*at, *p.path), p.text) for p in wrong]
        problems += [
            PlanProblem((*at, "vcpu_quotas", quota), f"must be a quota of the catalog: {', '.join(sorted(quotas))}")
            for quota in service.vcpu_quotas
            if quota not in quotas
        ]
        policy = library.policies.get(service.policy)
        if policy is not None and policy.workload == "inference" and not (service.paths or service.hosts):
            problems.append(PlanProblem(at, "must have paths or hosts, by which requests find it"))
        zones = {zone for pool in service.pools.values() for zone in pool.zones or settings.network.zones}
        if policy is not None and policy.availability.min_zones > max(1, len(zones)):
            problems.append(
                PlanProblem(
                    ("network", "zones"),
                    f"must be at least {policy.availability.min_zones} for policy {service.policy} (got {len(zones)})",
                )
            )
    return problems


def plans(pools: Mapping[str, PoolSettings]) -> dict[str, PoolPlan]:
    """Pools as the library holds them against a policy."""
    return {
        name: PoolPlan(value.types, value.min, value.max, value.spot_percent, value.gpus_per_copy, value.alternatives)
        for name, value in pools.items()
    }


def services(settings: StackSettings, library: Library, document: Document | None = None) -> tuple[Service, ...]:
    """The stack's services as the scaling model sees them.

    A pool's capacity is that of its weakest type, its price and vCPUs those of its preferred one, and its lead time
    boot and model load of the slowest. With `document` (from `read_stack`) errors have their place.
    Raises DocumentError with everything in which settings, policies, catalog and profiles do not fit together.
    """
    problems = service_problems(settings, library)
    if problems:
        document = document or Document(PROJECT, {}, {(): (0, 0)})
        raise DocumentError(as_typed(document.problem(p.path, p.text)) for p in problems)
    return tuple(_service(name, value, settings, library) for name, value in settings.services.items())


def _service(name: str, value: ServiceSettings, settings: StackSettings, library: Library) -> Service:
    return Service(
        name=name,
        policy=library.policies[value.policy],
        pools=tuple(
            pool(pool_name, pool_value, value.policy, library, pool_value.zones or settings.network.zones)
            for pool_name, pool_value in value.pools.items()
        ),
        vcpu_quotas=value.vcpu_quotas,
    )


def pool(name: str, value: PoolSettings, policy_name: str, library: Library, zones: tuple[str, ...] = ()) -> Pool:
    """One pool as the scaling model sees it. The caller has checked that it fits the library."""
    first = _alternative(value.types, value, policy_name, library)
    return Pool(
        **{figure: getattr(first, figure) for figure in Alternative.model_fields},
        name=name,
        min_instances=value.min,
        max_instances=value.max,
        spot_percent=value.spot_percent,
        on_demand_base=value.on_demand_base,
        zones=zones,
        alternatives=tuple(_alternative(types, value, policy_name, library) for types in value.alternatives),
    )


def _alternative(types: tuple[str, ...], value: PoolSettings, policy_name: str, library: Library) -> Alternative:
    """What an instance of these types carries and costs in the pool."""
    policy = library.policies[policy_name]
    kinds = [library.catalog.types[type_name] for type_name in types]
    model = library.profiles.models[policy.model]
    carried: list[tuple[float, profile.Carrying, int, profile.Profile]] = []
    for kind in kinds:
        gpus = value.gpus_per_copy or kind.gpus
        placement = model.placement(kind.gpu, gpus)
        if placement is None:
            raise ValueError(f"{policy.model} has no profile on {gpus} x {kind.gpu}")
        one = profile.carrying(placement, policy.request, policy.slo, policy.load.unit)
        copies = kind.gpus // gpus
        carried.append((one.throughput_rps * copies, one, copies, placement))
    throughput_rps, weakest, copies, slowest = min(carried, key=lambda one: one[0])
    # Load adds up over copies, except where it is a percentage: eight GPUs in full use are 100 % in use.
    load_copies = 1 if policy.load.unit in (LoadUnit.GPU, LoadUnit.KV_CACHE) else copies
    preferred = kinds[0]
    prices = [kind.spot_usd_per_hour for kind in kinds if kind.spot_usd_per_hour is not None]
    return Alternative(
        types=types,
        capacity=weakest.capacity * load_copies,
        throughput_rps=throughput_rps,
        slowdown=weakest.slowdown,
        service_seconds=weakest.service_seconds,
        slots=weakest.slots * copies,
        first_token_seconds=weakest.first_token_seconds,
        copies=copies,
        reaches_slo=weakest.reaches_slo,
        on_demand_usd_per_hour=preferred.on_demand_usd_per_hour,
        spot_usd_per_hour=min(prices) if prices else None,
        vcpus=preferred.vcpus,
        quota=library.catalog.quotas[preferred.quota].name,
        lead_seconds=max(kind.boot_seconds for kind in kinds) + max(one[3].load_seconds for one in carried),
        speed=profile.Speed(**slowest.model_dump(include=set(profile.Speed.model_fields))),
    )
