"""The compiled event loop over arrays: arrivals, routing, continuous batching and completions.

One instance, as `gpu_fleet.scaling.profile` describes it:

- a request is refused when the instance holds as many requests as it may, when as many wait, or when the prompts that
  wait or are in prefill have reached a number of tokens;
- requests wait in order of arrival; the first is admitted when the batch has a place and memory has room for its
  tokens;
- an admitted prompt is prefilled alone, and decoding pauses meanwhile; the end of the prefill yields the first token;
- then the sequence joins the batch for `output_tokens - 1` decoding steps. All b sequences of the batch share each
  step of decode_base + b * decode_per_sequence seconds.

So decoding is processor sharing, which a token clock V makes exact: V advances by 1/step(b) a second while the
instance decodes and pauses during a prefill. A sequence that joins at V leaves at V + output_tokens - 1, whatever
joins or leaves in between, and the batch is a heap of these marks. Example: base 10 ms, 5 ms a sequence; one sequence
of 101 tokens joins at V = 0 and another at V = 50 (0.75 s later); the first leaves at V = 100, 50 steps of 20 ms
later, at 1.75 s.

Step boundaries are not modelled: sequences may join and leave between them, an error of at most one step.

All state is in the arrays of `KernelState`. The end of a window changes only the counters of time, so a run in windows
gives the same bits as a single run. All compiled code is in this one file: numba's disk cache notices a change to a
function's own file, not to the files of the functions it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_Function = TypeVar("_Function", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "error_model": "numpy",
    # No reference counts: the kernel creates and keeps no array, and its caller owns them all while it runs.
    # Counting makes it nine times slower (measured: 0.7 against 6.6 million requests a second).
    "_nrt": False,
}


def compiled(function: _Function) -> _Function:
    """Compile at the first call, and cache the machine code on disk.

    The cache is beside the source, in numba's user cache if that is read-only, and absent if neither can be written.
    """
    try:
        return cast(_Function, numba.njit(cache=True, **_OPTIONS)(function))
    except RuntimeError:  # "no locator available": nowhere to write
        return cast(_Function, numba.njit(**_OPTIONS)(function))


def inlined(function: _Function) -> _Function:
    """Compile into the caller's code: passing the arrays of a `KernelState` costs more than most calls do."""
    return cast(_Function, numba.njit(forceinline=True, **_OPTIONS)(function))


FREE, READY, DRAINING = 0, 1, 2
"""State of an instance's slot."""

WEIGHTED_RANDOM, SMOOTH_WEIGHTED = 0, 1
"""Choice of a pool: a seeded draw, or nginx's smooth weighted round robin
(https://github.com/phusion/nginx/commit/27e94984486058d73157038f7950a0a36ecc6e35)."""

LEAST_OUTSTANDING, ROUND_ROBIN, RANDOM = 0, 1, 2
"""Choice of an instance of the pool: the algorithms of a target group
(https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html).
The first breaks ties in turn."""

PENDING, COMPLETED, NO_TARGET, QUEUE_FULL, TOO_LONG, LOST = 0, 1, 2, 3, 4, 5
"""Outcome of a request."""

(
    ROUTED,
    FINISHED,
    ATTAINED,
    REJECTED_NO_TARGET,
    REJECTED_QUEUE_FULL,
    REJECTED_TOO_LONG,
    LOST_REQUESTS,
    FIRST_TOKENS,
    TTFT_SECONDS,
    TPOT_SECONDS,
    E2E_SECONDS,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
) = range(13)
COUNTERS = 13
"""Columns of `KernelState.counters`: one row a pool, and a last row for requests that reached no pool."""

TTFT, TPOT, E2E = 0, 1, 2

SAMPLES = 16
"""Number of gauge samples kept, the newest ones."""

SAME_TOKEN = 1e-9
"""Sequences whose last tokens are this close leave together. If rounding alone separated them, the first one's place
could go to a prompt, and the second would wait for its prefill with nothing left to do."""

