"""Instances that a group counts and that carry nothing, and orders without an instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.scaling.observation import Phase, PoolObservation
from gpu_fleet.scaling.policy import Horizontal
from gpu_fleet.scaling.state import Short

SHORT_KEPT = 8
"""Steps of a growing shortage that are told apart."""
ALIVE = (Phase.STARTING, Phase.READY, Phase.UNHEALTHY)
"""Phases that a group counts towards its desired count: all but draining."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Instances of a pool that its desired count includes and that carry nothing."""

    stuck: tuple[str, ...]
    """Boots that never end."""
    unhealthy: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.stuck) + len(self.unhealthy)


def missing(policy: Horizontal, seen: PoolObservation, now: float) -> Missing:
    """Find the instances that do not count as coming."""
    return Missing(stuck(policy, seen, now), tuple(i.id for i in seen.those(Phase.UNHEALTHY)))


def stuck(policy: Horizontal, seen: PoolObservation, now: float) -> tuple[str, ...]:
    """Instances that still start although the launch timeout has passed, and do not say themselves that they go on."""
    late = policy.launch_timeout_seconds
    return tuple(i.id for i in seen.those(Phase.STARTING) if now - i.since > late and not i.booting)


def unfilled(seen: PoolObservation) -> int:
    """Orders without an instance."""
    return max(0, seen.desired - len(seen.those(*ALIVE)))


def shortage(before: Sequence[Short], seen: PoolObservation, now: float) -> tuple[Short, ...]:
    """Since when how many orders have waited. Two orders from before and three new ones are two old and five in all.

    Orders are alike, so an arrival fills the newest: what has been missing all the while is still missing.
    """
    short = unfilled(seen)
    kept = [s for s in before if s.count < short]
    since = min((s.since for s in before if s.count >= short), default=now)
    return (*kept[-SHORT_KEPT:], Short(short, min(now, since))) if short else ()
