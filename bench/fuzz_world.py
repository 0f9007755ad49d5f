"""A small fluid world to fuzz the scaling model in, written from what AWS and the engines document.

It shares no code with `gpu_fleet.simulator` or `gpu_fleet.scaling.assembly`: what both misread would go unseen
otherwise. Each tick of ten seconds requests arrive as whole numbers, a batch of b on an instance completes
b / (A + B*b) requests a second (the bent work curve, `gpu_fleet.scaling.profile`), and what is over the instance's
slots waits. What is seen follows the signals' own rules: the load balancer counts by minute and tells late, the engines
count each ten seconds, a group without instances publishes nothing of its engines and has taken no requests.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import CapacityError, Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit
from gpu_fleet.scaling.service import Alternative, Pool, Service
from gpu_fleet.scaling.state import State

TICK_SECONDS = 10
START = 1_700_006_400.0
"""A full hour, so that minutes and ticks end where they do in CloudWatch."""
STEPS = 5
"""Of a tick, in which requests end: 2 s each."""
PATIENCE_SECONDS = 60.0
"""Clients give up after waiting so long."""
DRAIN_SECONDS = 90.0
REPLACE_SECONDS = 300.0
"""A group replaces an instance that has been unhealthy for so long."""
RETRY_SECONDS = 60.0
"""A group tries a failed launch again after a while."""
ERRORS_KEPT_SECONDS = 900.0


@dataclass(frozen=True)
class Event:
    """What goes wrong at a minute, for some minutes."""

    minute: int
    kind: str
    minutes: int = 0
    pool: str = ""
    value: float = 0.0


@dataclass(frozen=True)
class Story:
    """Everything that happens to a service: the same story is always the same run."""

    name: str
    seed: int
    service: Service
    levels: tuple[tuple[int, float], ...]
    """Minutes, and the requests per second that the mean moves to: at once from the second level on."""
    cadence: tuple[int, ...] = (60,)
    """Seconds from one evaluation to the next, in turn; multiples of a tick."""
    dispersion: float = 1.0
    """Variance of a tick's requests over their mean."""
    start: tuple[int, ...] = ()
    """Ready instances by pool."""
    boot_seconds: float = 240.0
    cost: float = 1.0
    """Work of a request, over that of the policy's typical one."""
    answers: int = 1
    """Answers that a request asks for: the engines count each."""
    wave: float = 0.0
    """Amplitude of an hourly wave around the level, as a share of it."""
    balancer_lag_seconds: float = 60.0
    events: tuple[Event, ...] = ()
    history_days: int = 0
    """Days that the first level has lasted before."""

    @property
    def minutes(self) -> int:
        """How long it lasts."""
        return sum(minutes for minutes, _ in self.levels)

    def rps(self, minute: float) -> float:
        """Mean requests per second at a minute."""
        ends = itertools.accumulate(minutes for minutes, _ in self.levels)
        level = next((rps for end, (_, rps) in zip(ends, self.levels, strict=True) if minute < end), self.levels[-1][1])
        return level * (1 + self.wave * float(np.sin(2 * np.pi * minute / 60)))


@dataclass
class Node:
    """One instance."""

    id: str
    kind: Alternative
    zone: str
    launched: float
    ready_at: float
    spot: bool = False
    drained_at: float | None = None
    sick_at: float | None = None

    def phase(self, now: float) -> Phase:
        """Where it stands."""
        if self.drained_at is not None:
            return Phase.DRAINING
        if now < self.ready_at:
            return Phase.STARTING
        return Phase.READY if self.sick_at is None else Phase.UNHEALTHY


def _batch(kind: Alternative) -> float:
    """Requests in service when an instance is full, by Little's law, whatever unit its load is counted in."""
    return kind.throughput_rps * kind.service_seconds


def _slots(kind: Alternative) -> float:
    return kind.slots or _batch(kind)


def _ends_rps(kind: Alternative, batch: float) -> float:
    """Requests that an instance ends per second with so many in service."""
    a = _batch(kind) / (kind.throughput_rps * kind.slowdown)
    b = (kind.slowdown - 1) / (kind.throughput_rps * kind.slowdown)
    return batch / (a + b * batch) if batch > 0 else 0.0


@dataclass
class Fine:
    """What a pool's engines counted in ten seconds."""

    at: float
    running: float
    waiting: float
    ended_rps: float
    publishers: int


