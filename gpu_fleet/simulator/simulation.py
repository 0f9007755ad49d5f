"""Pools of serving instances under a stream of requests, run window by window on virtual time."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpu_fleet.config.settings import Algorithm
from gpu_fleet.scaling.policy import Slo
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.queue_limit import UNLIMITED, QueueLimit
from gpu_fleet.simulator import kernel
from gpu_fleet.simulator.client_affinity import NO_AFFINITY, Affinity
from gpu_fleet.simulator.pool_window import PoolWindow, Window
from gpu_fleet.simulator.sketch import Sketch

Floats = NDArray[np.float64]

FIRST_INSTANCES = 32
FIRST_REQUESTS = 1024
"""Room at the start; it doubles as needed."""


class PoolChoice(IntEnum):
    """Rule by which the load balancer chooses a pool for a request."""

    WEIGHTED_RANDOM = kernel.WEIGHTED_RANDOM
    SMOOTH_WEIGHTED = kernel.SMOOTH_WEIGHTED


class TargetChoice(IntEnum):
    """Rule by which it then chooses an instance of the pool."""

    LEAST_OUTSTANDING = kernel.LEAST_OUTSTANDING
    ROUND_ROBIN = kernel.ROUND_ROBIN
    RANDOM = kernel.RANDOM

    @classmethod
    def of(cls, algorithm: Algorithm) -> Self:
        """Return the rule of a target group's algorithm.

        Weighted random is plain random here: its weights fall only for a target that answers with errors
        (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html).
        """
        return cls[_CHOICES[algorithm]]


_CHOICES = {
    Algorithm.LEAST_OUTSTANDING_REQUESTS: "LEAST_OUTSTANDING",
    Algorithm.ROUND_ROBIN: "ROUND_ROBIN",
    Algorithm.WEIGHTED_RANDOM: "RANDOM",
}


class RequestOutcome(IntEnum):
    """Outcome of a request."""

    PENDING = kernel.PENDING
    COMPLETED = kernel.COMPLETED
    NO_TARGET = kernel.NO_TARGET
    """Rejected (503): its pool had no target, or all weights were 0."""
    QUEUE_FULL = kernel.QUEUE_FULL
    """Refused (503) by an instance whose queue was full."""
    TOO_LONG = kernel.TOO_LONG
    """Rejected by an instance whose memory cannot hold it even when empty."""
    LOST = kernel.LOST
    """Held by an instance that died, or that reached its drain deadline."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Speed, memory and queue of an instance, in the figures of `gpu_fleet.scaling.profile`."""

    prefill_base_seconds: float
    prefill_seconds_per_token: float
    decode_base_seconds: float
    decode_seconds_per_sequence: float
    kv_cache_tokens: float
    max_sequences: int
    queue_limit: QueueLimit = UNLIMITED
    """At any of its numbers, what comes is refused."""

    @classmethod
    def of(cls, profile: Profile, queue_limit: QueueLimit = UNLIMITED) -> Self:
        """Return the engine that a serving profile describes."""
        return cls(
            prefill_base_seconds=profile.prefill_base_seconds,
            prefill_seconds_per_token=1 / profile.prefill_tokens_per_second,
            decode_base_seconds=profile.decode_base_seconds,
            decode_seconds_per_sequence=profile.decode_seconds_per_sequence,
            kv_cache_tokens=float(profile.kv_cache_tokens),
            max_sequences=profile.max_sequences,
            queue_limit=queue_limit,
        )


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """Requests that one instance holds now."""

    running: int
    waiting: int


