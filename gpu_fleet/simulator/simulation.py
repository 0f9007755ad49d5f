"""Pools of serving instances under a stream of requests, run window by window on virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpu_fleet.scaling.policy import Slo
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.simulator import kernel
from gpu_fleet.simulator.sketch import Sketch

Floats = NDArray[np.float64]


class PoolChoice(IntEnum):
    """How a request finds its pool."""

    WEIGHTED_RANDOM = kernel.WEIGHTED_RANDOM
    SMOOTH_WEIGHTED = kernel.SMOOTH_WEIGHTED


class TargetChoice(IntEnum):
    """How a request finds its instance within the pool."""

    LEAST_OUTSTANDING = kernel.LEAST_OUTSTANDING
    ROUND_ROBIN = kernel.ROUND_ROBIN


class RequestOutcome(IntEnum):
    """What became of a request."""

    PENDING = kernel.PENDING
    COMPLETED = kernel.COMPLETED
    NO_TARGET = kernel.NO_TARGET
    """Rejected (503): the pool that it was given to had no target, or all weights were 0."""
    QUEUE_FULL = kernel.QUEUE_FULL
    """Rejected by an instance whose queue was full."""
    TOO_LONG = kernel.TOO_LONG
    """Rejected by an instance whose memory cannot hold it even alone."""
    LOST = kernel.LOST
    """Was at an instance that died, or that had to go before it was finished."""


@dataclass(frozen=True, slots=True)
class Engine:
    """How fast an instance of a pool serves: the figures of `gpu_fleet.scaling.profile`, and the length of its
    queue.
    """

    prefill_base_seconds: float
    prefill_seconds_per_token: float
    decode_base_seconds: float
    decode_seconds_per_sequence: float
    kv_cache_tokens: float
    max_sequences: int
    max_waiting: int | None = None
    """Requests that an instance holds back at most; None: no limit, as vLLM."""

    @classmethod
    def of(cls, profile: Profile, max_waiting: int | None = None) -> Self:
        """The engine that a serving profile describes."""
        return cls(
            prefill_base_seconds=profile.prefill_base_seconds,
            prefill_seconds_per_token=1 / profile.prefill_tokens_per_second,
            decode_base_seconds=profile.decode_base_seconds,
            decode_seconds_per_sequence=profile.decode_seconds_per_sequence,
            kv_cache_tokens=float(profile.kv_cache_tokens),
            max_sequences=profile.max_sequences,
            max_waiting=max_waiting,
        )


@dataclass(frozen=True, slots=True)
class PoolWindow:
    """What one pool did in a window. Adds up over windows that follow each other, and over pools."""

    seconds: float = 0.0
    target_seconds: float = 0.0
    """Targets x time."""
    routed: int = 0
    """Requests that reached an instance (RequestCount of the target group)."""
    completed: int = 0
    attained: int = 0
    """Completed within the SLO."""
    rejected_no_target: int = 0
    rejected_queue_full: int = 0
    rejected_too_long: int = 0
    lost: int = 0
    first_tokens: int = 0
    ttft_seconds_sum: float = 0.0
    tpot_seconds_sum: float = 0.0
    e2e_seconds_sum: float = 0.0
    input_tokens: float = 0.0
    """Of the requests completed."""
    output_tokens: float = 0.0
    running_seconds: float = 0.0
    """Requests in service x time."""
    waiting_seconds: float = 0.0
    busy_seconds: float = 0.0
    """Instances with a request in service x time."""
    present_seconds: float = 0.0
    """Instances x time: the targets, and those that drain until they are empty."""
    ttft: Sketch = field(default_factory=Sketch.empty)
    """Of the first tokens in this window."""
    tpot: Sketch = field(default_factory=Sketch.empty)
    """Of the requests completed."""
    e2e: Sketch = field(default_factory=Sketch.empty)

    @property
    def rejected(self) -> int:
        """Requests turned away, for whatever reason."""
        return self.rejected_no_target + self.rejected_queue_full + self.rejected_too_long

    @property
    def ended(self) -> int:
        """Requests whose outcome is known."""
        return self.completed + self.rejected + self.lost

    @property
    def slo_attainment(self) -> float | None:
        """Share of the requests ended that kept to the SLO: none of those rejected or lost; None where none ended."""
        return self.attained / self.ended if self.ended else None

    @property
    def running(self) -> float:
        """Mean number of requests in service."""
        return self.running_seconds / self.seconds if self.seconds else 0.0

    @property
    def waiting(self) -> float:
        """Mean number of requests held back at the instances."""
        return self.waiting_seconds / self.seconds if self.seconds else 0.0

    @property
    def targets(self) -> float:
        """Mean number of targets."""
        return self.target_seconds / self.seconds if self.seconds else 0.0

    @property
    def busy_percent(self) -> float | None:
        """Share of the instances' time in which something ran on them; None without any."""
        return 100 * self.busy_seconds / self.present_seconds if self.present_seconds else None

    @property
    def ttft_mean_seconds(self) -> float | None:
        """Mean time to the first token."""
        return self.ttft_seconds_sum / self.first_tokens if self.first_tokens else None

    @property
    def tpot_mean_seconds(self) -> float | None:
        """Mean over the requests completed of their time per output token."""
        return self.tpot_seconds_sum / self.completed if self.completed else None

    @property
    def e2e_mean_seconds(self) -> float | None:
        """Mean time from arrival to last token."""
        return self.e2e_seconds_sum / self.completed if self.completed else None

    def beside(self, other: PoolWindow) -> PoolWindow:
        """Both pools together, over the same time."""
        return self._sum(other, self.seconds)

    def then(self, other: PoolWindow) -> PoolWindow:
        """The same pool in both windows, one after the other."""
        return self._sum(other, self.seconds + other.seconds)

    def _sum(self, other: PoolWindow, seconds: float) -> PoolWindow:
        values = {name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        return PoolWindow(**{**values, "seconds": seconds})


@dataclass(frozen=True, slots=True)
class Window:
    """What happened from `start` to `end` (seconds)."""

    start: float
    end: float
    pools: tuple[PoolWindow, ...]
    unrouted: int
    """Rejected because every weight was 0."""

    @property
    def total(self) -> PoolWindow:
        """All pools together, with the requests that found none."""
        total = self.pools[0]
        for pool in self.pools[1:]:
            total = total.beside(pool)
        if self.unrouted:
            total = replace(total, rejected_no_target=total.rejected_no_target + self.unrouted)
        return total

    def then(self, other: Window) -> Window:
        """This window and the one that follows it, as one."""
        pools = tuple(a.then(b) for a, b in zip(self.pools, other.pools, strict=True))
        return Window(self.start, other.end, pools, self.unrouted + other.unrouted)


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """What one instance holds now, and what it has done since it joined."""

    pool: int
    draining: bool
    running: int
    waiting: int
    kv_percent: float
    served: int


@dataclass(frozen=True, slots=True, eq=False)
class Gauges:
    """What the targets hold at one moment. Instances that drain are not among them."""

    at: float
    instance: Floats
    """[targets]"""
    pool: Floats
    """[targets]"""
    running: Floats
    """[targets]"""
    waiting: Floats
    """[targets]"""
    kv_share: Floats
    """[targets] Share of memory that is reserved, 0 to 1."""
    ended: Floats
    """[targets] Requests completed since the last reading."""
    input_tokens: Floats
    """[targets] Their mean prompt; 0 where there were none."""
    output_tokens: Floats
    """[targets] Their mean answer; 0 where there were none."""
    pool_targets: tuple[float, ...]
    """Of each pool: how many there are."""
    pool_running: tuple[float, ...]
    """Of each pool, summed."""
    pool_waiting: tuple[float, ...]
    """Of each pool, summed."""
    pool_ended: tuple[float, ...]
    """Of each pool: requests completed since the last reading."""
    pool_telling: tuple[float, ...]
    """Of each pool: targets that completed any since then, and so can tell how long they were."""
    pool_input_tokens: tuple[float, ...]
    """Of each pool, summed over those: the mean prompt of what the target completed."""
    pool_output_tokens: tuple[float, ...]
    """The same of the answers."""


@dataclass(frozen=True, slots=True)
class Departure:
    """An instance that is gone."""

    instance: int
    at: float
    lost: int
    """Requests that went with it."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestLog:
    """Every request in the order of arrival: kept only on demand, 29 bytes each."""

    outcome: NDArray[np.int8]
    """[n] `RequestOutcome`."""
    pool: NDArray[np.int32]
    """[n]; -1 where it reached none."""
    first_token_at: Floats
    """[n] seconds; nan where there was none."""
    finished_at: Floats
    """[n] seconds; nan where it was not completed."""


class Simulation:
    """Up to five pools of instances behind a load balancer.

    `engines`: one for each pool, which its instances run. `more_engines`: engines that instances of any pool may run
    instead (`join`); they are numbered after those of the pools. `slo`: what counts as attained; None: every request
    completed. `output_reserved`: share of a request's output tokens that admission reserves memory for beside its
    prompt. 0.5 is what a sequence holds on average while it decodes under paged memory (and what
    `gpu_fleet.scaling.profile.carrying` counts with); 1.0 is an engine that reserves for the longest answer.
    `keep_requests`: keep every request's outcome and times. `sample_seconds`: read the gauges so often, from `start`
    on (`samples`).

    Times are in seconds from any origin, and never go back.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        more_engines: Sequence[Engine] = (),
        slo: Slo | None = None,
        seed: int = 0,
        pool_choice: PoolChoice = PoolChoice.WEIGHTED_RANDOM,
        target_choice: TargetChoice = TargetChoice.LEAST_OUTSTANDING,
        output_reserved: float = 0.5,
        keep_requests: bool = False,
        sample_seconds: float = np.inf,
        start: float = 0.0,
    ) -> None:
        if not engines:
            raise ValueError("engines: must be at least one")
        if not 0 <= output_reserved <= 1:
            raise ValueError(f"output_reserved: must be from 0 to 1 (got {output_reserved})")
        self.engines = (*engines, *more_engines)
        self._keep_requests = keep_requests
        self._machine = _machine(self.engines, len(engines), instances=32, requests=1024)
        core = self._machine.core[0]
        core["now"] = start
        core["random"] = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        core["pool_choice"], core["target_choice"] = pool_choice, target_choice
        core["output_reserved"] = output_reserved
        core["ttft_limit"] = slo.ttft_seconds if slo else np.inf
        core["ttft_limit_per_token"] = slo.ttft_seconds_per_1000_input_tokens / 1000 if slo else 0.0
        core["tpot_limit"] = slo.tpot_seconds if slo else np.inf
        if not sample_seconds > 0:
            raise ValueError(f"sample_seconds: must be above 0 (got {sample_seconds})")
        core["sample_every"], core["sample_at"] = sample_seconds, start + sample_seconds
        self._samples_taken = 0
        self._slots: dict[int, int] = {}
        self._serial = itertools.count()
        self._free_slots = list(range(31, -1, -1))
        self._draining: set[int] = set()
        self._departures: list[Departure] = []
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._window_start = start
        self._target_seconds = np.zeros(len(engines))
        self._gone = np.zeros((len(engines), len(_INTEGRALS)))

    @property
    def now(self) -> float:
        """The time reached."""
        return float(self._machine.core[0]["now"])

    @property
    def in_flight(self) -> int:
        """Requests that wait or are in service."""
        return int(self._machine.core[0]["in_flight"])

    @property
    def arrived(self) -> int:
        """Requests taken in since the start, rejected ones among them."""
        return int(self._machine.core[0]["arrived"])

    def targets(self, pool: int) -> int:
        """Instances of the pool that take requests now."""
        return int(self._machine.pools[pool]["targets"])

    # --- what changes, at once or at a time to come ---

    def set_weights(self, weights: Sequence[float], at: float | None = None) -> None:
        """Share the traffic among the pools in proportion.

        Raises ValueError for a negative weight or a wrong number of them.
        """
        pools = self._machine.pools.size
        if len(weights) != pools:
            raise ValueError(f"weights: must be one a pool (got {len(weights)} for {pools})")
        for p, weight in enumerate(weights):
            if not weight >= 0:
                raise ValueError(f"weights[{p}]: must not be negative (got {weight})")
        values = tuple(weights)

        def apply() -> None:
            self._machine.pools["weight"] = values
            self._machine.pools["credit"] = 0.0

        self._plan(at, apply)

    def join(self, pool: int, at: float | None = None, engine: int | None = None) -> int:
        """Let a new instance take requests from `at` on. Returns its number, which is never used again.

        It runs the pool's engine, or the one of that index in `engines`.
        """
        pools = self._machine.pools.size
        if not 0 <= pool < pools:
            raise ValueError(f"pool: must be from 0 to {pools - 1} (got {pool})")
        runs = pool if engine is None else engine
        if not 0 <= runs < len(self.engines):
            raise ValueError(f"engine: must be from 0 to {len(self.engines) - 1} (got {runs})")
        instance = next(self._serial)

        def apply() -> None:
            if not self._free_slots:
                self._more_instances()
            slot = self._free_slots.pop()
            self._slots[instance] = slot
            kernel.join(self._machine, slot, pool, runs, self.now, instance)

        self._plan(at, apply)
        return instance

    def drain(self, instance: int, at: float | None = None, deadline: float | None = None) -> None:
        """The instance takes no new requests from `at` on, and leaves once it has none. At the deadline it goes with
        those that it still has. Draining what drains already, or is gone, does nothing.
        """

        def apply() -> None:
            slot = self._slots.get(instance)
            if slot is not None and instance not in self._draining:
                kernel.drain(self._machine, slot, self.now)
                self._draining.add(instance)

        self._plan(at, apply)
        if deadline is not None:
            self.kill(instance, deadline)

    def kill(self, instance: int, at: float | None = None) -> None:
        """The instance is gone at `at`, and its requests are lost. Killing what is gone does nothing."""

        def apply() -> None:
            self._let_the_empty_go()
            slot = self._slots.get(instance)
            if slot is not None:
                lost = kernel.kill(self._machine, slot, self.now)
                self._leave(instance, self.now, int(lost))

        self._plan(at, apply)

    def _plan(self, at: float | None, action: Callable[[], None]) -> None:
        if at is None or at <= self.now:
            action()
        else:
            heapq.heappush(self._planned, (at, next(self._order), action))

    # --- running ---

    def run(
        self,
        until: float,
        at_seconds: ArrayLike = (),
        input_tokens: ArrayLike = (),
        output_tokens: ArrayLike = (),
    ) -> int:
        """Let everything before `until` happen, with these requests arriving; returns how many of them did.

        The three arrays [n] are float64 and sorted by time, none of it before now; those at `until` or later are
        left for the next call. Raises ValueError where that does not hold.
        """
        at, inputs, outputs = (np.ascontiguousarray(x, np.float64) for x in (at_seconds, input_tokens, output_tokens))
        if not at.shape == inputs.shape == outputs.shape or at.ndim != 1:
            raise ValueError(
                f"at_seconds, input_tokens, output_tokens: must be three vectors of one length "
                f"(got {at.shape}, {inputs.shape}, {outputs.shape})"
            )
        if not until >= self.now:
            raise ValueError(f"until: must not be before {self.now} (got {until})")
        if at.size and (at[0] < self.now or bool(np.any(np.diff(at) < 0))):
            raise ValueError(f"at_seconds: must be sorted and not before {self.now} (got {at[0]} first)")
        if self._keep_requests:
            self._room_for_log(self.arrived + at.size)
        taken = 0
        while self._planned and self._planned[0][0] < until:
            time, _, action = heapq.heappop(self._planned)
            taken = self._advance(time, at, inputs, outputs, taken)
            action()
        taken = self._advance(until, at, inputs, outputs, taken)
        self._let_the_empty_go()
        return taken

    def _advance(self, until: float, at: Floats, inputs: Floats, outputs: Floats, taken: int) -> int:
        before = self.now
        self._target_seconds += self._machine.pools["targets"] * (until - before)
        while True:
            taken = kernel.run(self._machine, at, inputs, outputs, taken, until)
            if taken >= at.size or at[taken] >= until:
                return taken
            self._more_requests()

    def departures(self) -> list[Departure]:
        """Instances that are gone since the last call, in the order of time."""
        gone, self._departures = self._departures, []
        return sorted(gone, key=lambda departure: departure.at)

    def loads(self) -> Iterator[tuple[int, InstanceLoad]]:
        """What each instance holds now, by its number."""
        for instance, slot in self._slots.items():
            row = self._machine.instances[slot]
            pool = int(row["pool"])
            yield (
                instance,
                InstanceLoad(
                    pool=pool,
                    draining=instance in self._draining,
                    running=int(row["batch"] + (row["prefilling"] >= 0)),
                    waiting=int(row["waiting"]),
                    kv_percent=100 * float(row["kv_tokens"]) / self.engines[int(row["engine"])].kv_cache_tokens,
                    served=int(row["served"]),
                ),
            )

    def samples(self) -> list[Gauges]:
        """The gauges as they were read since the last call, oldest first: the newest `kernel.SAMPLES` of them."""
        m = self._machine
        count = int(m.core[0]["samples"])
        first = max(self._samples_taken, count - kernel.SAMPLES)
        self._samples_taken = count
        found: list[Gauges] = []
        for k in (number % kernel.SAMPLES for number in range(first, count)):
            values = m.sample_values[k, : m.sample_sizes[k]].T.copy()
            sums = [tuple(column) for column in m.sample_sums[k].T.tolist()]
            found.append(Gauges(float(m.sample_times[k]), *values, *sums))
        return found

    def window(self) -> Window:
        """What happened since the last call; the counters start anew."""
        machine, now = self._machine, self.now
        integrals = self._gone + self._integrals_of(machine.instances[machine.instances["state"] != kernel.FREE])
        pools = tuple(
            _pool_window(now - self._window_start, self._target_seconds[p], machine, integrals[p], p)
            for p in range(machine.pools.size)
        )
        unrouted = int(machine.counters[-1, kernel.REJECTED_NO_TARGET])
        window = Window(self._window_start, now, pools, unrouted)
        machine.counters[:] = 0
        machine.histogram[:] = 0
        for name in _INTEGRALS:
            machine.instances[name] = 0.0
        self._gone[:] = 0
        self._target_seconds[:] = 0
        self._window_start = now
        return window

    def requests(self) -> RequestLog:
        """Every request so far. Raises ValueError where they were not kept."""
        if not self._keep_requests:
            raise ValueError("keep_requests: must be true to read the requests (got False)")
        n, machine = self.arrived, self._machine
        times = machine.times[:n]
        return RequestLog(
            machine.outcome[:n].copy(), machine.place[:n, 0].copy(), times[:, 0].copy(), times[:, 1].copy()
        )

    # --- room ---

    def _let_the_empty_go(self) -> None:
        for instance in sorted(self._draining):
            row = self._machine.instances[self._slots[instance]]
            if row["batch"] == 0 and row["waiting"] == 0 and row["prefilling"] < 0:
                at = float(row["emptied"])
                kernel.kill(self._machine, self._slots[instance], self.now)
                self._leave(instance, at, 0)

    def _leave(self, instance: int, at: float, lost: int) -> None:
        slot = self._slots.pop(instance)
        self._draining.discard(instance)
        self._gone += self._integrals_of(self._machine.instances[slot : slot + 1])
        for name in _INTEGRALS:
            self._machine.instances[name][slot] = 0.0
        self._free_slots.append(slot)
        self._departures.append(Departure(instance, at, lost))

    def _integrals_of(self, rows: np.ndarray) -> Floats:
        pools = self._machine.pools.size
        sums = [np.bincount(rows["pool"], rows[name], pools) for name in _INTEGRALS]
        return np.stack(sums, axis=1).astype(np.float64)

    def _more_instances(self) -> None:
        m = self._machine
        old = m.instances.size
        self._free_slots.extend(range(2 * old - 1, old - 1, -1))
        self._machine = m._replace(
            instances=_longer(m.instances, 0, 2 * old),
            marks=_longer(m.marks, 0, 2 * old),
            sequences=_longer(m.sequences, 0, 2 * old),
            outstanding=_longer(m.outstanding, 1, 2 * old),
            targets=_longer(m.targets, 1, 2 * old),
            event_times=_longer(m.event_times, 0, 2 * old),
            event_instances=_longer(m.event_instances, 0, 2 * old),
            sample_values=_longer(m.sample_values, 1, 2 * old),
        )

    def _more_requests(self) -> None:
        m = self._machine
        old = m.requests.size
        requests = _longer(m.requests, 0, 2 * old)
        requests["next"][old:] = np.arange(old + 1, 2 * old + 1)
        requests["next"][-1] = m.core[0]["free"]
        m.core[0]["free"] = old
        self._machine = m._replace(requests=requests)

    def _room_for_log(self, size: int) -> None:
        m = self._machine
        if m.outcome.size < size:
            size = max(size, 2 * m.outcome.size)
            self._machine = m._replace(
                outcome=_longer(m.outcome, 0, size),
                place=_longer(m.place, 0, size, fill=-1),
                times=_longer(m.times, 0, size, fill=np.nan),
            )


