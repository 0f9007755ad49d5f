"""The machines behind a service: instances, their Auto Scaling groups, the market they come from, and the bill.

Times are in seconds from the start of the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from gpu_fleet.scaling.boot import NODE_PHASES, Boot
from gpu_fleet.scaling.observation import CapacityError, Phase, Reading
from gpu_fleet.scaling.service import Pool

BILLED_AT_LEAST_SECONDS = 60
"""Linux instances are billed by the second, the first minute always, on-demand and spot alike:
https://aws.amazon.com/about-aws/whats-new/2017/10/announcing-amazon-ec2-per-second-billing/"""

SPOT_NOTICE_SECONDS = 120.0
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html"""

RETRY_SECONDS = 60.0
"""Pause before a group tries a failed launch again. AWS documents the retry but not its interval; a minute is our
assumption."""

_Z99 = 2.3263478740408408
"""99 % quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True)
class BootTime:
    """Time from launch to the first request: machine, container and model load together.

    Fixed at `p50_seconds`, or lognormal with these two quantiles if `p99_seconds` is set.
    """

    p50_seconds: float = 300.0
    p99_seconds: float | None = None
    slow_share: float = 0.0
    """Share of launches that take `slow_factor` times as long."""
    slow_factor: float = 3.0
    failed_share: float = 0.0
    """Share of launches that never become healthy; the group replaces them after `failed_after_seconds`."""
    failed_after_seconds: float = 900.0

    def __post_init__(self) -> None:
        if not self.p50_seconds >= 0:
            raise ValueError(f"p50_seconds: must not be negative (got {self.p50_seconds})")
        if self.p99_seconds is not None and not self.p99_seconds >= self.p50_seconds > 0:
            raise ValueError(f"p99_seconds: must be at least p50_seconds ({self.p50_seconds}) (got {self.p99_seconds})")
        for name in ("slow_share", "failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be from 0 to 1 (got {getattr(self, name)})")

    def draw(self, random: np.random.Generator) -> tuple[float, bool]:
        """Return the seconds until the instance serves or is given up, and whether it serves."""
        # Always three draws, so that changing one option does not change what the others draw.
        normal, slow, failed = random.standard_normal(), random.random(), random.random()
        if failed < self.failed_share:
            return self.failed_after_seconds, False
        spread = 0.0 if self.p99_seconds is None else math.log(self.p99_seconds / self.p50_seconds) / _Z99
        seconds = self.p50_seconds * math.exp(spread * normal)
        return seconds * (self.slow_factor if slow < self.slow_share else 1.0), True


@dataclass(frozen=True, slots=True)
class CapacityShortage:
    """A time from `start` to `end` in which AWS cannot launch the pool's instances."""

    pool: str
    start: float
    end: float
    zone: str = ""
    """Empty: every zone."""
    spot: bool | None = None
    """True: spot only; False: on-demand only; None: both."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong during a run. By default nothing does."""

    shortages: tuple[CapacityShortage, ...] = ()
    capacity_error_share: float = 0.0
    """Share of launch attempts that fail for lack of capacity, at any time."""
    interruptions_per_hour: float = 0.0
    """Rate for one spot instance."""
    failures_per_hour: float = 0.0
    """Rate for one ready instance: it dies at once and loses its requests."""
    detection_seconds: float = 60.0
    """From a failure to the replacement's launch: the health checks of the load balancer and of the group."""
    metric_gaps: tuple[tuple[float, float], ...] = ()
    """Periods (start, end) whose metrics never arrive."""

    def __post_init__(self) -> None:
        if not 0 <= self.capacity_error_share <= 1:
            raise ValueError(f"capacity_error_share: must be from 0 to 1 (got {self.capacity_error_share})")
        for name in ("interruptions_per_hour", "failures_per_hour", "detection_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")


@dataclass(frozen=True, slots=True)
class MachineModel:
    """How the instances of a service behave."""

    boot: BootTime | None = None
    """Boot time in every pool; None: fixed at the sum of its `phases`, or at its `lead_seconds`."""
    faults: Faults = field(default_factory=Faults)
    phases: Mapping[str, Boot] = field(default_factory=dict)
    """Phases of a boot by pool, which its instances time: each takes its share of a boot that takes longer. A pool's
    boot takes their sum, unless `boot` says otherwise."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """GPUs of an instance, by pool; 1 for a pool without an entry. Only `Totals.gpu_hours` depends on it."""


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
    """When it became ready; None for instances that the run started with."""
    number: int | None = None
    """Its number in the simulation while it serves."""
    launch_usd: float = 0.0
    """What its launch cost beside its hours; nothing for those that the run started with."""


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
    booted: dict[str, Reading] = field(default_factory=dict)
    """Phases of its newest boot, as its instance timed them."""

    def not_draining(self) -> list[SimulatedInstance]:
        """Return the machines that count towards the desired number, oldest first."""
        return [machine for machine in self.machines.values() if machine.phase is not Phase.DRAINING]

    def count(self, phase: Phase) -> int:
        """Return the number of machines in a phase."""
        return sum(machine.phase is phase for machine in self.machines.values())

    def wants_spot(self) -> bool:
        """Return whether the next machine is a spot instance.

        Above the base, AWS rounds the on-demand share up
        (https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html).
        """
        if self.pool.spot_percent == 0 or self.pool.spot_usd_per_hour is None:
            return False
        machines = self.not_draining()
        above = max(0, len(machines) + 1 - self.on_demand_base)
        on_demand = len(machines) + 1 - above + math.ceil(above * (1 - self.pool.spot_percent / 100) - 1e-9)
        return sum(not machine.spot for machine in machines) >= on_demand

    def zones_by_count(self) -> list[str]:
        """Return the pool's zones, emptiest first: the group balances over them."""
        zones = self.pool.zones or ("",)
        occupied = [machine.zone for machine in self.not_draining()]
        return sorted(zones, key=lambda zone: (occupied.count(zone), zones.index(zone)))