@dataclass(frozen=True, slots=True, eq=False)
class Gauges:
    """Gauges of the targets at one moment. Draining instances are not targets."""

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
    """[targets] Share of memory reserved, 0 to 1."""
    ended: Floats
    """[targets] Requests completed since the last sample."""
    input_tokens: Floats
    """[targets] Mean prompt of those requests; 0 if none."""
    output_tokens: Floats
    """[targets] Mean answer of those requests; 0 if none."""
    late: Floats
    """[targets] Requests outside the SLO since the last sample, as an instance counts them: the larger of the first
    tokens that came late and the completed requests whose later tokens did."""
    pool_targets: tuple[float, ...]
    """[pools] Number of targets."""
    pool_running: tuple[float, ...]
    """[pools] Sum over the targets."""
    pool_waiting: tuple[float, ...]
    """[pools] Sum over the targets."""
    pool_ended: tuple[float, ...]
    """[pools] Requests completed since the last sample."""
    pool_reporters: tuple[float, ...]
    """[pools] Targets that completed requests since the last sample, and so report their lengths."""
    pool_input_tokens: tuple[float, ...]
    """[pools] Sum of those targets' mean prompts."""
    pool_output_tokens: tuple[float, ...]
    """[pools] Sum of those targets' mean answers."""
    pool_late: tuple[float, ...]
    """[pools] Sum over the targets."""


@dataclass(frozen=True, slots=True)
class Departure:
    """An instance that has left."""

    instance: int
    at: float
    lost: int
    """Requests lost with it."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestLog:
    """Every request in order of arrival, at 29 bytes each."""

    outcome: NDArray[np.int8]
    """[n] `RequestOutcome`."""
    pool: NDArray[np.int32]
    """[n]; -1 for a request that reached none."""
    first_token_at: Floats
    """[n] seconds; nan if it had none."""
    finished_at: Floats
    """[n] seconds; nan if not completed."""


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """The load balancer's rules, and settings that only checks of the simulator change."""

    affinity: Affinity = NO_AFFINITY
    target_choice: TargetChoice = TargetChoice.LEAST_OUTSTANDING
    pool_choice: PoolChoice = PoolChoice.WEIGHTED_RANDOM
    output_reserved: float = 0.5
    """Share of the output tokens that admission reserves memory for, beside the prompt.

    0.5 is the average of a decoding sequence under paged memory, and what `gpu_fleet.scaling.profile` assumes;
    1.0 is an engine that reserves for the whole answer.
    """
    keep_requests: bool = False
    """Keep every request's outcome and times for `Simulation.requests`."""

    def __post_init__(self) -> None:
        if not 0 <= self.output_reserved <= 1:
            raise ValueError(f"output_reserved: must be from 0 to 1 (got {self.output_reserved})")