@dataclass
class Group:
    """A pool's Auto Scaling group and target group, with the requests inside."""

    pool: Pool
    desired: int
    low: int
    high: int
    weight: int
    base: int
    kind: Alternative
    nodes: list[Node] = field(default_factory=list)
    errors: list[CapacityError] = field(default_factory=list)
    inside: float = 0.0
    taken: int = 0
    tried_at: float = 0.0
    refreshing: bool = False
    fine: deque[Fine] = field(default_factory=lambda: deque(maxlen=30))
    minutes: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=10))

    def those(self, now: float, *phases: Phase) -> list[Node]:
        """Nodes in one of these phases."""
        return [node for node in self.nodes if node.phase(now) in phases]

    def alive(self) -> list[Node]:
        """Nodes that the group counts."""
        return [node for node in self.nodes if node.drained_at is None]

    def full_rps(self, now: float) -> float:
        """What the ready ones end per second at their capacity."""
        return sum(node.kind.throughput_rps for node in self.those(now, Phase.READY))

    def drop(self, node: Node, now: float) -> None:
        """Take the node out, with its share of the requests inside."""
        ready = self.those(now, Phase.READY)
        if node in ready:
            self.inside *= (len(ready) - 1) / len(ready)

    def serve(self, arrived: float, cost: float, now: float, rng: np.random.Generator) -> None:
        """Ten seconds of requests, each of the work of `cost` typical ones."""
        ready = self.those(now, Phase.READY)
        before, ended, running = self.inside, 0.0, 0.0
        if ready:
            kinds = {node.kind.types: node.kind for node in ready}
            alike = [(kinds[types], count) for types, count in Counter(node.kind.types for node in ready).items()]
            slots = sum(count * _slots(kind) for kind, count in alike)

            def ends_rps(each: float) -> float:
                return sum(count * _ends_rps(kind, min(each, _slots(kind))) / cost for kind, count in alike)

            part, seconds = arrived / STEPS, TICK_SECONDS / STEPS
            for step in range(STEPS):  # by the midpoint rule
                inside = before + part * step - ended
                middle = inside + (part - seconds * ends_rps(inside / len(ready))) / 2
                ended += min(inside + part, seconds * ends_rps(max(0.0, middle) / len(ready)))
            ended = float(min(before + arrived, rng.poisson(max(0.0, ended))))
            self.inside = min(before + arrived - ended, slots + ends_rps(math.inf) * PATIENCE_SECONDS)
            running = min(self.inside, slots)
        else:
            self.inside = 0.0
        self.fine.append(Fine(now, running, self.inside - running, ended / TICK_SECONDS, len(ready)))


