"""The phases of a boot: what happens between an instance's order and its first request.

An instance times those that it can (`infra/instance/node/boot_phases.py`). The last one ends with the load balancer's
word that the instance is healthy, so it is what remains of the whole: the launching hook, and the health checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum


class BootPhase(StrEnum):
    """The phases, in their order, each named by its end."""

    RUNNING = "running"
    """The kernel starts."""
    AGENT = "agent"
    """The operating system is up, and the boot script has installed everything."""
    IMAGE = "image"
    """The container's image is pulled and unpacked."""
    WEIGHTS = "weights"
    """The engine has started and loaded the weights."""
    ENGINE = "engine"
    """The engine has compiled what it compiles, and answers its health check."""
    HEALTHY = "healthy"
    """The group has taken the instance into service, and the load balancer finds it healthy."""


NODE_PHASES = tuple(phase for phase in BootPhase if phase is not BootPhase.HEALTHY)
"""Those that an instance times itself."""


@dataclass(frozen=True, slots=True)
class Boot:
    """Seconds of each phase."""

    running: float = 0.0
    agent: float = 0.0
    image: float = 0.0
    weights: float = 0.0
    engine: float = 0.0
    healthy: float = 0.0

    @property
    def seconds(self) -> float:
        """Return the time from order to first request: the sum."""
        return sum(self.by_phase.values())

    @property
    def by_phase(self) -> dict[BootPhase, float]:
        """Return the seconds by phase."""
        return {BootPhase(one.name): getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True)
class LastBoot:
    """The newest launch that became ready; a mean, where several did between two evaluations."""

    at: float
    """When that was seen."""
    seconds: float
    """From order to ready: what the pool's lead time is learnt from."""
    told: Mapping[str, float]
    """Seconds of the phases that the instances timed; empty until they are known."""
    wanted: bool = True
    """Whether the phases are still to be read."""

    @property
    def by_phase(self) -> dict[BootPhase, float]:
        """Return the seconds of each known phase, in order; with the last one they add up to `seconds`.

        Empty where the instances told nothing.
        """
        known = {phase: self.told[phase] for phase in NODE_PHASES if phase in self.told}
        return {**known, BootPhase.HEALTHY: max(0.0, self.seconds - sum(known.values()))} if known else {}