class Simulation:
    """Up to five pools of instances behind a load balancer, from second 0 on.

    `engines` has one entry a pool. `more_engines` are engines that instances of any pool may run instead (`join`); they
    are numbered after those of the pools. A request attains the SLO if it completes within `slo` (None: whenever it
    completes). The gauges are sampled every `sample_seconds`.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        more_engines: Sequence[Engine] = (),
        slo: Slo | None = None,
        seed: int = 0,
        sample_seconds: float = np.inf,
        options: SimulationOptions | None = None,
    ) -> None:
        if not engines:
            raise ValueError("engines: must be at least one")
        if not sample_seconds > 0:
            raise ValueError(f"sample_seconds: must be above 0 (got {sample_seconds})")
        options = options or SimulationOptions()
        self.engines = (*engines, *more_engines)
        self._keep_requests = options.keep_requests
        state = _initial_state(self.engines, len(engines), instances=FIRST_INSTANCES, requests=FIRST_REQUESTS)
        self._state = _with_clients(state, options.affinity)
        core = self._state.core[0]
        core["stickiness_seconds"] = options.affinity.stickiness_seconds
        core["leave_share"] = 1 / options.affinity.clients.requests_each
        core["random"] = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
        core["pool_choice"], core["target_choice"] = options.pool_choice, options.target_choice
        core["output_reserved"] = options.output_reserved
        core["ttft_limit"] = slo.ttft_seconds if slo else np.inf
        core["ttft_limit_per_token"] = slo.ttft_seconds_per_1000_input_tokens / 1000 if slo else 0.0
        core["tpot_limit"] = slo.tpot_seconds if slo else np.inf
        core["sample_every"] = core["sample_at"] = sample_seconds
        self._samples_read = 0
        self._slots: dict[int, int] = {}
        self._serial = itertools.count()
        self._free_slots = list(range(FIRST_INSTANCES - 1, -1, -1))
        self._draining: set[int] = set()
        self._departures: list[Departure] = []
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._window_start = 0.0
        self._target_seconds = np.zeros(len(engines))
        self._departed_integrals = np.zeros((len(engines), len(_INTEGRALS)))

    @property
    def now(self) -> float:
        """The time reached."""
        return float(self._state.core[0]["now"])

    @property
    def in_flight(self) -> int:
        """Requests waiting or in service."""
        return int(self._state.core[0]["in_flight"])

    @property
    def arrived(self) -> int:
        """Requests since the start, including rejected ones."""
        return int(self._state.core[0]["arrived"])

    def targets(self, pool: int) -> int:
        """Return the number of the pool's instances that take requests now."""
        return int(self._state.pools[pool]["targets"])

    # --- changes, now or at a later time ---

    def set_weights(self, weights: Sequence[float], at: float | None = None) -> None:
        """Share the traffic among the pools in proportion to the weights.

        Raises ValueError for a negative weight or a wrong number of weights.
        """
        pools = self._state.pools.size
        if len(weights) != pools:
            raise ValueError(f"weights: must be one a pool (got {len(weights)} for {pools})")
        for p, weight in enumerate(weights):
            if not weight >= 0:
                raise ValueError(f"weights[{p}]: must not be negative (got {weight})")
        values = tuple(weights)

        def apply() -> None:
            self._state.pools["weight"] = values
            self._state.pools["credit"] = 0.0

        self._schedule(at, apply)

    def set_hash_weights(self, weights: Sequence[Sequence[float]]) -> None:
        """Share each digit's clients by weights of its own, from now on: [digits][pools], digits as in `Affinity`.

        Raises ValueError for a wrong number of digits or pools.
        """
        shape = self._state.hash_weights.shape
        given = np.asarray(weights, np.float64)
        if given.shape != shape:
            raise ValueError(f"weights: must be {shape[0]} digits by {shape[1]} pools (got {given.shape})")
        self._state.hash_weights[:] = given

    def join(self, pool: int, at: float | None = None, engine: int | None = None) -> int:
        """Add an instance that takes requests from `at` on; return its number, which is never used again.

        It runs the pool's engine, or the one of that index in `engines`.
        """
        pools = self._state.pools.size
        if not 0 <= pool < pools:
            raise ValueError(f"pool: must be from 0 to {pools - 1} (got {pool})")
        runs = pool if engine is None else engine
        if not 0 <= runs < len(self.engines):
            raise ValueError(f"engine: must be from 0 to {len(self.engines) - 1} (got {runs})")
        instance = next(self._serial)

        def apply() -> None:
            if not self._free_slots:
                self._grow_instances()
            slot = self._free_slots.pop()
            self._slots[instance] = slot
            kernel.join(self._state, slot, pool, runs, self.now, instance)

        self._schedule(at, apply)
        return instance

    def drain(self, instance: int, at: float | None = None, deadline: float | None = None) -> None:
        """Let the instance take no new requests from `at` on, and leave once it is empty.

        At the deadline it leaves with the requests it still holds, which are lost. Draining an instance that drains
        already or has left does nothing.
        """

        def apply() -> None:
            slot = self._slots.get(instance)
            if slot is not None and instance not in self._draining:
                kernel.drain(self._state, slot, self.now)
                self._draining.add(instance)

        self._schedule(at, apply)
        if deadline is not None:
            self.kill(instance, deadline)

    def kill(self, instance: int, at: float | None = None) -> None:
        """Remove the instance at `at`; its requests are lost. Killing an instance that has left does nothing."""

        def apply() -> None:
            self._remove_empty()
            slot = self._slots.get(instance)
            if slot is not None:
                lost = kernel.kill(self._state, slot, self.now)
                self._remove(instance, self.now, int(lost))

        self._schedule(at, apply)

    def _schedule(self, at: float | None, action: Callable[[], None]) -> None:
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
        """Let everything before `until` happen, with these arrivals; return how many of them arrived.

        The three arrays [n] are sorted by time, from now on; requests at `until` or later do not arrive, and the next
        call must bring them again. Raises ValueError for arrays that differ in length or are out of order, and for a
        time in the past.
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
            self._grow_log(self.arrived + at.size)
        taken = 0
        while self._planned and self._planned[0][0] < until:
            time, _, action = heapq.heappop(self._planned)
            taken = self._advance(time, at, inputs, outputs, taken)
            action()
        taken = self._advance(until, at, inputs, outputs, taken)
        self._remove_empty()
        return taken

    def _advance(self, until: float, at: Floats, inputs: Floats, outputs: Floats, taken: int) -> int:
        """Run the kernel to `until`, with more room for requests whenever it runs out; return the arrivals taken."""
        before = self.now
        self._target_seconds += self._state.pools["targets"] * (until - before)
        while True:
            taken = kernel.run(self._state, at, inputs, outputs, taken, until)
            if taken >= at.size or at[taken] >= until:
                return taken
            self._grow_requests()

    def departures(self) -> list[Departure]:
        """Return the instances that left since the last call, in order of time."""
        departures, self._departures = self._departures, []
        return sorted(departures, key=lambda departure: departure.at)

    def loads(self) -> Iterator[tuple[int, InstanceLoad]]:
        """Yield every instance's number and the requests it holds now."""
        for instance, slot in self._slots.items():
            row = self._state.instances[slot]
            running = int(row["batch"] + (row["prefilling"] >= 0))
            yield instance, InstanceLoad(running=running, waiting=int(row["waiting"]))

    def samples(self) -> list[Gauges]:
        """Return the samples taken since the last call, oldest first: at most the newest `kernel.SAMPLES`."""
        state = self._state
        count = int(state.core[0]["samples"])
        first = max(self._samples_read, count - kernel.SAMPLES)
        self._samples_read = count
        samples: list[Gauges] = []
        for k in (number % kernel.SAMPLES for number in range(first, count)):
            values = state.sample_values[k, : state.sample_sizes[k]].T.copy()
            sums = [tuple(column) for column in state.sample_sums[k].T.tolist()]
            samples.append(Gauges(float(state.sample_times[k]), *values, *sums))
        return samples

    def window(self) -> Window:
        """Return the figures since the last call, and reset the counters."""
        state, now = self._state, self.now
        integrals = self._departed_integrals + self._integrals_of(
            state.instances[state.instances["state"] != kernel.FREE]
        )
        pools = tuple(
            _pool_window(now - self._window_start, self._target_seconds[p], state, integrals[p], p)
            for p in range(state.pools.size)
        )
        unrouted = int(state.counters[-1, kernel.REJECTED_NO_TARGET])
        window = Window(self._window_start, now, pools, unrouted)
        state.counters[:] = 0
        state.histogram[:] = 0
        for name in _INTEGRALS:
            state.instances[name] = 0.0
        self._departed_integrals[:] = 0
        self._target_seconds[:] = 0
        self._window_start = now
        return window

    def requests(self) -> RequestLog:
        """Return every request so far. Raises ValueError if they were not kept."""
        if not self._keep_requests:
            raise ValueError("keep_requests: must be true to read the requests (got False)")
        n, state = self.arrived, self._state
        times = state.times[:n]
        return RequestLog(state.outcome[:n].copy(), state.place[:n, 0].copy(), times[:, 0].copy(), times[:, 1].copy())

    # --- memory ---

    def _remove_empty(self) -> None:
        for instance in sorted(self._draining):
            row = self._state.instances[self._slots[instance]]
            if row["batch"] == 0 and row["waiting"] == 0 and row["prefilling"] < 0:
                at = float(row["emptied_at"])
                kernel.kill(self._state, self._slots[instance], self.now)
                self._remove(instance, at, 0)

    def _remove(self, instance: int, at: float, lost: int) -> None:
        slot = self._slots.pop(instance)
        self._draining.discard(instance)
        self._departed_integrals += self._integrals_of(self._state.instances[slot : slot + 1])
        for name in _INTEGRALS:
            self._state.instances[name][slot] = 0.0
        self._free_slots.append(slot)
        self._departures.append(Departure(instance, at, lost))

    def _integrals_of(self, rows: np.ndarray) -> Floats:
        pools = self._state.pools.size
        sums = [np.bincount(rows["pool"], rows[name], pools) for name in _INTEGRALS]
        return np.stack(sums, axis=1).astype(np.float64)

    def _grow_instances(self) -> None:
        state = self._state
        old = state.instances.size
        self._free_slots.extend(range(2 * old - 1, old - 1, -1))
        self._state = state._replace(
            instances=_longer(state.instances, 0, 2 * old),
            marks=_longer(state.marks, 0, 2 * old),
            sequences=_longer(state.sequences, 0, 2 * old),
            outstanding=_longer(state.outstanding, 1, 2 * old),
            targets=_longer(state.targets, 1, 2 * old),
            event_times=_longer(state.event_times, 0, 2 * old),
            event_instances=_longer(state.event_instances, 0, 2 * old),
            sample_values=_longer(state.sample_values, 1, 2 * old),
        )

    def _grow_requests(self) -> None:
        state = self._state
        old = state.requests.size
        requests = _longer(state.requests, 0, 2 * old)
        requests["next"][old:] = np.arange(old + 1, 2 * old + 1)
        requests["next"][-1] = state.core[0]["free"]
        state.core[0]["free"] = old
        self._state = state._replace(requests=requests)

    def _grow_log(self, size: int) -> None:
        state = self._state
        if state.outcome.size < size:
            size = max(size, 2 * state.outcome.size)
            self._state = state._replace(
                outcome=_longer(state.outcome, 0, size),
                place=_longer(state.place, 0, size, fill=-1),
                times=_longer(state.times, 0, size, fill=np.nan),
            )


