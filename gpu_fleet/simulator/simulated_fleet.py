"""The machines behind a service on virtual time: launches, capacity errors, spot, failures, and the bill.

What an Auto Scaling group does with a desired count, as far as a decision can feel it. Times are in seconds from the
start of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from gpu_fleet.scaling.observation import CapacityError, Phase
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.service import Pool

BILLED_AT_LEAST_SECONDS = 60
"""Linux instances are billed by the second, the first minute always, on-demand and spot alike:
https://aws.amazon.com/about-aws/whats-new/2017/10/announcing-amazon-ec2-per-second-billing/"""

SPOT_NOTICE_SECONDS = 120.0
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html"""

RETRY_SECONDS = 60.0
"""A group that could not launch tries again. AWS documents that it does, not how soon; a minute is our assumption."""

_Z99 = 2.3263478740408408
"""99 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class BootTime:
    """Time from launch to the first request: machine, container and model load together.

    Fixed at p50_seconds, or lognormal with these two quantiles where `p99_seconds` is given.
    """

    p50_seconds: float = 300.0
    p99_seconds: float | None = None
    slow_share: float = 0.0
    """Launches that take `slow_factor` times as long."""
    slow_factor: float = 3.0
    failed_share: float = 0.0
    """Launches that never become healthy; the group replaces them after `failed_after_seconds`."""
    failed_after_seconds: float = 900.0

    def __post_init__(self) -> None:
        if not self.p50_seconds >= 0:
            raise ValueError(f"p50_seconds: must not be negative (got {self.p50_seconds})")
        if self.p99_seconds is not None and not self.p99_seconds >= self.p50_seconds > 0:
            raise ValueError(f"p99_seconds: must be at least p50_seconds ({self.p50_seconds}) (got {self.p99_seconds})")
        for name in ("slow_share", "failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be from 0 to 1 (got {getattr(self, name)})")

    @classmethod
    def with_load(cls, machine_seconds: float, profile: Profile) -> Self:
        """A machine that takes so long to start, and then loads the profile's model."""
        return cls(machine_seconds + profile.load_seconds)

    def draw(self, random: np.random.Generator) -> tuple[float, bool]:
        """Seconds until the instance serves, or is given up, and whether it serves at all."""
        # Always three draws, so that a change of one option leaves the others' draws as they are.
        normal, slow, failed = random.standard_normal(), random.random(), random.random()
        if failed < self.failed_share:
            return self.failed_after_seconds, False
        spread = 0.0 if self.p99_seconds is None else math.log(self.p99_seconds / self.p50_seconds) / _Z99
        seconds = self.p50_seconds * math.exp(spread * normal)
        return seconds * (self.slow_factor if slow < self.slow_share else 1.0), True


@dataclass(frozen=True, slots=True)
class CapacityShortage:
    """AWS has no such instance from `start` to `end` (seconds from the start of the run)."""

    pool: str
    start: float
    end: float
    zone: str = ""
    """Empty: in every zone."""
    spot: bool | None = None
    """Spot or on-demand alone; None: both."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong. Default: nothing."""

    shortages: tuple[CapacityShortage, ...] = ()
    capacity_error_share: float = 0.0
    """Share of launch attempts that fail for lack of capacity, whenever."""
    interruptions_per_hour: float = 0.0
    """Of one spot instance."""
    failures_per_hour: float = 0.0
    """Of one ready instance: it dies at once, and its requests are lost."""
    detection_seconds: float = 60.0
    """From such a death to the replacement's launch: health checks of the load balancer and of the group."""
    metric_gaps: tuple[tuple[float, float], ...] = ()
    """Times (start, end) of which no metric ever arrives."""

    def __post_init__(self) -> None:
        if not 0 <= self.capacity_error_share <= 1:
            raise ValueError(f"capacity_error_share: must be from 0 to 1 (got {self.capacity_error_share})")
        for name in ("interruptions_per_hour", "failures_per_hour", "detection_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")


@dataclass(slots=True, eq=False)
class SimulatedInstance:
    """One EC2 instance."""

    id: str
    pool: int
    type: str
    zone: str
    spot: bool
    usd_per_hour: float
    launched_at: float
    phase: Phase = Phase.STARTING
    ready_at: float | None = None
    """When it became ready; None for those that were there from the start."""
    number: int | None = None
    """The instance of the simulation, while it serves."""