BUCKETS = 1000
SMALLEST_SECONDS = 1e-4
GROWTH = 1.02
"""The latency histogram: bucket k >= 1 holds (SMALLEST * GROWTH^(k-1), SMALLEST * GROWTH^k], up to 10.9 hours;
a value read from its middle is at most 1 % off (Masson et al., "DDSketch", VLDB'19, section 2)."""
_BUCKETS_PER_LOG = 1 / np.log(GROWTH)

INSTANCE = np.dtype(
    [
        ("number", "i8"),  # of the instance outside the kernel
        ("pool", "i8"),
        ("engine", "i8"),
        ("state", "i8"),
        ("seat", "i8"),  # index in the pool's list of targets; -1: takes no new requests
        ("event_index", "i8"),  # index in the heap of next events; -1: none
        ("prefilling", "i8"),  # the request in prefill; -1: none
        ("head", "i8"),  # first waiting request; -1: none
        ("tail", "i8"),
        ("batch", "i8"),  # decoding sequences
        ("waiting", "i8"),
        ("served", "i8"),
        ("served_at_sample", "i8"),  # value of `served` at the last sample
        ("served_input", "f8"),  # prompt tokens of the requests served since the last sample
        ("served_output", "f8"),  # their answer tokens
        ("late_firsts", "i8"),  # first tokens beyond their limit since the last sample
        ("late_paces", "i8"),  # requests served since then whose time per output token was beyond its limit
        ("clock", "f8"),  # V at the time `clock_at`
        ("clock_at", "f8"),
        ("prefill_end", "f8"),
        ("kv_tokens", "f8"),  # reserved
        ("queued_tokens", "f8"),  # prompts that wait or are in prefill
        ("integrated_until", "f8"),  # the integrals below are complete up to this time
        ("running_seconds", "f8"),
        ("waiting_seconds", "f8"),
        ("busy_seconds", "f8"),
        ("present_seconds", "f8"),
        ("emptied_at", "f8"),  # when its last request left
    ],
    align=True,
)

REQUEST = np.dtype(
    [
        ("at", "f8"),
        ("input_tokens", "f8"),
        ("output_tokens", "f8"),
        ("kv_tokens", "f8"),
        ("first", "f8"),  # time of the first token
        ("next", "i8"),  # the next waiting request, or the next free place
        ("index", "i8"),  # its number in order of arrival
    ],
    align=True,
)

ENGINE = np.dtype(
    [
        ("prefill_base", "f8"),
        ("prefill_per_token", "f8"),
        ("decode_base", "f8"),
        ("decode_per_sequence", "f8"),
        ("kv_tokens", "f8"),
        ("max_sequences", "i8"),
        ("max_requests", "f8"),  # infinity: no limit, here and below
        ("max_waiting", "f8"),
        ("max_queued_tokens", "f8"),
    ],
    align=True,
)

POOL = np.dtype(
    [
        ("weight", "f8"),
        ("credit", "f8"),
        ("targets", "i8"),
        ("turn", "i8"),
    ],
    align=True,
)

CLIENT = np.dtype(
    [
        ("digit", "i8"),  # row of `hash_weights` that its requests follow
        ("pool", "i8"),  # where its cookie sends it
        ("slot", "i8"),
        ("number", "i8"),  # of that instance; the slot may have a new one by now
        ("until", "f8"),  # when its cookie expires
    ],
    align=True,
)

CORE = np.dtype(
    [
        ("now", "f8"),
        ("arrived", "i8"),
        ("free", "i8"),  # first free place for a request; -1: none
        ("in_flight", "i8"),
        ("events", "i8"),
        ("instances", "i8"),  # slots ever used
        ("random", "u8"),
        ("pool_choice", "i8"),
        ("target_choice", "i8"),
        ("output_reserved", "f8"),
        ("leave_share", "f8"),  # of the requests: those before which a new client takes the place of an old one
        ("stickiness_seconds", "f8"),  # 0: no cookies
        ("ttft_limit", "f8"),
        ("ttft_limit_per_token", "f8"),
        ("tpot_limit", "f8"),
        ("sample_at", "f8"),  # time of the next sample; infinity: never
        ("sample_every", "f8"),
        ("samples", "i8"),  # taken so far
    ],
    align=True,
)


