"""What Auto Scaling does with desired counts: machines launch, boot, serve, fail, drain and leave, on virtual time.

Times are in seconds from the start of the run.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.hashing import digit_weights
from gpu_fleet.scaling.observation import Phase, Reading
from gpu_fleet.scaling.policy import MAX_WEIGHT, RoutingStrategy
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.simulated_fleet import (
    RETRY_SECONDS,
    SPOT_NOTICE_SECONDS,
    Bill,
    MachineModel,
    Market,
    SimulatedGroup,
    SimulatedInstance,
)
from gpu_fleet.simulator.simulation import Departure, Simulation


@dataclass(slots=True)
class FleetEvents:
    """Events since the start of the run."""

    scale_events: int = 0
    """Changes of a pool's desired count."""
    launches: int = 0
    failed_launches: int = 0
    interruptions: int = 0
    failures: int = 0


class FleetLifecycle:
    """The groups of a service and their machines, each serving as an instance of the simulation.

    `epoch` is the start of the run in seconds since the epoch.
    """

    def __init__(
        self, service: Service, simulation: Simulation, model: MachineModel, random: np.random.Generator, epoch: float
    ) -> None:
        self._service, self._simulation, self._epoch = service, simulation, epoch
        self._detection_seconds = model.faults.detection_seconds
        self._market = Market(model, random)
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._machine_of_instance: dict[int, SimulatedInstance] = {}
        self._bill = Bill()
        self.events = FleetEvents()
        self.groups = {pool.name: SimulatedGroup(pool, on_demand_base=pool.on_demand_base) for pool in service.pools}

    # --- time ---

    @property
    def next_timer(self) -> float:
        """Time of the next boot, fault or retry; infinity if none is due."""
        return self._timers[0][0] if self._timers else np.inf

    def run_timers(self, until: float) -> None:
        """Let every boot, fault and retry up to `until` happen."""
        while self._timers and self._timers[0][0] <= until:
            heapq.heappop(self._timers)[2]()

    def remove_departed(self, departures: Iterable[Departure]) -> None:
        """Terminate the machines of drained instances that the simulation has let go."""
        for departure in departures:
            machine = self._machine_of_instance.pop(departure.instance)
            machine.number = None
            if machine.phase is Phase.DRAINING:
                self._terminate(machine, departure.at)

    def bill(self, now: float) -> Bill:
        """Return the bill as if every machine ended at `now`."""
        return self._bill.with_machines(self.groups, now)

    def _at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time, next(self._order), action))

    # --- commands ---

    def start(self, initial: Mapping[str, int] | None, weights: Mapping[str, int] | None) -> None:
        """Start with ready instances: `initial` by pool (None: each pool's minimum), sharing traffic by `weights`.

        Default weights are in proportion to what each pool's instances complete. Raises ValueError for a count that
        the pool does not allow.
        """
        for index, (name, group) in enumerate(self.groups.items()):
            pool = group.pool
            count = (initial or {}).get(name, pool.min_instances if initial is None else 0)
            if not 0 <= count <= pool.max_instances:
                raise ValueError(f"initial.{name}: must be from 0 to {pool.max_instances} (got {count})")
            group.desired = count
            for _ in range(count):
                machine = self._market.machine(group, index, group.zones_by_count()[0], 0.0, spot=group.wants_spot())
                group.machines[machine.id] = machine
                self._serve(machine)
        if weights is None:
            weights = self._weights_by_throughput()
        for name, group in self.groups.items():
            group.weight = weights.get(name, 0)
        self._send_weights()

    def apply(self, targets: Mapping[str, PoolTarget]) -> None:
        """Set counts and weights; see `World.apply`."""
        self._check(targets)
        for name, target in targets.items():
            group = self.groups[name]
            group.weight = target.weight
            if target.on_demand_base is not None:
                group.on_demand_base = target.on_demand_base
            self.events.scale_events += target.desired != group.desired
            group.desired = target.desired
            self._scale_in(group, take=target.take, protect=target.protect)
            self._fill(group)
        self._send_weights()

    def _check(self, targets: Mapping[str, PoolTarget]) -> None:
        for name, target in targets.items():
            if name not in self.groups:
                raise ValueError(f"targets: must name pools of the service ({', '.join(self.groups)}) (got {name})")
            pool = self.groups[name].pool
            if not pool.min_instances <= target.desired <= pool.max_instances:
                raise ValueError(
                    f"targets.{name}.desired: must be from {pool.min_instances} to {pool.max_instances} "
                    f"(got {target.desired})"
                )
            if not 0 <= target.weight <= MAX_WEIGHT:
                raise ValueError(f"targets.{name}.weight: must be from 0 to {MAX_WEIGHT} (got {target.weight})")

    def _scale_in(self, group: SimulatedGroup, *, take: Sequence[str], protect: Sequence[str]) -> None:
        """Release the named instances, then the newest unprotected ones above the desired count."""
        for id_ in take:
            if id_ in group.machines:
                self._release(group.machines[id_])
        newest_first = [machine for machine in reversed(group.not_draining()) if machine.id not in protect]
        for machine in newest_first[: max(0, len(group.not_draining()) - group.desired)]:
            self._release(machine)

    def _weights_by_throughput(self) -> dict[str, int]:
        work = {name: group.desired * group.pool.throughput_rps for name, group in self.groups.items()}
        most = max(work.values())
        return {name: round(100 * value / most) if most > 0 else 100 for name, value in work.items()}

    def _send_weights(self) -> None:
        weights = {name: group.weight for name, group in self.groups.items()}
        self._simulation.set_weights([float(weight) for weight in weights.values()])
        if self._service.policy.routing.strategy is RoutingStrategy.HASH:
            self._simulation.set_hash_weights([list(one.values()) for one in digit_weights(weights)])

    # --- launches ---

    def _fill(self, group: SimulatedGroup) -> None:
        """Launch the missing machines; if AWS has no capacity, try again later."""
        index = list(self.groups.values()).index(group)
        now = self._simulation.now
        while len(group.not_draining()) < group.desired:
            machine = self._market.launch(group, index, now, self._epoch)
            if machine is None:
                if not group.retry_due:
                    group.retry_due = True
                    self._at(now + RETRY_SECONDS, lambda: self._retry(group))
                return
            self.events.launches += 1
            group.machines[machine.id] = machine
            seconds, serves = self._market.boot(group)
            end = self._finish_boot if serves else self._give_up
            self._at(now + seconds, lambda machine=machine, end=end: end(machine))

    def _retry(self, group: SimulatedGroup) -> None:
        group.retry_due = False
        self._fill(group)

    def _finish_boot(self, machine: SimulatedInstance) -> None:
        if self._exists(machine):
            machine.ready_at = self._epoch + self._simulation.now
            group = self._group(machine)
            phases = self._market.phases(group, self._simulation.now - machine.launched_at)
            group.booted = {phase: Reading(seconds, machine.ready_at) for phase, seconds in phases.items()}
            self._serve(machine)

    def _give_up(self, machine: SimulatedInstance) -> None:
        """Replace a machine that never became healthy."""
        if self._exists(machine):
            self.events.failed_launches += 1
            self._replace(machine)

    def _serve(self, machine: SimulatedInstance) -> None:
        machine.phase = Phase.READY
        machine.number = self._simulation.join(machine.pool)
        self._machine_of_instance[machine.number] = machine
        now = self._simulation.now
        for seconds, fails in self._market.faults_of(machine):
            if fails:
                self._at(now + seconds, lambda: self._fail(machine))
            else:
                self._at(now + seconds, lambda: self._interrupt(machine))

    # --- ends ---

    def _interrupt(self, machine: SimulatedInstance) -> None:
        """Handle the two-minute notice: the machine drains and its replacement is launched."""
        if machine.phase is Phase.READY and self._exists(machine):
            self.events.interruptions += 1
            self._drain(machine, SPOT_NOTICE_SECONDS)
            self._fill(self._group(machine))

    def _fail(self, machine: SimulatedInstance) -> None:
        if machine.phase is Phase.READY and self._exists(machine) and machine.number is not None:
            self.events.failures += 1
            machine.phase = Phase.UNHEALTHY
            self._simulation.kill(machine.number)
            self._at(self._simulation.now + self._detection_seconds, lambda: self._replace(machine))

    def _replace(self, machine: SimulatedInstance) -> None:
        if self._exists(machine):
            self._terminate(machine, self._simulation.now)
            self._fill(self._group(machine))

    def _release(self, machine: SimulatedInstance) -> None:
        """Scale in: a ready machine drains, any other terminates at once."""
        if machine.phase is Phase.READY:
            self._drain(machine, self._service.policy.horizontal.busy_max_drain_seconds)
        elif machine.phase is not Phase.DRAINING:
            self._terminate(machine, self._simulation.now)

    def _drain(self, machine: SimulatedInstance, seconds: float) -> None:
        machine.phase = Phase.DRAINING
        if machine.number is not None:
            self._simulation.drain(machine.number, deadline=self._simulation.now + seconds)

    def _terminate(self, machine: SimulatedInstance, at: float) -> None:
        group = self._group(machine)
        del group.machines[machine.id]
        self._bill.add(group.pool.name, machine, at)

    def _group(self, machine: SimulatedInstance) -> SimulatedGroup:
        return self.groups[self._service.pools[machine.pool].name]

    def _exists(self, machine: SimulatedInstance) -> bool:
        return machine.id in self._group(machine).machines
