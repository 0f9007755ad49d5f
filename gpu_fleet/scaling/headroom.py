"""Head-room: the least that would have kept the share of late requests within what may be late.

Each minute tells, for every forecast method and every level of head-room, whether the capacity that it would have
ordered a lead time ago would have carried the demand that came (a counterfactual: the fleet that really stood does not
matter). The requests that would have been late are summed up by level, old ones counting less, and the lowest level
within the budget is taken. So a steady service pays for little head-room and a jumpy one for much, and neither an
error's distribution nor its tail has to be assumed.

One jump is no pattern. So each level is forgiven its worst episode, the time from a jump until capacity ordered at it
stands: a service that went from 10 to 20 rps in its first hour would else keep twice what it needs for days. The second
jump counts. Jumps that no level within the policy's bound would have carried are no reason for head-room either: they
make every level late alike, so what counts is how much later a level is than the highest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from gpu_fleet.scaling.state import Hindsight, Pending

LOWEST, STEP = 0.5, 1.07
LEVELS = tuple(LOWEST * STEP**i for i in range(42))
"""Capacity over the forecast: from half, for a method that forecasts too much, to eight times as much."""
HALF_LIFE_SECONDS = 2 * 86400.0
PRIOR_SECONDS = 300.0
"""A new method starts as if it had five minutes behind it,"""
PRIOR_SIGMA = 0.15
"""with lognormal errors (of seen / forecast) of this sigma at a lead of five minutes. Minutes of the Azure 2023
conversation trace, five apart: 0.13."""
PRIOR_LEAD_SECONDS = 300.0
PRIOR_STEPS = 64
"""Quantiles by which the prior's share is summed up."""
MINUTE_SECONDS = 60.0
EPISODE_SECONDS = 600.0
"""An episode is a lead time and this: minutes until a jump is seen, and until its queue is gone. The rest counts."""
BORNE = 1.04
"""Demand over what a fleet is sized for at which queues begin to grow. Sized to miss 0.25 %, eight L40S carry 92 % of
their throughput (`sizing.usable_share`); half of the rest is borne."""
NOTHING = 1e-7
"""Late shares below this make no difference."""
AT_NO_LEVEL = (0.0,) * len(LEVELS)


@dataclass(frozen=True, slots=True)
class Aim:
    """What head-room is for."""

    budget: float
    """Share of the requests that may be late, by the policy."""
    may_be_late: float
    """The same, as feedback has corrected it."""
    wait_seconds: float
    """A request that waits longer is late."""
    hold_seconds: float
    """Capacity stays for so long after it was last required (`horizontal.scale_in_stabilization_seconds`)."""
    most: float
    """Highest level allowed."""
    lead_seconds: float = 300.0
    """Of the slowest pool that may be used, with the age of the metrics. Were it that of the pools in use, a move to a
    slower one would raise what is required, and be undone."""


def late_share(demand_rps: float, ready_rps: float, wait_seconds: float, queued_seconds: float = 0.0) -> float:
    """The share of a minute's requests that come late while a demand of `demand_rps` meets `ready_rps`.

    In a fluid model, demand that exceeds capacity by the share g makes the wait grow by g seconds a second, and pass
    the limit after limit / g seconds: with 2 s allowed and 10 % too much after 20 s, so two thirds of the minute are
    late; 3 % too much for one minute are borne, and in the next, which begins with 1.8 s of queue, nine tenths of the
    requests are late.
    """
    if ready_rps <= 0:
        return 1.0 if demand_rps > 0 else 0.0
    growth = demand_rps / ready_rps - 1
    room = wait_seconds - queued_seconds
    if growth > 0:
        return 1 - min(1.0, max(0.0, room) / (growth * MINUTE_SECONDS))
    if room >= 0:
        return 0.0
    return 1.0 if growth == 0 else min(1.0, -room / (-growth * MINUTE_SECONDS))


def stood(orders: Sequence[Pending], aim: Aim, at: float) -> Mapping[str, float]:
    """What each method's orders at level 1 would have had standing at a time, given those that were made before.

    It takes the newest order that is ready by then, and no more than any since: what was cancelled did not come. Each
    order is the most of its stabilisation window.
    """
    ready = [i for i, order in enumerate(orders) if order.due <= at]
    if not ready:
        return {}
    first = ready[-1]
    standing: dict[str, float] = {}
    for name in orders[first].rps:
        held = [
            max(o.rps.get(name, 0.0) for o in orders[: i + 1] if o.made_at >= order.made_at - aim.hold_seconds)
            for i, order in enumerate(orders[first:], first)
        ]
        standing[name] = min(held)
    return standing