_INTEGRALS = ("running_seconds", "waiting_seconds", "busy_seconds", "present_seconds")


def _longer(array: np.ndarray, axis: int, size: int, fill: float = 0) -> np.ndarray:
    """A copy with `size` places along the axis, the new ones filled."""
    shape = list(array.shape)
    shape[axis] = size - array.shape[axis]
    tail = np.zeros(shape, array.dtype)
    if fill != 0:
        tail[:] = fill
    return np.concatenate([array, tail], axis=axis)


def _machine(engines: Sequence[Engine], count: int, instances: int, requests: int) -> kernel.KernelState:
    """The empty state of `count` pools."""
    places = max(engine.max_sequences for engine in engines) + 1
    machine = kernel.KernelState(
        core=np.zeros(1, kernel.CORE),
        pools=np.zeros(count, kernel.POOL),
        engines=np.zeros(len(engines), kernel.ENGINE),
        instances=np.zeros(instances, kernel.INSTANCE),
        requests=np.zeros(requests, kernel.REQUEST),
        marks=np.zeros((instances, places)),
        sequences=np.zeros((instances, places), np.int64),
        outstanding=np.zeros((count, instances), np.int32),
        targets=np.zeros((count, instances), np.int64),
        event_times=np.zeros(instances),
        event_instances=np.zeros(instances, np.int64),
        counters=np.zeros((count + 1, kernel.COUNTERS)),
        histogram=np.zeros((count, 3, kernel.BUCKETS), np.int64),
        sample_times=np.zeros(kernel.SAMPLES),
        sample_sizes=np.zeros(kernel.SAMPLES, np.int64),
        sample_values=np.zeros((kernel.SAMPLES, instances, 8)),
        sample_sums=np.zeros((kernel.SAMPLES, count, 7)),
        outcome=np.zeros(0, np.int8),
        place=np.full((0, 2), -1, np.int32),
        times=np.zeros((0, 2)),
    )
    machine.requests["next"] = np.arange(1, requests + 1)
    machine.requests["next"][-1] = -1
    machine.pools["weight"] = 1.0
    for row, engine in zip(machine.engines, engines, strict=True):
        row["prefill_base"] = engine.prefill_base_seconds
        row["prefill_per_token"] = engine.prefill_seconds_per_token
        row["decode_base"] = engine.decode_base_seconds
        row["decode_per_sequence"] = engine.decode_seconds_per_sequence
        row["kv_tokens"] = engine.kv_cache_tokens
        row["max_sequences"] = engine.max_sequences
        row["max_waiting"] = -1 if engine.max_waiting is None else engine.max_waiting
    return machine