class KernelState(NamedTuple):
    """The complete state: P pools, E engines, N instance slots, M places in a batch, R places for requests in flight,
    C clients, D digits.

    Those of type Any are record arrays, whose fields numba alone can name.
    """

    core: Any  # [1] CORE
    pools: Any  # [P] POOL
    engines: Any  # [E] ENGINE
    instances: Any  # [N] INSTANCE
    requests: Any  # [R] REQUEST
    marks: NDArray[np.float64]  # [N, M], heap: token clock at which the sequence leaves
    sequences: NDArray[np.int64]  # [N, M], request of each mark
    outstanding: NDArray[np.int32]  # [P, N], requests at each target of a pool
    targets: NDArray[np.int64]  # [P, N], instance of each
    event_times: NDArray[np.float64]  # [N], heap: time of an instance's next event
    event_instances: NDArray[np.int64]  # [N]
    counters: NDArray[np.float64]  # [P + 1, COUNTERS]
    histogram: NDArray[np.int64]  # [P, 3, BUCKETS]
    sample_times: NDArray[np.float64]  # [SAMPLES], a ring
    sample_sizes: NDArray[np.int64]  # [SAMPLES], targets
    sample_values: NDArray[np.float64]  # [SAMPLES, N, 9], as `simulation.Gauges`
    sample_sums: NDArray[np.float64]  # [SAMPLES, P, 8], as `simulation.Gauges`
    outcome: NDArray[np.int8]  # [requests of the trace], or empty if not kept
    place: NDArray[np.int32]  # [same, 2], pool and instance slot
    times: NDArray[np.float64]  # [same, 2], time of the first token and of the end
    clients: Any  # [C] CLIENT; empty: every request is a client of its own
    hash_weights: NDArray[np.float64]  # [D, P]: weights of the pools by digit; empty: those of `pools`


# --- the heap of next events: one entry for each instance with work ----------------------------------------------


@inlined
def _sift_up(m: KernelState, k: int, time: float, i: int) -> None:
    """Move the entry (time, i) from place k towards the root."""
    while k > 0:
        above = (k - 1) >> 1
        if m.event_times[above] <= time:
            break
        j = m.event_instances[above]
        m.event_times[k] = m.event_times[above]
        m.event_instances[k] = j
        m.instances[j].event_index = k
        k = above
    m.event_times[k] = time
    m.event_instances[k] = i
    m.instances[i].event_index = k


@inlined
def _sift_down(m: KernelState, k: int, time: float, i: int) -> None:
    """Move the entry (time, i) from place k towards the leaves."""
    n = m.core[0].events
    while True:
        below = 2 * k + 1
        if below >= n:
            break
        if below + 1 < n and m.event_times[below + 1] < m.event_times[below]:
            below += 1
        if m.event_times[below] >= time:
            break
        j = m.event_instances[below]
        m.event_times[k] = m.event_times[below]
        m.event_instances[k] = j
        m.instances[j].event_index = k
        k = below
    m.event_times[k] = time
    m.event_instances[k] = i
    m.instances[i].event_index = k