def judge(
    record: Hindsight, capacity_rps: float, least_rps: float, seen_rps: float, aim: Aim, elapsed: float
) -> Hindsight:
    """Add a time of `elapsed` seconds in which `seen_rps` came, where `capacity_rps` was ordered at level 1.

    `least_rps`: what was ordered at any level, since capacity is never below the demand at the time of the order.
    """
    keep = 0.5 ** (elapsed / HALF_LIFE_SECONDS)
    weight = seen_rps * elapsed
    longest = seen_rps * (aim.lead_seconds + EPISODE_SECONDS)
    late, queued, episodes, calms, worst = [], [], [], [], []
    known = (record.late, record.queued, record.episode, record.calm, record.worst)
    by_level = zip(LEVELS, *(values or AT_NO_LEVEL for values in known), strict=True)
    for level, late_before, queue, episode, calm, worst_before in by_level:
        ready_rps = BORNE * max(level * capacity_rps, least_rps)
        spare = queue == 0 and ready_rps >= seen_rps  # as almost always at almost every level
        more = 0.0 if spare else weight * late_share(seen_rps, ready_rps, aim.wait_seconds, queue)
        calm_now = 0.0 if more else min(calm + elapsed, aim.lead_seconds)
        episode_now = 0.0 if calm_now >= aim.lead_seconds else min(episode + more, longest) if more else episode
        late.append(round(late_before * keep + more, 3))
        queued.append(0.0 if spare else _queued_seconds(queue, seen_rps, ready_rps, elapsed, aim))
        episodes.append(round(episode_now, 3))
        calms.append(calm_now)
        worst.append(round(max(worst_before * keep, episode_now), 3))
    return Hindsight(
        tuple(late),
        tuple(queued),
        tuple(episodes),
        tuple(calms),
        tuple(worst),
        record.absolute * keep + abs(seen_rps - capacity_rps) * elapsed,
        record.weight * keep + weight,
        record.said * keep + capacity_rps * elapsed,
    )


def _queued_seconds(before: float, demand_rps: float, ready_rps: float, elapsed: float, aim: Aim) -> float:
    """How long the queue takes after a time, at most twice as long as a request may wait.

    So a minute that began with a queue is late as a whole, and a jump leaves none that only much head-room would work
    off: that is what the backlog is sized for (`sizing.required_rps`).
    """
    longest = 2 * aim.wait_seconds
    if ready_rps <= 0:
        return longest if demand_rps > 0 else 0.0
    grown = before + (demand_rps / ready_rps - 1) * elapsed
    return round(min(longest, max(0.0, grown)), 1)


def late_by_level(record: Hindsight, mean_rps: float, aim: Aim, *, forgiving: bool = False) -> tuple[float, ...]:
    """The share of the requests that each level would have had late, as far as is known.

    `forgiving`: but for its worst episode. That decides how much head-room there is; which method foresees the most
    is told by all that was late.
    """
    prior = PRIOR_SECONDS * mean_rps
    sigma = round(PRIOR_SIGMA * math.sqrt(aim.lead_seconds / PRIOR_LEAD_SECONDS), 3)
    assumed = _prior(sigma, aim.wait_seconds)
    seen = record.late or AT_NO_LEVEL
    if forgiving:
        seen = tuple(max(0.0, late - worst) for late, worst in zip(seen, record.worst or AT_NO_LEVEL, strict=True))
    total = prior + record.weight
    if total <= 0:
        return assumed
    return tuple((prior * a + late) / total for a, late in zip(assumed, seen, strict=True))


@lru_cache(maxsize=64)
def _prior(sigma: float, wait_seconds: float) -> tuple[float, ...]:
    errors = NormalDist(0.0, max(sigma, 1e-6))
    ratios = [math.exp(errors.inv_cdf((i + 0.5) / PRIOR_STEPS)) for i in range(PRIOR_STEPS)]
    return tuple(
        sum(ratio * late_share(ratio, level, wait_seconds) for ratio in ratios) / sum(ratios) for level in LEVELS
    )


def lowest_level(late: Sequence[float], allowed: float, most: float) -> float | None:
    """The lowest level whose late share is within `allowed`, between two levels by its logarithm; None above `most`."""
    for i, share in enumerate(late):
        if share > allowed:
            continue
        level = LEVELS[i]
        if i and late[i - 1] > allowed:
            above, below = math.log(late[i - 1]), math.log(max(share, NOTHING))
            part = (above - math.log(max(allowed, NOTHING))) / (above - below) if above > below else 1.0
            level = LEVELS[i - 1] * STEP ** min(1.0, max(0.0, part))
        return level if level <= most else None
    return None


def share_at(late: Sequence[float], level: float) -> float:
    """The late share at the highest tabled level that is not above `level`."""
    i = int(math.log(max(level, LOWEST) / LOWEST) / math.log(STEP) + 1e-9)
    return late[min(i, len(late) - 1)]


def allowed(budget: float, unavoidable: float) -> float:
    """The late share to accept where the most head-room allowed would still have been `unavoidable` late.

    What cannot be avoided uses the budget up, but for half of it; after a jump that nothing could have met, a tenth of
    its size comes on top, up to another budget, so that it does not make ordinary minutes dearer.
    """
    return max(budget, unavoidable + budget / 2 + min(unavoidable / 10, budget))


def scaled(record: Hindsight, part: float) -> Hindsight:
    """The record with less weight."""
    return Hindsight(
        tuple(round(late * part, 3) for late in record.late),
        record.queued,
        record.episode,
        record.calm,
        tuple(round(late * part, 3) for late in record.worst),
        record.absolute * part,
        record.weight * part,
        record.said * part,
    )
