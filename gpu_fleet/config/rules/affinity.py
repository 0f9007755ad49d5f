"""Policies that keep clients with a pool: what they need of a service's pools and listener rules."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.library import Library
from gpu_fleet.config.naming import HASH_PRIORITIES
from gpu_fleet.config.rules import each
from gpu_fleet.config.rules.routes import MAX_VALUES, MAX_WILDCARDS
from gpu_fleet.config.settings import ServiceSettings, StackSettings
from gpu_fleet.config.validation import until_hole
from gpu_fleet.scaling.policy import RoutingStrategy, Workload


def problems(settings: StackSettings, library: Library) -> list[PlanProblem]:
    """Return what a stack lacks for its policies' routing; both may have holes. The desk needs none of it: it simulates
    a policy on any stack's pools.
    """
    found: list[PlanProblem] = []
    for name, service in each.services(settings):
        for rule in (_sticky_problems, _hash_problems):
            found += until_hole(rule, ("services", name), service, library)
        found += until_hole(_priority_problems, name, settings, library)
    return found


def _sticky_problems(at: KeyPath, service: ServiceSettings, library: Library) -> Iterator[PlanProblem]:
    """Check that a client's cookie never leads to an empty pool: the load balancer would answer 503 until it expires,
    without trying another pool.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-action-types.html#forward-actions
    """
    if not _has(RoutingStrategy.STICKY, service, library):
        return
    pools = each.pools(service)
    for name, pool in pools:
        if len(pools) > 1 and pool.min == 0:
            yield PlanProblem(
                (*at, "pools", name, "min"),
                f"must be at least 1 for policy {service.policy}: sticky clients of an empty pool get 503 (got 0)",
            )


def _hash_problems(at: KeyPath, service: ServiceSettings, library: Library) -> Iterator[PlanProblem]:
    """Check that the service has pools to choose from, and room for the rules of the digits: each has one more value
    and one more wildcard than the service's own.
    """
    if not _has(RoutingStrategy.HASH, service, library):
        return
    if len(each.pools(service)) == 1:
        yield PlanProblem(
            (*at, "pools"),
            f"must be at least 2 for policy {service.policy}, whose strategy hash chooses a pool (got 1)",
        )
    values = (*service.paths, *service.hosts)
    wildcards = sum(value.count("*") + value.count("?") for value in values)
    for count, most, what in ((len(values), MAX_VALUES, "values"), (wildcards, MAX_WILDCARDS, "wildcards")):
        if count == most:
            yield PlanProblem(
                (*at, "paths"),
                f"must have at most {most - 1} {what} together with hosts for policy {service.policy}, whose strategy "
                f"hash adds one (got {count})",
            )
    if service.priority is not None and service.priority <= HASH_PRIORITIES:
        yield PlanProblem(
            (*at, "priority"),
            f"must be above {HASH_PRIORITIES} for policy {service.policy}, whose strategy hash takes the "
            f"{HASH_PRIORITIES} priorities before (got {service.priority})",
        )


def _priority_problems(name: str, settings: StackSettings, library: Library) -> Iterator[PlanProblem]:
    """Check that no other service has a priority that the rules for digits of service `name` take."""
    hashing = settings.services[name]
    if hashing.priority is None or not _has(RoutingStrategy.HASH, hashing, library):
        return
    first = hashing.priority - HASH_PRIORITIES
    for other, service in each.services(settings):
        priority = getattr(service, "priority", None)
        if priority is not None and first <= priority < hashing.priority:
            yield PlanProblem(
                ("services", other, "priority"),
                f"must not be {first} to {hashing.priority - 1}, which the strategy hash of services.{name} takes "
                f"(got {priority})",
            )


def _has(strategy: RoutingStrategy, service: ServiceSettings, library: Library) -> bool:
    policy = library.policy(service.policy)
    return policy is not None and policy.routing.strategy is strategy and policy.workload is Workload.INFERENCE
