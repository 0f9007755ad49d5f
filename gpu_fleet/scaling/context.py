"""One evaluation of one service, as every step of the model takes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from gpu_fleet.scaling.observation import Observation, PoolObservation, Reading, current
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import State


@dataclass(frozen=True, slots=True)
class Context:
    """The service, what was seen of it, what is remembered of it, and the time (seconds since the epoch, UTC)."""

    service: Service
    seen: Observation
    state: State
    now: float

    @property
    def policy(self) -> Policy:
        """The service's policy."""
        return self.service.policy

    def of(self, service: Service) -> Self:
        """The same evaluation with other figures of the service."""
        return replace(self, service=service)

    def remember(self, **parts: Any) -> Self:
        """The same evaluation with these parts of the state replaced."""
        return replace(self, state=replace(self.state, **parts))

    def pools(self) -> Iterator[tuple[Pool, PoolObservation]]:
        """Each pool of the service, and what was seen of it."""
        for pool in self.service.pools:
            yield pool, self.seen.pools[pool.name]

    def value(self, reading: Reading | None) -> float | None:
        """The reading's value; None where it is missing or older than the policy allows."""
        return current(reading, self.now, self.policy.load.stale_after_seconds)

    def correction(self, pool: Pool) -> float:
        """Capacity that the pool was seen to have, over the catalog's figure."""
        return self.state.pool(pool.name).correction