@inlined
def _schedule(m: KernelState, i: int) -> None:
    """Enter the instance's next event: the end of its prefill, else the end of a sequence of the batch."""
    instance = m.instances[i]
    core = m.core[0]
    k = instance.event_index
    if instance.prefilling >= 0:
        time = instance.prefill_end
    elif instance.batch > 0:
        engine = m.engines[instance.engine]
        step = engine.decode_base + instance.batch * engine.decode_per_sequence
        time = instance.clock_at + max(0.0, m.marks[i, 0] - instance.clock) * step
    else:
        if k >= 0:
            core.events -= 1
            last: int = core.events
            instance.event_index = -1
            if k != last:
                moved, moved_time = m.event_instances[last], m.event_times[last]
                if k > 0 and m.event_times[(k - 1) >> 1] > moved_time:
                    _sift_up(m, k, moved_time, moved)
                else:
                    _sift_down(m, k, moved_time, moved)
        return
    if k < 0:
        core.events += 1
        _sift_up(m, core.events - 1, time, i)
    elif time < m.event_times[k]:
        _sift_up(m, k, time, i)
    else:
        _sift_down(m, k, time, i)


# --- the batch: a heap of marks per instance ---------------------------------------------------------------------


@inlined
def _join_batch(m: KernelState, i: int, mark: float, r: int) -> None:
    instance = m.instances[i]
    k = instance.batch
    instance.batch += 1
    while k > 0:
        above = (k - 1) >> 1
        if m.marks[i, above] <= mark:
            break
        m.marks[i, k] = m.marks[i, above]
        m.sequences[i, k] = m.sequences[i, above]
        k = above
    m.marks[i, k] = mark
    m.sequences[i, k] = r


@inlined
def _leave_batch(m: KernelState, i: int) -> int:
    """Remove the sequence with the least mark from the batch."""
    instance = m.instances[i]
    first = m.sequences[i, 0]
    instance.batch -= 1
    n = instance.batch
    mark, r = m.marks[i, n], m.sequences[i, n]
    k = 0
    while True:
        below = 2 * k + 1
        if below >= n:
            break
        if below + 1 < n and m.marks[i, below + 1] < m.marks[i, below]:
            below += 1
        if m.marks[i, below] >= mark:
            break
        m.marks[i, k] = m.marks[i, below]
        m.sequences[i, k] = m.sequences[i, below]
        k = below
    m.marks[i, k] = mark
    m.sequences[i, k] = r
    return first


# --- one instance ------------------------------------------------------------------------------------------------


@inlined
def _integrate(m: KernelState, i: int, now: float) -> None:
    """Bring the integrals over time up to now. The course of the simulation does not depend on them."""
    instance = m.instances[i]
    elapsed = now - instance.integrated_until
    if elapsed > 0:
        running = instance.batch + (1 if instance.prefilling >= 0 else 0)
        if running > 0:
            instance.running_seconds += running * elapsed
            instance.waiting_seconds += instance.waiting * elapsed
            instance.busy_seconds += elapsed
        if running > 0 or instance.state == READY:
            instance.present_seconds += elapsed
        instance.integrated_until = now


@inlined
def _advance_clock(m: KernelState, i: int, now: float) -> None:
    """Bring the token clock up to now. Not for use during a prefill, when the clock pauses."""
    instance = m.instances[i]
    if instance.batch > 0:
        engine = m.engines[instance.engine]
        step = engine.decode_base + instance.batch * engine.decode_per_sequence
        # Rounding must not carry the clock past a mark whose event is still to come.
        instance.clock = min(instance.clock + (now - instance.clock_at) / step, m.marks[i, 0])
    else:
        instance.clock = 0.0
    instance.clock_at = now


@inlined
def _admit(m: KernelState, i: int, now: float) -> None:
    """Start the prefill of the first waiting request if it fits. No prefill may be in progress."""
    instance = m.instances[i]
    r = instance.head
    if r < 0:
        return
    engine = m.engines[instance.engine]
    request = m.requests[r]
    if instance.batch >= engine.max_sequences or instance.kv_tokens + request.kv_tokens > engine.kv_tokens:
        return
    instance.head = request.next
    if instance.head < 0:
        instance.tail = -1
    instance.waiting -= 1
    instance.kv_tokens += request.kv_tokens
    instance.prefilling = r
    instance.prefill_end = now + engine.prefill_base + request.input_tokens * engine.prefill_per_token


