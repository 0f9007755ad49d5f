"""One evaluation of one service: observation, state and time in, decision and state out.

The steps stand in the order of the design: demand, sizing, mix, guard, routing. Each says what it found in a reason;
a decision carries them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from scaling import (
    burst,
    capacity_errors,
    feedback,
    forecast,
    guard,
    in_place,
    learning,
    mix,
    request_mix,
    routing,
    sizing,
    training,
    zero,
)
from scaling.decision import Decision, PoolTarget, Reason, Signals, Step
from scaling.demand import Demand, current, measure, ready_count
from scaling.observation import Observation, Phase, PoolObservation
from scaling.policy import SizingMode, VerticalMethod, Workload
from scaling.service import Pool, Service
from scaling.state import Point, PoolState, State


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
    state = _mark_pools(service, observation, state, now)
    if service.policy.workload is Workload.TRAINING:
        return _training(service, observation, state, now, restart)
    service, state = request_mix.as_seen(service, observation, state, now)
    decision = _inference(service, observation, state, now, restart)
    return in_place.consider(service, observation, decision, now)


def _mark_pools(service: Service, seen: Observation, state: State, now: float) -> State:
    pools = dict(state.pools)
    for pool in service.pools:
        view = seen.pools[pool.name]
        marked = capacity_errors.mark(service.policy.capacity_errors, pools[pool.name], view, now)
        alive = sum(1 for i in view.instances if i.phase is not Phase.DRAINING)
        short = view.desired > alive
        since = (marked.short_since if marked.short_since is not None else now) if short else None
        pools[pool.name] = replace(marked, short_since=since)
    return replace(state, pools=pools)


@dataclass(frozen=True, slots=True)
class _Rooms:
    """What each pool may be, and what an instance of it is worth."""

    rungs: tuple[mix.Rung, ...]
    worth: Mapping[str, float]
    """Usable work of one instance at the upper end of the forecast, typical requests per second."""
    strictness: float
    """How much more of an instance may be used then than day in, day out; at least 1."""
    lost: Mapping[str, int]
    """Instances of the desired count that carry nothing."""
    standing: Mapping[str, int]
    """Desired counts without those."""
    ready_rps: float
    standing_rps: float


def _inference(service: Service, seen: Observation, state: State, now: float, restart: Reason | None) -> Decision:
    policy = service.policy
    reasons: list[Reason] = [restart] if restart else []
    measured, service = in_place.as_measured(service, seen), in_place.as_counted(service, seen)
    demand, state = measure(measured, seen, state, now)
    state = learning.learn_capacity(measured, seen, state, now)
    state = _read_season(service, seen, state, now)
    was_asleep = state.asleep
    state = zero.sleep_or_wake(service, seen, demand, state, now)
    rooms = _rooms(service, seen, state, now)
    if demand.rps is None and not state.asleep and not (was_asleep or _nothing_stands(seen)):
        text = "Neither arrivals nor load are known: missing is not zero, so counts and weights are held."
        reasons.append(Reason(Step.DEMAND, "demand.missing", text))
        return _hold(service, seen, demand, state, now, reasons)

    if demand.rps is not None and demand.counted is not state.counted:
        state = replace(state, counted=demand.counted, series=(), pending=())
    asked = demand.rps if demand.rps is not None else (current(seen.rejected_rps, now, 180.0) or 0.0)
    full = sum(
        ready_count(seen.pools[p.name]) * p.throughput_rps * state.pools[p.name].correction for p in service.pools
    )
    target = 1 - policy.forecast_confidence
    state = feedback.correct(state, target, asked, rooms.ready_rps, fresh=demand.fresh and not demand.idle)
    horizon = _horizon(service, seen, state) + max(0.0, now - demand.at if demand.at else 0.0)
    outlook, state = forecast.look_ahead(
        policy.forecast,
        1 - state.allowance if state.allowance is not None else policy.forecast_confidence,
        state,
        Point(demand.at or now, asked),
        horizon,
        fresh=demand.fresh,
    )
    reasons.append(_say_demand(demand, outlook, asked, horizon))
    expected, state, said = burst.meet(policy.burst, demand, outlook.upper_rps, state, horizon, now)
    reasons += said
    left = max(0.0, demand.backlog - max(0.0, full - asked) * horizon)
    # Two things must hold: what is expected is served as strictly as the SLO says, and the upper end of it at all.
    required = sizing.required_rps(max(expected, outlook.rps * rooms.strictness), left, policy)
    reasons.append(_say_sizing(service, required, demand, rooms))
    required, threshold = _thresholds(service, seen, rooms, required, now)
    reasons += threshold

    if restart is not None and restart.code == "guard.first_run":
        return _hold(service, seen, demand, state, now, reasons, outlook, required)
    band, state = guard.stabilise(policy.horizontal, state, required, now)
    wanted, why = guard.wanted_rps(band, rooms.standing_rps, policy.horizontal.tolerance_percent)
    reasons.append(why)
    rooms, counts, state, said = _settle(service, seen, rooms, wanted, band, state, now)
    reasons += said
    targets, state, said = _step(service, seen, rooms, counts, band, demand, state, now)
    reasons += said
    return _finish(measured, seen, demand, state, now, targets, reasons, outlook=outlook, required=required)


def _read_season(service: Service, seen: Observation, state: State, now: float) -> State:
    """Take history that was read, and ask for it again when it has aged."""
    wanted = service.policy.forecast.method.value in {"seasonal", "auto"}
    if seen.history_rps and wanted:
        first = now - service.policy.forecast.history_days * 86400.0
        season = forecast.season_from([r for r in seen.history_rps if r.at > first], now)
        if season is None:  # not a day old yet: ask again in a while, not each minute
            season = forecast.Season(now, (), (), 0.0)
        state = replace(state, season=season)
    aged = state.season is None or now - state.season.read_at >= forecast.SEASON_REFRESH_SECONDS
    young = state.season is not None and state.season.days < 7 and now - state.season.read_at >= 3600.0
    return replace(state, season_wanted=wanted and (aged or young))


def _rooms(service: Service, seen: Observation, state: State, now: float, instances: int | None = None) -> _Rooms:
    """Bounds and worth of each pool, with the worth that `instances` of each have; unset: as many as stand.

    Traffic is split among the pools before it is balanced within one, so each pool evens out its own part alone: two
    pools of one do not make a pool of two. One that has no instance is taken for as many as stand in all.
    """
    policy = service.policy
    counts = instances if instances is not None else {p.name: seen.pools[p.name].desired for p in service.pools}
    total = max(1, sum(counts.values()))
    reaching = any(p.reaches_slo and p.max_instances > 0 for p in service.pools)
    rungs: list[mix.Rung] = []
    worth: dict[str, float] = {}
    lost: dict[str, int] = {}
    standing: dict[str, int] = {}
    ready_rps = strict_rps = tail_rps = 0.0
    for pool in service.pools:
        view, remembered = seen.pools[pool.name], state.pools[pool.name]
        scv = state.dispersion or 1.0
        among = counts[pool.name] or total
        share = sizing.usable_share(pool, policy, among, scv)
        tail = sizing.usable_share(pool, policy, among, scv, sizing.TAIL_BUDGET)
        whole = pool.throughput_rps * remembered.correction
        worth[pool.name] = whole * max(share, tail)
        strict_rps += view.desired * whole * share
        tail_rps += view.desired * worth[pool.name]
        nothing = guard.gone(policy.horizontal, view, remembered.short_since, now)
        lost[pool.name] = min(nothing.count, view.desired)
        standing[pool.name] = view.desired - lost[pool.name]
        ready_rps += ready_count(view) * worth[pool.name]
        at_most = max(0, min(pool.max_instances, view.max_size) - lost[pool.name])
        at_least = max(pool.min_instances, min(view.min_size, pool.max_instances))
        alive = sum(1 for i in view.instances if i.phase in {Phase.READY, Phase.STARTING})
        if capacity_errors.blocked(pool, remembered, now, spot=pool.spot_percent >= 100):
            at_most = min(at_most, max(0, alive - len(nothing.stuck)))
        if policy.sizing_mode is SizingMode.SLO and reaching and not pool.reaches_slo:
            at_most = 0
        if policy.vertical.method is VerticalMethod.OFF and pool is not service.pools[0]:
            at_most = min(at_most, max(standing[pool.name], at_least))
        rungs.append(
            mix.Rung(
                name=pool.name,
                instance_rps=worth[pool.name],
                usd_per_hour=pool.usd_per_hour,
                at_least=min(at_least, at_most),
                at_most=at_most,
                vcpus=pool.vcpus,
                quota=pool.quota,
            )
        )
    standing_rps = sum(standing[name] * worth[name] for name in standing)
    strictness = tail_rps / strict_rps if strict_rps > 0 else 1.0
    return _Rooms(tuple(rungs), worth, strictness, lost, standing, ready_rps, standing_rps)


def _nothing_stands(seen: Observation) -> bool:
    return all(view.desired == 0 and not view.instances for view in seen.pools.values())


def _horizon(service: Service, seen: Observation, state: State) -> float:
    """The lead time of the slowest pool that stands, or of the fastest where none does."""
    leads = {p.name: learning.lead_seconds(p, state) for p in service.pools if p.max_instances > 0}
    used = [lead for name, lead in leads.items() if seen.pools[name].desired > 0]
    if used:
        return max(used)
    return min(leads.values(), default=0.0)


def _thresholds(
    service: Service, seen: Observation, rooms: _Rooms, required: float, now: float
) -> tuple[float, list[Reason]]:
    """Node signals over their limit ask for more, in proportion, whatever the load says (the article, 3.2.1)."""
    limits = service.policy.thresholds
    stale = service.policy.load.stale_after_seconds
    reasons: list[Reason] = []
    for pool in service.pools:
        view = seen.pools[pool.name]
        signals = (
            ("cpu_percent", view.cpu_percent, limits.cpu_percent),
            ("memory_percent", view.memory_percent, limits.memory_percent),
            ("gpu_percent", view.gpu_percent, limits.gpu_percent),
            ("kv_cache_percent", view.kv_cache_percent, limits.kv_cache_percent),
            ("network_latency_seconds", view.network_latency_seconds, limits.network_latency_seconds),
        )
        for name, reading, limit in signals:
            value = current(reading, now, stale)
            if limit is None or value is None or value <= limit or ready_count(view) == 0:
                continue
            needed = rooms.standing_rps + ready_count(view) * rooms.worth[pool.name] * (min(2.0, value / limit) - 1)
            if needed > required:
                text = (
                    f"{pool.name}: {name} is {value:.3g}, over its limit of {limit:.3g}: {needed:.2f} rps are wanted."
                )
                numbers = {"value": value, "limit": limit}
                reasons.append(Reason(Step.SIZING, "sizing.threshold", text, numbers))
                required = needed
    return required, reasons


def _settle(
    service: Service, seen: Observation, rooms: _Rooms, wanted: float, band: guard.Band, state: State, now: float
) -> tuple[_Rooms, Mapping[str, int], State, list[Reason]]:
    """The counts, with each instance's worth as it is among that many.

    More instances pool better, so each may be used more: judged by the share of the ten that stand, two might go that
    eight would have to call back. Going in, one look at the smaller count is on the safe side; going out the first
    look asks for too many, the second for too few, and the third, at that fewer, for enough.
    """
    counts, after, said = _mix(service, seen, rooms, wanted, state, now)
    stand = sum(rooms.standing.values())
    looks = 0 if sum(counts.values()) == stand else 1 if sum(counts.values()) < stand else 2
    for _ in range(looks):
        rooms = _rooms(service, seen, state, now, instances=counts)
        wanted, _ = guard.wanted_rps(band, rooms.standing_rps, service.policy.horizontal.tolerance_percent)
        counts, after, said = _mix(service, seen, rooms, wanted, state, now)
    return rooms, counts, after, said


def _mix(
    service: Service, seen: Observation, rooms: _Rooms, wanted: float, state: State, now: float
) -> tuple[Mapping[str, int], State, list[Reason]]:
    policy = service.policy
    if state.asleep:
        text = "Nobody has asked for the policy's idle time: the service sleeps."
        return dict.fromkeys(rooms.standing, 0), state, [Reason(Step.MIX, "zero.asleep", text)]
    floor = max(policy.availability.min_instances, policy.availability.min_zones)
    if sum(rooms.standing.values()) == 0:
        floor = max(floor, policy.zero.wake_instances if zero.may_sleep(service) else 1)
    floor = max(floor, _zone_floor(service, seen, state, now))
    chosen = mix.choose(
        rooms.rungs,
        wanted,
        rooms.standing,
        quotas=service.vcpu_quotas,
        min_instances=floor,
        vertical=policy.vertical,
        lead_seconds={p.name: learning.lead_seconds(p, state) for p in service.pools},
        last_move_at=state.moved_at or None,
        now=now,
    )
    if chosen.moved:
        state = replace(state, moved_at=now)
    return chosen.counts, state, list(chosen.reasons)


def _zone_floor(service: Service, seen: Observation, state: State, now: float) -> int:
    """Instances that it takes to stand in `availability.min_zones` zones, seen from where they stand.

    A group launches in the zone in which it has the fewest, so one more opens one more zone, and an order that is not
    there yet may be that one. Where no zone that would count can be had, or there are already more instances than the
    pools have zones (then more would not help, and the group's own rebalancing spreads them), nothing is added.
    """
    zones = guard.Zones.of(service.policy.availability.min_zones, seen.pools.values())
    closed = {m.zone for p in service.pools for m in state.pools[p.name].marks if m.until > now}
    others = {zone for p in service.pools for zone in p.zones if p.max_instances > 0} - zones.alive.keys() - closed
    lacking = min(zones.least - len(zones.alive), len(others))
    there = sum(zones.alive.values())
    return there + lacking if lacking > 0 and there <= sum(len(p.zones) for p in service.pools) else 0


def _step(
    service: Service,
    seen: Observation,
    rooms: _Rooms,
    counts: Mapping[str, int],
    band: guard.Band,
    demand: Demand,
    state: State,
    now: float,
) -> tuple[dict[str, PoolTarget], State, list[Reason]]:
    """From the counts wanted to those that may be had in this step."""
    policy = service.policy
    reasons: list[Reason] = []
    targets: dict[str, PoolTarget] = {}
    need = 0.0 if state.asleep else band.in_rps
    spare = rooms.ready_rps - need
    fits = _fits(service, seen, demand, state) if not state.asleep else 10**6
    zones = guard.Zones.of(0 if state.asleep else policy.availability.min_zones, seen.pools.values())
    wants_loads = False
    for pool in service.pools:
        view, name = seen.pools[pool.name], pool.name
        want = counts[name] + rooms.lost[name]
        want = _within(pool, view, want)
        desired, take = view.desired, ()
        if want > view.desired:
            desired = min(want, view.desired + policy.horizontal.max_step_out)
        elif not guard.extra(state, now):
            gone = (
                guard.shrink(
                    pool,
                    view,
                    policy,
                    by=view.desired - want,
                    spare_rps=spare,
                    instance_rps=rooms.worth[name],
                    fits=fits,
                    patience=state.loads_wanted,
                    zones=zones,
                    now=now,
                    must=_over(pool, view),
                )
                if want < view.desired
                else guard.relieve(pool, view, policy, zones, now)
            )
            ready = {i.id for i in view.instances if i.phase is Phase.READY}
            leaving = sum(1 for i in gone.take if i in ready)
            spare -= leaving * rooms.worth[name]
            fits -= leaving
            zones = gone.zones
            wants_loads = wants_loads or gone.wants_loads
            reasons += gone.reasons
            take = gone.take
            desired = view.desired - len(take) - gone.drop
        base = None
        if pool.spot_percent > 0:
            lead = learning.lead_seconds(pool, state)
            after = replace(view, desired=desired)  # what is ordered now shall not wait for spot either
            base = capacity_errors.on_demand_base(pool, after, state.pools[name], lead, now)
            base = base if base != view.on_demand_base else None
        targets[name] = PoolTarget(desired=desired, weight=view.weight, take=take, on_demand_base=base)
    return targets, replace(state, loads_wanted=state.loads_wanted + 1 if wants_loads else 0), reasons


def _fits(service: Service, seen: Observation, demand: Demand, state: State) -> int:
    """How many of the instances that serve may leave so that what they hold still fits the rest: load * N/(N-1)."""
    if demand.utilization is None:
        return 0
    ready = sum(ready_count(view) for view in seen.pools.values())
    limit = service.policy.sizing.target_utilization if service.policy.sizing_mode is SizingMode.THRESHOLD else 1.0
    return ready - max(1, -int(-demand.utilization // limit)) if ready else 0


def _within(pool: Pool, view: PoolObservation, count: int) -> int:
    """The count within the policy's bounds, and these within the group's, which alone AWS keeps to."""
    return max(view.min_size, min(view.max_size, max(pool.min_instances, min(pool.max_instances, count))))


def _over(pool: Pool, view: PoolObservation) -> int:
    """Instances above the pool's maximum, as after a change of the policy's bounds."""
    return max(0, view.desired - _within(pool, view, view.desired))


def _hold(
    service: Service,
    seen: Observation,
    demand: Demand,
    state: State,
    now: float,
    reasons: list[Reason],
    outlook: forecast.Outlook | None = None,
    required: float | None = None,
) -> Decision:
    """Counts and weights as they stand, within the bounds."""
    targets = {}
    zones = guard.Zones.of(service.policy.availability.min_zones, seen.pools.values())
    for pool in service.pools:
        view = seen.pools[pool.name]
        over = _over(pool, view)
        if over and not guard.extra(state, now):
            gone = guard.shrink(
                pool,
                view,
                service.policy,
                by=over,
                spare_rps=0.0,
                instance_rps=pool.throughput_rps,
                fits=0,
                patience=guard.LOADS_PATIENCE,
                zones=zones,
                now=now,
                must=over,
            )
            zones = gone.zones
            reasons += gone.reasons
            desired = view.desired - len(gone.take) - gone.drop
            targets[pool.name] = PoolTarget(desired=desired, weight=view.weight, take=gone.take)
        else:
            desired = max(view.desired, _within(pool, view, 0))
            targets[pool.name] = PoolTarget(desired=desired, weight=view.weight)
    return _finish(service, seen, demand, state, now, targets, reasons, outlook=outlook, required=required, held=True)


def _finish(
    service: Service,
    seen: Observation,
    demand: Demand,
    state: State,
    now: float,
    targets: dict[str, PoolTarget],
    reasons: list[Reason],
    *,
    outlook: forecast.Outlook | None = None,
    required: float | None = None,
    held: bool = False,
) -> Decision:
    """Set the weights, and put the decision together."""
    stale = service.policy.load.stale_after_seconds
    inputs = []
    for pool in service.pools:
        view, target = seen.pools[pool.name], targets[pool.name]
        ready = [i for i in view.instances if i.phase is Phase.READY and i.id not in target.take]
        load = demand.loads.get(pool.name)
        correction = state.pools[pool.name].correction
        each = load / (len(ready) * pool.capacity * correction) if load is not None and ready else None
        inputs.append(
            routing.PoolInput(
                name=pool.name,
                ready=len(ready),
                capacity_rps=len(ready) * pool.throughput_rps * correction,
                weight=view.weight,
                utilization=each,
                response_time_seconds=current(view.response_time_seconds, now, stale),
            )
        )
    routed = routing.route(service.policy.routing, inputs, state.routing, now)
    if guard.extra(state, now) and routed.reasons[-1].code in {"routing.shift", "routing.keep"}:
        text = "Weights were looked at less than half a minute ago: they wait for the next run."
        standing = {name: view.weight for name, view in seen.pools.items()}
        routed = routing.Routing(standing, (Reason(Step.ROUTING, "routing.wait", text),), state.routing)
    targets = {name: replace(target, weight=routed.weights[name]) for name, target in targets.items()}
    cost = sum(targets[p.name].desired * p.usd_per_hour for p in service.pools)
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
    stepped_at = state.stepped_at if guard.extra(state, now) else now
    state = replace(state, at=now, stepped_at=stepped_at, routing=routed.state)
    return Decision(targets, (*reasons, *routed.reasons), signals, state, held=held)


def _say_demand(demand: Demand, outlook: forecast.Outlook, asked: float, horizon: float) -> Reason:
    error = "" if outlook.error_percent is None else f", its mean error {outlook.error_percent:.0f} %"
    text = (
        f"{asked:.2f} rps are asked for; in {horizon:.0f} s {outlook.rps:.2f} (method {outlook.method}{error}),"
        f" with {outlook.headroom_percent:.0f} % head-room {outlook.upper_rps:.2f}."
    )
    numbers = {
        "demand_rps": asked,
        "forecast_rps": outlook.rps,
        "headroom_percent": outlook.headroom_percent,
        "horizon_seconds": horizon,
    }
    code = "demand.idle" if demand.idle else f"demand.{outlook.method}"
    return Reason(Step.DEMAND, code, text, numbers)


def _say_sizing(service: Service, required: float, demand: Demand, rooms: _Rooms) -> Reason:
    seen = "U, T and R are not known"
    numbers: dict[str, float] = {"required_rps": required}
    if demand.utilization is not None and demand.response_time is not None and demand.ratio is not None:
        seen = f"U {demand.utilization:.2f}, T {demand.response_time:.2f}, R {demand.ratio:.2f}"
        numbers |= {"U": demand.utilization, "T": demand.response_time, "R": demand.ratio}
    each = ", ".join(f"{name} {worth:.2f}" for name, worth in rooms.worth.items())
    text = f"{required:.2f} rps must be carried ({seen}); an instance may carry: {each}."
    return Reason(Step.SIZING, f"sizing.{service.policy.sizing_mode.value}", text, numbers)


def _training(service: Service, seen: Observation, state: State, now: float, restart: Reason | None) -> Decision:
    decided = training.decide_training(service, seen, state, now)
    reasons = [*([restart] if restart else []), *decided.reasons]
    nothing = Demand(None, now, False, False, 0.0, False, None, None, None, None, {})
    return _finish(service, seen, nothing, decided.state, now, dict(decided.targets), reasons, held=decided.held)
