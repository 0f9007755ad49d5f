"""Feedback: the share that forecasts may miss, corrected by what became of it (the article, 3.2.2 step 5).

Forecasts are held to a share of the demand that they may miss. What counts in the end is how many requests came late
because the capacity that stood did not carry the demand, and those are fewer where windows and whole instances leave
something over, or more where boots take longer than they did. So the share is moved by what is seen, by the rule of
adaptive conformal inference (I. Gibbs and E. Candes, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS
2021, equation 2):

    allowance += rate * (target - late)

with `late` the share of a minute's requests that came late (`late_share`), weighted by its demand over the mean. At a
target of 0.0025 and a rate of 0.01 a minute that is late as a whole takes 0.01 off, and 400 minutes without one give
it back: in the long run the share that is late is the target, whatever the traffic is like.
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.state import State

RATE = 0.01
LEAST, MOST = 0.001, 0.03
"""Bounds of the allowance: never quite certain, and never blind to three parts in a hundred."""
MOST_WEIGHT = 3.0
"""A minute counts by its demand over the mean, and for three at most."""
MINUTE_SECONDS = 60.0


def late_share(asked_rps: float, ready_rps: float, backlog_requests: float, wait_limit_seconds: float) -> float:
    """The share of a minute's requests that come late while `asked_rps` meet `ready_rps`.

    In a fluid that is fuller than what carries it by the part g, the wait grows by g seconds a second, and passes the
    limit after limit / g seconds: with 2 s allowed and 10 % too much after 20 s, so two thirds of the minute are late;
    3 % too much for one minute are borne. Once the backlog alone is longer than the limit, everything is late.
    """
    if backlog_requests > ready_rps * wait_limit_seconds > 0:
        return 1.0
    if asked_rps <= ready_rps:
        return 0.0
    if ready_rps <= 0:
        return 1.0
    growth = asked_rps / ready_rps - 1
    return max(0.0, 1 - wait_limit_seconds / (growth * MINUTE_SECONDS))


def note(state: State, asked_rps: float, late: float) -> State:
    """Keep what a minute of which the share `late` came late is to teach the next one."""
    mean = state.mean_rps(otherwise=asked_rps)
    return replace(state, late=round(late * min(MOST_WEIGHT, asked_rps / mean), 6) if mean > 0 else 0.0)


def correct(state: State, target: float, *, young: bool) -> State:
    """The allowance, moved once by what the last minute taught, before a new one is looked at.

    So a second look at the same minute finds the allowance that the first one had. Of a `young` service the calm hours
    say little about the jumps still to come: it may become more careful than the target, and not less.
    """
    allowance = target if state.allowance is None else state.allowance
    if state.late is not None:
        most = target if young else MOST
        allowance = min(most, max(min(LEAST, target), allowance + RATE * (target - state.late)))
    return replace(state, allowance=round(allowance, 6), late=None)
