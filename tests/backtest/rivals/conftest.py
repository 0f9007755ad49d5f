"""A service to scale, observations of it, and a world in which a contender's counts come true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gpu_fleet.backtest.contender import Contender
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Pool, Service


def make_pool(name: str = "l40s", **changes: Any) -> Pool:
    """C = 10 requests, 2 requests a second, $2 an hour."""
    values: dict[str, Any] = {
        "name": name,
        "types": ("g6e.xlarge",),
        "min_instances": 0,
        "max_instances": 30,
        "capacity": 10.0,
        "throughput_rps": 2.0,
        "on_demand_usd_per_hour": 2.0,
    }
    return Pool.model_validate(values | changes)


def make_service(*pools: Pool, **policy: Any) -> Service:
    """With the default policy, one instance at least."""
    return Service(name="chat", policy=Policy.model_validate({"model": "m"} | policy), pools=pools or (make_pool(),))


def make_instance(number: int, phase: Phase = Phase.READY, **changes: Any) -> Instance:
    """One that has been there for ever."""
    values: dict[str, Any] = {"id": f"i-{number}", "type": "g6e.xlarge", "zone": "a", "phase": phase, "since": -1e6}
    return Instance(**(values | changes))


def make_seen(
    now: float,
    *,
    ready: int = 1,
    starting: int = 0,
    draining: int = 0,
    unhealthy: int = 0,
    running: float | None = None,
    waiting: float = 0.0,
    rate: float | None = None,
    desired: int | None = None,
    pool: str = "l40s",
    instances: tuple[Instance, ...] | None = None,
    at: float | None = None,
    **changes: Any,
) -> Observation:
    """One pool as seen at `now`, all readings of this moment unless `at` says otherwise; totals over the pool."""
    at = now if at is None else at
    phases = [Phase.READY] * ready + [Phase.STARTING] * starting
    phases += [Phase.UNHEALTHY] * unhealthy + [Phase.DRAINING] * draining
    standing = tuple(make_instance(i, phase) for i, phase in enumerate(phases)) if instances is None else instances
    seen = PoolObservation(
        desired=sum(i.phase is not Phase.DRAINING for i in standing) if desired is None else desired,
        min_size=0,
        max_size=30,
        weight=100,
        instances=standing,
        running=None if running is None else Reading(running, at),
        waiting=None if running is None else Reading(waiting, at),
        rate_rps=None if rate is None else Reading(rate, at),
        **changes,
    )
    return Observation(pools={pool: seen}, arrivals_rps=None if rate is None else Reading(rate, at))


@dataclass
class World:
    """Instances come `boot_seconds` after they were ordered, and go at once.

    Readings are of this very moment: as of a minute in the middle of which we are.
    """

    service: Service
    requests: Callable[[float, int], float]
    """Requests running and waiting in the whole pool, by time and ready instances."""
    boot_seconds: float = 0.0
    start: int = 1
    pool: str = "l40s"
    changes: list[tuple[float, int]] = field(default_factory=list)

    def play(self, contender: Contender, until: float) -> list[tuple[float, int]]:
        """(time, new desired count) of every change from second 0 on."""
        instances = [make_instance(i) for i in range(self.start)]
        desired, born, now = self.start, self.start, 0.0
        while now <= until:
            instances = [self._aged(instance, now) for instance in instances]
            ready = sum(i.phase is Phase.READY for i in instances)
            load = self.requests(now, ready)
            seen = make_seen(
                now,
                at=now + 30.0,
                running=load,
                rate=load,
                instances=tuple(instances),
                desired=desired,
                pool=self.pool,
            )
            target = contender.decide(self.service, seen, now)[self.pool]
            if target.desired != desired:
                self.changes.append((now, target.desired))
                desired = target.desired
            instances = [i for i in instances if i.id not in target.take]
            while len(instances) < desired:
                instances.append(make_instance(born, Phase.STARTING, since=now))
                born += 1
            now += contender.every_seconds
        return self.changes

    def _aged(self, instance: Instance, now: float) -> Instance:
        if instance.phase is Phase.STARTING and now - instance.since >= self.boot_seconds:
            return make_instance(
                int(instance.id[2:]), Phase.READY, since=instance.since, ready_at=instance.since + self.boot_seconds
            )
        return instance


@dataclass
class Desk:
    """What the tests build with."""

    pool: Callable[..., Pool] = make_pool
    service: Callable[..., Service] = make_service
    seen: Callable[..., Observation] = make_seen
    instance: Callable[..., Instance] = make_instance
    world: Callable[..., World] = World

    def desired(self, contender: Contender, service: Service, seen: Observation, now: float, pool: str = "l40s") -> int:
        """The count decided for one pool."""
        targets: Mapping[str, Any] = contender.decide(service, seen, now)
        return int(targets[pool].desired)


@pytest.fixture(scope="session")
def desk() -> Desk:
    return Desk()
