"""A simulated service: traffic, machines and CloudWatch's view of them, on virtual time, without AWS.

    world = World(service, trace, profiles, initial={"l4": 4})
    while world.now < world.ends:
        world.run(world.now + 60)
        world.apply(decide(world.observe(world.now)), world.now)

Public times are in seconds since the epoch; the run starts at `start`, which is the trace's second 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit, Workload
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.feed import Feed, Source
from gpu_fleet.simulator.fleet_lifecycle import FleetLifecycle
from gpu_fleet.simulator.pool_window import PoolWindow, Window
from gpu_fleet.simulator.simulated_fleet import MachineModel, SimulatedGroup
from gpu_fleet.simulator.simulation import Engine, Simulation
from gpu_fleet.simulator.telemetry import FINE_SECONDS, MINUTE_SECONDS, Delays, Minute, PoolSeries, Sample, Telemetry
from lambdas.scaler.signals import burst, last_minute, newest, scaled, settled, total

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
    """By pool, as if all machines ended now."""
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
            [Engine.of(profiles[pool.name]) for pool in service.pools],
            slo=service.policy.slo,
            seed=seed,
            sample_seconds=FINE_SECONDS,
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
        """What the scaler would have seen at this time: the groups as they are, the metrics as late as they come.

        `history` and `instance_loads` bring what is read only when it is wanted (`State.wants_history`,
        `State.wants_instance_loads`).
        """
        self._must_be_now(now)
        oldest = now - self.service.policy.load.stale_after_seconds
        balancer, engine = self._telemetry.balancer_minutes(now), self._telemetry.engine_minutes(now)
        samples = self._telemetry.samples(now)
        loads = self._instance_loads(now, oldest) if instance_loads else {}
        lengths = [self._telemetry.lengths(now, p, oldest) for p in range(len(self.groups))]
        series: list[PoolSeries] = []
        rates: list[tuple[Reading, ...]] = []
        for p, group in enumerate(self.groups.values()):
            serving = any(machine.phase is not Phase.STARTING for machine in group.machines.values())
            rates.append(_rates(balancer, p, now, serving=serving))
            ready = group.count(Phase.READY)
            if ready:
                mean = PoolSeries.of(samples, p)
                series.append(PoolSeries(*(scaled(x, ready) for x in (mean.running, mean.waiting, mean.finished_rps))))
            else:
                series.append(PoolSeries.nothing(now))
        pools = {
            name: self._observe_pool(group, p, balancer, engine, rates[p], series[p], lengths[p], loads, now)
            for p, (name, group) in enumerate(self.groups.items())
        }
        arrivals = settled(total(rates), now, oldest)
        in_flight = total([total([mine.running, mine.waiting]) for mine in series])
        finished = total([mine.finished_rps for mine in series])
        return Observation(
            pools=pools,
            arrivals_rps=arrivals,
            burst_rps=burst(arrivals, in_flight, oldest, finished),
            rejected_rps=self._rejected(balancer, oldest),
            input_tokens=_over_pools(pools, [found and found[0] for found in lengths]),
            output_tokens=_over_pools(pools, [found and found[1] for found in lengths]),
            history_rps=self._telemetry.history(now) if history else (),
        )

    def _observe_pool(
        self,
        group: SimulatedGroup,
        p: int,
        balancer: Sequence[Minute],
        engine: Sequence[Minute],
        rates: tuple[Reading, ...],
        series: PoolSeries,
        lengths: tuple[Reading, Reading] | None,
        loads: Mapping[int, Reading],
        now: float,
    ) -> PoolObservation:
        oldest = now - self.service.policy.load.stale_after_seconds
        running, waiting = last_minute(series.running, oldest), last_minute(series.waiting, oldest)
        rate = settled(rates, now, oldest)
        gpu = _newest(engine, p, oldest, lambda w: w.busy_percent)
        kv = self._telemetry.kv_cache_percent(now, p, oldest)
        load: Reading | None
        match self.service.policy.load.unit:
            case LoadUnit.CONCURRENCY:
                load = None
                if running and waiting:
                    load = Reading(running.value + waiting.value, min(running.at, waiting.at))
            case LoadUnit.REQUESTS:
                load = rate
            case LoadUnit.TOKENS:
                load = rate if rate and rate.value == 0 else None
                if rate and lengths and rate.value:
                    tokens = sum(length.value for length in lengths)
                    load = Reading(rate.value * tokens, min(rate.at, *(length.at for length in lengths)))
            case LoadUnit.GPU:
                load = gpu
            case LoadUnit.KV_CACHE:
                load = kv
        return PoolObservation(
            desired=group.desired,
            min_size=group.pool.min_instances,
            max_size=group.pool.max_instances,
            weight=group.weight,
            instances=tuple(
                Instance(
                    id=machine.id,
                    type=machine.type,
                    zone=machine.zone,
                    phase=machine.phase,
                    since=self.start + machine.launched_at,
                    spot=machine.spot,
                    ready_at=machine.ready_at,
                    load=loads.get(machine.number) if machine.number is not None else None,
                )
                for machine in group.machines.values()
            ),
            on_demand_base=group.on_demand_base if group.pool.spot_percent else None,
            load=load,
            running=running,
            waiting=waiting,
            rate_rps=rate,
            response_time_seconds=_newest(balancer, p, oldest, lambda w: w.ttft_mean_seconds),
            ttft_seconds=_newest(engine, p, oldest, lambda w: w.ttft.quantile(0.95)),
            gpu_percent=gpu,
            kv_cache_percent=kv,
            capacity_errors=tuple(group.errors[-100:]),
        )

    def _rejected(self, minutes: Sequence[Minute], oldest: float) -> Reading | None:
        """503s a second, which the Lambda asks for only where the service can sleep. Any within the time that readings
        are good for is a sign, even if the minute after it had none.
        """
        if any(pool.min_instances for pool in self.service.pools):
            return None
        seen = tuple(
            Reading(count / MINUTE_SECONDS, minute.at)
            for minute in minutes
            for count in [minute.window.unrouted + sum(pool.rejected_no_target for pool in minute.window.pools)]
            if count or any(minute.heartbeat)
        )
        return newest(tuple(reading for reading in seen if reading.value > 0), oldest) or newest(seen, oldest)

    def _instance_loads(self, now: float, oldest: float) -> dict[int, Reading]:
        """By instance of the simulation: mean of its gauges over the newest complete minute."""
        end, samples = self._telemetry.samples_of_minute(now)
        if end < oldest:
            return {}
        seen: dict[int, list[float]] = {}
        for sample in samples:
            gauges = sample.gauges
            match self.service.policy.load.unit:
                case LoadUnit.KV_CACHE:
                    values = 100 * gauges.kv_share
                case LoadUnit.GPU:
                    values = 100.0 * (gauges.running > 0)
                case _:
                    values = gauges.running + gauges.waiting
            for number, value in zip(gauges.instance.astype(int).tolist(), values.tolist(), strict=True):
                seen.setdefault(number, []).append(value)
        return {number: Reading(sum(values) / len(values), end) for number, values in seen.items()}

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


Value = Callable[[PoolWindow], "float | None"]


def _newest(minutes: Sequence[Minute], p: int, oldest: float, value: Value) -> Reading | None:
    """The newest minute in which the pool had a value, if it is not older than `oldest`."""
    for minute in reversed(minutes):
        if minute.at < oldest:
            return None
        found = value(minute.window.pools[p])
        if found is not None:
            return Reading(found, minute.at)
    return None


def _rates(minutes: Sequence[Minute], p: int, now: float, *, serving: bool) -> tuple[Reading, ...]:
    """Requests per second by minute: known where there were any or a heartbeat, and zero where nothing serves."""
    known = {
        minute.at: minute.window.pools[p].routed / MINUTE_SECONDS
        for minute in minutes
        if minute.heartbeat[p] or minute.window.pools[p].routed
    }
    if not serving:
        end = now // MINUTE_SECONDS * MINUTE_SECONDS
        known = {end - k * MINUTE_SECONDS: 0.0 for k in range(5)} | known
    return tuple(Reading(known[at], at) for at in sorted(known))


def _over_pools(pools: Mapping[str, PoolObservation], readings: Sequence[Reading | None]) -> Reading | None:
    """Mean of a figure per request, each pool by its share of the requests (equal shares where rates are missing)."""
    found = [
        (reading, pool.rate_rps.value if pool.rate_rps else 0.0)
        for reading, pool in zip(readings, pools.values(), strict=True)
        if reading is not None
    ]
    if not found:
        return None
    whole = sum(share for _, share in found)
    shares = [share / whole if whole else 1 / len(found) for _, share in found]
    mean = sum(reading.value * share for (reading, _), share in zip(found, shares, strict=True))
    return Reading(mean, min(reading.at for reading, _ in found))
