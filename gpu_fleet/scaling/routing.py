"""Routing: how the pools share the traffic, as integer weights of their target groups (the article, 3.2.1).

Only the pools' shares matter: weights 2 and 1 share as 666 and 333 do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling import policy
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.policy import RoutingStrategy
from gpu_fleet.scaling.reasons import routing as reasons
from gpu_fleet.scaling.state import RoutingState

TOTAL_WEIGHT = 999
"""Sum of the weights: none can pass the 999 that an ALB allows, and each share is met to 0.1 %."""
LEAST_RAMP = 0.1
"""A new pool starts with this part of its share: without traffic it could not show that it works."""
MOST_CORRECTION = 2.0
"""Response times change a pool's share by at most this factor up, and its inverse down: capacity counts more than
speed."""
BACK = 0.5
"""`auto` goes back to capacity when the spread is below this part of `drift_percent`."""
SHORT = 0.9
"""... and T below this part of its limit."""


@dataclass(frozen=True, slots=True)
class PoolInput:
    """One pool as routing sees it."""

    name: str
    ready: int
    """Instances that are healthy at the load balancer."""
    capacity_rps: float
    """Work that they may carry: ready * instance_rps. 0 empties the pool, step by step."""
    weight: int
    """Today's weight."""
    load_over_capacity: float | None = None
    """0.8 is 80 %."""
    response_time_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ResponseFigure:
    """The article's T, and the T from which on balancing must improve (its 4.3.2)."""

    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class Routing:
    """The weights, with their reasons and the memory for the next decision."""

    weights: Mapping[str, int]
    reasons: tuple[Reason, ...]
    state: RoutingState


def route(
    settings: policy.RoutingPolicy,
    pools: Sequence[PoolInput],
    state: RoutingState,
    now: float,
    response: ResponseFigure | None = None,
) -> Routing:
    """Share the traffic among the pools.

    A pool without ready instances gets 0 at once; when no pool has any, the weights stay. Shares follow the strategy;
    a new pool reaches its share over `slow_start_seconds`, and shares move by at most `max_step_percent` of the traffic
    in one step. Weights are written only when some share is off by more than `dead_band_percent`, or when a pool starts
    or stops taking traffic; a move that has begun goes all the way. Under constant input it ends after finitely many
    steps, with each share within 0.5 % of the ideal.
    `response`: given where T chooses between static and dynamic balancing too.
    With a lost state (`RoutingState()`), pools with traffic count as healthy for a long time.
    """
    ready = [pool for pool in pools if pool.ready > 0]
    current = {pool.name: pool.weight for pool in pools}
    if not ready:
        return Routing(current, (reasons.none(),), replace(state, healthy_since={}, corrections={}, moving=False))
    since = {pool.name: _healthy_since(pool, settings, state, now) for pool in ready}
    by_response_time, why = _by_response_time(ready, settings, state, response)
    corrections = _corrections(ready, settings, state, by_response_time=by_response_time)
    ideal, fallback = _ideal_shares(ready, settings, since, corrections, now)
    shares, cut_short = _step(ready, ideal, settings)
    weights = {pool.name: 0 for pool in pools} | _whole_weights(shares, ideal)
    write, written = _worth_writing(pools, ideal, weights, settings, moving=state.moving)
    ramping = any(_ramp(since[pool.name], settings, now) < 1 for pool in ready)
    after = RoutingState(
        by_response_time=by_response_time,
        healthy_since=since,
        corrections=corrections,
        moving=(write and cut_short) or ramping,
    )
    given = [reason for reason in (why, fallback, written) if reason is not None]
    return Routing(weights if write else current, tuple(given), after)


def _healthy_since(pool: PoolInput, settings: policy.RoutingPolicy, state: RoutingState, now: float) -> float:
    since = state.healthy_since.get(pool.name)
    if since is not None:
        return min(since, now)  # after a clock was set back the ramp starts anew, at worst
    # A pool without memory: one with traffic was healthy before this memory began, one without has just become so.
    return now - settings.slow_start_seconds if pool.weight else now


def _by_response_time(
    ready: Sequence[PoolInput], settings: policy.RoutingPolicy, state: RoutingState, response: ResponseFigure | None
) -> tuple[bool, Reason | None]:
    """Whether response times count, with a reason where `auto` changes its mind: for the pools' loads, or for T.

    `auto` looks at the load over capacity that each pool would have if traffic were shared by capacity alone (its own,
    over its share now, times its share then). Otherwise it would take the evenness that the correction has made for
    evenness of the pools, take the correction back, and the drift would return.
    """
    if settings.strategy is not RoutingStrategy.AUTO:
        return settings.strategy is RoutingStrategy.RESPONSE_TIME, None
    measured = [pool for pool in ready if pool.load_over_capacity is not None and pool.weight and pool.capacity_rps]
    if len(measured) < 2:
        return state.by_response_time, None
    loads = [(pool.load_over_capacity or 0.0) * pool.capacity_rps / pool.weight for pool in measured]
    scale = sum(pool.weight for pool in measured) / sum(pool.capacity_rps for pool in measured)
    spread = 100 * scale * (max(loads) - min(loads))
    if not state.by_response_time and spread >= settings.drift_percent:
        return True, reasons.drift(spread, settings.drift_percent)
    if not state.by_response_time and response and response.value > response.limit:
        return True, reasons.slow(response.value, response.limit)
    short = response is None or response.value < SHORT * response.limit
    if state.by_response_time and short and spread < BACK * settings.drift_percent:
        return False, reasons.even(spread, settings.drift_percent)
    return state.by_response_time, None


