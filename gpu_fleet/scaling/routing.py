"""Routing: how traffic is shared among the pools, as integer weights of their target groups (the article, 3.2.1).

Only the pools' shares matter: weights 2 and 1 share as 666 and 333 do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling import policy
from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.policy import RoutingStrategy
from gpu_fleet.scaling.state import RoutingState

TOTAL_WEIGHT = 999
"""What the weights add up to: none can pass the 999 that an ALB allows, and a share is met to 0.1 %."""
LEAST_RAMP = 0.1
"""A new pool starts with this part of its share: with nothing it would not be seen to work."""
MOST_CORRECTION = 2.0
"""Response times change a pool's share by at most this factor up, and its inverse down: what it can carry counts more
than how fast it answers."""
BACK = 0.5
"""`auto` goes back to capacity when the spread is below this part of `drift_percent`."""


@dataclass(frozen=True, slots=True)
class PoolInput:
    """What routing has to know of one pool."""

    name: str
    ready: int
    """Instances that are healthy at the load balancer."""
    capacity_rps: float
    """Work that they may be asked for: ready * instance_rps. 0 where the pool is to be emptied, step by step."""
    weight: int
    """As it stands."""
    utilization: float | None = None
    """Load over capacity (0.8 is 80 %)."""
    response_time_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """The weights to have, with the reasons and what to remember."""

    weights: Mapping[str, int]
    reasons: tuple[Reason, ...]
    state: RoutingState


def route(settings: policy.RoutingPolicy, pools: Sequence[PoolInput], state: RoutingState, now: float) -> Routing:
    """Share the traffic among the pools.

    A pool without ready instances gets 0 at once; without any such pool the weights stay. Shares follow the strategy,
    a new pool's over `slow_start_seconds`, by steps of at most `max_step_percent` of the traffic, and are rewritten
    only when some share is more than `dead_band_percent` off, or a pool comes from 0 or goes there; a move once begun
    goes all the way. Under constant input it ends after finitely many steps, with each share within 0.5 % of the ideal.
    A lost state (`RoutingState()`) takes pools with traffic for long healthy.
    """
    ready = [pool for pool in pools if pool.ready > 0]
    standing = {pool.name: pool.weight for pool in pools}
    if not ready:
        reason = Reason(Step.ROUTING, "routing.none", "No pool has ready instances: the weights stay as they are.")
        after = replace(state, healthy_since={}, corrections={}, moving=False)
        return Routing(standing, (reason,), after)
    since = {pool.name: _healthy_since(pool, settings, state, now) for pool in ready}
    by_response_time, reasons = _mode(ready, settings, state)
    corrections = _corrections(ready, settings, state, by_response_time=by_response_time)
    ideal, fallback = _ideal(ready, settings, since, corrections, now)
    if fallback:
        reasons.append(fallback)
    shares, cut = _step(ready, ideal, settings)
    weights = {pool.name: 0 for pool in pools} | _integers(shares, ideal)
    write, reason = _write(pools, ideal, weights, settings, moving=state.moving)
    reasons.append(reason)
    ramping = any(_ramp(since[pool.name], settings, now) < 1 for pool in ready)
    decided = weights if write else standing
    after = RoutingState(
        by_response_time=by_response_time,
        healthy_since=since,
        corrections=corrections,
        moving=(write and cut) or ramping,
    )
    return Routing(decided, tuple(reasons), after)


def _healthy_since(pool: PoolInput, settings: policy.RoutingPolicy, state: RoutingState, now: float) -> float:
    seen = state.healthy_since.get(pool.name)
    if seen is not None:
        return min(seen, now)  # a clock that was set back starts the ramp anew, at worst
    # Never seen: a pool that has traffic was there before us, one without has just come.
    return now - settings.slow_start_seconds if pool.weight else now


def _mode(ready: Sequence[PoolInput], settings: policy.RoutingPolicy, state: RoutingState) -> tuple[bool, list[Reason]]:
    """Whether response times count, and what `auto` has to say about it.

    `auto` looks at the utilisation that each pool would have if traffic were shared by capacity alone (its own, over
    its share now, times its share then): what the correction has evened out must not be taken for evenness, else
    it would be taken back and the drift would come again.
    """
    if settings.strategy is not RoutingStrategy.AUTO:
        return settings.strategy is RoutingStrategy.RESPONSE_TIME, []
    seen = [pool for pool in ready if pool.utilization is not None and pool.weight and pool.capacity_rps]
    if len(seen) < 2:
        return state.by_response_time, []
    loads = [(pool.utilization or 0.0) * pool.capacity_rps / pool.weight for pool in seen]
    scale = sum(pool.weight for pool in seen) / sum(pool.capacity_rps for pool in seen)
    spread = 100 * scale * (max(loads) - min(loads))
    numbers = {"spread_percent": spread, "drift_percent": settings.drift_percent}
    if not state.by_response_time and spread >= settings.drift_percent:
        sentence = f"By capacity the pools' loads are {spread:.0f} % apart: from here on response times count."
        return True, [Reason(Step.ROUTING, "routing.drift", sentence, numbers)]
    if state.by_response_time and spread < BACK * settings.drift_percent:
        sentence = f"By capacity the pools' loads would be {spread:.0f} % apart: response times no longer count."
        return False, [Reason(Step.ROUTING, "routing.even", sentence, numbers)]
    return state.by_response_time, []


def _corrections(
    ready: Sequence[PoolInput], settings: policy.RoutingPolicy, state: RoutingState, *, by_response_time: bool
) -> dict[str, float]:
    """Each pool's factor moves by `damping` of the way (in logarithms) to mean response time over its own.

    Without a response time, or where they do not count, the way leads back to 1. The mean is over traffic.
    Damped, since more traffic makes a pool slower: taken at once, it would swing.
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


