"""One evaluation of one service: observation, state and time in, decision and state out.

The steps stand in the order of the design: demand, sizing, mix, guard, routing. Each says what it found in a reason;
a decision carries them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling import (
    burst,
    capacity_errors,
    feedback,
    forecast,
    guard,
    in_place,
    learning,
    pool_targets,
    request_mix,
    routing,
    sizing,
    thresholds,
    training,
    zero,
)
from gpu_fleet.scaling.counts import settle
from gpu_fleet.scaling.decision import Decision, PoolTarget, Reason, Signals, Step
from gpu_fleet.scaling.demand import Demand, current, measure, ready_count
from gpu_fleet.scaling.fleet import horizon_seconds, nothing_stands, survey
from gpu_fleet.scaling.forecast import Outlook
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import Point, State


def decide(service: Service, observation: Observation, state: State, now: float) -> Decision:
    """Decide the counts and weights of a service.

    `now` in seconds since the epoch (UTC). The same input always gives the same decision. Raises ValueError when the
    observation lacks a pool of the service.
    """
    for pool in service.pools:
        if pool.name not in observation.pools:
            raise ValueError(f"observation: pool {pool.name} of service {service.name} is missing")
    state, restart = guard.continuity(state, now)
    state = learning.remember_pools(service, observation, state, now)
    state = capacity_errors.mark_pools(service, observation, state, now)
    if service.policy.workload is Workload.TRAINING:
        return _training(service, observation, state, now, restart)
    service, state = request_mix.as_seen(service, observation, state, now)
    decision = _inference(service, observation, state, now, restart)
    return in_place.consider(service, observation, decision, now)


def _inference(service: Service, seen: Observation, state: State, now: float, restart: Reason | None) -> Decision:
    policy = service.policy
    reasons: list[Reason] = [restart] if restart else []
    measured, service = in_place.as_measured(service, seen), in_place.as_counted(service, seen)
    demand, state = measure(measured, seen, state, now)
    state = learning.learn_capacity(measured, seen, state, now)
    state = forecast.read_season(policy.forecast, seen.history_rps, state, now)
    was_asleep = state.asleep
    state = zero.sleep_or_wake(service, seen, demand, state, now)
    if demand.rps is None and not state.asleep and not (was_asleep or nothing_stands(seen)):
        text = "Neither arrivals nor load are known: missing is not zero, so counts and weights are held."
        reasons.append(Reason(Step.DEMAND, "demand.missing", text))
        pools, said = pool_targets.hold(service, seen, state, now)
        return _finish(service, seen, demand, state, now, pools, [*reasons, *said], held=True)

    if demand.rps is not None and demand.counted is not state.counted:
        state = replace(state, counted=demand.counted, series=(), highest=(), pending=())
    asked = demand.rps if demand.rps is not None else (current(seen.rejected_rps, now, 180.0) or 0.0)
    full = sum(
        ready_count(seen.pools[p.name]) * p.throughput_rps * state.pools[p.name].correction for p in service.pools
    )
    horizon = horizon_seconds(service, seen, state) + max(0.0, now - demand.at if demand.at else 0.0)
    if demand.fresh:
        state = feedback.correct(state, 1 - policy.forecast_confidence, young=forecast.is_young(state, now))
    outlook, state = forecast.look_ahead(
        policy.forecast,
        1 - state.allowance if state.allowance is not None else policy.forecast_confidence,
        state,
        Point(demand.at or now, asked),
        horizon,
        fresh=demand.fresh,
    )
    reasons.append(forecast.said(outlook, asked, horizon, idle=demand.idle))
    expected, state, said = burst.meet(policy.burst, demand, outlook.upper_rps, state, horizon, now)
    reasons += said
    left = max(0.0, demand.backlog - max(0.0, full - asked) * horizon)
    headroom = max(1.0, expected / outlook.rps) if outlook.rps > 0 else 1.0
    fleet = survey(service, seen, state, now, headroom)
    if demand.fresh and not demand.idle:
        limit = policy.slo.ttft_seconds if policy.slo else 0.0
        state = feedback.note(state, asked, feedback.late_share(asked, fleet.ready_rps, demand.backlog, limit))
    required = sizing.required_rps(expected, left, full, policy)
    u_t_r = (demand.utilization, demand.response_time, demand.ratio)
    reasons.append(sizing.reason(policy, required, u_t_r, fleet.worth))
    required, said = thresholds.raised(service, seen, fleet, required, now)
    reasons += said

    if restart is not None and restart.code == "guard.first_run":
        pools, said = pool_targets.hold(service, seen, state, now)
        held = [*reasons, *said]
        return _finish(service, seen, demand, state, now, pools, held, outlook=outlook, required=required, held=True)
    band, state = guard.stabilise(policy.horizontal, state, required, now)
    wanted, why = guard.wanted_rps(band, fleet.standing_rps, policy.horizontal.tolerance_percent)
    reasons.append(why)
    fleet, counts, state, said = settle(service, seen, fleet, wanted, band, state, now, headroom)
    reasons += said
    pools, state, said = pool_targets.step(service, seen, fleet, counts, band, demand, state, now)
    reasons += said
    return _finish(measured, seen, demand, state, now, pools, reasons, outlook=outlook, required=required)


def _finish(
    service: Service,
    seen: Observation,
    demand: Demand,
    state: State,
    now: float,
    pools: Mapping[str, PoolTarget],
    reasons: list[Reason],
    *,
    outlook: Outlook | None = None,
    required: float | None = None,
    held: bool = False,
) -> Decision:
    """Set the weights, and put the decision together."""
    stale = service.policy.load.stale_after_seconds
    inputs = []
    for pool in service.pools:
        view, target = seen.pools[pool.name], pools[pool.name]
        ready = [i for i in view.those(Phase.READY) if i.id not in target.take]
        load = demand.loads.get(pool.name)
        correction = state.pools[pool.name].correction
        each = load / (len(ready) * pool.capacity * correction) if load is not None and ready else None
        inputs.append(
            routing.PoolInput(
                name=pool.name,
                ready=len(ready),
                capacity_rps=len(ready) * pool.throughput_rps * correction,
                weight=view.weight,
                load_over_capacity=each,
                response_time_seconds=current(view.response_time_seconds, now, stale),
            )
        )
    routed = routing.route(service.policy.routing, inputs, state.routing, now)
    served = any(i.weight for i in inputs) and all(i.ready for i in inputs if i.weight)
    if guard.is_extra(state, now) and served:
        text = "Weights were looked at less than half a minute ago: they wait for the next run."
        standing = {name: view.weight for name, view in seen.pools.items()}
        routed = routing.Routing(standing, (Reason(Step.ROUTING, "routing.wait", text),), state.routing)
    decided = {name: replace(target, weight=routed.weights[name]) for name, target in pools.items()}
    cost = sum(decided[p.name].desired * p.usd_per_hour for p in service.pools)
    signals = Signals(
        utilization=demand.utilization,
        response_time=demand.response_time,
        ratio=demand.ratio,
        demand_rps=demand.rps,
        forecast_rps=outlook.upper_rps if outlook else None,
        required_rps=required,
        backlog=demand.backlog,
        usd_per_hour=cost,
    )
    stepped_at = state.stepped_at if guard.is_extra(state, now) else now
    state = replace(state, at=now, stepped_at=stepped_at, routing=routed.state)
    return Decision(decided, (*reasons, *routed.reasons), signals, state, held=held)


def _training(service: Service, seen: Observation, state: State, now: float, restart: Reason | None) -> Decision:
    decided = training.decide_training(service, seen, state, now)
    reasons = [*([restart] if restart else []), *decided.reasons]
    nothing = Demand.unknown(now)
    return _finish(service, seen, nothing, decided.state, now, decided.targets, reasons, held=decided.held)
