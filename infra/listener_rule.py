"""What a listener rule is given at an update: its weights and its priority. Both start from what stands."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.config import naming
from gpu_fleet.config.naming import PLACES
from gpu_fleet.scaling.policy import RoutingStrategy
from gpu_fleet.scaling.service import Service as ServiceModel


def first_weights(model: ServiceModel) -> Mapping[str, int]:
    """Weight of each pool until the scaler has spoken: what its fewest instances carry, the greatest being 100.

    Where all pools may be empty the first is given everything. With `static` routing the policy's own.
    """
    if model.policy.routing.strategy is RoutingStrategy.STATIC:
        weights = [model.policy.routing.static_weights.get(pool.name, 0) for pool in model.pools]
    else:
        work = [pool.min_instances * pool.throughput_rps for pool in model.pools]
        most = max(work)
        weights = [round(100 * each / most) for each in work] if most else [100, *[0] * (len(work) - 1)]
    checked = naming.check_weights(weights)
    return {pool.name: weight for pool, weight in zip(model.pools, checked, strict=True)}


def weights(model: ServiceModel, standing: Mapping[str, int]) -> Mapping[str, int]:
    """Weight of each pool at this update: what it has now, by `standing`, and 0 for a pool that is new.

    The scaler raises a new pool's weight once it has instances. Only where nobody would be served (the first update,
    or the pools that had all traffic are gone) are these the first weights.
    """
    kept = {pool.name: standing.get(pool.name, 0) for pool in model.pools}
    return kept if any(kept.values()) else first_weights(model)


def priorities(wanted: Mapping[str, int], standing: Mapping[str, int]) -> Mapping[str, int]:
    """Priority in AWS of each service's rule, from the YAML's (`wanted`) and those that rules have now (`standing`,
    also of services that are about to go).

    A rule that is in its place stays there; any other goes where none stands now, so that neither two rules that change
    places nor a new one in the place of one that goes meet. With a 100 and b 200 in YAML, a has 500 and b 1000; after
    they change places a has 1001 and b 501.
    """
    out = {name: have for name, have in standing.items() if wanted.get(name) == have // PLACES}
    taken = {*standing.values()}
    for name, priority in sorted(wanted.items()):
        if name not in out:
            own = range(priority * PLACES, (priority + 1) * PLACES)
            out[name] = next((place for place in own if place not in taken), own[0])
            taken.add(out[name])
    return {name: out[name] for name in wanted}
