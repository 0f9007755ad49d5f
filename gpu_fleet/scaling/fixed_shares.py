"""Fixed shares of the traffic: with strategy `static` each pool must carry its own, whatever would be cheapest.

A trial of a new type gets 5 % of the traffic, so it needs capacity for 5 %, and the other pool for 95 %: if the mix
bought the cheaper of the two alone, its instances would idle while the others drown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gpu_fleet.scaling.mix import SLACK, PoolOption, carried_rps
from gpu_fleet.scaling.policy import RoutingPolicy, RoutingStrategy


def fixed_shares(routing: RoutingPolicy, options: Sequence[PoolOption]) -> Mapping[str, float]:
    """The share of each pool that can have instances and has a weight; empty where shares follow capacity."""
    if routing.strategy is not RoutingStrategy.STATIC:
        return {}
    weights = {o.name: routing.static_weights.get(o.name, 0) for o in options if o.at_most > 0}
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items() if weight} if total else {}


def carried_demand_rps(options: Sequence[PoolOption], counts: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """The most demand that these counts carry: where shares are fixed, the pool that is full first decides."""
    if not shares:
        return carried_rps(options, counts)
    return min(counts[o.name] * o.instance_rps / shares[o.name] for o in options if o.name in shares)


def pinned(options: Sequence[PoolOption], shares: Mapping[str, float], required_rps: float) -> tuple[PoolOption, ...]:
    """The options with the instances of each pool that its share requires, within its bounds, as the least."""
    needed = {o.name: math.ceil(required_rps * shares.get(o.name, 0.0) / o.instance_rps - SLACK) for o in options}
    return tuple(replace(o, at_least=max(o.at_least, min(o.at_most, needed[o.name]))) for o in options)
