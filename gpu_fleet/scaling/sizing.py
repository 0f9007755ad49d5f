"""Sizing: how much work an instance may carry within the SLO, and how much work a demand requires.

Work is counted in typical requests per second (`Pool.throughput_rps`), load in requests in service; the two are not
proportional, since a fuller batch works more slowly (`gpu_fleet.scaling.profile`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.lateness import EngineModel, late_share
from gpu_fleet.scaling.policy import LoadUnit, Policy, Request, SizingMode
from gpu_fleet.scaling.profile import completion_rps, rate_slowdown, slots_of, work_share
from gpu_fleet.scaling.queueing import LEAST_PROBABILITY, Queue, share_in_flight
from gpu_fleet.scaling.reasons import sizing as reasons
from gpu_fleet.scaling.service import Pool

STEPS = 1024
"""Shares are exact to one part in 1024: finer than any capacity is known."""
TAIL_BUDGET = 0.02
"""Share of requests that may wait too long while demand is at the upper end of its forecast. Such minutes are few (one
in 400 at confidence 0.9975), so they may fail in part: sized as strictly as an ordinary minute, they would be paid
for twice, once by the head-room and once by the share."""
CLOSE = 0.03
"""Misses need not be met closer: 3 % more of them are a tenth of a percent of the share."""
GRID = 0.02
"""Of the logarithms of figures that decide a share."""
SHORT_PROMPT = 0.25
"""Length of a short prompt over the mean length."""


def usable_share(pool: Pool, policy: Policy, instances: int, scv: float, budget: float | None = None) -> float:
    """Return the share of `throughput_rps` that each of `instances` may carry within the SLO: above 0, at most 1.

    Mode `threshold`: the article's `sizing.target_utilization`, as work. Mode `slo`: the largest share at which, with
    probability 1 - `policy.wait_budget`,

    1. each answer's tokens come in time, and the prompts before a request's own leave it time for its first token
       (`lateness.late_share`);
    2. no request waits longer than the time to first token allows for a free slot: a `Queue` over the pool's slots.

    Where only C is known of a pool and not its `speed`, answers are in time while the batch stays below C
    (C is throughput_rps * service_seconds, by Little's law): the pool's requests in flight are at most instances * C
    (`share_in_flight`; least-outstanding routing keeps instances within about one request of each other). Where memory
    limits the batch (`slots` = C) it cannot pass C. A request waits for prompts in a `Queue` of its own then.

    `budget` overrides `policy.wait_budget`: `TAIL_BUDGET` for a demand that is hardly ever reached.
    `scv` is the variance of arrivals over their mean, over about a service time: 1 is Poisson. More instances never
    lower the share, burstier arrivals never raise it. With a budget of 0.0025 one L4 may be used to 37 % by
    conversations, each of eight to 54 %; one L40S to 75 %, each of eight to 90 %.
    """
    if policy.sizing_mode is SizingMode.THRESHOLD or policy.slo is None:
        return work_share(policy.sizing.target_utilization, pool.slowdown)
    # Never trust arrivals to stay more even than Poisson.
    scv, instances = _rounded(max(1.0, scv)), max(1, instances)
    budget = policy.wait_budget if budget is None else budget
    figures = _Figures(
        pool.throughput_rps, pool.service_seconds, pool.slowdown, pool.slots, pool.first_token_seconds, pool.copies
    )
    if pool.speed is not None and policy.load.unit is LoadUnit.CONCURRENCY:
        return _share_in_time(_engine(pool, policy, instances, scv), budget)
    # A short prompt has the least time, and waits behind long ones all the same.
    short_tokens = policy.request.input_tokens * SHORT_PROMPT
    limit = max(0.0, policy.slo.ttft_limit_seconds(short_tokens) - pool.first_token_seconds * SHORT_PROMPT)
    return _share_within_slo(figures, instances, scv, limit, budget)


def _engine(pool: Pool, policy: Policy, instances: int, scv: float) -> EngineModel:
    """One copy of the model in the pool, its figures rounded so that what was computed before is found again."""
    if pool.speed is None or policy.slo is None:
        raise ValueError(f"pools.{pool.name}: has no serving profile, or its policy no SLO")
    lengths = policy.request.input_tokens, policy.request.output_tokens
    request = Request(input_tokens=_rounded(lengths[0]), output_tokens=_rounded(lengths[1]))
    slots, capacity = slots_of(pool.speed, request), pool.throughput_rps * pool.service_seconds / pool.copies
    by_memory = abs(capacity / slots_of(pool.speed, policy.request) - 1) < 1e-3
    capacity = slots if by_memory else min(slots, _rounded(capacity))
    return EngineModel(request, policy.slo, pool.speed, capacity, instances * pool.copies, scv)


def _rounded(figure: float) -> float:
    """The figure to one percent: closer than any is known."""
    return math.exp((math.log(figure) // GRID) * GRID + GRID / 2)


@lru_cache(maxsize=4096)
def _share_in_time(engine: EngineModel, budget: float) -> float:
    """`usable_share` where the speed of the engines is known."""
    full_rps, slots = engine.throughput_rps, slots_of(engine.speed, engine.request)
    when_full_rps = completion_rps(engine.speed, engine.request, slots)
    queue = Queue(
        engine.peers * slots,
        slots / when_full_rps,
        engine.scv,
        rate_slowdown(engine.speed, engine.request, slots),
    )
    limit = engine.slo.ttft_limit_seconds(engine.request.input_tokens)
    limit = max(0.0, limit - engine.speed.prefill_seconds(engine.request.input_tokens))

    def late(share: float) -> float:
        rate = share * full_rps
        return late_share(engine, rate) + queue.wait_probability(rate / when_full_rps * queue.servers, limit)

    return _share_at(late, budget)


def _share_at(late: Callable[[float], float], budget: float) -> float:
    """The share at which the part that is late meets the budget, by false position.

    The logarithm of the part is nearly straight in the share. Where one end stays, its value is halved (M. Dowell,
    P. Jarratt, "A modified regula falsi method", BIT 11, 1971).
    """

    def over(share: float) -> float:
        return math.log(max(LEAST_PROBABILITY, late(share)) / budget)

    low, high = 1 / STEPS, 1 - 1 / STEPS
    below, above = over(low), over(high)
    if below > 0 or above <= 0:
        return low if below > 0 else high
    while high - low > 1 / STEPS:
        middle = low + (high - low) * min(0.95, max(0.05, below / (below - above)))
        value = over(middle)
        if abs(value) < CLOSE:
            return middle
        if value <= 0:
            low, below, above = middle, value, above / 2
        else:
            high, above, below = middle, value, below / 2
    return low


class _Figures(NamedTuple):
    """The pool's figures that decide its share; a tuple, since it is the key of a cache."""

    throughput_rps: float
    service_seconds: float
    slowdown: float
    slots: float
    first_token_seconds: float
    copies: int


@lru_cache(maxsize=4096)
def _share_within_slo(pool: _Figures, instances: int, scv: float, limit_seconds: float, budget: float) -> float:
    """`usable_share` in mode `slo`. A decision needs the same share several times, and often the next one does too."""
    s = pool.slowdown
    batch = pool.throughput_rps * pool.service_seconds
    slots = max(pool.slots, 1.0) if pool.slots else batch
    batch_may_pass = not pool.slots or batch < 0.999 * slots
    fullness = slots / batch
    full_slowdown = 1 + (s - 1) * fullness  # at the last slot, as s is at C
    rate_when_full = pool.throughput_rps * fullness * s / full_slowdown
    slot_seconds = slots / rate_when_full
    pool_slots = max(1.0, instances * slots)
    serving = Queue(pool_slots, slot_seconds, scv, full_slowdown)
    prefill_seconds = pool.first_token_seconds
    readers = instances * pool.copies
    reader_scv = 1 + (scv - 1) / readers  # a share of the stream, dealt out at random, keeps that share of burstiness
    reading = Queue(1, prefill_seconds, reader_scv)

    def wait_holds(step: int) -> bool:
        rate = step / STEPS * pool.throughput_rps
        late = 0.0
        if prefill_seconds:
            late = reading.wait_probability(rate / pool.copies * prefill_seconds, limit_seconds)
        if late > budget:
            return False
        return serving.keeps_wait_within(rate / rate_when_full * pool_slots, limit_seconds, budget - late)

    share = 1.0
    if batch_may_pass:
        z = NormalDist().inv_cdf(1 - budget)
        share = work_share(share_in_flight(instances * batch, s, scv, z), s)
    return _highest_step(wait_holds, max(1, int(share * STEPS))) / STEPS


def _highest_step(holds: Callable[[int], bool], top: int) -> int:
    """The highest step up to `top` that holds; at least 1, since an instance that may do nothing cannot be counted."""
    if holds(top):
        return top
    low, high = 1, top
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            low = middle + 1
        else:
            high = middle
    return max(1, low - 1)


def required_rps(demand_rps: float, backlog_requests: float, full_rps: float, policy: Policy) -> float:
    """Return the work per second that must be done: the arrivals, and the backlog within its drain time.

    The drain time is `sizing.drain_backlog_seconds`. A waiting request belongs to an engine, and no other instance can
    take it over. So the backlog keeps at most all of the ready instances (`full_rps`) from the arrivals, and ordering
    more for it would buy instances that find nothing to do: 12,000 requests before two instances that do 9 a second
    require 9 more a second, not 200.
    """
    drained = max(0.0, backlog_requests) / policy.sizing.drain_backlog_seconds
    return max(0.0, demand_rps) + min(drained, max(0.0, full_rps))


def reason(
    policy: Policy, required_rps: float, u_t_r: reasons.ArticleFigures, instance_rps: Mapping[str, float]
) -> Reason:
    """Explain the work required, with the article's U, T and R and what an instance of each pool may carry."""
    explain = reasons.slo if policy.sizing_mode is SizingMode.SLO else reasons.threshold
    return explain(required_rps, u_t_r, instance_rps)