_INTEGRALS = ("running_seconds", "waiting_seconds", "busy_seconds", "present_seconds")


def _longer(array: np.ndarray, axis: int, size: int, fill: float = 0) -> np.ndarray:
    """Return a copy with `size` places along the axis, the new ones filled with `fill`."""
    shape = list(array.shape)
    shape[axis] = size - array.shape[axis]
    tail = np.zeros(shape, array.dtype)
    if fill != 0:
        tail[:] = fill
    return np.concatenate([array, tail], axis=axis)


def _initial_state(engines: Sequence[Engine], count: int, instances: int, requests: int) -> kernel.KernelState:
    """Return the empty state of `count` pools."""
    places = max(engine.max_sequences for engine in engines) + 1
    state = kernel.KernelState(
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
        sample_values=np.zeros((kernel.SAMPLES, instances, 9)),
        sample_sums=np.zeros((kernel.SAMPLES, count, 8)),
        outcome=np.zeros(0, np.int8),
        place=np.full((0, 2), -1, np.int32),
        times=np.zeros((0, 2)),
        clients=np.zeros(0, kernel.CLIENT),
        hash_weights=np.zeros((0, count)),
    )
    state.requests["next"] = np.arange(1, requests + 1)
    state.requests["next"][-1] = -1
    state.pools["weight"] = 1.0
    for row, engine in zip(state.engines, engines, strict=True):
        row["prefill_base"] = engine.prefill_base_seconds
        row["prefill_per_token"] = engine.prefill_seconds_per_token
        row["decode_base"] = engine.decode_base_seconds
        row["decode_per_sequence"] = engine.decode_seconds_per_sequence
        row["kv_tokens"] = engine.kv_cache_tokens
        row["max_sequences"] = engine.max_sequences
        limit = engine.queue_limit
        row["max_requests"] = np.inf if limit.requests is None else limit.requests
        row["max_waiting"] = np.inf if limit.waiting is None else limit.waiting
        row["max_queued_tokens"] = np.inf if limit.prompt_tokens is None else limit.prompt_tokens
    return state


def _with_clients(state: kernel.KernelState, affinity: Affinity) -> kernel.KernelState:
    """Return the state with clients that have not come yet; none where nothing depends on who they are."""
    if affinity == NO_AFFINITY:
        return state
    clients = np.zeros(affinity.clients.active, kernel.CLIENT)
    clients["digit"] = -1
    return state._replace(clients=clients, hash_weights=np.ones((affinity.digits, state.pools.size)))


def _pool_window(
    seconds: float, target_seconds: float, state: kernel.KernelState, integrals: Floats, p: int
) -> PoolWindow:
    counters = state.counters[p]
    running, waiting, busy, present = (float(x) for x in integrals)
    ttft, tpot, e2e = (Sketch(state.histogram[p, kind].copy()) for kind in (kernel.TTFT, kernel.TPOT, kernel.E2E))
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