def _ideal(
    ready: Sequence[PoolInput],
    settings: policy.RoutingPolicy,
    since: Mapping[str, float],
    corrections: Mapping[str, float],
    now: float,
) -> tuple[dict[str, float], Reason | None]:
    """The shares to have now; they add up to 1."""
    fallback = None
    if settings.strategy is RoutingStrategy.STATIC:
        parts = {pool.name: float(settings.static_weights.get(pool.name, 0)) for pool in ready}
        if not any(parts.values()):
            names = ", ".join(parts)
            sentence = f"routing.static_weights gives no weight to what is ready ({names}): shared by capacity."
            fallback = Reason(Step.ROUTING, "routing.static_unready", sentence)
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
    """The part of its share that a pool has which is healthy since then."""
    if now - since >= settings.slow_start_seconds:
        return 1.0
    return max(LEAST_RAMP, (now - since) / settings.slow_start_seconds)


def _step(
    ready: Sequence[PoolInput], ideal: Mapping[str, float], settings: policy.RoutingPolicy
) -> tuple[dict[str, float], bool]:
    """The shares of this step, and whether they fall short of the ideal: all go the same part of their way."""
    total = sum(pool.weight for pool in ready)
    if not total:
        return dict(ideal), False
    now = {pool.name: pool.weight / total for pool in ready}
    furthest = max(abs(ideal[name] - now[name]) for name in now)
    # Half a weight is left for rounding.
    allowed = max(settings.max_step_percent / 100 - 1 / TOTAL_WEIGHT, 1 / TOTAL_WEIGHT)
    if furthest <= allowed:
        return dict(ideal), False
    part = allowed / furthest
    return {name: now[name] + part * (ideal[name] - now[name]) for name in now}, True


def _integers(shares: Mapping[str, float], ideal: Mapping[str, float]) -> dict[str, int]:
    """Whole weights that add up to TOTAL_WEIGHT, by largest remainder; at least 1 for whoever shall have traffic."""
    exact = {name: max(TOTAL_WEIGHT * share, 1.0 if ideal[name] else 0.0) for name, share in shares.items()}
    scale = TOTAL_WEIGHT / sum(exact.values())
    weights = {name: max(math.floor(value * scale), 1 if ideal[name] else 0) for name, value in exact.items()}
    left = TOTAL_WEIGHT - sum(weights.values())
    by_remainder = sorted(exact, key=lambda name: exact[name] * scale - weights[name], reverse=True)
    for name in by_remainder[: max(0, left)]:
        weights[name] += 1
    if left < 0:  # the ones that were lifted to 1 come out of the largest
        weights[max(weights, key=lambda name: weights[name])] += left
    return weights


def _write(
    pools: Sequence[PoolInput],
    ideal: Mapping[str, float],
    weights: Mapping[str, int],
    settings: policy.RoutingPolicy,
    *,
    moving: bool,
) -> tuple[bool, Reason]:
    """Whether the new weights are worth writing, and why. Measured by what is wanted in the end, not by the step."""
    total = sum(pool.weight for pool in pools)
    off = 100.0
    if total:
        off = 100 * max(abs(ideal.get(pool.name, 0.0) - pool.weight / total) for pool in pools)
    numbers = {"off_percent": off} | {f"weight_{name}": float(weight) for name, weight in weights.items()}
    text = ", ".join(f"{name} {100 * weight / TOTAL_WEIGHT:.1f} %" for name, weight in weights.items())
    emptied = [pool.name for pool in pools if pool.weight and not weights[pool.name]]
    filled = [pool.name for pool in pools if not pool.weight and weights[pool.name]]
    if emptied:
        sentence = f"No more traffic to {', '.join(emptied)}; shares: {text}."
        return True, Reason(Step.ROUTING, "routing.empty", sentence, numbers)
    if filled:
        return True, Reason(Step.ROUTING, "routing.fill", f"Traffic to {', '.join(filled)}; shares: {text}.", numbers)
    emptying = any(pool.weight and not ideal.get(pool.name) for pool in pools)
    same = all(pool.weight == weights[pool.name] for pool in pools)
    if not same and (off > settings.dead_band_percent or emptying or (moving and off > 50 / TOTAL_WEIGHT)):
        sentence = f"A share is {off:.1f} % of the traffic off; shares: {text}."
        return True, Reason(Step.ROUTING, "routing.shift", sentence, numbers)
    band = f"routing.dead_band_percent is {settings.dead_band_percent:g} %"
    return False, Reason(Step.ROUTING, "routing.keep", f"No share is more than {off:.1f} % off; {band}.", numbers)
