"""Feedback: the share that forecasts may miss, corrected by what they did miss (the article, 3.2.2 step 5).

Forecasts may miss a share of the demand. What counts in the end is how many requests came late because capacity did
not carry the demand: fewer where windows and whole instances leave something over, more where boots take longer than
they did. So the share follows what is seen, by the rule of adaptive conformal inference (I. Gibbs and E. Candes,
"Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, equation 2):

    allowance += rate * (target - late)

with `late` the share of a minute's requests that came late (`late_share`), weighted by its demand over the mean. At a
target of 0.0025 and a rate of 0.01, a minute that is late as a whole takes 0.01 off, and 400 minutes without one give
it back: in the long run the share that is late is the target, whatever the traffic is like.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.state import FeedbackMemory

RATE = 0.01
LEAST, MOST = 0.001, 0.03
"""Bounds of the allowance: never quite certain, and never blind to three parts in a hundred."""
MOST_WEIGHT = 3.0
"""A minute counts by its demand over the mean, at most threefold."""
MINUTE_SECONDS = 60.0


def late_share(demand_rps: float, ready_rps: float, backlog_requests: float, wait_limit_seconds: float) -> float:
    """The share of a minute's requests that come late while a demand of `demand_rps` meets `ready_rps`.

    In a fluid model, demand that exceeds capacity by the share g makes the wait grow by g seconds a second, and pass
    the limit after limit / g seconds: with 2 s allowed and 10 % too much after 20 s, so two thirds of the minute are
    late; 3 % too much for one minute are borne. Once the backlog alone takes longer than the limit, all are late.
    """
    if backlog_requests > ready_rps * wait_limit_seconds > 0:
        return 1.0
    if demand_rps <= ready_rps:
        return 0.0
    if ready_rps <= 0:
        return 1.0
    growth = demand_rps / ready_rps - 1
    return max(0.0, 1 - wait_limit_seconds / (growth * MINUTE_SECONDS))


def note(memory: FeedbackMemory, demand_rps: float, mean_rps: float, late: float) -> FeedbackMemory:
    """Keep a minute in which the share `late` came late, to learn from in the next one."""
    weighted = round(late * min(MOST_WEIGHT, demand_rps / mean_rps), 6) if mean_rps > 0 else 0.0
    return replace(memory, late=weighted)


def correct(memory: FeedbackMemory, target: float, *, young: bool) -> FeedbackMemory:
    """Move the allowance once by what the last minute taught, before a new minute is looked at.

    So a second look at the same minute finds the same allowance as the first. In a `young` service calm hours say
    little about jumps still to come: it may become more careful than the target, not less.
    """
    allowance = target if memory.allowance is None else memory.allowance
    if memory.late is not None:
        most = target if young else MOST
        allowance = min(most, max(min(LEAST, target), allowance + RATE * (target - memory.late)))
    return replace(memory, allowance=round(allowance, 6), late=None)
