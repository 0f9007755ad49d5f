"""The world around a service, without AWS: traffic, machines, and what CloudWatch shows of them, on virtual time.

    world = World(service, trace, profiles, initial={"l4": 4})
    while world.now < world.ends:
        world.run(world.now + 60)
        world.apply(decide(world.observe(world.now)), world.now)

Public times are in seconds since the epoch; the run starts at `start`, which is the trace's second 0.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit, Workload
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.simulated_fleet import (
    RETRY_SECONDS,
    SPOT_NOTICE_SECONDS,
    Bill,
    BootTime,
    Faults,
    Market,
    SimulatedGroup,
    SimulatedInstance,
)
from gpu_fleet.simulator.simulation import Engine, PoolChoice, PoolWindow, Simulation, TargetChoice, Window
from gpu_fleet.simulator.telemetry import FINE_SECONDS, MINUTE_SECONDS, Delays, Minute, PoolSeries, Sample, Telemetry
from lambdas.scaler.signals import burst, last_minute, newest, scaled, settled, total

START = 1_700_006_400.0
"""A Wednesday's midnight (15 November 2023, UTC): where a run starts when nobody says."""

CHUNK_SECONDS = 600.0

Floats = NDArray[np.float64]


class Arrivals(Protocol):
    """Requests of one stretch of time, sorted, in seconds from the trace's start."""

    @property
    def at_seconds(self) -> Floats:
        """Arrival times [n]."""
        ...

    @property
    def input_tokens(self) -> Floats:
        """Prompt lengths [n]."""
        ...

    @property
    def output_tokens(self) -> Floats:
        """Answer lengths [n]."""
        ...


class Source(Protocol):
    """Traffic that is read one stretch of time after the other: `gpu_fleet.traffic.Trace` and `RateTrace` are such."""

    @property
    def span_seconds(self) -> float:
        """How long it lasts."""
        ...

    def windows(self, window_seconds: float = ..., *, seed: int = ...) -> Iterator[Arrivals]:
        """Stretches of that length, in order, without gaps."""
        ...


@dataclass(frozen=True, slots=True)
class Totals:
    """Everything since the start."""

    window: Window
    usd: Mapping[str, float]
    """By pool, as if all machines ended now."""
    machine_seconds: Mapping[str, float]
    """By pool, as they are billed."""
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
        """Of all pools."""
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
    """One minute, for time lines."""

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
    """Of the machines that stand at its end."""
    pools: tuple[MinuteOfPool, ...]


