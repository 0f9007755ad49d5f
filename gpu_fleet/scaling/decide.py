"""One evaluation of one service: observation, state and time in, decision and state out.

The steps follow the design: demand, sizing, mix, guard, routing. Each gives its reasons, and a decision carries them
all.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling import (
    capacity_errors,
    continuity,
    expectation,
    in_place,
    learning,
    pool_targets,
    request_mix,
    season,
    training,
    weights,
    window,
    zero,
)
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.counts import settle
from gpu_fleet.scaling.decision import Decision, Reason, Signals
from gpu_fleet.scaling.demand import Demand, measure
from gpu_fleet.scaling.fleet import nothing_stands, survey
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.pool_targets import PoolTargets
from gpu_fleet.scaling.reasons import demand as reasons
from gpu_fleet.scaling.requirement import Requirement, require
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State


def decide(service: Service, observation: Observation, state: State, now: float) -> Decision:
    """Decide the counts and weights of a service.

    `now` in seconds since the epoch (UTC). The same input always gives the same decision. Raises ValueError when the
    observation lacks a pool of the service.
    """
    for pool in service.pools:
        if pool.name not in observation.pools:
            raise ValueError(f"observation: pool {pool.name} of service {service.name} is missing")
    first_run = state.at == 0
    state, interrupted = continuity.resume(state, now)
    why = [interrupted] if interrupted else []
    context = Context(service, observation, state, now)
    context = context.remember(pools=learning.remember_pools(context))
    context = context.remember(pools=capacity_errors.mark_pools(context))
    why += capacity_errors.explain(context)
    if service.policy.workload is Workload.TRAINING:
        return _train(context, why)
    context = request_mix.as_seen(context)
    decision = _serve(context, why, first_run=first_run)
    return in_place.consider(context.service, observation, decision, now)


def _serve(context: Context, why: list[Reason], *, first_run: bool) -> Decision:
    """Decide for a service that answers requests."""
    measured = in_place.as_measured(context.service, context.seen)
    context = context.of(in_place.as_counted(context.service, context.seen))
    slept = context.state.zero.asleep

    demand, memory = measure(context.of(measured))
    heavier = memory.request_weight / context.state.demand.request_weight
    context = context.remember(demand=memory, forecast=context.state.forecast.reweighed(heavier))
    context = replace(context, state=learning.learn_capacity(context.of(measured)))
    remembered = season.read_season(
        context.policy.forecast, context.seen.history_rps, context.state.forecast, context.now
    )
    context = context.remember(forecast=remembered, zero=zero.sleep_or_wake(context, demand))
    awake = not (slept or context.state.zero.asleep or nothing_stands(context.seen))
    if demand.rps is None and awake:
        held = pool_targets.hold(context)
        return _conclude(context, demand, held, [*why, reasons.missing()], held=True)

    expected, context = expectation.expect(context, demand)
    fleet = survey(context, expected.headroom)
    required = require(context, demand, expected, fleet)
    context = context.remember(thresholds=required.thresholds)
    why = [*why, *required.reasons]
    if first_run:
        return _conclude(context, demand, pool_targets.hold(context), why, required, held=True)

    band, guard = window.stabilise(context, required.rps)
    context = context.remember(guard=guard)
    wanted, move = window.wanted_rps(band, fleet, context.policy.horizontal.tolerance_percent)
    counts = settle(context, fleet, wanted, band, expected.headroom, may_move=not required.by_signal)
    context = context.remember(mix=counts.memory)
    targets = pool_targets.step(context, counts, band, demand)
    taken = any(targets.by_pool[name].desired < view.desired for name, view in context.seen.pools.items())
    guard = window.learn(targets.memory, out=move.code == "guard.out", taken=taken, now=context.now)
    targets = replace(targets, memory=guard)
    return _conclude(context.of(measured), demand, targets, [*why, move, *counts.reasons], required)


def _train(context: Context, why: list[Reason]) -> Decision:
    """Decide for a service that runs jobs."""
    decided = training.decide_training(context)
    context = context.remember(training=decided.memory)
    targets = PoolTargets(decided.targets, decided.reasons, context.state.guard)
    return _conclude(context, Demand.unknown(context.now), targets, why, held=decided.held)


def _conclude(
    context: Context,
    demand: Demand,
    targets: PoolTargets,
    why: list[Reason],
    required: Requirement | None = None,
    *,
    held: bool = False,
) -> Decision:
    """Set the weights, and put the decision together."""
    context = context.remember(guard=targets.memory)
    routing = weights.weigh(context, demand, targets.by_pool)
    decided = weights.weighted(targets.by_pool, routing)
    signals = Signals(
        utilization=required.utilization if required else None,
        response_time=demand.response_time,
        ratio=required.ratio if required else None,
        demand_rps=demand.rps,
        forecast_rps=required.forecast_rps if required else None,
        required_rps=required.rps if required else None,
        backlog=demand.backlog,
        usd_per_hour=sum(decided[pool.name].desired * pool.usd_per_hour for pool in context.service.pools),
    )
    state = continuity.stamp(replace(context.state, routing=routing.state), context.now)
    return Decision(decided, (*why, *targets.reasons, *routing.reasons), signals, state, held=held)
