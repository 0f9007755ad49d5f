"""Everything behind AWS's API that decides what happens: time, chance, boot times, drain times and EC2's capacity."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gpu_fleet.emulator.clock import VirtualClock
from gpu_fleet.scaling.boot import Boot


class Location(NamedTuple):
    """An AWS account and one of its regions; moto keeps one backend per service for each."""

    account: str
    region: str


@dataclass(frozen=True, slots=True)
class Launch:
    """A new instance: everything that its boot time may depend on."""

    instance_id: str
    group: str
    type: str
    zone: str
    spot: bool
    at: float


BootSeconds = float | Mapping[str, float] | Callable[[Launch], float | Boot | None]
"""Seconds from launch until the model answers: one figure, one by instance type or group, or a function. A function
returns None for an instance that never answers, and phases for one that publishes them when it answers."""

DrainSeconds = float | Callable[[str], float | None]
"""Seconds from deregistration until an instance's last request ends: one figure, or a function of the instance's id.
A function returns None for an instance that drains until `EmbeddedCloud.finish_drain`."""


class Change(StrEnum):
    """What happened to an instance."""

    LAUNCHED = "launched"
    ANSWERS = "answers"
    """Its model answers health checks."""
    HEALTHY = "healthy"
    """Its target became healthy: it takes requests from now on."""
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    """It takes no new requests from now on."""
    INTERRUPTION_NOTICE = "interruption notice"
    """EC2 takes this spot instance in two minutes."""
    GONE = "gone"
    """Terminated in order: requests still running on it are cut off."""
    LOST = "lost"
    """Taken away: spot interruption, or terminated behind the group's back."""


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """A change of an instance, caused by the load balancer or the group."""

    at: float
    change: Change
    instance_id: str
    group: str
    type: str
    zone: str
    spot: bool


@dataclass(frozen=True, slots=True)
class Shortage:
    """Launches that EC2 refuses, by default for lack of capacity. None matches everything."""

    type: str | None = None
    group: str | None = None
    zone: str | None = None
    spot: bool | None = None
    since: float = -math.inf
    until: float = math.inf
    error: str = ""
    """EC2's error, "VcpuLimitExceeded - You have requested more ..."; empty: InsufficientInstanceCapacity."""

    def covers(self, group: str, type_: str, zone: str, *, spot: bool, at: float) -> bool:
        """Return whether such a launch at `at` would fail."""
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
    """Virtual time with its queue of events, and the settings that tests and the replay change."""

    def __init__(
        self,
        clock: VirtualClock,
        *,
        seed: int = 0,
        boot_seconds: BootSeconds = 300.0,
        drain_seconds: DrainSeconds = 0.0,
    ) -> None:
        """Create a world at the clock's time; `seed` fixes everything random."""
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

    def call_at(self, moment: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action` when time reaches `moment`; actions of one moment run in the order of these calls.

        Returns a function that cancels it.
        """
        event = _Event(max(moment, self.now), next(self._turns), action)
        heapq.heappush(self._events, event)

        def cancel() -> None:
            event.cancelled = True

        return cancel

    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action` in `seconds`. Returns a function that cancels it."""
        return self.call_at(self.now + seconds, action)

    def advance(self, to: float) -> None:
        """Move time to `to` and run every action due until then, `to` included.

        Raises ValueError for a time in the past.
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

    def boot_seconds_of(self, launch: Launch) -> float | Boot | None:
        """Return an instance's boot; None for one that never answers. Raises ValueError for an unknown type."""
        return look_up_boot_seconds(self.boot_seconds, launch)

    def drain_seconds_of(self, instance_id: str) -> float | None:
        """Return the seconds until the instance's last request ends; None until `EmbeddedCloud.finish_drain`."""
        return self.drain_seconds(instance_id) if callable(self.drain_seconds) else self.drain_seconds

    def shortage(self, group: str, type_: str, zone: str, *, spot: bool) -> Shortage | None:
        """Return why EC2 cannot launch such an instance now; None if it can."""
        return next((s for s in self.shortages if s.covers(group, type_, zone, spot=spot, at=self.now)), None)

    def has_capacity(self, group: str, type_: str, zone: str, *, spot: bool) -> bool:
        """Return whether EC2 can launch such an instance now."""
        return self.shortage(group, type_, zone, spot=spot) is None

    def notify(self, change: InstanceChange) -> None:
        """Call all watchers."""
        for watcher in self.watchers:
            watcher(change)


def look_up_boot_seconds(setting: BootSeconds, launch: Launch) -> float | Boot | None:
    """Return the boot that the setting gives a launch; None for never. Raises ValueError for an unknown type."""
    match setting:
        case float() | int() as seconds:
            return float(seconds)
        case Mapping() as by_name:
            for name in (launch.group, launch.type):
                if name in by_name:
                    return by_name[name]
            raise ValueError(f"boot_seconds: must cover {launch.type} (has {', '.join(sorted(by_name))})")
        case function:
            return function(launch)
