"""What an update gives a listener rule: its conditions, and weights and priority that start from those it has now."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.naming import HASH_PRIORITIES, PLACES
from gpu_fleet.config.settings import ServiceSettings
from gpu_fleet.scaling.hashing import DIGITS
from gpu_fleet.scaling.policy import RoutingStrategy
from gpu_fleet.scaling.service import Service as ServiceModel


def first_weights(model: ServiceModel) -> Mapping[str, int]:
    """Return each pool's weight until the scaler's first run: proportional to the throughput of its minimum instances,
    the largest weight being 100.

    If all minimums are 0, the first pool gets all traffic. With `static` routing, return the policy's own weights.
    """
    if model.policy.routing.strategy is RoutingStrategy.STATIC:
        weights = [model.policy.routing.static_weights.get(pool.name, 0) for pool in model.pools]
    else:
        throughput_rps = [pool.min_instances * pool.throughput_rps for pool in model.pools]
        largest = max(throughput_rps)
        if largest:
            weights = [round(100 * each / largest) for each in throughput_rps]
        else:
            weights = [100, *[0] * (len(throughput_rps) - 1)]
    checked = naming.check_weights(weights)
    return {pool.name: weight for pool, weight in zip(model.pools, checked, strict=True)}


def weights(model: ServiceModel, deployed: Mapping[str, int]) -> Mapping[str, int]:
    """Return each pool's weight at this update: its current weight from `deployed`, or 0 for a new pool.

    The scaler raises a new pool's weight once it has instances. Only if no pool would get traffic (at the first update,
    or when the pools that had all of it are gone) return the first weights.
    """
    kept = {pool.name: deployed.get(pool.name, 0) for pool in model.pools}
    return kept if any(kept.values()) else first_weights(model)


def priorities(
    configured: Mapping[str, int], deployed: Mapping[str, int], for_digits: Collection[int] = ()
) -> Mapping[str, int]:
    """Return the AWS priority of each service's rule, from the priorities in YAML (`configured`) and those that rules
    have now (`deployed`, including services that this update removes, and the rules `for_digits`).

    Each priority in YAML owns `PLACES` priorities in AWS. A rule that already has one of its own keeps it; any other
    rule takes one that no deployed rule has. So neither two services that swap priorities nor a new service with a
    removed one's priority collide. With a 100 and b 200 in YAML, a has 500 and b 1000; after a swap, 1001 and 501.
    """
    chosen = {name: priority for name, priority in deployed.items() if configured.get(name) == priority // PLACES}
    used = {*deployed.values(), *for_digits}
    for name, priority in sorted(configured.items()):
        if name not in chosen:
            own = range(priority * PLACES, (priority + 1) * PLACES)
            chosen[name] = next((place for place in own if place not in used), own[0])
            used.add(chosen[name])
    return {name: chosen[name] for name in configured}


def hash_priorities(
    configured: Mapping[str, int], deployed: Mapping[str, Sequence[int]], used: Collection[int]
) -> Mapping[str, tuple[int, ...]]:
    """Return the AWS priorities of each service's rules for digits, from the priorities in YAML (`configured`, services
    with `routing.strategy: hash` only) and those that such rules have now (`deployed`). `used` are those of all other
    deployed rules.

    The rules come before the service's own rule, which takes what has no digit, and after every other service that the
    YAML puts before it. Rules that are in their place stay; others take places that no deployed rule has.
    """
    taken = {*used, *(place for places in deployed.values() for place in places)}
    chosen: dict[str, tuple[int, ...]] = {}
    for name, priority in sorted(configured.items()):
        own = range((priority - HASH_PRIORITIES) * PLACES, priority * PLACES)
        now = tuple(deployed.get(name, ()))
        if len(now) == len(DIGITS) and all(place in own for place in now):
            chosen[name] = now
        else:
            free = [place for place in own if place not in taken]
            chosen[name] = tuple([*free, *own][: len(DIGITS)])
            taken |= {*chosen[name]}
    return chosen


def conditions(
    settings: ServiceSettings, hash_header: str | None, digit: str
) -> list[aws.lb.ListenerRuleConditionArgs]:
    """Return the paths and hosts that a request must have to reach the service, and the digit that its header ends in,
    if any.
    """
    wanted = []
    if settings.paths:
        paths = aws.lb.ListenerRuleConditionPathPatternArgs(values=settings.paths)
        wanted.append(aws.lb.ListenerRuleConditionArgs(path_pattern=paths))
    if settings.hosts:
        hosts = aws.lb.ListenerRuleConditionHostHeaderArgs(values=settings.hosts)
        wanted.append(aws.lb.ListenerRuleConditionArgs(host_header=hosts))
    if digit and hash_header:
        header = aws.lb.ListenerRuleConditionHttpHeaderArgs(http_header_name=hash_header, values=[f"*{digit}"])
        wanted.append(aws.lb.ListenerRuleConditionArgs(http_header=header))
    return wanted
