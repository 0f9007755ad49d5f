"""Whether each service fits its policy and the library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem, PoolPlan, plan_problems
from gpu_fleet.config.library import Library
from gpu_fleet.config.rules import each, volumes
from gpu_fleet.config.settings import NewNetwork, PoolSettings, ServiceSettings, StackSettings
from gpu_fleet.config.validation import until_hole
from gpu_fleet.config.wording import quoted, suggestion
from gpu_fleet.scaling.policy import Policy, Workload


def library_problems(settings: StackSettings, library: Library) -> list[PlanProblem]:
    """Return every reason why the services and the library do not fit together; both may have holes."""
    problems: list[PlanProblem] = []
    for name, service in each.services(settings):
        at = ("services", name)
        problems += until_hole(_fit_problems, at, service, library)
        problems += until_hole(_quota_problems, at, service, library)
        for policy in until_hole(_policy, service, library):
            problems += until_hole(_route_problems, at, service, policy)
            problems += until_hole(_training_problems, at, service, policy)
            problems += until_hole(_queue_problems, at, service, policy)
            problems += until_hole(_zone_problems, service, policy, settings)
            for pool_name, pool in each.pools(service):
                here = (*at, "pools", pool_name)
                problems += until_hole(volumes.problems, here, pool, service, policy, library)
    problems += until_hole(_queue_name_problems, settings, library)
    return problems


def plans(pools: Mapping[str, PoolSettings]) -> dict[str, PoolPlan]:
    """Return pools in the form that the library checks."""
    return {
        name: PoolPlan(value.types, value.min, value.max, value.spot_percent, value.gpus_per_copy, value.alternatives)
        for name, value in pools.items()
    }


def _readable(pool: PoolSettings) -> PoolPlan:
    """Return the pool with harmless values for its holes, so that its types are checked all the same."""
    return PoolPlan(
        getattr(pool, "types", ()),
        getattr(pool, "min", 0),
        getattr(pool, "max", 1000),
        getattr(pool, "spot_percent", 0),
        getattr(pool, "gpus_per_copy", None),
        getattr(pool, "alternatives", ()),
    )


def _fit_problems(at: KeyPath, service: ServiceSettings, library: Library) -> Iterator[PlanProblem]:
    pools = {name: _readable(pool) for name, pool in service.pools.items()}
    for problem in plan_problems(service.policy, pools, library):
        yield PlanProblem((*at, *problem.path), problem.text)


def _policy(service: ServiceSettings, library: Library) -> Iterator[Policy]:
    policy = library.policy(service.policy)
    if policy is not None:
        yield policy


def _quota_problems(at: KeyPath, service: ServiceSettings, library: Library) -> Iterator[PlanProblem]:
    quotas = sorted(quota.name for quota in library.catalog.quotas.values())
    for quota in service.vcpu_quotas:
        if quota not in quotas:
            text = f"must be a quota of the catalog; {suggestion(quota, quotas)}"
            yield PlanProblem((*at, "vcpu_quotas", quota), text)


def _route_problems(at: KeyPath, service: ServiceSettings, policy: Policy) -> Iterator[PlanProblem]:
    if policy.workload is Workload.INFERENCE and not (service.paths or service.hosts):
        yield PlanProblem(at, "must have paths or hosts, which lead requests to it")


def _training_problems(at: KeyPath, service: ServiceSettings, policy: Policy) -> Iterator[PlanProblem]:
    if policy.workload is not Workload.TRAINING:
        return
    for key in ("paths", "hosts", "priority"):
        if getattr(service, key, None):
            yield PlanProblem(
                (*at, key),
                f"must be left out: policy {service.policy} is for training, whose jobs come from a queue "
                f"(got {quoted(getattr(service, key))})",
            )


def _queue_problems(at: KeyPath, service: ServiceSettings, policy: Policy) -> Iterator[PlanProblem]:
    if policy.workload is Workload.TRAINING and "QUEUE_URL" in service.container.environment:
        yield PlanProblem(
            (*at, "container", "environment", "QUEUE_URL"),
            f"must be left out: the stack sets it to its own queue "
            f"(got {quoted(service.container.environment['QUEUE_URL'])})",
        )


def _zone_problems(service: ServiceSettings, policy: Policy, settings: StackSettings) -> Iterator[PlanProblem]:
    zones = {zone for pool in service.pools.values() for zone in pool.zones or settings.network.zones}
    if policy.availability.min_zones > max(1, len(zones)):
        at = ("network", "zones")
        if not isinstance(settings.network, NewNetwork) and not settings.network.zones:
            at = ("network",)
        yield PlanProblem(
            at, f"must be at least {policy.availability.min_zones} for policy {service.policy} (got {len(zones)})"
        )


def _queue_name_problems(settings: StackSettings, library: Library) -> Iterator[PlanProblem]:
    """Check that no service's job queue has the name of another service's queue of failed jobs."""
    training = [
        name
        for name, service in each.services(settings)
        for policy in until_hole(_policy, service, library)
        if getattr(policy, "workload", None) is Workload.TRAINING
    ]
    for name in training:
        if name.endswith("-failed") and name.removesuffix("-failed") in training:
            yield PlanProblem(
                ("services", name),
                f"must not have this name: its queue would have the name of the queue of failed jobs of services."
                f"{name.removesuffix('-failed')} (got {name})",
            )