@dataclass(slots=True)
class SimulatedGroup:
    """An Auto Scaling group."""

    pool: Pool
    desired: int = 0
    weight: int = 0
    on_demand_base: int = 0
    machines: dict[str, SimulatedInstance] = field(default_factory=dict)
    errors: list[CapacityError] = field(default_factory=list)
    retry_due: bool = False

    def standing(self) -> list[SimulatedInstance]:
        """Those that count against the desired number, oldest first."""
        return [machine for machine in self.machines.values() if machine.phase is not Phase.DRAINING]

    def count(self, phase: Phase) -> int:
        """Machines in that phase."""
        return sum(machine.phase is phase for machine in self.machines.values())

    def wants_spot(self) -> bool:
        """Whether the next machine is a spot instance. Above the base, the on-demand share is rounded up
        (https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html).
        """
        if self.pool.spot_percent == 0 or self.pool.spot_usd_per_hour is None:
            return False
        standing = self.standing()
        above = max(0, len(standing) + 1 - self.on_demand_base)
        on_demand = len(standing) + 1 - above + math.ceil(above * (1 - self.pool.spot_percent / 100) - 1e-9)
        return sum(not machine.spot for machine in standing) >= on_demand

    def zones_by_count(self) -> list[str]:
        """The pool's zones, the emptiest first: the group balances over them."""
        zones = self.pool.zones or ("",)
        held = [machine.zone for machine in self.standing()]
        return sorted(zones, key=lambda zone: (held.count(zone), zones.index(zone)))


@dataclass(slots=True)
class Bill:
    """What was paid for, by pool."""

    usd: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, pool: str, machine: SimulatedInstance, until: float) -> None:
        """A machine from its launch up to then."""
        seconds = max(BILLED_AT_LEAST_SECONDS, math.ceil(until - machine.launched_at - 1e-9))
        self.seconds[pool] = self.seconds.get(pool, 0.0) + seconds
        self.usd[pool] = self.usd.get(pool, 0.0) + seconds * machine.usd_per_hour / 3600

    def with_machines(self, groups: Mapping[str, SimulatedGroup], now: float) -> Bill:
        """As if every machine ended now."""
        bill = Bill(dict(self.usd), dict(self.seconds))
        for name, group in groups.items():
            for machine in group.machines.values():
                bill.add(name, machine, now)
        return bill


class Market:
    """Where machines come from: names, prices, and whether AWS has one."""

    def __init__(self, faults: Faults, boot: Mapping[str, BootTime], random: np.random.Generator) -> None:
        self._faults, self._boot, self._random = faults, boot, random
        self._count = 0

    def launch(self, group: SimulatedGroup, index: int, now: float, epoch: float) -> SimulatedInstance | None:
        """One more machine for the group, or None where AWS has none in any zone; the errors are noted.

        `epoch`: what to add to `now` for the errors' time.
        """
        spot = group.wants_spot()
        for zone in group.zones_by_count():
            if not self._short(group.pool.name, zone, spot=spot, now=now):
                return self.machine(group, index, zone, now, spot=spot)
            group.errors.append(CapacityError(zone, epoch + now, spot))
        return None

    def machine(self, group: SimulatedGroup, index: int, zone: str, now: float, *, spot: bool) -> SimulatedInstance:
        """A machine of the pool's first type."""
        pool = group.pool
        self._count += 1
        price = pool.spot_usd_per_hour if spot and pool.spot_usd_per_hour is not None else pool.on_demand_usd_per_hour
        return SimulatedInstance(f"i-{self._count:017x}", index, pool.types[0], zone, spot, price, now)

    def boot(self, group: SimulatedGroup) -> tuple[float, bool]:
        """Seconds until the machine serves, or is given up, and whether it serves."""
        return self._boot[group.pool.name].draw(self._random)

    def ends(self, machine: SimulatedInstance) -> Iterator[tuple[float, bool]]:
        """When the machine is interrupted (False) and when it fails (True), in seconds from now, where that happens."""
        if machine.spot and self._faults.interruptions_per_hour > 0:
            yield self._random.exponential(3600 / self._faults.interruptions_per_hour), False
        if self._faults.failures_per_hour > 0:
            yield self._random.exponential(3600 / self._faults.failures_per_hour), True

    def _short(self, pool: str, zone: str, *, spot: bool, now: float) -> bool:
        for shortage in self._faults.shortages:
            if (
                shortage.pool == pool
                and shortage.start <= now < shortage.end
                and shortage.zone in ("", zone)
                and shortage.spot in (None, spot)
            ):
                return True
        share = self._faults.capacity_error_share
        return share > 0 and self._random.random() < share
