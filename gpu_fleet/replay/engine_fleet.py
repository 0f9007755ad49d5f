"""The cloud's instances and the engines that run on them: who serves, who drains, what it all costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpu_fleet.emulator import Change, EmbeddedCloud, InstanceChange
from gpu_fleet.replay.hardware import PoolHardware
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.simulated_fleet import Bill, SimulatedGroup, SimulatedInstance
from gpu_fleet.simulator.simulation import Simulation


@dataclass(slots=True)
class RunningInstance:
    """One instance of the cloud."""

    machine: SimulatedInstance
    pool: str
    engines: set[int] = field(default_factory=set)
    """Numbers in the simulation of those that serve or drain."""


class EngineFleet:
    """Keeps the simulation's engines in step with the cloud's instances of one service.

    An engine takes requests from the moment its target is healthy, none from its deregistration on, and is gone when
    the instance is. Times of the simulation are seconds from `start` (seconds since the epoch).
    """

    def __init__(
        self, cloud: EmbeddedCloud, service: Service, groups: Mapping[str, str], hardware: Mapping[str, PoolHardware]
    ) -> None:
        """`groups`: the Auto Scaling group of each pool. Watches from now on."""
        self._cloud, self._hardware = cloud, hardware
        self._index = {pool.name: i for i, pool in enumerate(service.pools)}
        self._groups = {pool.name: SimulatedGroup(pool) for pool in service.pools}
        self._pool_of = {group: pool for pool, group in groups.items()}
        self._start = 0.0
        self._simulation: Simulation | None = None
        self._owner: dict[int, str] = {}
        self._ended_by: dict[int, Change] = {}
        self._bill = Bill()
        self.standing: dict[str, RunningInstance] = {}
        """By instance id."""
        self.launches = 0
        self.lost: dict[Change, int] = {}
        """Requests lost, by what befell their instance: `GONE` is a scale-in or a replacement in order."""
        cloud.watch(self._see)

    def begin(self, simulation: Simulation, start: float) -> None:
        """From here on engines serve and instances are paid for."""
        self._simulation, self._start = simulation, start
        self.launches = 0
        for one in self.standing.values():
            one.machine.launched_at = max(0.0, one.machine.launched_at - start)
            if one.machine.phase is Phase.READY:
                self._join(one, None)

    def _see(self, change: InstanceChange) -> None:
        pool = self._pool_of.get(change.group)
        if pool is None:
            return
        at = change.at - self._start
        if change.change is Change.LAUNCHED:
            price = self._hardware[pool].usd_per_hour(change.type, spot=change.spot)
            machine = SimulatedInstance(
                change.instance_id, self._index[pool], change.type, change.zone, change.spot, price, at
            )
            self.standing[change.instance_id] = RunningInstance(machine, pool)
            self._groups[pool].machines[change.instance_id] = machine
            self.launches += 1
            return
        one = self.standing[change.instance_id]
        match change.change:
            case Change.HEALTHY:
                one.machine.phase = Phase.READY
                self._join(one, at)
            case Change.DRAINING:
                one.machine.phase = Phase.DRAINING
                for number in one.engines:
                    self._served().drain(number, at)
            case Change.UNHEALTHY:
                one.machine.phase = Phase.UNHEALTHY
                self._kill(one, at, change.change)
            case Change.GONE | Change.LOST:
                self._kill(one, at, change.change)
                del self.standing[change.instance_id]
                del self._groups[one.pool].machines[change.instance_id]
                self._bill.add(one.pool, one.machine, at)
            case _:
                pass

    def _served(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the replay has not begun")
        return self._simulation

    def _join(self, one: RunningInstance, at: float | None) -> None:
        if self._simulation is None or one.engines:
            return
        for _ in range(self._hardware[one.pool].copies):
            number = self._simulation.join(one.machine.pool, at)
            one.engines.add(number)
            self._owner[number] = one.machine.id

    def _kill(self, one: RunningInstance, at: float, why: Change) -> None:
        for number in one.engines:
            self._ended_by[number] = why
            self._served().kill(number, at)
        one.engines.clear()

    def settle(self) -> None:
        """What ended in the simulation ends in the cloud: an instance that has drained completes its hook.

        Asked every 10 s, which is about what an instance's own agent takes: it looks every 5 s, and twice.
        """
        for departure in self._served().departures():
            owner = self._owner.pop(departure.instance)
            if departure.lost:
                why = self._ended_by.get(departure.instance, Change.LOST)
                self.lost[why] = self.lost.get(why, 0) + departure.lost
            if owner in self.standing:
                self.standing[owner].engines.discard(departure.instance)
        for id_, one in list(self.standing.items()):
            if one.machine.phase is Phase.DRAINING and not one.engines:
                self._cloud.finish_drain(id_)

    def owner(self, number: int) -> str | None:
        """The instance that an engine of the simulation runs on; None where it is gone."""
        return self._owner.get(number)

    def count(self, pool: str, phase: Phase) -> int:
        """Instances of a pool in that phase."""
        return self._groups[pool].count(phase)

    @property
    def usd_per_hour(self) -> float:
        """Of all that stands."""
        return sum(one.machine.usd_per_hour for one in self.standing.values())

    def bill(self, now: float) -> Bill:
        """As if everything ended now (seconds from the start)."""
        return self._bill.with_machines(self._groups, now)
