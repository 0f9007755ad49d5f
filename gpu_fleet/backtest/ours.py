"""The scaler's own model as a contender: the function that the Lambda calls, with its state carried along."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision, PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State


class Ours:
    """`gpu_fleet.scaling.decide`, every minute."""

    name = "gpu-fleet"
    every_seconds = 60.0

    def __init__(self) -> None:
        self.state = State()
        """The state that the next call starts from; its `wants_history` and `wants_instance_loads` say what to
        observe."""
        self.last: Decision | None = None
        """The newest decision, with its reasons."""

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return counts and weights, and keep the state for the next call."""
        self.last = decide(service, observation, self.state, now)
        self.state = self.last.state
        return self.last.targets
