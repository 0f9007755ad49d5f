"""The scaler's own model as a contender: the very function that the Lambda calls, with its state carried along."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision, PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State


class Ours:
    """`gpu_fleet.scaling.decide`, each minute."""

    name = "gpu-fleet"
    every_seconds = 60.0

    def __init__(self, state: State | None = None) -> None:
        """`state` where a run goes on from another; a run of its own starts without one, as a new service does."""
        self.state = state or State()
        """What the next evaluation starts from; its `wants_history` and `wants_instance_loads` say what to observe."""
        self.last: Decision | None = None
        """The newest decision, with its reasons."""

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Counts and weights, and the state that the next call starts from."""
        self.last = decide(service, observation, self.state, now)
        self.state = self.last.state
        return self.last.targets
