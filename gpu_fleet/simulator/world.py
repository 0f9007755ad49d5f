"""A simulated service: traffic, machines and CloudWatch's view of them, on virtual time, without AWS.

    world = World(service, trace, profiles, initial={"l4": 4})
    while world.now < world.ends:
        world.run(world.now + 60)
        world.apply(decide(world.observe(world.now)), world.now)

Public times are in seconds since the epoch; the run starts at `start`, which is the trace's second 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpu_fleet.config.engines import QueueOption
from gpu_fleet.config.queue_options import counted
from gpu_fleet.config.settings import Algorithm
from gpu_fleet.scaling.assembly import assemble
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.queue_limit import queue_limit
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator import published
from gpu_fleet.simulator.client_affinity import Affinity, ClientPopulation
from gpu_fleet.simulator.feed import Feed, Source
from gpu_fleet.simulator.fleet_lifecycle import FleetLifecycle
from gpu_fleet.simulator.pool_window import Window
from gpu_fleet.simulator.simulated_fleet import MachineModel, SimulatedGroup
from gpu_fleet.simulator.simulation import Engine, Simulation, SimulationOptions, TargetChoice
from gpu_fleet.simulator.telemetry import FINE_SECONDS, MINUTE_SECONDS, Delays, Minute, Sample, Telemetry

START = 1_700_006_400.0
"""A Wednesday's midnight (15 November 2023, UTC): the default start of a run."""


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """Settings that most runs leave alone."""

    seed: int = 0
    """Draws the requests of a source that knows only rates."""
    world_seed: int | None = None
    """Draws boots, faults and routing; None: `seed`."""
    start: float = START
    """Start of the run, a whole minute in seconds since the epoch."""
    clients: ClientPopulation = field(default_factory=ClientPopulation)
    """Who sends the requests. Matters only for the strategies `sticky` and `hash`."""
    algorithm: Algorithm = Algorithm.LEAST_OUTSTANDING_REQUESTS
    """How an instance of a pool is chosen."""
    queue_options: Sequence[QueueOption] = (QueueOption.VLLM_REQUESTS, QueueOption.VLLM_TOKENS)
    """What the engines count, where the policy lets them refuse."""
    initial_weights: Mapping[str, int] | None = None
    """Weights at the start, by pool; None: in proportion to what each pool's instances complete."""
    delays: Delays = field(default_factory=Delays)
    keep_minutes: bool = True
    """Keep one `MinuteOfWorld` a minute."""

    def __post_init__(self) -> None:
        if self.start % MINUTE_SECONDS != 0:
            raise ValueError(f"start: must be a whole minute, as CloudWatch's periods are (got {self.start})")


@dataclass(frozen=True, slots=True)
class Totals:
    """Figures of the whole run so far."""

    window: Window
    usd: Mapping[str, float]
    """By pool, with the launches, as if all machines ended now."""
    launch_usd: float
    """Of that, what launches cost beside the machines' hours."""
    machine_seconds: Mapping[str, float]
    """Billed time by pool."""
    gpu_hours: float
    scale_events: int
    """Changes of a pool's desired count."""
    launches: int
    failed_launches: int
    capacity_errors: int
    interruptions: int
    failures: int

    @property
    def cost_usd(self) -> float:
        """Cost of all pools."""
        return sum(self.usd.values())


@dataclass(frozen=True, slots=True)
class MinuteOfPool:
    """One pool at the end of a minute."""

    desired: int
    ready: int
    starting: int
    draining: int
    weight: int


@dataclass(frozen=True, slots=True)
class MinuteOfWorld:
    """One minute of a timeline."""

    at: float
    """Its end, seconds since the epoch."""
    arrivals: int
    ended: int
    attained: int
    rejected: int
    lost: int
    running: float
    waiting: float
    ttft_p95_seconds: float | None
    usd_per_hour: float
    """Price of the machines at its end."""
    pools: tuple[MinuteOfPool, ...]


