"""Settings, policies, catalog and profiles put together: the services of the scaling model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpu_fleet.config.document import Document, DocumentError, asked
from gpu_fleet.config.library import Library, PlanProblem
from gpu_fleet.config.project_file import PROJECT
from gpu_fleet.config.rules import each
from gpu_fleet.config.rules.plan import library_problems
from gpu_fleet.config.settings import PoolSettings, ServiceSettings, StackSettings
from gpu_fleet.config.stack_file import StackDocument
from gpu_fleet.scaling import profile
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.service import Alternative, Pool, Service


def compose(
    settings: StackSettings, library: Library, wrong: Sequence[PlanProblem] = ()
) -> tuple[tuple[Service, ...], list[PlanProblem]]:
    """The services of the scaling model, of those that are right, and everything in which settings and library do not
    fit together. Both may have holes; `wrong` is what is known to be wrong already.
    """
    problems = library_problems(settings, library)
    spoilt = {
        problem.path[1] for problem in (*wrong, *problems) if problem.path[:1] == ("services",) and problem.path[1:]
    }
    models: list[Service] = []
    for name, value in each.services(settings):
        if library.is_whole and name not in spoilt and getattr(value, "policy", None) in library.policies:
            models += asked(_services, name, value, settings, library)
    return tuple(models), problems


def services(settings: StackSettings, library: Library, document: Document | None = None) -> tuple[Service, ...]:
    """The stack's services as the scaling model sees them.

    A pool's capacity is that of its weakest type, its price and vCPUs those of its preferred one, and its lead time
    boot and model load of the slowest. With `document` (from `read_stack`) errors have their place.
    Raises DocumentError with everything in which settings, policies, catalog and profiles do not fit together.
    """
    document = document or StackDocument(PROJECT, {}, {(): (0, 0)})
    models, problems = compose(settings, library)
    if problems:
        raise DocumentError(document.problem(p.path, p.text) for p in problems)
    return models


def _services(name: str, value: ServiceSettings, settings: StackSettings, library: Library) -> Iterator[Service]:
    yield _service(name, value, settings, library)


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
    carried: list[tuple[float, profile.InstanceCapacity, int, profile.Profile]] = []
    for kind in kinds:
        gpus = value.gpus_per_copy or kind.gpus
        placement = model.placement(kind.gpu, gpus)
        if placement is None:
            raise ValueError(f"{policy.model} has no profile on {gpus} x {kind.gpu}")
        one = profile.instance_capacity(placement, policy.request, policy.slo, policy.load.unit)
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
