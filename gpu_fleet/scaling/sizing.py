"""Sizing: how much of an instance may be used so that requests keep to the SLO, and how much capacity a demand needs.

Work is counted in typical requests per second (`Pool.throughput_rps`), load in requests in service; the two are not
proportional, since a fuller batch works more slowly (`gpu_fleet.scaling.profile`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.policy import Policy, SizingMode
from gpu_fleet.scaling.service import Pool

STEPS = 1024
"""Shares are found to one part in 1024: finer than any capacity is known."""
TAIL_BUDGET = 0.02
"""Share of requests that may wait too long while demand is at the upper end of its forecast. Such minutes are few (one
in 400 at confidence 0.9975), so they may fail in part: sized as strictly as an ordinary minute, they would be paid
for twice, once by the head-room and once by the share."""
SHORT = 0.25
"""A short prompt over the mean one."""
LEAST_CHANCE = 1e-9
"""Smaller ones make no difference."""
SERVICE_SCV = 1.0
"""Squared coefficient of variation of the times in service: that of an exponential."""


def work_share(load_share: float, slowdown: float) -> float:
    """The share of `throughput_rps` that an instance completes at this share of its capacity C.

    x*s/(1+(s-1)x), see `gpu_fleet.scaling.profile`. Outside 0..1 the share is clipped.
    """
    x = min(1.0, max(0.0, load_share))
    return x * slowdown / (1 + (slowdown - 1) * x)


def load_share(work_share: float, slowdown: float) -> float:
    """The share of C that an instance holds while it does this share of `throughput_rps`: inverse of `work_share`."""
    y = min(1.0, max(0.0, work_share))
    return y / (slowdown - (slowdown - 1) * y)


def wait_exceeds(
    servers: float,
    offered: float,
    limit_seconds: float,
    service_seconds: float,
    scv: float,
    slowdown: float = 1.0,
) -> float:
    """P(wait > limit_seconds) of a G/G/n queue, first come, first served, with `servers` places.

    `offered` is arrival rate * service_seconds, the places asked for (Erlangs), `service_seconds` the time in service
    while all are taken, `scv` the variance of arrivals over their mean (1 is Poisson). With rho = offered / servers,

        P(wait > t) = P(all busy) * exp(-2 * n/service * (1-rho) * t / (scv + scv_of_service))

    P(all busy) is Erlang C: the exponential form of W. Whitt, "Approximations for the GI/G/m queue", Production and
    Operations Management 2(2), 1993. Two additions: arrivals burstier than Poisson are pooled less well, so servers and
    offered are divided by scv (Hayward's approximation: A. A. Fredericks, "Congestion in blocking systems", BSTJ 59,
    1980); and with `slowdown` s > 1 a server of a part-full system is faster, k of n busy ones do the share
    x*s/(1+(s-1)x), x = k/n, of what all n do.
    M/M/2 with offered 1: P(all busy) is 1/3, and P(wait > 1 service time) = exp(-1)/3 = 0.123.
    """
    if offered <= 0:
        return 0.0
    if offered >= servers:
        return 1.0
    once_busy = _wait_exceeds_once_busy(servers, offered, limit_seconds, service_seconds, scv)
    return once_busy * _all_busy(max(1.0, servers / max(1.0, scv)), offered / servers, slowdown)


def wait_keeps_to(
    chance: float,
    servers: float,
    offered: float,
    limit_seconds: float,
    service_seconds: float,
    scv: float,
    slowdown: float = 1.0,
) -> bool:
    """Whether `wait_exceeds` of the same figures is at most `chance`: the same answer for a part of the work.

    Where places are many, one is soon free even when all are taken; how often they are need not be known then.
    """
    if offered <= 0:
        return True
    if offered >= servers:
        return chance >= 1
    once_busy = _wait_exceeds_once_busy(servers, offered, limit_seconds, service_seconds, scv)
    if once_busy <= chance:
        return True
    least = chance / once_busy
    return _all_busy(max(1.0, servers / max(1.0, scv)), offered / servers, slowdown, least) <= least


def _wait_exceeds_once_busy(
    servers: float, offered: float, limit_seconds: float, service_seconds: float, scv: float
) -> float:
    decay = 2 * servers / service_seconds * (1 - offered / servers) / (scv + SERVICE_SCV)
    return math.exp(-decay * limit_seconds)


def _all_busy(servers: float, rho: float, slowdown: float, least: float = LEAST_CHANCE) -> float:
    """P(all busy), rho < 1: the states below n hold `below` times the weight of state n, those from n on 1/(1-rho).

    State k-1 has (what k busy servers do) / (what arrives) times the weight of state k: summed downwards from n until
    nothing is added, in strides of a quarter of the standard deviation of the number in service (one state each up
    to about 16 servers, which is exact), so that 51,200 servers take as long as 50. What is below `least` is found to
    be no more than that, and not how much less.
    """
    n = math.floor(servers)
    if n == 1:
        return rho  # what the sum below comes to
    x, bend, full = load_share(rho, slowdown), slowdown - 1, slowdown / rho
    stride = max(1, math.floor(math.sqrt(n * x * (1 + bend * x)) / 4))
    enough = (1 / max(least, LEAST_CHANCE) - 1) / (1 - rho) / stride
    terms, term = 0.0, 1.0
    for k in range(n, 0, -stride):
        h = min(k, stride)
        x = (k - (h - 1) / 2) / n
        term *= (x * full / (1 + bend * x)) ** h
        terms += term
        if term < 1e-4 * terms or terms > enough:
            break
    below = stride * (terms + 0.5) - 0.5  # trapezoids; with stride 1 just the sum
    return 1 / (1 + (1 - rho) * below)


def share_in_flight(limit: float, slowdown: float, scv: float, z: float) -> float:
    """The mean number in flight, over `limit`, at which `limit` is passed with the chance whose normal quantile is z.

    Arrivals at rate l into a batch that completes b/(A+B*b) requests per second make a birth and death chain whose
    number in flight is negative binomial. With the share x = l*A/(1-l*B) / limit, where as much is done as arrives, and
    the stretch 1/(1-l*B) = 1+(s-1)x, s = 1+B*limit/A, its mean is x*limit + (s-1)x and its variance the stretch times
    that. It is that for any answer lengths, since a batch shares its processor (F. P. Kelly, "Reversibility and
    Stochastic Networks", 1979, chapter 3). Arrivals burstier than Poisson multiply the variance, and with it what the
    bend of the completion rate adds to the mean: d = scv * stretch is variance over mean m = (limit + scv*(s-1))*x. The
    skew of the negative binomial, (2*d-1)/sigma, enters by the first Cornish-Fisher term, without which small pools are
    taken for safer than they are: 26 in flight at d = 2.6 pass 54 with a chance of 0.0025, the normal quantile says 49.

        m + z*sqrt(m*d) + (2*d-1) * (z^2-1)/6 = limit        (the last term from z = 1 on)

    is a quadratic equation in x once the square root stands alone.
    """
    skew = (z * z - 1) / 6 if z > 1 else 0.0
    room, per_share = limit - skew * (2 * scv - 1), limit + scv * (slowdown - 1)
    if room <= 0:
        return 0.0
    slope = per_share + 2 * skew * scv * (slowdown - 1)
    spread = z * z * per_share * scv
    root = math.sqrt(spread * (spread + 4 * room * (slope + (slowdown - 1) * room)))
    half = 2 * slope * room + spread + math.copysign(root, z)  # of the two solutions one belongs to z and one to -z
    return 2 * room**2 / half if half > 0 else 1.0


def usable_share(pool: Pool, policy: Policy, instances: int, scv: float, budget: float | None = None) -> float:
    """The share of `throughput_rps` at which each of `instances` may be run so that the SLO holds: above 0, at most 1.

    Mode `threshold`: the article's `sizing.target_utilization`, as work. Mode `slo`: the most at which, with the
    chance 1 - `policy.wait_budget`,

    1. the batch stays below the number C at which the SLO's time per token is just met (C is
       throughput_rps * service_seconds, by Little's law): the pool's requests in flight are at most instances * C
       (`share_in_flight`). Least-outstanding routing keeps instances within about one request of each other (a standard
       deviation of 0.5 to 0.7 in simulations of 3 to 20 instances), so that one passes C hardly ever unless the pool as
       a whole passes instances * C, and no imbalance is added on top. Where memory limits the batch (`slots` = C) it
       cannot pass C, and this falls away;
    2. no request waits longer than the time to first token allows, for a free slot (`wait_exceeds` over the
       pool's slots) or for the prompts before it to be read (each copy of the model reads one at a time).

    `budget` stands in for `policy.wait_budget` where it is given: `TAIL_BUDGET` for a demand that is hardly ever met.
    `scv` is the variance of arrivals over their mean, over about a service time: 1 is Poisson. More instances never
    lower the share, burstier arrivals never raise it. With C = 16, slowdown 3 and a budget of 0.0025, one instance may
    be used to 56 %, each of ten to 86 %.
    """
    if policy.sizing_mode is SizingMode.THRESHOLD or policy.slo is None:
        return work_share(policy.sizing.target_utilization, pool.slowdown)
    # A short prompt is allowed the least time, and waits behind the long ones all the same.
    short = policy.request.input_tokens * SHORT
    limit = max(0.0, policy.slo.ttft_limit_seconds(short) - pool.first_token_seconds * SHORT)
    # Never trust arrivals to stay more even than Poisson; nor is their burstiness known to more than a hundredth.
    scv = math.ceil(100 * max(1.0, scv)) / 100
    budget = policy.wait_budget if budget is None else budget
    figures = _Figures(
        pool.throughput_rps, pool.service_seconds, pool.slowdown, pool.slots, pool.first_token_seconds, pool.copies
    )
    return _share_within_slo(figures, max(1, instances), scv, limit, budget)


class _Figures(NamedTuple):
    """What of a pool the share depends on."""

    throughput_rps: float
    service_seconds: float
    slowdown: float
    slots: float
    first_token_seconds: float
    copies: int


@lru_cache(maxsize=4096)
def _share_within_slo(pool: _Figures, n: int, scv: float, limit: float, budget: float) -> float:
    """`usable_share` in mode `slo`. A decision asks for the same share several times, and often the next one does."""
    s = pool.slowdown
    batch = pool.throughput_rps * pool.service_seconds
    slots = max(pool.slots, 1.0) if pool.slots else batch
    batch_may_pass = not pool.slots or batch < 0.999 * slots
    fullness = slots / batch
    full = 1 + (s - 1) * fullness  # the slowdown at the last slot, as s is at C
    rate_when_full = pool.throughput_rps * fullness * s / full
    slot_seconds = slots / rate_when_full
    places = max(1.0, n * slots)
    prefill = pool.first_token_seconds
    z = NormalDist().inv_cdf(1 - budget)
    readers = n * pool.copies
    scv_of_one = 1 + (scv - 1) / readers  # a share of the stream, dealt out at random, keeps that of the burstiness

    def wait_holds(step: int) -> bool:
        rate = step / STEPS * pool.throughput_rps
        chance = wait_exceeds(1, rate / pool.copies * prefill, limit, prefill, scv_of_one) if prefill else 0.0
        if chance > budget:
            return False
        return wait_keeps_to(budget - chance, places, rate / rate_when_full * places, limit, slot_seconds, scv, full)

    share = work_share(share_in_flight(n * batch, s, scv, z), s) if batch_may_pass else 1.0
    return _most(wait_holds, max(1, int(share * STEPS))) / STEPS


def _most(holds: Callable[[int], bool], high: int) -> int:
    """The highest step up to `high` that holds, at least 1: an instance that may do nothing could never be counted."""
    if holds(high):
        return high
    low = 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            low = middle + 1
        else:
            high = middle
    return max(1, low - 1)


def required_rps(demand_rps: float, backlog_requests: float, full_rps: float, policy: Policy) -> float:
    """Work that must be done per second: what arrives, and the backlog within `sizing.drain_backlog_seconds`.

    What waits has been handed to an engine and cannot be taken over by another. So the backlog keeps at most all of
    what is ready (`full_rps`) from what arrives, and to order more for it would be to pay for instances that find
    nothing to do: 12,000 requests before two instances that do 9 a second ask for 9 more, not for 200.
    """
    drained = max(0.0, backlog_requests) / policy.sizing.drain_backlog_seconds
    return max(0.0, demand_rps) + min(drained, max(0.0, full_rps))


def said(
    policy: Policy,
    required: float,
    u_t_r: tuple[float | None, float | None, float | None],
    worth: Mapping[str, float],
) -> Reason:
    """What must be carried, the article's U, T and R, and what an instance of each pool may carry of it."""
    u, t, r = u_t_r
    seen = "U, T and R are not known"
    numbers: dict[str, float] = {"required_rps": required}
    if u is not None and t is not None and r is not None:
        seen = f"U {u:.2f}, T {t:.2f}, R {r:.2f}"
        numbers |= {"U": u, "T": t, "R": r}
    each = ", ".join(f"{name} {rps:.2f}" for name, rps in worth.items())
    text = f"{required:.2f} rps must be carried ({seen}); an instance may carry: {each}."
    return Reason(Step.SIZING, f"sizing.{policy.sizing_mode.value}", text, numbers)