class World:
    """A service under traffic. The same arguments always give the same run.

    `source` is the traffic. `profiles` says, by pool, how fast an instance serves. `initial` is the number of ready
    instances by pool at the start, so that compared rules start alike (default: each pool's minimum).

    Raises ValueError for arguments that do not fit together.
    """

    def __init__(
        self,
        service: Service,
        source: Source,
        profiles: Mapping[str, Profile],
        *,
        initial: Mapping[str, int] | None = None,
        machines: MachineModel | None = None,
        options: WorldOptions | None = None,
    ) -> None:
        machines, options = machines or MachineModel(), options or WorldOptions()
        _check(service, profiles, initial, machines, options)
        seed = options.seed if options.world_seed is None else options.world_seed
        self.service, self.start = service, options.start
        self.ends = options.start + source.span_seconds
        self._gpus = machines.gpus
        self.simulation = Simulation(
            [_engine(service, profiles[pool.name], options.queue_options) for pool in service.pools],
            slo=service.policy.slo,
            seed=seed,
            sample_seconds=FINE_SECONDS,
            options=SimulationOptions(
                affinity=Affinity.of(service.policy.routing, options.clients),
                target_choice=TargetChoice.of(options.algorithm),
            ),
        )
        self._feed = Feed(source, options.seed)
        self._telemetry = Telemetry(
            options.delays,
            [(self.start + begin, self.start + end) for begin, end in machines.faults.metric_gaps],
            service.policy.forecast.history_days,
            service.policy.load.stale_after_seconds,
        )
        random = np.random.default_rng(np.random.SeedSequence((seed, 7)))
        self._fleet = FleetLifecycle(service, self.simulation, machines, random, self.start)
        self.groups = self._fleet.groups
        self._fleet.start(initial, options.initial_weights)
        self._minutes_done = 0
        self._minute: Window | None = None
        self._total: Window | None = None
        self.minutes: list[MinuteOfWorld] | None = [] if options.keep_minutes else None
        """One entry a minute; None if they are not kept."""

    # --- time ---

    @property
    def now(self) -> float:
        """The time reached, seconds since the epoch."""
        return self.start + self.simulation.now

    def run(self, until: float) -> Window:
        """Let everything before `until` (seconds since the epoch) happen, and return the window since the last call.

        Raises ValueError for a time in the past.
        """
        end = until - self.start
        if end < self.simulation.now:
            raise ValueError(f"until: must not be before {self.now} (got {until})")
        parts: list[Window] = []
        while self.simulation.now < end:
            tick = (self._minutes_done + 1) * MINUTE_SECONDS
            part = self._minutes_done * MINUTE_SECONDS + self._telemetry.part_seconds
            if not self._telemetry.part_seconds or part <= self.simulation.now:
                part = np.inf
            edge = min(end, tick, part, self._fleet.next_timer)
            self._serve(edge)
            self._fleet.run_timers(edge)
            if edge == part:
                self._telemetry.see_part(Minute(self.start + tick, self._take_window(parts), ()))
            if edge == tick:
                self._minutes_done += 1
                self._end_minute(edge, self._take_window(parts))
        if not parts or parts[-1].end < self.simulation.now:
            self._take_window(parts)
        window = parts[0]
        for part in parts[1:]:
            window = window.then(part)
        return window

    def finish(self, within_seconds: float = 3600.0) -> None:
        """Let the requests in flight end on the present fleet, with no new arrivals and at no further cost.

        Requests that have not ended after `within_seconds` count as lost.
        """
        seconds = 0.0
        if self.now >= self.ends:
            # A trace often ends with its last request, which `run` up to its end leaves out.
            self._serve(float(np.nextafter(self.simulation.now, np.inf)))
        while self.simulation.in_flight and seconds < within_seconds:
            step = min(MINUTE_SECONDS, within_seconds - seconds)
            self.simulation.run(self.simulation.now + step)
            seconds += step
        for number, _ in list(self.simulation.loads()):
            self.simulation.kill(number)
        self._take_window([])

    def _serve(self, edge: float) -> None:
        """Run the simulation up to `edge` with the trace's requests."""
        self.simulation.run(edge, *self._feed.take(edge))
        for gauges in self.simulation.samples():
            self._telemetry.see_sample(Sample(self.start + gauges.at, gauges))
        self._fleet.remove_departed(self.simulation.departures())

    def _take_window(self, parts: list[Window]) -> Window:
        """Append the window since the last one to `parts`; return the minute so far."""
        window = self.simulation.window()
        parts.append(window)
        self._minute = window if self._minute is None else self._minute.then(window)
        self._total = window if self._total is None else self._total.then(window)
        return self._minute

    def _end_minute(self, edge: float, window: Window) -> None:
        self._minute = None
        at = self.start + edge
        registered = [
            bool(pool.target_seconds or group.count(Phase.UNHEALTHY))
            for pool, group in zip(window.pools, self.groups.values(), strict=True)
        ]
        self._telemetry.see_minute(Minute(at, window, tuple(registered)))
        if self.minutes is not None:
            self.minutes.append(_minute_of_world(at, window, list(self.groups.values())))

    # --- the scaler's calls ---

    def apply(self, targets: Mapping[str, PoolTarget], now: float) -> None:
        """Set counts and weights as the scaler's calls do: named instances leave first, then the newest.

        Pools without a target stay as they are. Raises ValueError, changing nothing, for an unknown pool and for a
        count or weight that AWS would refuse.
        """
        self._must_be_now(now)
        self._fleet.apply(targets)

    def _must_be_now(self, now: float) -> None:
        # The sum of an epoch and a fraction of a second is rounded.
        if abs(now - self.now) > 1e-3:
            raise ValueError(f"now: must be the time that the world has reached, {self.now} (got {now})")

    # --- what the scaler sees ---

    def observe(self, now: float, *, history: bool = False, instance_loads: bool = False) -> Observation:
        """What the scaler would see at this time: the groups as they are, the metrics as late as they come.

        `history` and `instance_loads` bring what is read only when it is wanted (`State.wants_history`,
        `State.wants_instance_loads`).
        """
        self._must_be_now(now)
        series = published.series(
            self.service, self.groups, self._telemetry, now, history=history, instance_loads=instance_loads
        )
        return assemble(self.service.policy, published.facts(self.groups, self.start), series, now)

    @property
    def totals(self) -> Totals:
        """Figures of the run so far; the bill as if it all ended now."""
        window = self._total
        if window is None:
            window = self.simulation.window()
            self._total = self._minute = window
        bill = self._fleet.bill(min(self.now, self.ends) - self.start)
        events = self._fleet.events
        return Totals(
            window=window,
            usd=bill.usd,
            launch_usd=sum(bill.launch_usd.values()),
            machine_seconds=bill.seconds,
            gpu_hours=sum(seconds * self._gpus.get(name, 1) for name, seconds in bill.seconds.items()) / 3600,
            scale_events=events.scale_events,
            launches=events.launches,
            failed_launches=events.failed_launches,
            capacity_errors=sum(len(group.errors) for group in self.groups.values()),
            interruptions=events.interruptions,
            failures=events.failures,
        )


