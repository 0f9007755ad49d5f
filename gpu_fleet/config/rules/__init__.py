"""Everything in a stack's file that AWS, the provider, the engine or the program would refuse, reported beforehand.

Each module holds the rules of one subject. A rule is a generator run by `gpu_fleet.config.validation.until_hole`, so an
unreadable value stops only the rules that need it.
"""

from __future__ import annotations

from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.rules import (
    addresses,
    baked_amis,
    containers,
    each,
    names,
    pools,
    regions,
    registries,
    retention,
    routes,
    tags,
    volumes,
    weight_folders,
)
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.validation import until_hole


def settings_problems(settings: StackSettings) -> list[PlanProblem]:
    """Return every error of the settings by themselves; `settings` may have holes."""
    rules = (
        addresses.network_problems,
        addresses.client_problems,
        regions.load_balancer_problems,
        regions.topic_problems,
        registries.problems,
        retention.problems,
        names.collision_problems,
        names.prefix_problems,
        routes.balancer_problems,
        tags.problems,
    )
    problems = [problem for rule in rules for problem in until_hole(rule, settings)]
    services = each.services(settings)
    for name, service in services:
        at = ("services", name)
        problems += until_hole(names.name_problems, at, name)
        problems += until_hole(regions.secret_problems, at, service, settings)
        problems += until_hole(baked_amis.problems, at, service, settings)
        for rule in (
            containers.problems,
            routes.path_problems,
            routes.host_problems,
            routes.count_problems,
            weight_folders.problems,
            volumes.rate_problems,
        ):
            problems += until_hole(rule, at, service)
        for pool_name, pool in each.pools(service):
            for pool_rule in (pools.count_problems, pools.type_problems, pools.image_problems, pools.boot_problems):
                problems += until_hole(pool_rule, (*at, "pools", pool_name), pool)
            problems += until_hole(addresses.pool_zone_problems, (*at, "pools", pool_name), pool, settings)
            problems += until_hole(names.name_problems, (*at, "pools", pool_name), pool_name)
    for i, (name, _) in enumerate(services):
        for other, _ in services[:i]:
            problems += until_hole(routes.priority_problems, other, name, settings)
            problems += until_hole(routes.shadow_problems, other, name, settings)
            problems += until_hole(routes.shadow_problems, name, other, settings)
    return problems