class World:
    """The service's groups, its clients, and what goes wrong between them."""

    def __init__(self, story: Story) -> None:
        self.story, self.now, self.service = story, START, story.service
        self.traffic, self.noise = (np.random.default_rng((story.seed, n)) for n in (1, 2))
        self._ids = itertools.count()
        self.usd = 0.0
        self.history: list[Reading] = []
        self.missing: set[str] = set()
        self.zeros: set[str] = set()
        self.dry: set[str] = set()
        self.spot_dry = False
        self.shut: set[str] = set()
        """Groups that launch nothing, without an error of capacity."""
        self.rejected: deque[tuple[float, float]] = deque(maxlen=10)
        self._turned_away = 0.0
        self._five: list[float] = []
        self.groups: dict[str, Group] = {}
        for pool, count in zip(self.service.pools, story.start, strict=True):
            group = Group(pool, count, pool.min_instances, pool.max_instances, 0, pool.on_demand_base, pool)
            group.nodes = [
                Node(
                    f"i-{next(self._ids)}",
                    pool,
                    (pool.zones or ("a", "b"))[n % max(1, len(pool.zones or "ab"))],
                    START - 7200,
                    START - 7000,
                )
                for n in range(count)
            ]
            self.groups[pool.name] = group
        total = sum(g.full_rps(START) for g in self.groups.values())
        for group in self.groups.values():
            group.weight = round(999 * group.full_rps(START) / total) if total else 0
        days = range(story.history_days * 288, 0, -1)
        self.history = [Reading(story.rps(0), START - 300.0 * n) for n in days]
        for _ in range(30):  # five minutes of traffic before the first look
            self._tick()

    # What happens

    def advance(self, seconds: int) -> None:
        """Let time pass."""
        for _ in range(seconds // TICK_SECONDS):
            self._tick()

    def _tick(self) -> None:
        self.now += TICK_SECONDS
        now = self.now
        for group in self.groups.values():
            self._end_and_launch(group)
            self.usd += len(group.nodes) * group.pool.usd_per_hour * TICK_SECONDS / 3600
        arrived = self._arrivals(self.story.rps(max(0.0, now - START - 300 + TICK_SECONDS / 2) / 60) * TICK_SECONDS)
        weights = np.array([group.weight for group in self.groups.values()], float)
        shares = weights / weights.sum() if weights.sum() > 0 else np.zeros(len(weights))
        split = self.noise.multinomial(arrived, shares) if shares.sum() > 0 else np.zeros(len(weights), int)
        self._turned_away += arrived - int(split.sum())
        for group, count in zip(self.groups.values(), split, strict=True):
            if group.those(now, Phase.READY):
                group.taken += int(count)
                group.serve(int(count) * self.story.answers, self.story.cost, now, self.noise)
            else:
                self._turned_away += int(count)
                group.serve(0, self.story.cost, now, self.noise)
        self._five.append(arrived)
        if now % 60 == 0:
            for group in self.groups.values():
                group.minutes.append((now, group.taken / 60))
                group.taken = 0
            self.rejected.append((now, self._turned_away / 60))
            self._turned_away = 0.0
        if now % 300 == 0:
            self.history.append(Reading(sum(self._five) / 300, now))
            self._five = []

    def _arrivals(self, mean: float) -> int:
        if mean <= 0:
            return 0
        if self.story.dispersion <= 1:
            return int(self.traffic.poisson(mean))
        over = self.story.dispersion - 1  # a Poisson count with a gamma mean: variance = mean * dispersion
        return int(self.traffic.poisson(self.traffic.gamma(mean / over, over)))

    def _end_and_launch(self, group: Group) -> None:
        now = self.now
        for node in group.alive():
            if node.sick_at is not None and now - node.sick_at > REPLACE_SECONDS:
                node.drained_at = now
        group.nodes = [n for n in group.nodes if n.drained_at is None or now - n.drained_at < DRAIN_SECONDS]
        group.errors = [e for e in group.errors if now - e.at < ERRORS_KEPT_SECONDS]
        surge = 1 if group.refreshing else 0
        for node in group.alive()[max(group.desired, 0) + surge :]:  # somebody lowered the count by hand
            group.drop(node, now)
            node.drained_at = now
        if group.refreshing:
            self._refresh(group)
        if len(group.alive()) < group.desired and now - group.tried_at >= RETRY_SECONDS:
            self._launch(group, group.desired - len(group.alive()))

    def _launch(self, group: Group, count: int) -> None:
        for _ in range(count):
            zones = sorted(group.pool.zones or ("a", "b"), key=lambda z: sum(n.zone == z for n in group.alive()))
            spot = group.pool.spot_percent > 0 and self._next_is_spot(group)
            open_zones = [zone for zone in zones if zone not in self.dry and not (spot and self.spot_dry)]
            if group.pool.name in self.shut or not open_zones:
                group.tried_at = self.now
                if group.pool.name not in self.shut:
                    group.errors += [CapacityError(zone, self.now, spot=spot) for zone in zones]
                return
            boot = self.story.boot_seconds * (0.9 + 0.2 * self.noise.random())
            node = Node(f"i-{next(self._ids)}", group.kind, open_zones[0], self.now, self.now + boot, spot)
            group.nodes.append(node)

    def _next_is_spot(self, group: Group) -> bool:
        standing = group.alive()
        above = len(standing) + 1 - group.base
        return above > 0 and sum(n.spot for n in standing) < above * group.pool.spot_percent / 100

    def _refresh(self, group: Group) -> None:
        """Roll the new types through, one after another: the new one first."""
        old = [node for node in group.alive() if node.kind.types != group.kind.types]
        starting = group.those(self.now, Phase.STARTING)
        if not old:
            group.refreshing = False
        elif len(group.alive()) > group.desired and not starting:
            group.drop(old[0], self.now)
            old[0].drained_at = self.now
        elif len(group.alive()) <= group.desired and not starting:
            self._launch(group, 1)

    # What is seen and done

    def observe(self, state: State) -> Observation:
        """What the scaler would read now."""
        rates = {name: self._rate(group) for name, group in self.groups.items()}
        pools = {name: self._pool(group, rates[name], state) for name, group in self.groups.items()}
        known = [rate for rate in rates.values() if rate is not None]
        arrivals = None
        if len(known) == len(rates):
            arrivals = Reading(sum(rate.value for rate in known), min(rate.at for rate in known))
        turned_away = self._told(self.rejected)
        return Observation(
            pools=pools,
            arrivals_rps=self._maybe("arrivals", arrivals),
            burst_rps=self._maybe("burst", self._burst()),
            rejected_rps=self._maybe("rejected", turned_away),
            history_rps=tuple(self.history[-14 * 288 :]) if state.wants_history else (),
        )

    def _told(self, minutes: Sequence[tuple[float, float]]) -> Reading | None:
        told = [Reading(value, at) for at, value in minutes if at <= self.now - self.story.balancer_lag_seconds]
        return told[-1] if told else None

    def _maybe(self, name: str, reading: Reading | None) -> Reading | None:
        if name in self.missing or reading is None:
            return None
        return replace(reading, value=0.0) if name in self.zeros else reading

    def _rate(self, group: Group) -> Reading | None:
        return self._maybe("rates", self._told(group.minutes))

    def _minute(self, group: Group, value: Callable[[Fine], float]) -> Reading | None:
        """Sum over the instances, the mean of the newest minute's ten seconds."""
        recent = [fine for fine in group.fine if fine.at > self.now - 70 and fine.at <= self.now - TICK_SECONDS]
        if not recent:
            return None
        return Reading(sum(value(fine) for fine in recent) / len(recent), recent[-1].at)

    def _pool(self, group: Group, rate: Reading | None, state: State) -> PoolObservation:
        running = self._maybe("load", self._minute(group, lambda fine: fine.running))
        waiting = self._maybe("load", self._minute(group, lambda fine: fine.waiting))
        load = rate
        if self.service.policy.load.unit is LoadUnit.CONCURRENCY:
            load = Reading(running.value + waiting.value, running.at) if running and waiting else None
        full = group.full_rps(self.now)
        wait = waiting.value / full if waiting and full else 0.0
        ready = group.those(self.now, Phase.READY)
        slots = sum(_slots(node.kind) for node in ready)
        busy = self._minute(group, lambda fine: fine.ended_rps)
        gpu = Reading(min(100.0, 100 * busy.value * self.story.cost / full), busy.at) if busy and full else None
        cache = Reading(100 * running.value / slots, running.at) if running and slots else None
        first = group.pool.first_token_seconds + wait
        at = self.now - TICK_SECONDS
        return PoolObservation(
            desired=group.desired,
            min_size=group.low,
            max_size=group.high,
            weight=group.weight,
            instances=tuple(self._instance(n, group, state) for n in group.nodes),
            on_demand_base=group.base if group.pool.spot_percent else None,
            load=load,
            running=running,
            waiting=waiting,
            rate_rps=rate,
            response_time_seconds=Reading(first, at) if ready and "load" not in self.missing else None,
            ttft_seconds=Reading(first, at) if ready and "load" not in self.missing else None,
            cpu_percent=Reading(35.0, at) if ready else None,
            gpu_percent=self._maybe("load", gpu),
            kv_cache_percent=self._maybe("load", cache),
            network_latency_seconds=Reading(0.02, at) if ready else None,
            capacity_errors=tuple(group.errors),
            refreshing=group.refreshing,
            types=group.kind.types,
        )

    def _instance(self, node: Node, group: Group, state: State) -> Instance:
        phase = node.phase(self.now)
        load = None
        if state.wants_instance_loads and phase is Phase.READY and "own" not in self.missing:
            each = group.inside / max(1, len(group.those(self.now, Phase.READY)))
            load = Reading(each * (0.9 + 0.05 * (int(node.id[2:]) % 5)), self.now - TICK_SECONDS)
        ready_at = node.ready_at if phase is not Phase.STARTING else None
        return Instance(
            node.id, node.kind.types[0], node.zone, phase, node.launched, spot=node.spot, ready_at=ready_at, load=load
        )

    def _burst(self) -> Reading | None:
        """What ended in the newest ten seconds, and what piled up meanwhile: the engines count no arrivals."""
        ended, change, at = 0.0, 0.0, 0.0
        for group in self.groups.values():
            known = [fine for fine in group.fine if fine.at <= self.now - TICK_SECONDS]
            if len(known) < 2:
                return None
            before, last = known[-2:]
            if before.publishers != last.publishers:
                return None
            ended += last.ended_rps
            change += last.running + last.waiting - before.running - before.waiting
            at = last.at
        return Reading(max(0.0, ended + change / TICK_SECONDS), at)

    def apply(self, decision: Decision) -> None:
        """As the scaler's writes would: what is named drains, counts and weights are set."""
        for name, target in decision.targets.items():
            group = self.groups[name]
            for node in group.alive():
                if node.id in target.take:
                    group.drop(node, self.now)
                    node.drained_at = self.now
            group.desired, group.weight = target.desired, target.weight
            group.base = group.base if target.on_demand_base is None else target.on_demand_base
        if decision.refresh is not None:
            group = self.groups[decision.refresh.pool]
            kinds: tuple[Alternative, ...] = (group.pool, *group.pool.alternatives)
            group.kind = next(kind for kind in kinds if kind.types == decision.refresh.types)
            group.refreshing = True

    @property
    def ready_rps(self) -> float:
        """What the ready instances complete at their capacity."""
        return sum(group.full_rps(self.now) for group in self.groups.values())