def _check(
    service: Service,
    profiles: Mapping[str, Profile],
    initial: Mapping[str, int] | None,
    machines: MachineModel,
    options: WorldOptions,
) -> None:
    if service.policy.workload is Workload.TRAINING:
        raise ValueError(f"service: must serve inference; a job queue is not simulated (got {service.name}: training)")
    names = [pool.name for pool in service.pools]
    by_pool = {"initial": initial, "initial_weights": options.initial_weights, "gpus": machines.gpus}
    for key, mapping in by_pool.items():
        for name in mapping or ():
            if name not in names:
                raise ValueError(f"{key}: must name pools of the service ({', '.join(names)}) (got {name})")
    for name in names:
        if name not in profiles:
            raise ValueError(f"profiles: must have one for pool {name}")


def _engine(service: Service, profile: Profile, options: Sequence[QueueOption]) -> Engine:
    """Return the engine of an instance, which refuses what the service's policy lets it refuse."""
    return Engine.of(profile, counted(queue_limit(service.policy, profile), options))


def _minute_of_world(at: float, window: Window, groups: Sequence[SimulatedGroup]) -> MinuteOfWorld:
    total = window.total
    return MinuteOfWorld(
        at=at,
        arrivals=total.routed + total.rejected_no_target,
        ended=total.ended,
        attained=total.attained,
        rejected=total.rejected,
        lost=total.lost,
        running=total.running,
        waiting=total.waiting,
        ttft_p95_seconds=total.ttft.quantile(0.95),
        usd_per_hour=sum(machine.usd_per_hour for group in groups for machine in group.machines.values()),
        pools=tuple(
            MinuteOfPool(
                desired=group.desired,
                ready=group.count(Phase.READY),
                starting=group.count(Phase.STARTING),
                draining=group.count(Phase.DRAINING),
                weight=group.weight,
            )
            for group in groups
        ),
    )