@inlined
def _bucket(seconds: float) -> int:
    if seconds <= SMALLEST_SECONDS:
        return 0
    return min(BUCKETS - 1, 1 + int(np.log(seconds / SMALLEST_SECONDS) * _BUCKETS_PER_LOG))


@inlined
def _free_request(m: KernelState, r: int) -> None:
    m.requests[r].next = m.core[0].free
    m.core[0].free = r
    m.core[0].in_flight -= 1


@inlined
def _complete(m: KernelState, i: int, r: int, now: float) -> None:
    instance = m.instances[i]
    request = m.requests[r]
    core = m.core[0]
    p = instance.pool
    ttft = request.first - request.at
    e2e = now - request.at
    tpot = 0.0
    if request.output_tokens > 1:
        tpot = (now - request.first) / (request.output_tokens - 1)
    m.counters[p, FINISHED] += 1
    m.counters[p, TPOT_SECONDS] += tpot
    m.counters[p, E2E_SECONDS] += e2e
    m.counters[p, INPUT_TOKENS] += request.input_tokens
    m.counters[p, OUTPUT_TOKENS] += request.output_tokens
    if tpot > core.tpot_limit:
        instance.late_paces += 1
    elif ttft <= core.ttft_limit + core.ttft_limit_per_token * request.input_tokens:
        m.counters[p, ATTAINED] += 1
    m.histogram[p, TPOT, _bucket(tpot)] += 1
    m.histogram[p, E2E, _bucket(e2e)] += 1
    if m.outcome.size > 0:
        m.outcome[request.index] = COMPLETED
        m.times[request.index, 0] = request.first
        m.times[request.index, 1] = now
    instance.served += 1
    instance.served_input += request.input_tokens
    instance.served_output += request.output_tokens
    instance.kv_tokens -= request.kv_tokens
    if instance.seat >= 0:
        m.outstanding[p, instance.seat] -= 1
    _free_request(m, r)


@inlined
def _execute_event(m: KernelState, i: int, now: float) -> None:
    """Execute the instance's next event: a prefill ends, or a sequence has its last token."""
    instance = m.instances[i]
    _integrate(m, i, now)
    if instance.prefilling >= 0:
        r = instance.prefilling
        request = m.requests[r]
        instance.prefilling = -1
        # With an empty queue the sum is 0: clear what rounding left of it.
        instance.queued_tokens = instance.queued_tokens - request.input_tokens if instance.head >= 0 else 0.0
        instance.clock_at = now
        request.first = now
        ttft = now - request.at
        m.counters[instance.pool, FIRST_TOKENS] += 1
        m.counters[instance.pool, TTFT_SECONDS] += ttft
        m.histogram[instance.pool, TTFT, _bucket(ttft)] += 1
        if ttft > m.core[0].ttft_limit + m.core[0].ttft_limit_per_token * request.input_tokens:
            instance.late_firsts += 1
        if request.output_tokens > 1:
            _join_batch(m, i, instance.clock + request.output_tokens - 1, r)
        else:
            _complete(m, i, r, now)
    else:
        instance.clock = m.marks[i, 0]
        instance.clock_at = now
        while instance.batch > 0 and m.marks[i, 0] <= instance.clock + SAME_TOKEN:
            _complete(m, i, _leave_batch(m, i), now)
    if instance.batch == 0:
        instance.clock = 0.0
    _admit(m, i, now)
    if instance.batch == 0 and instance.prefilling < 0:
        # Nothing runs, so no memory is reserved: clear what rounding left of the sum.
        instance.kv_tokens = 0.0
        instance.emptied_at = now
    _schedule(m, i)


# --- routing -----------------------------------------------------------------------------------------------------