@dataclass(slots=True)
class Bill:
    """Cost and billed time by pool."""

    usd: dict[str, float] = field(default_factory=dict)
    """Of instances and launches together."""
    launch_usd: dict[str, float] = field(default_factory=dict)
    """Of the launches alone."""
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, pool: str, machine: SimulatedInstance, until: float) -> None:
        """Charge for a machine's launch, and for its time to `until`."""
        seconds = max(BILLED_AT_LEAST_SECONDS, math.ceil(until - machine.launched_at - 1e-9))
        self.seconds[pool] = self.seconds.get(pool, 0.0) + seconds
        self.launch_usd[pool] = self.launch_usd.get(pool, 0.0) + machine.launch_usd
        self.usd[pool] = self.usd.get(pool, 0.0) + seconds * machine.usd_per_hour / 3600 + machine.launch_usd

    def with_machines(self, groups: Mapping[str, SimulatedGroup], now: float) -> Bill:
        """Return the bill as if every machine ended at `now`."""
        bill = Bill(dict(self.usd), dict(self.launch_usd), dict(self.seconds))
        for name, group in groups.items():
            for machine in group.machines.values():
                bill.add(name, machine, now)
        return bill


class Market:
    """Source of machines: their ids, prices, boot times and faults, and whether AWS has capacity."""

    def __init__(self, model: MachineModel, random: np.random.Generator) -> None:
        self._faults, self._boot, self._random = model.faults, model.boot, random
        self._phases = model.phases
        self._launched = 0

    def launch(self, group: SimulatedGroup, index: int, now: float, epoch: float) -> SimulatedInstance | None:
        """Return a new machine for the group, or None if no zone has capacity; each failure is added to its errors.

        `epoch` is the start of the run in seconds since the epoch: errors carry absolute times.
        """
        spot = group.wants_spot()
        for zone in group.zones_by_count():
            if not self._lacks_capacity(group.pool.name, zone, spot=spot, now=now):
                machine = self.machine(group, index, zone, now, spot=spot)
                machine.launch_usd = group.pool.launch_usd
                return machine
            group.errors.append(CapacityError(zone, epoch + now, spot))
        return None

    def machine(self, group: SimulatedGroup, index: int, zone: str, now: float, *, spot: bool) -> SimulatedInstance:
        """Return a machine of the pool's first type."""
        pool = group.pool
        self._launched += 1
        price = pool.spot_usd_per_hour if spot and pool.spot_usd_per_hour is not None else pool.on_demand_usd_per_hour
        return SimulatedInstance(f"i-{self._launched:017x}", index, pool.types[0], zone, spot, price, now)

    def boot(self, group: SimulatedGroup) -> tuple[float, bool]:
        """Return the seconds until the machine serves or is given up, and whether it serves."""
        phases = self._phases.get(group.pool.name)
        expected = BootTime(phases.seconds if phases else group.pool.lead_seconds)
        return (self._boot or expected).draw(self._random)

    def phases(self, group: SimulatedGroup, seconds: float) -> dict[str, float]:
        """Return what an instance of the group times of a boot of so many seconds; empty without phases."""
        expected = self._phases.get(group.pool.name)
        if expected is None or not expected.seconds:
            return {}
        return {phase.value: expected.by_phase[phase] * seconds / expected.seconds for phase in NODE_PHASES}

    def faults_of(self, machine: SimulatedInstance) -> Iterator[tuple[float, bool]]:
        """Yield the machine's future faults: seconds from now, and whether it fails (else it is interrupted)."""
        if machine.spot and self._faults.interruptions_per_hour > 0:
            yield self._random.exponential(3600 / self._faults.interruptions_per_hour), False
        if self._faults.failures_per_hour > 0:
            yield self._random.exponential(3600 / self._faults.failures_per_hour), True

    def _lacks_capacity(self, pool: str, zone: str, *, spot: bool, now: float) -> bool:
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