def _corrections(
    ready: Sequence[PoolInput], settings: policy.RoutingPolicy, state: RoutingState, *, by_response_time: bool
) -> dict[str, float]:
    """Each pool's factor, moved by `damping` of the way (in logarithms) to mean response time over its own.

    Without a response time, or where response times do not count, it moves back to 1. The mean is over traffic.
    Damped, since more traffic makes a pool slower: without damping the shares would swing.
    """
    times = {
        pool.name: pool.response_time_seconds
        for pool in ready
        if by_response_time and pool.response_time_seconds is not None and pool.response_time_seconds > 0
    }
    traffic = {pool.name: max(1, pool.weight) for pool in ready if pool.name in times}
    mean = sum(traffic[name] * times[name] for name in times) / max(1, sum(traffic.values()))
    corrections = {}
    for pool in ready:
        target = mean / times[pool.name] if pool.name in times else 1.0
        target = min(MOST_CORRECTION, max(1 / MOST_CORRECTION, target))
        before = state.corrections.get(pool.name, 1.0)
        after = math.exp((1 - settings.damping) * math.log(before) + settings.damping * math.log(target))
        corrections[pool.name] = after if abs(after - 1) > 1e-6 else 1.0
    return corrections


def _ideal_shares(
    ready: Sequence[PoolInput],
    settings: policy.RoutingPolicy,
    since: Mapping[str, float],
    corrections: Mapping[str, float],
    now: float,
) -> tuple[dict[str, float], Reason | None]:
    """The shares that the strategy asks for now; they add up to 1. A reason says that static weights do not apply."""
    fallback = None
    if settings.strategy is RoutingStrategy.STATIC:
        parts = {pool.name: float(settings.static_weights.get(pool.name, 0)) for pool in ready}
        if not any(parts.values()):
            fallback = reasons.static_unready(parts)
    else:
        parts = {pool.name: max(0.0, pool.capacity_rps) * corrections[pool.name] for pool in ready}
    if not any(parts.values()):
        parts = {pool.name: max(0.0, pool.capacity_rps) for pool in ready}
    if not any(parts.values()):
        parts = {pool.name: float(pool.ready) for pool in ready}
    parts = {name: part * _ramp(since[name], settings, now) for name, part in parts.items()}
    total = sum(parts.values())
    return {name: part / total for name, part in parts.items()}, fallback


def _ramp(since: float, settings: policy.RoutingPolicy, now: float) -> float:
    """The part of its share that a pool has reached which is healthy since then."""
    if now - since >= settings.slow_start_seconds:
        return 1.0
    return max(LEAST_RAMP, (now - since) / settings.slow_start_seconds)


def _step(
    ready: Sequence[PoolInput], ideal: Mapping[str, float], settings: policy.RoutingPolicy
) -> tuple[dict[str, float], bool]:
    """The shares of this step, and whether they fall short of the ideal. All pools go the same part of their way."""
    total = sum(pool.weight for pool in ready)
    if not total:
        return dict(ideal), False
    current = {pool.name: pool.weight / total for pool in ready}
    furthest = max(abs(ideal[name] - current[name]) for name in current)
    # Half a weight is left for rounding.
    allowed = max(settings.max_step_percent / 100 - 1 / TOTAL_WEIGHT, 1 / TOTAL_WEIGHT)
    if furthest <= allowed:
        return dict(ideal), False
    part = allowed / furthest
    return {name: current[name] + part * (ideal[name] - current[name]) for name in current}, True


def _whole_weights(shares: Mapping[str, float], ideal: Mapping[str, float]) -> dict[str, int]:
    """Weights that add up to TOTAL_WEIGHT, by largest remainder; at least 1 for each pool with an ideal share."""
    exact = {name: max(TOTAL_WEIGHT * share, 1.0 if ideal[name] else 0.0) for name, share in shares.items()}
    scale = TOTAL_WEIGHT / sum(exact.values())
    weights = {name: max(math.floor(value * scale), 1 if ideal[name] else 0) for name, value in exact.items()}
    left = TOTAL_WEIGHT - sum(weights.values())
    by_remainder = sorted(exact, key=lambda name: exact[name] * scale - weights[name], reverse=True)
    for name in by_remainder[: max(0, left)]:
        weights[name] += 1
    if left < 0:  # what was lifted to 1 comes out of the largest
        weights[max(weights, key=lambda name: weights[name])] += left
    return weights


def _worth_writing(
    pools: Sequence[PoolInput],
    ideal: Mapping[str, float],
    weights: Mapping[str, int],
    settings: policy.RoutingPolicy,
    *,
    moving: bool,
) -> tuple[bool, Reason]:
    """Whether the new weights are worth a write, and why. The ideal shares decide, not those of this step."""
    total = sum(pool.weight for pool in pools)
    off_percent = 100.0
    if total:
        off_percent = 100 * max(abs(ideal.get(pool.name, 0.0) - pool.weight / total) for pool in pools)
    emptied = [pool.name for pool in pools if pool.weight and not weights[pool.name]]
    filled = [pool.name for pool in pools if not pool.weight and weights[pool.name]]
    if emptied:
        return True, reasons.empty(emptied, off_percent, weights)
    if filled:
        return True, reasons.fill(filled, off_percent, weights)
    emptying = any(pool.weight and not ideal.get(pool.name) for pool in pools)
    unfinished = moving and off_percent > 50 / TOTAL_WEIGHT
    changed = any(pool.weight != weights[pool.name] for pool in pools)
    if changed and (off_percent > settings.dead_band_percent or emptying or unfinished):
        return True, reasons.shift(off_percent, weights)
    return False, reasons.keep(off_percent, weights, settings.dead_band_percent)
