"""Feedback: the share that forecasts may miss, corrected by what became of it (the article, 3.2.2 step 5).

Forecasts are held to a share of the demand that they may miss. What counts in the end is how often the capacity that
stood did not carry the demand, and that is less where windows and whole instances leave something over, or more where
boots take longer than they did. So the share is moved by what is seen, by the rule of adaptive conformal inference
(I. Gibbs and E. Candes, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021, equation 2):

    allowance += rate * (target - missed)

with `missed` 1 in a minute whose demand the ready instances could not carry, weighted by that demand over its mean.
At a target of 0.0025 and a rate of 0.005 a missed minute takes 0.005 off, and 400 minutes without one give it back: in
the long run the share missed is the target, whatever the traffic is like.
"""

from __future__ import annotations

from dataclasses import replace

from scaling.state import State

RATE = 0.005
LEAST, MOST = 0.001, 0.03
"""Bounds of the allowance: never quite certain, and never blind to three parts in a hundred."""


def correct(state: State, target: float, asked_rps: float, ready_rps: float, *, fresh: bool) -> State:
    """The state with its allowance after a look at what was asked and what stood. Old data corrects nothing."""
    allowance = target if state.allowance is None else state.allowance
    if not fresh:
        return replace(state, allowance=allowance)
    mean = sum(p.rps for p in state.series) / len(state.series) if state.series else asked_rps
    missed = min(3.0, asked_rps / mean) if asked_rps > ready_rps and mean > 0 else 0.0
    moved = allowance + RATE * (target - missed)
    return replace(state, allowance=round(min(MOST, max(min(LEAST, target), moved)), 6))
