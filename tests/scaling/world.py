"""A small honest world to drive the model through: fluid requests, instances that boot, fail and leave, late metrics.

It knows nothing of the model: what is decided is applied as the groups and the load balancer would apply it, and what
is seen is what CloudWatch would say of it, as late as it is told to.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace

from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import CapacityError, Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.profile import load_share
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import State

MINUTE = 60.0
TIMEOUT_SECONDS = 60.0
"""Clients give up after this long: a backlog holds no more than that of work."""
DRAIN_SECONDS = 90.0


@dataclass
class Node:
    """One instance."""

    id: str
    zone: str
    launched: float
    ready_at: float
    spot: bool = False
    sick: bool = False
    drained_at: float | None = None

    def phase(self, now: float) -> Phase:
        if self.drained_at is not None:
            return Phase.DRAINING
        if now < self.ready_at:
            return Phase.STARTING
        return Phase.UNHEALTHY if self.sick else Phase.READY


@dataclass
class Group:
    """One pool's Auto Scaling group and target group."""

    pool: Pool
    desired: int
    weight: int
    on_demand_base: int
    nodes: list[Node] = field(default_factory=list)
    errors: list[CapacityError] = field(default_factory=list)
    backlog: float = 0.0

    def staying(self) -> list[Node]:
        return [n for n in self.nodes if n.drained_at is None]

    def ready(self, now: float) -> list[Node]:
        return [n for n in self.nodes if n.phase(now) is Phase.READY]

    def full_rps(self, now: float) -> float:
        return len(self.ready(now)) * self.pool.throughput_rps


@dataclass(frozen=True)
class Minute:
    """What was measured over one minute."""

    at: float
    arrivals: float
    rejected: float
    running: dict[str, float]
    waiting: dict[str, float]
    rates: dict[str, float]


