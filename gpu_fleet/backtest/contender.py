"""The interface of a contender: whoever decides how many instances a service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service


class Contender(Protocol):
    """A rule that sets the size of a service: our policy or a rival's.

    It gets what the scaler gets, no more and no earlier, and answers as the scaler answers. It keeps its own memory, so
    every run needs a fresh one, and it knows the time only from its argument.
    """

    @property
    def name(self) -> str:
        """Its name in tables."""
        ...

    @property
    def every_seconds(self) -> float:
        """Time between two calls of `decide`, as the rule's own controller has it."""
        ...

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return counts and weights for every pool of the service. `now` is in seconds since the epoch (UTC)."""
        ...