@inlined
def _draw_uniform(m: KernelState) -> float:
    """Draw uniformly from [0, 1) by splitmix64 (Steele, Lea, Flood, OOPSLA'14)."""
    core = m.core[0]
    core.random = core.random + np.uint64(0x9E3779B97F4A7C15)
    z = core.random
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(z >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@inlined
def _draw_client(m: KernelState) -> int:
    """Choose the client of a request, with a new one in its place if the old one has left; -1 without clients."""
    n = m.clients.size
    if n == 0:
        return -1
    c = int(_draw_uniform(m) * n)
    client = m.clients[c]
    if client.digit < 0 or _draw_uniform(m) < m.core[0].leave_share:
        client.digit = int(_draw_uniform(m) * max(1, m.hash_weights.shape[0]))
        client.until = -np.inf
    return c


@inlined
def _weight(m: KernelState, c: int, p: int) -> float:
    """Return the weight of pool p for a request of client c."""
    if c >= 0 and m.hash_weights.shape[0] > 0:
        return m.hash_weights[m.clients[c].digit, p]
    return m.pools[p].weight


@inlined
def _choose_pool(m: KernelState, c: int, now: float) -> int:
    """Choose a pool by the client's cookie, else by weight; -1 if all weights are 0.

    A pool without targets is chosen like any other, and a cookie leads to it as well: a load balancer does not fail
    over between weighted target groups.
    """
    if c >= 0 and m.clients[c].until > now:
        return m.clients[c].pool
    total = 0.0
    for p in range(m.pools.size):
        total += _weight(m, c, p)
    if total <= 0:
        return -1
    if m.core[0].pool_choice == SMOOTH_WEIGHTED:
        best = -1
        for p in range(m.pools.size):
            if _weight(m, c, p) > 0:
                m.pools[p].credit += _weight(m, c, p)
                if best < 0 or m.pools[p].credit > m.pools[best].credit:
                    best = p
        m.pools[best].credit -= total
        return best
    mark = _draw_uniform(m) * total
    chosen = -1
    for p in range(m.pools.size):
        weight = _weight(m, c, p)
        if weight > 0:
            chosen = p
            if mark < weight:
                break
            mark -= weight
    return chosen


@inlined
def _choose_seat(m: KernelState, p: int) -> int:
    """Choose a target of pool p, which has at least one."""
    pool = m.pools[p]
    n = pool.targets
    if m.core[0].target_choice == RANDOM:
        return int(_draw_uniform(m) * n)
    turn = pool.turn
    if turn >= n:
        turn = 0
    seat = turn
    if m.core[0].target_choice == LEAST_OUTSTANDING:
        least = m.outstanding[p, 0]
        for k in range(1, n):
            least = min(least, m.outstanding[p, k])
        while m.outstanding[p, seat] != least:
            seat += 1
            if seat == n:
                seat = 0
    pool.turn = seat + 1
    return seat


@inlined
def _seat_for(m: KernelState, c: int, p: int, now: float) -> int:
    """Return the target of pool p that client c goes to: its cookie's while that serves, else one by the algorithm.

    Every answer renews the cookie.
    """
    stickiness_seconds = m.core[0].stickiness_seconds
    if c < 0 or stickiness_seconds <= 0:
        return _choose_seat(m, p)
    client = m.clients[c]
    seat = -1
    if client.until > now and m.instances[client.slot].number == client.number:
        seat = m.instances[client.slot].seat
    if seat < 0:
        seat = _choose_seat(m, p)
        client.pool = p
        client.slot = m.targets[p, seat]
        client.number = m.instances[client.slot].number
    client.until = now + stickiness_seconds
    return seat


@inlined
def _reject(m: KernelState, row: int, counter: int, why: int) -> None:
    core = m.core[0]
    m.counters[row, counter] += 1
    if m.outcome.size > 0:
        m.outcome[core.arrived] = why
    core.arrived += 1


@inlined
def _arrive(m: KernelState, now: float, input_tokens: float, output_tokens: float) -> None:
    core = m.core[0]
    c = _draw_client(m)
    p = _choose_pool(m, c, now)
    if p < 0:
        _reject(m, m.pools.size, REJECTED_NO_TARGET, NO_TARGET)
        return
    if m.pools[p].targets == 0:
        _reject(m, p, REJECTED_NO_TARGET, NO_TARGET)
        return
    seat = _seat_for(m, c, p, now)
    i = m.targets[p, seat]
    instance = m.instances[i]
    engine = m.engines[instance.engine]
    m.counters[p, ROUTED] += 1
    kv_tokens = input_tokens + core.output_reserved * output_tokens
    if kv_tokens > engine.kv_tokens:
        _reject(m, p, REJECTED_TOO_LONG, TOO_LONG)
        return
    _integrate(m, i, now)
    if (
        instance.waiting + instance.batch + (1 if instance.prefilling >= 0 else 0) >= engine.max_requests
        or instance.waiting >= engine.max_waiting
        or instance.queued_tokens >= engine.max_queued_tokens
    ):
        _reject(m, p, REJECTED_QUEUE_FULL, QUEUE_FULL)
        return
    r = core.free
    request = m.requests[r]
    core.free = request.next
    core.in_flight += 1
    request.at = now
    request.input_tokens = input_tokens
    request.output_tokens = output_tokens
    request.kv_tokens = kv_tokens
    request.next = -1
    request.index = core.arrived
    if m.outcome.size > 0:
        m.place[core.arrived, 0] = p
        m.place[core.arrived, 1] = i
    core.arrived += 1
    m.outstanding[p, seat] += 1
    if instance.tail >= 0:
        m.requests[instance.tail].next = r
    else:
        instance.head = r
    instance.tail = r
    instance.waiting += 1
    instance.queued_tokens += input_tokens
    if instance.prefilling < 0 and instance.head == r:
        _advance_clock(m, i, now)
        _admit(m, i, now)
        if instance.prefilling >= 0:
            _schedule(m, i)


@inlined
def _sample(m: KernelState) -> None:
    """Sample the gauges of all targets."""
    core = m.core[0]
    k = core.samples % SAMPLES
    size = 0
    for p in range(m.pools.size):
        for column in range(8):
            m.sample_sums[k, p, column] = 0.0
    for i in range(core.instances):
        instance = m.instances[i]
        if instance.state == READY:
            running = instance.batch + (1 if instance.prefilling >= 0 else 0)
            m.sample_sums[k, instance.pool, 0] += 1
            m.sample_sums[k, instance.pool, 1] += running
            m.sample_sums[k, instance.pool, 2] += instance.waiting
            ended = instance.served - instance.served_at_sample
            m.sample_sums[k, instance.pool, 3] += ended
            m.sample_values[k, size, 5] = ended
            m.sample_values[k, size, 6] = m.sample_values[k, size, 7] = 0.0
            if ended > 0:
                m.sample_values[k, size, 6] = instance.served_input / ended
                m.sample_values[k, size, 7] = instance.served_output / ended
                m.sample_sums[k, instance.pool, 4] += 1
                m.sample_sums[k, instance.pool, 5] += m.sample_values[k, size, 6]
                m.sample_sums[k, instance.pool, 6] += m.sample_values[k, size, 7]
            instance.served_at_sample = instance.served
            instance.served_input = instance.served_output = 0.0
            late = max(instance.late_firsts, instance.late_paces)
            m.sample_values[k, size, 8] = late
            m.sample_sums[k, instance.pool, 7] += late
            instance.late_firsts = instance.late_paces = 0
            m.sample_values[k, size, 0] = instance.number
            m.sample_values[k, size, 1] = instance.pool
            m.sample_values[k, size, 2] = running
            m.sample_values[k, size, 3] = instance.waiting
            m.sample_values[k, size, 4] = instance.kv_tokens / m.engines[instance.engine].kv_tokens
            size += 1
    m.sample_times[k] = core.sample_at
    m.sample_sizes[k] = size
    core.samples += 1
    core.sample_at += core.sample_every


@compiled
def run(
    m: KernelState, at_seconds: Floats, input_tokens: Floats, output_tokens: Floats, start: int, until: float
) -> int:
    """Let everything before `until` happen; return the index of the first request that has not arrived.

    `at_seconds`, `input_tokens`, `output_tokens`: float64 [n], sorted; read from index `start` on. At one time, the
    gauges are sampled first, then the instances' events happen, then arrivals. Returns early, at an arrival, if no
    place for a request is free: add places and call again.
    """
    core = m.core[0]
    k = start
    n = at_seconds.size
    while True:
        arrival = at_seconds[k] if k < n else np.inf
        event = m.event_times[0] if core.events > 0 else np.inf
        if core.sample_at <= min(event, arrival):
            if not core.sample_at <= until:
                break
            _sample(m)
        elif event <= arrival:
            if not event < until:
                break
            _execute_event(m, m.event_instances[0], event)
        else:
            if not arrival < until:
                break
            if core.free < 0:
                core.now = arrival
                return k
            _arrive(m, arrival, input_tokens[k], output_tokens[k])
            k += 1
    for i in range(core.instances):
        if m.instances[i].state != FREE:
            _integrate(m, i, until)
    core.now = until
    return k


# --- instances join and leave ------------------------------------------------------------------------------------


@compiled
def join(m: KernelState, i: int, p: int, e: int, now: float, number: int) -> None:
    """Make the free instance slot i a target of pool p that runs engine e."""
    instance = m.instances[i]
    pool = m.pools[p]
    instance.number = number
    instance.pool = p
    instance.engine = e
    instance.state = READY
    instance.seat = pool.targets
    instance.event_index = instance.prefilling = instance.head = instance.tail = -1
    instance.batch = instance.waiting = instance.served = instance.served_at_sample = 0
    instance.late_firsts = instance.late_paces = 0
    instance.clock = instance.kv_tokens = instance.queued_tokens = 0.0
    instance.served_input = instance.served_output = 0.0
    instance.running_seconds = instance.waiting_seconds = instance.busy_seconds = instance.present_seconds = 0.0
    instance.clock_at = instance.integrated_until = instance.emptied_at = now
    m.outstanding[p, pool.targets] = 0
    m.targets[p, pool.targets] = i
    pool.targets += 1
    m.core[0].instances = max(m.core[0].instances, i + 1)


@compiled
def drain(m: KernelState, i: int, now: float) -> None:
    """Stop new requests to the instance, which finishes those it has."""
    instance = m.instances[i]
    _integrate(m, i, now)
    if instance.seat >= 0:
        p = instance.pool
        pool = m.pools[p]
        pool.targets -= 1
        last = pool.targets
        moved = m.targets[p, last]
        m.targets[p, instance.seat] = moved
        m.outstanding[p, instance.seat] = m.outstanding[p, last]
        m.instances[moved].seat = instance.seat
        instance.seat = -1
    instance.state = DRAINING
    if instance.prefilling < 0 and instance.batch == 0 and instance.waiting == 0:
        instance.emptied_at = now


@inlined
def _lose_request(m: KernelState, i: int, r: int) -> None:
    m.counters[m.instances[i].pool, LOST_REQUESTS] += 1
    if m.outcome.size > 0:
        m.outcome[m.requests[r].index] = LOST
    _free_request(m, r)


@compiled
def kill(m: KernelState, i: int, now: float) -> int:
    """Free the instance's slot; all its requests are lost. Return their number."""
    drain(m, i, now)
    instance = m.instances[i]
    lost = 0
    if instance.prefilling >= 0:
        _lose_request(m, i, instance.prefilling)
        lost += 1
    for k in range(instance.batch):
        _lose_request(m, i, m.sequences[i, k])
        lost += 1
    r = instance.head
    while r >= 0:
        following = m.requests[r].next
        _lose_request(m, i, r)
        r = following
        lost += 1
    instance.prefilling = instance.head = instance.tail = -1
    instance.batch = instance.waiting = 0
    _schedule(m, i)
    instance.state = FREE
    return lost
