"""Settings, policies, catalog and profiles combined into the services of the scaling model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gpu_fleet.config.boot_estimate import BootPath, Way, expected_boot, launch_price
from gpu_fleet.config.catalog import InstanceType, ServedModel
from gpu_fleet.config.document import Document, DocumentError
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.image_registry import host_and_path
from gpu_fleet.config.library import Library
from gpu_fleet.config.model_weights import streams
from gpu_fleet.config.project_file import PROJECT
from gpu_fleet.config.queue_options import as_served
from gpu_fleet.config.rules import each
from gpu_fleet.config.rules.plan import library_problems
from gpu_fleet.config.settings import Nat, NewNetwork, PoolSettings, ServiceSettings, StackSettings
from gpu_fleet.config.stack_file import StackDocument
from gpu_fleet.config.validation import until_hole
from gpu_fleet.scaling import profile
from gpu_fleet.scaling.boot import Boot
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Alternative, Pool, Service


def compose(
    settings: StackSettings, library: Library, wrong: Sequence[PlanProblem] = ()
) -> tuple[tuple[Service, ...], list[PlanProblem]]:
    """Return the valid services, and every reason why settings and library do not fit together.

    Both may have holes; `wrong` holds the errors found before.
    """
    problems = library_problems(settings, library)
    invalid = {
        problem.path[1] for problem in (*wrong, *problems) if problem.path[:1] == ("services",) and problem.path[1:]
    }
    models: list[Service] = []
    for name, value in each.services(settings):
        if library.is_whole and name not in invalid and getattr(value, "policy", None) in library.policies:
            models += until_hole(_services, name, value, settings, library)
    return tuple(models), problems


def services(settings: StackSettings, library: Library, document: Document | None = None) -> tuple[Service, ...]:
    """Return the stack's services in the scaling model.

    A pool has the capacity of its weakest type, the price and vCPUs of its preferred type, and as lead time the boot of
    the slowest. With `document` (from `read_stack`) errors have their place.
    Raises DocumentError with every reason why settings, policies, catalog and profiles do not fit together.
    """
    document = document or StackDocument(PROJECT, {}, {(): (0, 0)})
    models, problems = compose(settings, library)
    if problems:
        raise DocumentError(document.problem(p.path, p.text) for p in problems)
    return models


def _services(name: str, value: ServiceSettings, settings: StackSettings, library: Library) -> Iterator[Service]:
    yield Service(
        name=name,
        policy=as_served(library.policies[value.policy], value.container.image),
        pools=tuple(
            pool(
                pool_name,
                pool_value,
                value.policy,
                library,
                pool_value.zones or settings.network.zones,
                boot_path(settings, value, pool_value),
            )
            for pool_name, pool_value in value.pools.items()
        ),
        vcpu_quotas=value.vcpu_quotas,
    )


def boot_path(settings: StackSettings, service: ServiceSettings, pool: PoolSettings) -> BootPath:
    """Return how the pool's instances come by image and weights.

    What comes from S3, as ECR's layers do, passes the gateway endpoint where there is one; an existing VPC is taken to
    have one, and a NAT gateway. A baked AMI is taken to be built: until then the image comes as without.
    """
    nat, endpoint, network = Way.NAT, True, settings.network
    if isinstance(network, NewNetwork):
        nat, endpoint = Way.REGION if network.nat is Nat.NONE else Way.NAT, network.s3_endpoint
    in_region = Way.REGION if endpoint else nat
    host, _ = host_and_path(service.container.image)
    in_ecr = ".dkr.ecr." in host or host in settings.image_caches
    in_s3 = service.boot.weights is not None or any("s3://" in word for word in service.container.args)
    return BootPath(
        image=Way.AMI if service.boot.baked_ami else in_region if in_ecr else nat,
        weights=in_region if in_s3 else nat,
        volume_gib=pool.volume_gib,
        volume_mib_per_second=service.boot.volume_throughput_mib_per_second,
        instance_store=service.boot.instance_store,
        streamed=streams(service),
    )


def pool(
    name: str,
    value: PoolSettings,
    policy_name: str,
    library: Library,
    zones: tuple[str, ...] = (),
    path: BootPath | None = None,
) -> Pool:
    """Return one pool in the scaling model. The caller has checked that it fits the library.

    Without `path` the image and the weights come through NAT.
    """
    preferred = _alternative(value.types, value, policy_name, library, path)
    return Pool(
        **{figure: getattr(preferred, figure) for figure in Alternative.model_fields},
        name=name,
        min_instances=value.min,
        max_instances=value.max,
        spot_percent=value.spot_percent,
        on_demand_base=value.on_demand_base,
        zones=zones,
        alternatives=tuple(_alternative(types, value, policy_name, library, path) for types in value.alternatives),
    )


def pool_boot(types: tuple[str, ...], value: PoolSettings, policy_name: str, library: Library, path: BootPath) -> Boot:
    """Return the expected boot of the slowest of these types in the pool. The caller has checked that they fit."""
    policy = library.policies[policy_name]
    model = library.profiles.models[policy.model]
    kinds = [library.catalog.types[name] for name in types]
    boots = [
        expected_boot(kind, model, _figures(kind, value.gpus_per_copy, policy, model).placement, library.catalog, path)
        for kind in kinds
    ]
    return max(boots, key=lambda boot: boot.seconds)


class _Figures(NamedTuple):
    """Performance of an instance of one type."""

    throughput_rps: float
    one_copy: profile.InstanceCapacity
    copies: int
    placement: profile.Profile


def _figures(instance_type: InstanceType, gpus_per_copy: int | None, policy: Policy, model: ServedModel) -> _Figures:
    gpus = gpus_per_copy or instance_type.gpus
    placement = model.placement(instance_type.gpu, gpus)
    if placement is None:
        raise ValueError(f"{policy.model} has no profile on {gpus} x {instance_type.gpu}")
    one_copy = profile.instance_capacity(placement, policy.request, policy.slo, policy.load.unit)
    copies = instance_type.gpus // gpus
    return _Figures(one_copy.throughput_rps * copies, one_copy, copies, placement)


def _alternative(
    types: tuple[str, ...], value: PoolSettings, policy_name: str, library: Library, path: BootPath | None
) -> Alternative:
    """Return capacity and cost of an instance of any of these types in the pool."""
    path = path or BootPath(volume_gib=value.volume_gib)
    policy = library.policies[policy_name]
    instance_types = [library.catalog.types[type_name] for type_name in types]
    model = library.profiles.models[policy.model]
    figures = [_figures(one, value.gpus_per_copy, policy, model) for one in instance_types]
    throughput_rps, weakest, copies, placement = min(figures, key=lambda one: one.throughput_rps)
    preferred = instance_types[0]
    boot = pool_boot(types, value, policy_name, library, path)
    launch = launch_price(preferred, model, boot, library.catalog, path)
    spot_prices = [one.spot_usd_per_hour for one in instance_types if one.spot_usd_per_hour is not None]
    return Alternative(
        types=types,
        capacity=weakest.capacity * copies,
        throughput_rps=throughput_rps,
        slowdown=weakest.slowdown,
        service_seconds=weakest.service_seconds,
        slots=weakest.slots * copies,
        first_token_seconds=weakest.first_token_seconds,
        copies=copies,
        reaches_slo=weakest.reaches_slo,
        on_demand_usd_per_hour=preferred.on_demand_usd_per_hour,
        spot_usd_per_hour=min(spot_prices) if spot_prices else None,
        vcpus=preferred.vcpus,
        quota=library.catalog.quotas[preferred.quota].name,
        lead_seconds=round(boot.seconds, 1),
        launch_usd=round(launch.extra_usd, 4),
        speed=profile.Speed(**placement.model_dump(include=set(profile.Speed.model_fields))),
    )
