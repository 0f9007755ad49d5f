"""What of the world outside AWS's API decides: time, chance, how long a boot takes, and what capacity there is."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gpu_fleet.emulator.clock import VirtualClock


@dataclass(frozen=True, slots=True)
class Launch:
    """An instance that was just launched: what its boot time may depend on."""

    instance_id: str
    group: str
    type: str
    zone: str
    spot: bool
    at: float


BootSeconds = float | Mapping[str, float] | Callable[[Launch], float | None]
"""Seconds from launch until the model answers: one figure, one by instance type or group, or a function. From a
function, None is an instance that never answers."""

DrainSeconds = float | Callable[[str], float | None]
"""Seconds from deregistration until an instance's last request ends: one figure, or a function of the instance's id.
From a function, None is: until `CloudWorld.load_gone` says so."""


class Change(StrEnum):
    """What happened to an instance."""

    LAUNCHED = "launched"
    ANSWERS = "answers"
    """Its model answers health checks."""
    HEALTHY = "healthy"
    """Its target became healthy: it takes requests from now on."""
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    """Takes no new requests from now on."""
    INTERRUPTION_NOTICE = "interruption notice"
    """Spot: it goes in two minutes."""
    GONE = "gone"
    """Terminated in order: what it still had in service is cut off."""
    LOST = "lost"
    """Taken away: spot interruption, or terminated behind the group's back."""


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """A change of an instance, as the load balancer or the group brought it about."""

    at: float
    change: Change
    instance_id: str
    group: str
    type: str
    zone: str
    spot: bool


@dataclass(frozen=True, slots=True)
class Shortage:
    """While it lasts, launches that it covers fail with InsufficientInstanceCapacity. None covers all."""

    type: str | None = None
    group: str | None = None
    zone: str | None = None
    spot: bool | None = None
    since: float = -math.inf
    until: float = math.inf

    def covers(self, group: str, type_: str, zone: str, *, spot: bool, at: float) -> bool:
        """Whether a launch now would fail by it."""
        return (
            self.type in (None, type_)
            and self.group in (None, group)
            and self.zone in (None, zone)
            and self.spot in (None, spot)
            and self.since <= at < self.until
        )


@dataclass(order=True, slots=True)
class _Event:
    at: float
    turn: int
    action: Callable[[], None] = field(compare=False)
    cancelled: bool = field(compare=False, default=False)


class CloudWorld:
    """Virtual time with its queue of events, and the settings that tests and the replay turn."""

    def __init__(
        self,
        clock: VirtualClock,
        *,
        seed: int = 0,
        boot_seconds: BootSeconds = 300.0,
        drain_seconds: DrainSeconds = 0.0,
    ) -> None:
        """A world at the clock's time; `seed` fixes all that is left to chance."""
        self.clock = clock
        self.seed = seed
        self.random = random.Random(seed)
        self.boot_seconds = boot_seconds
        self.drain_seconds = drain_seconds
        self.shortages: list[Shortage] = []
        self.watchers: list[Callable[[InstanceChange], None]] = []
        self._events: list[_Event] = []
        self._turns = itertools.count()

    @property
    def now(self) -> float:
        """Virtual seconds since the epoch, UTC."""
        return self.clock.now

    def at(self, moment: float, action: Callable[[], None]) -> Callable[[], None]:
        """Do `action` once time reaches `moment`; events of one moment run in the order they were given.

        Returns a function that calls it off.
        """
        event = _Event(max(moment, self.now), next(self._turns), action)
        heapq.heappush(self._events, event)

        def cancel() -> None:
            event.cancelled = True

        return cancel

    def after(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Do `action` in `seconds`. Returns as `at` does."""
        return self.at(self.now + seconds, action)

    def advance(self, to: float) -> None:
        """Move time on to `to`, and let everything happen that is due until then (what is due at `to` included).

        Raises ValueError for a time that has passed.
        """
        if to < self.now:
            raise ValueError(f"to: must not lie before {self.now:.3f} (got {to:.3f})")
        while self._events and self._events[0].at <= to:
            event = heapq.heappop(self._events)
            if event.cancelled:
                continue
            self.clock.advance_to(event.at)
            event.action()
        self.clock.advance_to(to)

    def boots_in(self, launch: Launch) -> float | None:
        """Seconds until the model of this instance answers; None for never. Raises ValueError for an unknown type."""
        match self.boot_seconds:
            case float() | int() as seconds:
                return float(seconds)
            case Mapping() as by_name:
                for name in (launch.group, launch.type):
                    if name in by_name:
                        return by_name[name]
                raise ValueError(f"boot_seconds: says nothing of {launch.type} (has {', '.join(sorted(by_name))})")
            case function:
                return function(launch)

    def drains_in(self, instance_id: str) -> float | None:
        """Seconds until the last request of this instance ends; None for: until it is said."""
        return self.drain_seconds(instance_id) if callable(self.drain_seconds) else self.drain_seconds

    def has_capacity(self, group: str, type_: str, zone: str, *, spot: bool) -> bool:
        """Whether EC2 has such an instance now."""
        return not any(s.covers(group, type_, zone, spot=spot, at=self.now) for s in self.shortages)

    def tell(self, change: InstanceChange) -> None:
        """Tell all watchers."""
        for watcher in self.watchers:
            watcher(change)
