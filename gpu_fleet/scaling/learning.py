"""What the pools' own launches and loads teach: lead times, and capacity as it is seen."""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.demand import current, ready_count
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import LoadUnit, Policy
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import PoolState, State

LAUNCHES_KEPT = 12
LEAD_QUANTILE = 0.75
"""Three launches in four were at least as fast: the mean would be late for half of them."""
EDGE = 0.9
"""Load over C from which an instance is at the edge of the SLO: below it nothing is learnt about C."""


def lead_seconds(pool: Pool, state: State) -> float:
    """Time from order to ready: of the pool's own launches once there are three, else as the catalog expects."""
    known = state.pools[pool.name].leads if pool.name in state.pools else ()
    if len(known) < 3:
        return pool.lead_seconds
    return sorted(known)[int(LEAD_QUANTILE * (len(known) - 1) + 0.5)]


def learn_leads(remembered: PoolState, seen: PoolObservation, now: float) -> PoolState:
    """Note how long each instance took that has become ready since the last evaluation."""
    starting = tuple(i.id for i in seen.those(Phase.STARTING))
    if not starting and not remembered.starting:
        return remembered
    started = set(remembered.starting)
    leads = list(remembered.leads)
    for instance in seen.those(Phase.READY):
        if instance.id in started:
            ready_at = instance.ready_at if instance.ready_at is not None else now
            leads.append(round(max(1.0, ready_at - instance.since), 1))
    return replace(remembered, leads=tuple(leads[-LAUNCHES_KEPT:]), starting=starting)


def learn_capacity(service: Service, seen: Observation, state: State, now: float) -> State:
    """Move each pool's correction towards what it is seen to carry at the edge of the SLO.

    Three things can be seen: engines that hold requests back carry just what they have in service; a time to the
    first token over its limit says that this load is too much; a load over C without either says that C is too small.
    The correction follows with the policy's half-life and stays within its bound: with 30 % a pool of C = 40 is never
    taken for more than 52 or less than 28.
    """
    policy = service.policy
    if state.learning_reset != policy.learning.reset:
        pools = {name: replace(pool, correction=1.0) for name, pool in state.pools.items()}
        state = replace(state, pools=pools, learning_reset=policy.learning.reset)
    if not policy.learning.enabled or policy.load.unit is not LoadUnit.CONCURRENCY:
        return state
    pools = dict(state.pools)
    for pool in service.pools:
        evidence = _evidence(pool, seen.pools[pool.name], policy, now, pools.get(pool.name, PoolState()).correction)
        if evidence is None:
            continue
        bound = policy.learning.bound_percent / 100
        remembered = pools.get(pool.name, PoolState())
        keep = 0.5 ** (max(0.0, min(now - state.at, 600.0)) / policy.learning.half_life_seconds)
        moved = remembered.correction * keep + min(1 + bound, max(1 - bound, evidence)) * (1 - keep)
        pools[pool.name] = replace(remembered, correction=round(min(1 + bound, max(1 - bound, moved)), 5))
    return replace(state, pools=pools)


def _evidence(pool: Pool, seen: PoolObservation, policy: Policy, now: float, believed: float) -> float | None:
    """Load over catalog capacity that the pool is seen to carry; None where it was not at the edge."""
    stale = policy.load.stale_after_seconds
    running, ready = current(seen.running, now, stale), ready_count(seen)
    if running is None or ready == 0:
        return None
    share = running / ready / pool.capacity
    waiting = current(seen.waiting, now, stale)
    if waiting is not None and waiting > ready:
        return share
    ttft = current(seen.ttft_seconds, now, stale)
    if policy.slo is None or ttft is None or share < EDGE * believed:
        return None
    if ttft > policy.slo.ttft_limit_seconds(policy.request.input_tokens):
        return min(share, believed)
    return share if share > believed else None


def remember_pools(service: Service, seen: Observation, state: State, now: float) -> State:
    """The pools' memory brought up to now: launches noted, pools that are gone forgotten."""
    pools = {
        pool.name: learn_leads(state.pools.get(pool.name, PoolState()), seen.pools[pool.name], now)
        for pool in service.pools
    }
    return replace(state, pools=pools)
