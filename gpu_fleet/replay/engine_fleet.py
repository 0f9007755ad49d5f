"""The cloud's instances and the simulated engines on them: who serves, who drains, and the bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gpu_fleet.emulator import Change, EmbeddedCloud, InstanceChange
from gpu_fleet.replay.hardware import Hardware, InstanceHardware
from gpu_fleet.scaling.observation import Phase
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.simulated_fleet import Bill, SimulatedInstance
from gpu_fleet.simulator.simulation import Simulation


@dataclass(slots=True)
class RunningInstance:
    """One instance of the cloud."""

    machine: SimulatedInstance
    pool: str
    hardware: InstanceHardware
    engines: set[int] = field(default_factory=set)
    """Numbers of its engines in the simulation that serve or drain."""


class EngineFleet:
    """Keeps the simulation's engines in step with the cloud's instances of one service.

    An engine takes requests from the moment its target is healthy, none from its deregistration on, and ends with its
    instance. Simulation times are seconds from `start` (seconds since the epoch).
    """

    def __init__(self, cloud: EmbeddedCloud, service: Service, groups: Mapping[str, str], hardware: Hardware) -> None:
        """Watch the cloud from now on. `groups` names the Auto Scaling group of each pool."""
        self._cloud, self._hardware = cloud, hardware
        self._index = {pool.name: i for i, pool in enumerate(service.pools)}
        self._pool_of = {group: pool for pool, group in groups.items()}
        self._start = 0.0
        self._simulation: Simulation | None = None
        self._owner: dict[int, RunningInstance] = {}
        self._ended_by: dict[int, Change] = {}
        self._gone: list[tuple[RunningInstance, float]] = []
        self.running: dict[str, RunningInstance] = {}
        """By instance id."""
        self.launches = 0
        self.lost: dict[Change, int] = {}
        """Requests lost, by what ended their instance: `GONE` is a scale-in or an orderly replacement."""
        cloud.watch(self._on_change)

    def begin(self, simulation: Simulation, start: float) -> None:
        """Let the engines serve, and pay for the instances, from now on."""
        self._simulation, self._start = simulation, start
        self.launches = 0
        for instance in self.running.values():
            instance.machine.launched_at = max(0.0, instance.machine.launched_at - start)
            instance.machine.launch_usd = 0.0
            if instance.machine.phase is Phase.READY:
                self._join(instance, None)

    def _on_change(self, change: InstanceChange) -> None:
        pool = self._pool_of.get(change.group)
        if pool is None:
            return
        at = change.at - self._start
        if change.change is Change.LAUNCHED:
            self._launch(pool, change, at)
            return
        instance = self.running[change.instance_id]
        match change.change:
            case Change.HEALTHY:
                instance.machine.phase = Phase.READY
                self._join(instance, at)
            case Change.DRAINING:
                instance.machine.phase = Phase.DRAINING
                for number in instance.engines:
                    self._begun().drain(number, at)
            case Change.UNHEALTHY:
                instance.machine.phase = Phase.UNHEALTHY
                self._kill(instance, at, change.change)
            case Change.GONE | Change.LOST:
                self._kill(instance, at, change.change)
                del self.running[change.instance_id]
                self._gone.append((instance, at))
            case _:
                pass

    def _launch(self, pool: str, change: InstanceChange, at: float) -> None:
        hardware = self._hardware[pool][change.type]
        price = hardware.usd_per_hour(spot=change.spot)
        machine = SimulatedInstance(
            change.instance_id, self._index[pool], change.type, change.zone, change.spot, price, at
        )
        machine.launch_usd = hardware.launch_usd
        self.running[change.instance_id] = RunningInstance(machine, pool, hardware)
        self.launches += 1

    def _begun(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the replay has not begun")
        return self._simulation

    def _join(self, instance: RunningInstance, at: float | None) -> None:
        simulation = self._simulation
        if simulation is None or instance.engines:
            return
        engine = simulation.engines.index(instance.hardware.engine)
        for _ in range(instance.hardware.copies):
            number = simulation.join(instance.machine.pool, at, engine)
            instance.engines.add(number)
            self._owner[number] = instance

    def _kill(self, instance: RunningInstance, at: float, cause: Change) -> None:
        for number in instance.engines:
            self._ended_by[number] = cause
            self._begun().kill(number, at)
        instance.engines.clear()

    def settle(self) -> None:
        """Tell the cloud which instances have drained, so that their termination hooks complete.

        Called every 10 s, which is about the delay of an instance's own agent: it looks every 5 s, and twice.
        """
        for departure in self._begun().departures():
            owner = self._owner.pop(departure.instance)
            if departure.lost:
                cause = self._ended_by.get(departure.instance, Change.LOST)
                self.lost[cause] = self.lost.get(cause, 0) + departure.lost
            owner.engines.discard(departure.instance)
        for id_, instance in list(self.running.items()):
            if instance.machine.phase is Phase.DRAINING and not instance.engines:
                self._cloud.finish_drain(id_)

    def owner(self, number: int) -> RunningInstance | None:
        """Return the instance that an engine of the simulation runs on; None where it is gone."""
        return self._owner.get(number)

    def count(self, pool: str, phase: Phase) -> int:
        """Count a pool's instances in that phase."""
        return self.types(pool, phase).total()

    def types(self, pool: str, *phases: Phase) -> Counter[str]:
        """Count a pool's instances in those phases by type."""
        return Counter(
            instance.machine.type
            for instance in self.running.values()
            if instance.pool == pool and instance.machine.phase in phases
        )

    @property
    def usd_per_hour(self) -> float:
        """Price of all instances that run."""
        return sum(instance.machine.usd_per_hour for instance in self.running.values())

    def bill(self, now: float) -> Bill:
        """Return the bill by pool, as if every instance ended now (seconds from the start)."""
        return self._bill_by(lambda instance: instance.pool, now)

    def gpu_hours(self, now: float) -> float:
        """Return the GPU hours that the same bill pays for."""
        gpus = {type_: one.gpus for types in self._hardware.values() for type_, one in types.items()}
        seconds = self._bill_by(lambda instance: instance.machine.type, now).seconds
        return sum(gpus[type_] * seconds[type_] for type_ in seconds) / 3600

    def _bill_by(self, key: Callable[[RunningInstance], str], now: float) -> Bill:
        bill = Bill()
        for instance, end in [*self._gone, *((instance, now) for instance in self.running.values())]:
            bill.add(key(instance), instance.machine, end)
        return bill
