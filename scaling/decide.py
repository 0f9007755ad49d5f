"""One evaluation of one service: observation, state and time in, decision and state out."""

from __future__ import annotations

from scaling.decision import Decision
from scaling.observation import Observation
from scaling.service import Service
from scaling.state import State


def decide(service: Service, observation: Observation, state: State, now: float) -> Decision:
    """Decide the counts and weights of a service.

    `now` in seconds since the epoch (UTC). The same input always gives the same decision.
    """
    raise NotImplementedError