class World:
    """A service under traffic. The same arguments always give the same run.

    `source`: the traffic, as `gpu_fleet.traffic` has it. `profiles`: by pool, how fast an instance serves. `initial`:
    ready instances by pool at the start, so that all who are compared start alike (default: each pool's minimum).
    `initial_weights`: default by what each pool's instances complete. `boot`: one for all pools or by pool (default:
    each pool's `lead_seconds`). `gpus`: of an instance, by pool (default 1). `seed` draws the traffic (where only
    rates are known), `world_seed` (default the same) the rest: boots, faults and routing.

    Raises ValueError for what does not fit together.
    """

    def __init__(
        self,
        service: Service,
        source: Source,
        profiles: Mapping[str, Profile],
        *,
        initial: Mapping[str, int] | None = None,
        initial_weights: Mapping[str, int] | None = None,
        boot: BootTime | Mapping[str, BootTime] | None = None,
        faults: Faults | None = None,
        delays: Delays | None = None,
        gpus: Mapping[str, int] | None = None,
        seed: int = 0,
        world_seed: int | None = None,
        start: float = START,
        pool_choice: PoolChoice = PoolChoice.WEIGHTED_RANDOM,
        target_choice: TargetChoice = TargetChoice.LEAST_OUTSTANDING,
        max_waiting: int | None = None,
        keep_minutes: bool = True,
        keep_requests: bool = False,
    ) -> None:
        if start % MINUTE_SECONDS != 0:
            raise ValueError(f"start: must be a whole minute, as CloudWatch's periods are (got {start})")
        if service.policy.workload is Workload.TRAINING:
            raise ValueError(
                f"service: must serve inference; a job queue is not simulated (got {service.name}: training)"
            )
        names = [pool.name for pool in service.pools]
        boots_given = None if isinstance(boot, BootTime) else boot
        named = {"initial": initial, "initial_weights": initial_weights, "gpus": gpus, "boot": boots_given}
        for key, given in named.items():
            for name in given or ():
                if name not in names:
                    raise ValueError(f"{key}: must name pools of the service ({', '.join(names)}) (got {name})")
        for name in names:
            if name not in profiles:
                raise ValueError(f"profiles: must have one for pool {name}")
        self.service, self.start = service, start
        self.ends = start + source.span_seconds
        self._faults = faults or Faults()
        self._random = np.random.default_rng(np.random.SeedSequence((seed if world_seed is None else world_seed, 7)))
        boots = _boots(service.pools, boot)
        self._market = Market(self._faults, boots, self._random)
        self._gpus = {name: (gpus or {}).get(name, 1) for name in names}
        self.simulation = Simulation(
            [Engine.of(profiles[name], max_waiting) for name in names],
            slo=service.policy.slo,
            seed=seed if world_seed is None else world_seed,
            pool_choice=pool_choice,
            target_choice=target_choice,
            keep_requests=keep_requests,
            sample_seconds=FINE_SECONDS,
        )
        self._chunks = iter(source.windows(CHUNK_SECONDS, seed=seed))
        self._chunk: tuple[Floats, Floats, Floats] = (np.empty(0), np.empty(0), np.empty(0))
        self._chunk_ends = 0.0
        self._cursor = 0
        self._telemetry = Telemetry(
            delays or Delays(),
            [(start + a, start + b) for a, b in self._faults.metric_gaps],
            service.policy.forecast.history_days,
            service.policy.load.stale_after_seconds,
        )
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._numbers: dict[int, SimulatedInstance] = {}
        self._bill = Bill()
        self._minutes = 0
        self._scale_events = self._launches = self._failed_launches = self._interruptions = self._failures = 0
        self._minute: Window | None = None
        self._total: Window | None = None
        self.minutes: list[MinuteOfWorld] | None = [] if keep_minutes else None
        """One entry a minute, where they are kept."""
        self.groups = {pool.name: SimulatedGroup(pool, on_demand_base=pool.on_demand_base) for pool in service.pools}
        self._open(initial, initial_weights)

    # --- time ---

    @property
    def now(self) -> float:
        """The time reached, seconds since the epoch."""
        return self.start + self.simulation.now

    def run(self, until: float) -> Window:
        """Let everything before `until` (seconds since the epoch) happen; returns what did.

        Raises ValueError for a time that is over.
        """
        end = until - self.start
        if end < self.simulation.now:
            raise ValueError(f"until: must not be before {self.now} (got {until})")
        parts: list[Window] = []
        while self.simulation.now < end:
            tick = (self._minutes + 1) * MINUTE_SECONDS
            part = self._minutes * MINUTE_SECONDS + self._telemetry.part_seconds
            if not self._telemetry.part_seconds or part <= self.simulation.now:
                part = np.inf
            due = self._events[0][0] if self._events else np.inf
            edge = min(end, tick, part, due)
            self._serve(edge)
            while self._events and self._events[0][0] <= edge:
                heapq.heappop(self._events)[2]()
            if edge == part:
                self._telemetry.see_part(Minute(self.start + tick, self._take_window(parts), ()))
            if edge == tick:
                self._minutes += 1
                self._end_minute(edge, self._take_window(parts))
        if not parts or parts[-1].end < self.simulation.now:
            self._take_window(parts)
        window = parts[0]
        for part in parts[1:]:
            window = window.then(part)
        return window

    def finish(self, within_seconds: float = 3600.0) -> None:
        """Let the requests that are still there end, with the fleet as it stands and nobody new.

        Costs nothing more. What has not ended after `within_seconds` counts as lost.
        """
        seconds = 0.0
        parts: list[Window] = []
        if self.now >= self.ends:
            # A trace's last request often is its last moment, which `run` up to its end leaves out.
            self._serve(float(np.nextafter(self.simulation.now, np.inf)))
        while self.simulation.in_flight and seconds < within_seconds:
            step = min(MINUTE_SECONDS, within_seconds - seconds)
            self.simulation.run(self.simulation.now + step)
            seconds += step
        for number, _ in list(self.simulation.loads()):
            self.simulation.kill(number)
        self._take_window(parts)

    def _serve(self, edge: float) -> None:
        """Run the simulation up to `edge`, with the trace's requests."""
        while True:
            at, inputs, outputs = self._chunk
            stop = int(np.searchsorted(at, edge, side="left"))
            if stop < at.size or self._chunk_ends >= edge:
                part = slice(self._cursor, stop)
                self.simulation.run(edge, at[part], inputs[part], outputs[part])
                self._cursor = stop
                break
            chunk = next(self._chunks, None)
            if chunk is None:
                self._chunk_ends = np.inf
                continue
            rest = slice(self._cursor, None)
            self._chunk = tuple(
                np.concatenate([old[rest], np.asarray(new, np.float64)])
                for old, new in zip(
                    self._chunk, (chunk.at_seconds, chunk.input_tokens, chunk.output_tokens), strict=True
                )
            )  # type: ignore[assignment]
            self._cursor = 0
            self._chunk_ends += CHUNK_SECONDS
        for gauges in self.simulation.samples():
            self._telemetry.see_sample(Sample(self.start + gauges.at, gauges))
        for departure in self.simulation.departures():
            machine = self._numbers.pop(departure.instance)
            machine.number = None
            if machine.phase is Phase.DRAINING:
                self._terminate(machine, departure.at)

    def _take_window(self, parts: list[Window]) -> Window:
        """Append what happened since the last window; returns the minute so far."""
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
            total = window.total
            self.minutes.append(
                MinuteOfWorld(
                    at=at,
                    arrivals=total.routed + total.rejected_no_target,
                    ended=total.ended,
                    attained=total.attained,
                    rejected=total.rejected,
                    lost=total.lost,
                    running=total.running,
                    waiting=total.waiting,
                    ttft_p95_seconds=total.ttft.quantile(0.95),
                    usd_per_hour=sum(m.usd_per_hour for g in self.groups.values() for m in g.machines.values()),
                    pools=tuple(
                        MinuteOfPool(
                            group.desired,
                            group.count(Phase.READY),
                            group.count(Phase.STARTING),
                            group.count(Phase.DRAINING),
                            group.weight,
                        )
                        for group in self.groups.values()
                    ),
                )
            )

    # --- machines ---

    def _open(self, initial: Mapping[str, int] | None, weights: Mapping[str, int] | None) -> None:
        for index, (name, group) in enumerate(self.groups.items()):
            pool = group.pool
            count = (initial or {}).get(name, pool.min_instances if initial is None else 0)
            if not 0 <= count <= pool.max_instances:
                raise ValueError(f"initial.{name}: must be from 0 to {pool.max_instances} (got {count})")
            group.desired = count
            for _ in range(count):
                machine = self._market.machine(group, index, group.zones_by_count()[0], 0.0, spot=group.wants_spot())
                group.machines[machine.id] = machine
                self._serves(machine)
        if weights is None:
            work = {name: group.desired * group.pool.throughput_rps for name, group in self.groups.items()}
            most = max(work.values())
            weights = {name: round(100 * value / most) if most > 0 else 100 for name, value in work.items()}
        for name, group in self.groups.items():
            group.weight = weights.get(name, 0)
        self._send_weights()

    def _at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), action))

    def _group(self, machine: SimulatedInstance) -> SimulatedGroup:
        return self.groups[self.service.pools[machine.pool].name]

    def _is_there(self, machine: SimulatedInstance) -> bool:
        return machine.id in self._group(machine).machines

    def _serves(self, machine: SimulatedInstance) -> None:
        machine.phase = Phase.READY
        machine.number = self.simulation.join(machine.pool)
        self._numbers[machine.number] = machine
        now = self.simulation.now
        for seconds, fails in self._market.ends(machine):
            if fails:
                self._at(now + seconds, lambda: self._fail(machine))
            else:
                self._at(now + seconds, lambda: self._interrupt(machine))

    def _fill(self, group: SimulatedGroup) -> None:
        """Launch what is missing; try again later where AWS has none."""
        index = list(self.groups.values()).index(group)
        now = self.simulation.now
        while len(group.standing()) < group.desired:
            machine = self._market.launch(group, index, now, self.start)
            if machine is None:
                if not group.retry_due:
                    group.retry_due = True
                    self._at(now + RETRY_SECONDS, lambda: self._retry(group))
                return
            self._launches += 1
            group.machines[machine.id] = machine
            seconds, serves = self._market.boot(group)
            end = self._boots if serves else self._never_serves
            self._at(now + seconds, lambda machine=machine, end=end: end(machine))

    def _retry(self, group: SimulatedGroup) -> None:
        group.retry_due = False
        self._fill(group)

    def _boots(self, machine: SimulatedInstance) -> None:
        if self._is_there(machine):
            machine.ready_at = self.now
            self._serves(machine)

    def _never_serves(self, machine: SimulatedInstance) -> None:
        if self._is_there(machine):
            self._failed_launches += 1
            self._terminate(machine, self.simulation.now)
            self._fill(self._group(machine))

    def _interrupt(self, machine: SimulatedInstance) -> None:
        """The two minutes' notice: it drains, and its replacement is launched."""
        if machine.phase is Phase.READY and self._is_there(machine):
            self._interruptions += 1
            self._drain(machine, SPOT_NOTICE_SECONDS)
            self._fill(self._group(machine))

    def _fail(self, machine: SimulatedInstance) -> None:
        if machine.phase is Phase.READY and self._is_there(machine) and machine.number is not None:
            self._failures += 1
            machine.phase = Phase.UNHEALTHY
            self.simulation.kill(machine.number)
            self._at(self.simulation.now + self._faults.detection_seconds, lambda: self._replace(machine))

    def _replace(self, machine: SimulatedInstance) -> None:
        if self._is_there(machine):
            self._terminate(machine, self.simulation.now)
            self._fill(self._group(machine))

    def _leave(self, machine: SimulatedInstance) -> None:
        """Scale-in: a machine that serves drains, any other goes at once."""
        if machine.phase is Phase.READY:
            self._drain(machine, self.service.policy.horizontal.busy_max_drain_seconds)
        elif machine.phase is not Phase.DRAINING:
            self._terminate(machine, self.simulation.now)

    def _drain(self, machine: SimulatedInstance, seconds: float) -> None:
        machine.phase = Phase.DRAINING
        if machine.number is not None:
            self.simulation.drain(machine.number, deadline=self.simulation.now + seconds)

    def _terminate(self, machine: SimulatedInstance, at: float) -> None:
        group = self._group(machine)
        del group.machines[machine.id]
        self._bill.add(group.pool.name, machine, at)

    # --- what the scaler does ---

    def apply(self, targets: Mapping[str, PoolTarget], now: float) -> None:
        """Set counts and weights, as the scaler's calls do: named instances leave first, then the newest.

        Pools that are not named stay as they are. Raises ValueError for an unknown pool, and for a count or weight
        that AWS would refuse; then nothing is changed.
        """
        self._must_be_now(now)
        for name, target in targets.items():
            if name not in self.groups:
                raise ValueError(f"targets: must name pools of the service ({', '.join(self.groups)}) (got {name})")
            pool = self.groups[name].pool
            if not pool.min_instances <= target.desired <= pool.max_instances:
                raise ValueError(
                    f"targets.{name}.desired: must be from {pool.min_instances} to {pool.max_instances} "
                    f"(got {target.desired})"
                )
            if not 0 <= target.weight <= 999:
                raise ValueError(f"targets.{name}.weight: must be from 0 to 999 (got {target.weight})")
        for name, target in targets.items():
            group = self.groups[name]
            group.weight = target.weight
            if target.on_demand_base is not None:
                group.on_demand_base = target.on_demand_base
            self._scale_events += target.desired != group.desired
            group.desired = target.desired
            for id_ in target.take:
                if id_ in group.machines:
                    self._leave(group.machines[id_])
            newest_first = [m for m in reversed(group.standing()) if m.id not in target.protect]
            for machine in newest_first[: max(0, len(group.standing()) - group.desired)]:
                self._leave(machine)
            self._fill(group)
        self._send_weights()

    def _send_weights(self) -> None:
        self.simulation.set_weights([float(group.weight) for group in self.groups.values()])

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
        """Everything since the start; the bill as if it all ended now."""
        window = self._total
        if window is None:
            window = self.simulation.window()
            self._total = self._minute = window
        end = min(self.now, self.ends) - self.start
        bill = self._bill.with_machines(self.groups, end)
        return Totals(
            window=window,
            usd=bill.usd,
            machine_seconds=bill.seconds,
            gpu_hours=sum(seconds * self._gpus[name] for name, seconds in bill.seconds.items()) / 3600,
            scale_events=self._scale_events,
            launches=self._launches,
            failed_launches=self._failed_launches,
            capacity_errors=sum(len(group.errors) for group in self.groups.values()),
            interruptions=self._interruptions,
            failures=self._failures,
        )


def _boots(pools: Iterable[Pool], boot: BootTime | Mapping[str, BootTime] | None) -> dict[str, BootTime]:
    if isinstance(boot, BootTime):
        return {pool.name: boot for pool in pools}
    return {pool.name: (boot or {}).get(pool.name, BootTime(pool.lead_seconds)) for pool in pools}


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