class World:
    """The service's groups, the clients, and what can go wrong between them."""

    def __init__(self, service: Service, ready: dict[str, int], rps: float, now: float) -> None:
        self.service, self.now, self.rps = service, now, rps
        self.boot_seconds = 240.0
        self.boots_fail = False
        self.dry_zones: set[str] = set()
        self.spot_dry = False
        self.missing: set[str] = set()
        self.lag_seconds = 0.0
        self.newest: float | None = None
        """Requests per second of the newest ten seconds, where a burst has just begun."""
        self._ids = itertools.count()
        self.minutes: list[Minute] = []
        self.groups: dict[str, Group] = {}
        for pool in service.pools:
            count = min(pool.max_instances, max(pool.min_instances, ready.get(pool.name, 0)))
            group = Group(pool, count, 0, pool.on_demand_base)
            group.nodes = [
                Node(f"i-{next(self._ids)}", pool.zones[n % len(pool.zones)], now - 7200, now - 7000)
                for n in range(count)
            ]
            self.groups[pool.name] = group
        serving = [g for g in self.groups.values() if g.nodes]
        for group in serving:
            group.weight = 999 // len(serving)
        self._serve()

    # What happens

    def adopt(self, service: Service, *, groups_too: bool = True) -> None:
        """A new policy or new bounds; with `groups_too` the groups were changed as well, and cut to their maximum."""
        self.service = service
        for pool in service.pools:
            group = self.groups[pool.name]
            old, group.pool = group.pool, pool
            if not groups_too:
                group.pool = pool.model_copy(
                    update={"min_instances": old.min_instances, "max_instances": old.max_instances}
                )
                continue
            group.desired = min(pool.max_instances, max(pool.min_instances, group.desired))
            for node in group.staying()[group.desired :]:
                node.drained_at = self.now

    def advance(self, minutes: int = 1) -> None:
        for _ in range(minutes):
            self.now += MINUTE
            for group in self.groups.values():
                group.nodes = [
                    n for n in group.nodes if n.drained_at is None or self.now - n.drained_at < DRAIN_SECONDS
                ]
                group.errors = [e for e in group.errors if self.now - e.at < 900]
                self._launch(group)
            self._serve()

    def _launch(self, group: Group) -> None:
        while len(group.staying()) < group.desired:
            zones = sorted(group.pool.zones, key=lambda z: sum(1 for n in group.staying() if n.zone == z))
            above = max(0, group.desired - group.on_demand_base)
            on_demand = group.desired - above + math.ceil(above * (1 - group.pool.spot_percent / 100))
            spot = sum(not n.spot for n in group.staying()) >= on_demand
            open_zones = [z for z in zones if z not in self.dry_zones]
            dry = [z for z in zones if z in self.dry_zones or (spot and self.spot_dry)]
            if zones[0] in dry:  # else the first that is tried has one
                group.errors += [CapacityError(zone, self.now, spot=spot) for zone in dry]
            if not open_zones or (spot and self.spot_dry):
                return
            ready_at = float("inf") if self.boots_fail else self.now + self.boot_seconds
            group.nodes.append(Node(f"i-{next(self._ids)}", open_zones[0], self.now, ready_at, spot))

    def _serve(self) -> None:
        """A minute of clients: the balancer shares by weight among all it has, ready or not."""
        shares = {name: float(g.weight) if g.ready(self.now) else 0.0 for name, g in self.groups.items()}
        total = sum(shares.values())
        running, waiting, rates = {}, {}, {}
        for name, group in self.groups.items():
            full = group.full_rps(self.now)
            rate = self.rps * shares[name] / total if total else 0.0
            asked = rate * MINUTE + group.backlog
            group.backlog = min(max(0.0, asked - full * MINUTE), full * TIMEOUT_SECONDS)
            share = min(1.0, asked / (full * MINUTE)) if full else 0.0
            held = load_share(share, group.pool.slowdown) * group.pool.capacity * len(group.ready(self.now))
            running[name], waiting[name], rates[name] = held, group.backlog, rate
        rejected = 0.0 if total else self.rps
        self.minutes.append(Minute(self.now, self.rps - rejected, rejected, running, waiting, rates))
        del self.minutes[:-30]

    # What is seen and done

    def observe(self, state: State) -> Observation:
        known = [m for m in self.minutes if m.at <= self.now - self.lag_seconds]
        minute = known[-1] if known else None
        pools = {}
        for name, group in self.groups.items():
            ready = group.ready(self.now)
            loads = minute is not None and "load" not in self.missing and bool(ready)
            each = minute.running[name] / len(ready) if minute and ready else 0.0
            own = state.wants_instance_loads and "own" not in self.missing
            instances = tuple(
                Instance(
                    n.id,
                    "g6.xlarge",
                    n.zone,
                    n.phase(self.now),
                    n.launched,
                    spot=n.spot,
                    ready_at=n.ready_at if n.ready_at <= self.now else None,
                    load=Reading(each * (0.9 + 0.05 * (k % 5)), self.now) if own and n in ready else None,
                )
                for k, n in enumerate(group.nodes)
            )
            pools[name] = PoolObservation(
                desired=group.desired,
                min_size=group.pool.min_instances,
                max_size=group.pool.max_instances,
                weight=group.weight,
                instances=instances,
                on_demand_base=group.on_demand_base if group.pool.spot_percent else None,
                load=Reading(minute.running[name], minute.at) if loads and minute else None,
                running=Reading(minute.running[name], minute.at) if loads and minute else None,
                waiting=Reading(minute.waiting[name], minute.at) if loads and minute else None,
                rate_rps=Reading(minute.rates[name], minute.at) if minute and "rates" not in self.missing else None,
                capacity_errors=tuple(group.errors),
            )
        arrivals = minute is not None and "arrivals" not in self.missing
        burst = self.newest is not None and "burst" not in self.missing
        return Observation(
            pools=pools,
            arrivals_rps=Reading(minute.arrivals, minute.at) if arrivals and minute else None,
            rejected_rps=Reading(minute.rejected, minute.at) if minute and "rejected" not in self.missing else None,
            burst_rps=Reading(self.newest, self.now - 5) if burst and self.newest is not None else None,
            matched_rps=Reading(minute.arrivals, minute.at) if burst and minute else None,
        )

    def apply(self, decision: Decision) -> None:
        """As the scaler's writes would: what is named drains, orders not filled are taken back, more is ordered."""
        for name, target in decision.targets.items():
            group = self.groups[name]
            for node in group.nodes:
                if node.id in target.take and node.drained_at is None:
                    node.drained_at = self.now
            group.desired = target.desired
            group.weight = target.weight
            if target.on_demand_base is not None:
                group.on_demand_base = target.on_demand_base

    @property
    def full_rps(self) -> float:
        """What the instances that are ready can do."""
        return sum(g.full_rps(self.now) for g in self.groups.values())


def applied(seen: Observation, decision: Decision) -> Observation:
    """The observation as it would be at once after the writes: nothing has booted or drained yet."""
    pools = {}
    for name, view in seen.pools.items():
        target = decision.targets[name]
        instances = tuple(replace(i, phase=Phase.DRAINING) if i.id in target.take else i for i in view.instances)
        base = view.on_demand_base if target.on_demand_base is None else target.on_demand_base
        pools[name] = replace(
            view, desired=target.desired, weight=target.weight, instances=instances, on_demand_base=base
        )
    return replace(seen, pools=pools)


def busier(seen: Observation, factor: float) -> Observation:
    """The same fleet with more to do."""

    def more(reading: Reading | None) -> Reading | None:
        return reading and replace(reading, value=reading.value * factor)

    pools = {
        name: replace(
            view,
            load=more(view.load),
            running=more(view.running),
            waiting=more(view.waiting),
            rate_rps=more(view.rate_rps),
        )
        for name, view in seen.pools.items()
    }
    return replace(
        seen,
        pools=pools,
        arrivals_rps=more(seen.arrivals_rps),
        burst_rps=more(seen.burst_rps),
        engine_rps=more(seen.engine_rps),
        matched_rps=more(seen.matched_rps),
        rejected_rps=more(seen.rejected_rps),
    )
