"""A service against its policy and the library: what fits together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gpu_fleet.config.document import asked, shown, suggestion
from gpu_fleet.config.library import Library, PlanProblem, PoolPlan, plan_problems
from gpu_fleet.config.rules import each, volumes
from gpu_fleet.config.settings import NewNetwork, PoolSettings, ServiceSettings, StackSettings
from gpu_fleet.scaling.policy import Policy, Workload

At = tuple[str | int, ...]


def library_problems(settings: StackSettings, library: Library) -> list[PlanProblem]:
    """Everything in which the services and the library do not fit together; both may have holes."""
    problems: list[PlanProblem] = []
    for name, service in each.services(settings):
        at = ("services", name)
        problems += asked(_fit_problems, at, service, library)
        problems += asked(_quota_problems, at, service, library)
        for policy in asked(_policy, service, library):
            problems += asked(_route_problems, at, service, policy)
            problems += asked(_training_problems, at, service, policy)
            problems += asked(_queue_problems, at, service, policy)
            problems += asked(_zone_problems, service, policy, settings)
            for pool_name, pool in each.pools(service):
                here = (*at, "pools", pool_name)
                problems += asked(volumes.problems, here, pool, service, policy, library)
    problems += asked(_queue_name_problems, settings, library)
    return problems


def plans(pools: Mapping[str, PoolSettings]) -> dict[str, PoolPlan]:
    """Pools as the library holds them against a policy."""
    return {
        name: PoolPlan(value.types, value.min, value.max, value.spot_percent, value.gpus_per_copy, value.alternatives)
        for name, value in pools.items()
    }


def _readable(pool: PoolSettings) -> PoolPlan:
    """The pool with what says nothing in place of what could not be read: types are checked all the same."""
    return PoolPlan(
        getattr(pool, "types", ()),
        getattr(pool, "min", 0),
        getattr(pool, "max", 1000),
        getattr(pool, "spot_percent", 0),
        getattr(pool, "gpus_per_copy", None),
        getattr(pool, "alternatives", ()),
    )


def _fit_problems(at: At, service: ServiceSettings, library: Library) -> Iterator[PlanProblem]:
    pools = {name: _readable(pool) for name, pool in service.pools.items()}
    for problem in plan_problems(service.policy, pools, library):
        yield PlanProblem((*at, *problem.path), problem.text)


def _policy(service: ServiceSettings, library: Library) -> Iterator[Policy]:
    policy = library.policy(service.policy)
    if policy is not None:
        yield policy


def _quota_problems(at: At, service: ServiceSettings, library: Library) -> Iterator[PlanProblem]:
    quotas = sorted(quota.name for quota in library.catalog.quotas.values())
    for quota in service.vcpu_quotas:
        if quota not in quotas:
            said = f"must be a quota of the catalog; {suggestion(quota, quotas)}"
            yield PlanProblem((*at, "vcpu_quotas", quota), said)


def _route_problems(at: At, service: ServiceSettings, policy: Policy) -> Iterator[PlanProblem]:
    if policy.workload is Workload.INFERENCE and not (service.paths or service.hosts):
        yield PlanProblem(at, "must have paths or hosts, by which requests find it")


def _training_problems(at: At, service: ServiceSettings, policy: Policy) -> Iterator[PlanProblem]:
    if policy.workload is not Workload.TRAINING:
        return
    for key in ("paths", "hosts", "priority"):
        if getattr(service, key, None):
            yield PlanProblem(
                (*at, key),
                f"must be left out: policy {service.policy} is for training, whose jobs come from a queue "
                f"(got {shown(getattr(service, key))})",
            )


def _queue_problems(at: At, service: ServiceSettings, policy: Policy) -> Iterator[PlanProblem]:
    if policy.workload is Workload.TRAINING and "QUEUE_URL" in service.container.environment:
        yield PlanProblem(
            (*at, "container", "environment", "QUEUE_URL"),
            f"must be left out: it is the queue that the stack makes "
            f"(got {shown(service.container.environment['QUEUE_URL'])})",
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
    """A queue of jobs and the one of failed jobs beside it, of another service."""
    training = [
        name
        for name, service in each.services(settings)
        for policy in asked(_policy, service, library)
        if getattr(policy, "workload", None) is Workload.TRAINING
    ]
    for name in training:
        if name.endswith("-failed") and name.removesuffix("-failed") in training:
            yield PlanProblem(
                ("services", name),
                f"must not have this name: its queue would be called as that of services."
                f"{name.removesuffix('-failed')}'s failed jobs (got {name})",
            )
