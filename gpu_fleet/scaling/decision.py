"""The decision: desired count per pool, weight per target group, and the reason for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpu_fleet.scaling.state import State


class Step(StrEnum):
    """Which part of the model speaks."""

    DEMAND = "demand"
    SIZING = "sizing"
    MIX = "mix"
    GUARD = "guard"
    ROUTING = "routing"


@dataclass(frozen=True, slots=True)
class Reason:
    """What one step said: a code to search for, a sentence to read, and the numbers in it."""

    step: Step
    code: str
    sentence: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PoolTarget:
    """What one pool shall be. A target state: applying it twice does no harm."""

    desired: int
    weight: int
    take: tuple[str, ...] = ()
    """Instances that leave in this scale-in, chosen as the least busy; always `desired` + len(take) = what stands."""
    on_demand_base: int | None = None
    """On-demand instances in front of the spot share; None leaves it alone."""
    protect: tuple[str, ...] = ()
    """Instances that must not be taken (training: busy)."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Vertical scaling in place: roll these types through the pool."""

    pool: str
    types: tuple[str, ...]
    surge_percent: int = 10
    """Instances beyond the desired count that may stand meanwhile, 10 to 100."""


@dataclass(frozen=True, slots=True)
class Signals:
    """The numbers that are published with every decision."""

    utilization: float | None
    """U: the work that must be carried, in full instances (`gpu_fleet.scaling.figures`); None where it is not known."""
    response_time: float | None
    """T: mean queue of a ready instance, in full instances; None where no load was seen."""
    ratio: float | None
    """R = U / U_max: above 1 the service scales out, unless it is held."""
    demand_rps: float | None
    forecast_rps: float | None
    """At the end of the lead time, with head-room."""
    required_rps: float | None
    """Work capacity that the sizing asks for."""
    backlog: float = 0.0
    """Requests beyond what the instances can hold in service."""
    usd_per_hour: float = 0.0
    """Of the counts decided."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one evaluation came to, with the state that the next one starts from."""

    targets: Mapping[str, PoolTarget]
    reasons: tuple[Reason, ...]
    signals: Signals
    state: State
    held: bool = False
    """Counts were kept because something needed was missing or too old."""
    refresh: Refresh | None = None

    @property
    def codes(self) -> tuple[str, ...]:
        """The reasons' codes, in the steps' order."""
        return tuple(reason.code for reason in self.reasons)
