"""The traffic weights that follow from the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.continuity import is_extra
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.fleet import counted_share, thinned
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.policy import SizingMode
from gpu_fleet.scaling.profile import load_share
from gpu_fleet.scaling.reasons import routing as reasons
from gpu_fleet.scaling.routing import PoolInput, ResponseFigure, Routing, route
from gpu_fleet.scaling.service import Pool


def weigh(context: Context, demand: Demand, targets: Mapping[str, PoolTarget]) -> Routing:
    """Share the traffic among the instances that stay.

    A run on top of the schedule's moves weights only where a pool with traffic has nothing to serve it.
    """
    ready = {
        pool.name: len([i for i in view.those(Phase.READY) if i.id not in targets[pool.name].take])
        for pool, view in context.pools()
    }
    inputs = [_input(context, demand, pool, ready) for pool in context.service.pools]
    routing = route(context.policy.routing, inputs, context.state.routing, context.now, _response(context, demand))
    served = any(i.weight for i in inputs) and all(i.ready for i in inputs if i.weight)
    if is_extra(context.state, context.now) and served:
        as_they_are = {name: view.weight for name, view in context.seen.pools.items()}
        return Routing(as_they_are, (reasons.wait(),), context.state.routing)
    return routing


def weighted(targets: Mapping[str, PoolTarget], routing: Routing) -> Mapping[str, PoolTarget]:
    """The targets with their weights."""
    return {name: replace(target, weight=routing.weights[name]) for name, target in targets.items()}


def _response(context: Context, demand: Demand) -> ResponseFigure | None:
    """In mode `threshold`, the article's own, T over the target utilisation asks for dynamic balancing."""
    if context.policy.sizing_mode is not SizingMode.THRESHOLD or demand.response_time is None:
        return None
    return ResponseFigure(demand.response_time, context.policy.sizing.target_utilization)


def _input(context: Context, demand: Demand, pool: Pool, ready: Mapping[str, int]) -> PoolInput:
    """What routing is told: traffic goes by what instances may carry, of which a few small ones keep less than many."""
    name = pool.name
    view, correction, count = context.seen.pools[name], context.correction(pool), ready[name]
    load = demand.loads.get(name)
    scv = thinned(context.state.demand.dispersion or 1.0, pool, context.service, ready)
    share = counted_share(pool, context.policy, count, scv)
    usable = count * pool.capacity * correction * load_share(share, pool.slowdown)
    return PoolInput(
        name=name,
        ready=count,
        capacity_rps=count * pool.throughput_rps * correction * share,
        weight=view.weight,
        load_over_capacity=load / usable if load is not None and count else None,
        response_time_seconds=context.value(view.response_time_seconds),
    )