def _pool_window(
    seconds: float, target_seconds: float, machine: kernel.KernelState, integrals: Floats, p: int
) -> PoolWindow:
    counters = machine.counters[p]
    running, waiting, busy, present = (float(x) for x in integrals)
    ttft, tpot, e2e = (Sketch(machine.histogram[p, kind].copy()) for kind in (kernel.TTFT, kernel.TPOT, kernel.E2E))
    return PoolWindow(
        seconds=seconds,
        target_seconds=float(target_seconds),
        routed=int(counters[kernel.ROUTED]),
        completed=int(counters[kernel.FINISHED]),
        attained=int(counters[kernel.ATTAINED]),
        rejected_no_target=int(counters[kernel.REJECTED_NO_TARGET]),
        rejected_queue_full=int(counters[kernel.REJECTED_QUEUE_FULL]),
        rejected_too_long=int(counters[kernel.REJECTED_TOO_LONG]),
        lost=int(counters[kernel.LOST_REQUESTS]),
        first_tokens=int(counters[kernel.FIRST_TOKENS]),
        ttft_seconds_sum=float(counters[kernel.TTFT_SECONDS]),
        tpot_seconds_sum=float(counters[kernel.TPOT_SECONDS]),
        e2e_seconds_sum=float(counters[kernel.E2E_SECONDS]),
        input_tokens=float(counters[kernel.INPUT_TOKENS]),
        output_tokens=float(counters[kernel.OUTPUT_TOKENS]),
        running_seconds=running,
        waiting_seconds=waiting,
        busy_seconds=busy,
        present_seconds=present,
        ttft=ttft,
        tpot=tpot,
        e2e=e2e,
    )
