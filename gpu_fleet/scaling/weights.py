"""The traffic weights that follow from the targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.continuity import is_extra
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.policy import SizingMode
from gpu_fleet.scaling.reasons import routing as reasons
from gpu_fleet.scaling.routing import PoolInput, Queue, Routing, route
from gpu_fleet.scaling.service import Pool


def weigh(context: Context, demand: Demand, targets: Mapping[str, PoolTarget]) -> Routing:
    """Share the traffic among the instances that stay.

    A run on top of the schedule's moves weights only where a pool with traffic has nothing to serve it.
    """
    inputs = [_input(context, demand, pool, targets[pool.name]) for pool in context.service.pools]
    routing = route(context.policy.routing, inputs, context.state.routing, context.now, _queue(context, demand))
    served = any(i.weight for i in inputs) and all(i.ready for i in inputs if i.weight)
    if is_extra(context.state, context.now) and served:
        as_they_are = {name: view.weight for name, view in context.seen.pools.items()}
        return Routing(as_they_are, (reasons.wait(),), context.state.routing)
    return routing


def weighted(targets: Mapping[str, PoolTarget], routing: Routing) -> Mapping[str, PoolTarget]:
    """The targets with their weights."""
    return {name: replace(target, weight=routing.weights[name]) for name, target in targets.items()}


def _queue(context: Context, demand: Demand) -> Queue | None:
    """In mode `threshold`, the article's own, T over the target utilisation asks for dynamic balancing."""
    if context.policy.sizing_mode is not SizingMode.THRESHOLD or demand.response_time is None:
        return None
    return Queue(demand.response_time, context.policy.sizing.target_utilization)


def _input(context: Context, demand: Demand, pool: Pool, target: PoolTarget) -> PoolInput:
    name = pool.name
    view, correction = context.seen.pools[name], context.correction(pool)
    ready = len([i for i in view.those(Phase.READY) if i.id not in target.take])
    load = demand.loads.get(name)
    return PoolInput(
        name=name,
        ready=ready,
        capacity_rps=ready * pool.throughput_rps * correction,
        weight=view.weight,
        load_over_capacity=load / (ready * pool.capacity * correction) if load is not None and ready else None,
        response_time_seconds=context.value(view.response_time_seconds),
    )
