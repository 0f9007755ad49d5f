"""Lead times learnt from the pools' own launches, and capacity learnt from their loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling.boot import LastBoot
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.observation import Phase, PoolObservation
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.state import LearningMemory, PoolState, State

LAUNCHES_KEPT = 12
LEAD_QUANTILE = 0.75
"""Three launches in four were at least as fast: the mean would be late for half of them."""
PHASES_WANTED_SECONDS = 300.0
"""How long the phases of a launch are asked for. Instances publish them as they enter service, which is before the load
balancer calls them healthy; an AMI of one's own may publish none."""
EDGE = 0.9
"""Load over C from which an instance is at the edge of the SLO: below it nothing is learnt about C."""


def lead_seconds(pool: Pool, state: State) -> float:
    """Time from order to ready: of the pool's own launches once there are three, else as the catalog expects."""
    known = state.pool(pool.name).leads
    if len(known) < 3:
        return pool.lead_seconds
    return sorted(known)[int(LEAD_QUANTILE * (len(known) - 1) + 0.5)]


def remember_pools(context: Context) -> Mapping[str, PoolState]:
    """Bring the pools' memory up to now: note launches, forget pools that are gone."""
    return {pool.name: learn_leads(context.state.pool(pool.name), view, context.now) for pool, view in context.pools()}


def learn_leads(remembered: PoolState, seen: PoolObservation, now: float) -> PoolState:
    """Note the time that each instance took which has become ready since the last evaluation, and its phases."""
    starting = tuple(i.id for i in seen.those(Phase.STARTING))
    if not starting and not remembered.starting:
        return _with_phases(remembered, seen, now)
    started = set(remembered.starting)
    leads: list[float] = []
    for instance in seen.those(Phase.READY):
        if instance.id in started:
            ready_at = instance.ready_at if instance.ready_at is not None else now
            leads.append(round(max(1.0, ready_at - instance.since), 1))
    remembered = _with_phases(replace(remembered, starting=starting), seen, now)
    if not leads:
        return remembered
    newest = LastBoot(now, round(sum(leads) / len(leads), 1), {})
    return replace(remembered, leads=(*remembered.leads, *leads)[-LAUNCHES_KEPT:], boot=newest)


def _with_phases(remembered: PoolState, seen: PoolObservation, now: float) -> PoolState:
    """Add the phases of the newest launch, once they are there."""
    boot = remembered.boot
    if boot is None or not boot.wanted:
        return remembered
    ordered_at = boot.at - boot.seconds
    told = {phase: round(read.value, 1) for phase, read in seen.boot_seconds.items() if read.at > ordered_at}
    wanted = not told and now - boot.at < PHASES_WANTED_SECONDS
    return replace(remembered, boot=replace(boot, told=told, wanted=wanted))


def learn_capacity(context: Context) -> State:
    """Move each pool's correction towards the capacity that it shows at the edge of the SLO.

    Three things can be seen: engines that hold requests back carry exactly what they have in service; a time to the
    first token over its limit means that this load is too much; a load over C without either means that C is too
    small. The correction follows with the policy's half-life and stays within its bound: with 30 % a pool of C = 40
    never counts for more than 52 or less than 28.
    """
    settings, state = context.policy.learning, context.state
    if state.learning.reset != settings.reset:
        pools = {name: replace(pool, correction=1.0) for name, pool in state.pools.items()}
        state = replace(state, pools=pools, learning=LearningMemory(settings.reset))
    if not settings.enabled or context.policy.load.unit is not LoadUnit.CONCURRENCY:
        return state
    bound = settings.bound_percent / 100
    keep = 0.5 ** (max(0.0, min(context.now - state.at, 600.0)) / settings.half_life_seconds)
    pools = dict(state.pools)
    for pool, view in context.pools():
        remembered = state.pool(pool.name)
        evidence = _evidence(context, pool, view, remembered.correction)
        if evidence is not None:
            moved = remembered.correction * keep + min(1 + bound, max(1 - bound, evidence)) * (1 - keep)
            pools[pool.name] = replace(remembered, correction=round(min(1 + bound, max(1 - bound, moved)), 5))
    return replace(state, pools=pools)


def _evidence(context: Context, pool: Pool, seen: PoolObservation, believed: float) -> float | None:
    """Load over catalog capacity that the pool is seen to carry; None where it was not at the edge."""
    slo, request = context.policy.slo, context.policy.request
    running = context.value(seen.running)
    if running is None or seen.ready_count == 0:
        return None
    share = running / seen.counted_at / pool.capacity
    waiting = context.value(seen.waiting)
    if waiting is not None and waiting > seen.counted_at:
        return share
    ttft = context.value(seen.ttft_seconds)
    if slo is None or ttft is None or share < EDGE * believed:
        return None
    if ttft > slo.ttft_limit_seconds(request.input_tokens):
        return min(share, believed)
    return share if share > believed else None
