"""What AWS, the provider, the engine and the program would refuse in a stack's file, told before anything is made.

Each module holds the rules of one subject. A rule is a generator: it is asked by `gpu_fleet.config.document.asked`, so
that a value that could not be read stops that rule alone.
"""

from __future__ import annotations

from gpu_fleet.config.document import asked
from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.rules import addresses, containers, each, names, pools, regions, retention, routes, tags
from gpu_fleet.config.settings import StackSettings


def settings_problems(settings: StackSettings) -> list[PlanProblem]:
    """Everything that is wrong in the settings by themselves; `settings` may have holes."""
    rules = (
        addresses.network_problems,
        addresses.client_problems,
        regions.load_balancer_problems,
        regions.topic_problems,
        retention.problems,
        names.collision_problems,
        names.prefix_problems,
        routes.balancer_problems,
        tags.problems,
    )
    problems = [problem for rule in rules for problem in asked(rule, settings)]
    services = each.services(settings)
    for name, service in services:
        at = ("services", name)
        problems += asked(names.name_problems, at, name)
        problems += asked(regions.secret_problems, at, service, settings)
        for rule in (containers.problems, routes.path_problems, routes.host_problems, routes.count_problems):
            problems += asked(rule, at, service)
        for pool_name, pool in each.pools(service):
            for pool_rule in (pools.count_problems, pools.type_problems, pools.image_problems, pools.boot_problems):
                problems += asked(pool_rule, (*at, "pools", pool_name), pool)
            problems += asked(addresses.pool_zone_problems, (*at, "pools", pool_name), pool, settings)
            problems += asked(names.name_problems, (*at, "pools", pool_name), pool_name)
    for i, (name, _) in enumerate(services):
        for other, _ in services[:i]:
            problems += asked(routes.priority_problems, other, name, settings)
            problems += asked(routes.shadow_problems, other, name, settings)
            problems += asked(routes.shadow_problems, name, other, settings)
    return problems
