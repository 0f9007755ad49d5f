"""What arrives, by two counters that are not one: the load balancer's requests, and those that reach the engines.

A request for eight answers is one of the load balancer and eight of the engines; GET /v1/models is one and none; what
does not pass the load balancer is none and one. Work is done at the engines, so demand is what reaches them. The load
balancer's count stands where the two agree, since it is complete: of clients that give up the engines tell nothing.
Bursts and burstiness are the engines' alone, held against their own minute: against the load balancer's, any difference
between the two would pass for a burst without end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.observation import current
from gpu_fleet.scaling.state import DemandMemory, Point

ALIKE = 0.05
"""The two counts are one where they differ by no more than this share in the long run,"""
FAR_ABOVE = 1.25
"""and the engines' is not this far above the load balancer's now."""
ANSWERS_HALF_LIFE_SECONDS = 900.0
PRIOR_REQUESTS = 30.0
"""Requests that what is known of `DemandMemory.answers` counts for at least."""
DISPERSION_HALF_LIFE_SECONDS = 1380.0
"""Half of what is known of burstiness comes from the last 23 minutes."""
DISPERSION_SECONDS = DISPERSION_HALF_LIFE_SECONDS / math.log(2)
"""Time that the mean is over, once it has been learnt for long."""
MOST_DISPERSED = 50.0
LONGEST_STEP_SECONDS = 600.0
"""A sample stands for the time since the last one, and for no more than this."""


@dataclass(frozen=True, slots=True)
class ArrivalRates:
    """Requests per second over one interval."""

    counted_rps: float | None
    """As the load balancer counts them, with those that found no target."""
    rps: float | None
    """Those that reach the engines."""
    at: float
    """The interval's end; 0 where neither is known."""


def count(context: Context, *, full: bool) -> tuple[ArrivalRates, DemandMemory]:
    """Count what arrives, and learn how the two counts compare and how bursty arrivals are.

    `full`: whether instances were full, which makes clients give up.
    """
    counted, at = _at_balancer(context)
    memory = context.state.demand
    if counted and not full:
        memory = _compare(context, memory, counted, at)
    rps, at = _at_engines(context, memory, counted, at)
    return ArrivalRates(counted, rps, at), _disperse(context, memory)


def burst(context: Context, memory: DemandMemory) -> Point | None:
    """The newest 10 seconds, where they are far above the minute.

    A count of n has a standard deviation of sqrt(n) even when nothing happens, so a burst must also stand out of the
    noise: at 0.5 rps, 5 requests are expected in 10 s, and only 5 + 4*sqrt(5) = 14 are a burst, not 8.
    """
    seen, reading = context.seen, context.seen.burst_rps
    newest = current(reading, context.now, 60.0)
    usual = context.value(seen.matched_rps or seen.engine_rps)
    if newest is None or usual is None or reading is None:
        return None
    if newest > context.policy.burst.factor * usual and 10 * (newest - usual) > _noise(memory, 10 * usual):
        return Point(reading.at, newest * memory.request_weight)
    return None


def kept(seconds: float, half_life_seconds: float) -> float:
    """What is left of old knowledge after that time."""
    return 0.5 ** (max(0.0, min(seconds, LONGEST_STEP_SECONDS)) / half_life_seconds)


def _at_balancer(context: Context) -> tuple[float | None, float]:
    """Requests per second that the load balancer counted, and the end of that interval.

    Without the service's count, the sum over the pools: unknown while one that serves does not tell its own, since the
    zeros of empty pools say nothing of it.
    """
    total = context.seen.arrivals_rps
    value = context.value(total)
    if total is not None and value is not None:
        return value + (context.value(context.seen.rejected_rps) or 0.0), total.at
    rates = [(view.rate_rps, context.value(view.rate_rps), view.ready_count) for _, view in context.pools()]
    known = [rate for rate, value, _ in rates if rate is not None and value is not None]
    if not known or any(value is None for _, value, ready in rates if ready):
        return None, 0.0
    return sum(rate.value for rate in known), min(rate.at for rate in known)


def _compare(context: Context, memory: DemandMemory, counted: float, at: float) -> DemandMemory:
    """Learn how many requests of the engines one of the load balancer's makes, from a minute that both have counted.

    A ratio of sums, so that a minute counts by its requests. With 30 requests' worth of the old ratio of 1, a minute of
    60 requests and 480 answers makes it 510 / 90.
    """
    matched = context.value(context.seen.matched_rps)
    if matched is None or at <= memory.answered_at:
        return memory
    old = max(PRIOR_REQUESTS, memory.answered * kept(at - memory.answered_at, ANSWERS_HALF_LIFE_SECONDS))
    answers = (memory.answers * old + 60 * matched) / (old + 60 * counted)
    return replace(memory, answers=answers, answered=old + 60 * counted, answered_at=at)


def _at_engines(context: Context, memory: DemandMemory, counted: float | None, at: float) -> tuple[float | None, float]:
    """Requests per second that reach the engines, and the end of that interval.

    Where the two counts differ, the engines' of the same minute, and no less than the load balancer's would explain.
    Where the engines have no count, what was learnt of the ratio stands in for it.
    """
    newest, matched = context.seen.engine_rps, context.value(context.seen.matched_rps)
    if counted is None:
        value = context.value(newest)
        return (value, newest.at) if newest is not None and value is not None else (None, 0.0)
    if matched is None:
        return counted * memory.answers, at
    if abs(memory.answers - 1) <= ALIKE and matched <= FAR_ABOVE * counted + _noise(memory, 60 * counted) / 60:
        return counted, at
    return max(matched, counted * min(1.0, memory.answers)), at


def _disperse(context: Context, memory: DemandMemory) -> DemandMemory:
    """Burstiness: variance over mean of the engines' arrivals in 10 s, a mean over time that forgets.

    A minute counts for the time since the last one, so that it is the same however often the service is looked at. A
    new service counts as Poisson for two minutes only: at a burstiness of 14, an hour sized for less misses the SLO.
    """
    reading = context.seen.dispersion
    newest = context.value(reading)
    if reading is None or newest is None or reading.at <= memory.dispersed_at:
        return memory
    seconds = reading.at - memory.dispersed_at if memory.dispersed_at else 60.0
    keep = kept(seconds, DISPERSION_HALF_LIFE_SECONDS)
    before = memory.dispersed_seconds * keep
    added = DISPERSION_SECONDS * (1 - keep)
    old = 1.0 if memory.dispersion is None else memory.dispersion
    mean = (before * old + added * min(MOST_DISPERSED, newest)) / (before + added)
    return replace(memory, dispersion=mean, dispersed_at=reading.at, dispersed_seconds=before + added)


def _noise(memory: DemandMemory, requests: float) -> float:
    """Four standard deviations of a count, of a Poisson process at least."""
    return 4 * (max(1.0, memory.dispersion or 1.0) * max(requests, 1.0)) ** 0.5
