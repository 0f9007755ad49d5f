"""Whether one evaluation follows another: after a lost state, a pause, or within the same minute."""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.reasons import guard as reasons
from gpu_fleet.scaling.state import State

GAP_SECONDS = 600.0
"""After a longer pause between two evaluations the windows no longer say what happened in between."""
STEP_SECONDS = 30.0
"""Least time between two steps in, or two moves of weights: half the schedule's minute."""


def resume(state: State, now: float) -> tuple[State, Reason | None]:
    """The part of the state that still holds, and why some of it does not: lost, a gap, or a clock that jumped.

    What was learnt stays; windows and pending forecasts go, so that less capacity must be earned anew.
    """
    if state.at == 0:
        return replace(state, at=now, since=now), reasons.first_run()
    gap = now - state.at
    if gap < 0 or gap > GAP_SECONDS:
        return state.after_gap(now), reasons.gap(gap)
    return state, None


def is_extra(state: State, now: float) -> bool:
    """Whether this run is additional to the schedule's: on a burst alarm, or from an event delivered twice.

    Such a run adds capacity and takes traffic off what is not ready. It takes no instance and moves no weight a second
    time, else two runs in a minute would take two steps where the policy allows one.
    """
    return 0 <= now - state.guard.stepped_at < STEP_SECONDS


def stamp(state: State, now: float) -> State:
    """The state as it is written at the end of an evaluation."""
    guard = state.guard if is_extra(state, now) else replace(state.guard, stepped_at=now)
    return replace(state, at=now, guard=guard)
