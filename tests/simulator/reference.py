"""The simulator in plain Python, simple enough to check by eye: no arrays, no token clock, no heap.

Every sequence counts its own remaining tokens. Between two events each of the b sequences of a batch makes
elapsed / (decode_base + b * decode_per_sequence) tokens; after each event the next one is searched among all
instances. It is slow on purpose: tests compare the compiled kernel with it on random inputs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gpu_fleet.scaling.policy import Slo
from gpu_fleet.simulator.client_affinity import NO_AFFINITY, Affinity
from gpu_fleet.simulator.simulation import Engine, PoolChoice, RequestOutcome, TargetChoice

SAME_TOKEN = 1e-9
"""Sequences whose last tokens are this close leave together."""


@dataclass(slots=True, eq=False)
class Request:
    """One request and its outcome."""

    at: float
    input_tokens: float
    output_tokens: float
    outcome: RequestOutcome = RequestOutcome.PENDING
    pool: int = -1
    first_token_at: float = math.nan
    finished_at: float = math.nan
    remaining: float = 0.0
    """Remaining decoding steps."""

    def attains(self, slo: Slo) -> bool:
        """Return whether it completed within the SLO."""
        if self.outcome is not RequestOutcome.COMPLETED:
            return False
        steps = self.output_tokens - 1
        tpot = (self.finished_at - self.first_token_at) / steps if steps > 0 else 0.0
        return self.first_token_at - self.at <= slo.ttft_limit_seconds(self.input_tokens) and tpot <= slo.tpot_seconds


@dataclass(slots=True, eq=False)
class Instance:
    """One serving instance."""

    engine: Engine
    output_reserved: float
    now: float
    waiting: deque[Request] = field(default_factory=deque)
    prefilling: Request | None = None
    prefill_end: float = math.inf
    batch: list[Request] = field(default_factory=list)

    @property
    def outstanding(self) -> int:
        """Number of requests it holds."""
        return len(self.waiting) + len(self.batch) + (self.prefilling is not None)

    def without_first_token(self) -> list[Request]:
        """Return the requests that wait or are in prefill."""
        return [*self.waiting, *([self.prefilling] if self.prefilling else [])]

    def kv_tokens(self, request: Request) -> float:
        """Return the memory reserved for a request."""
        return request.input_tokens + self.output_reserved * request.output_tokens

    def fits(self, request: Request) -> bool:
        """Return whether a request fits beside the batch (no prefill is in progress)."""
        reserved = sum(self.kv_tokens(r) for r in self.batch)
        return (
            len(self.batch) < self.engine.max_sequences
            and reserved + self.kv_tokens(request) <= self.engine.kv_cache_tokens
        )

    def step_seconds(self) -> float:
        """Return the time of one decoding step of the present batch."""
        return self.engine.decode_base_seconds + len(self.batch) * self.engine.decode_seconds_per_sequence

    def next_event(self) -> float:
        """Return the time of the next event if no request arrives."""
        if self.prefilling is not None:
            return self.prefill_end
        if self.batch:
            return self.now + max(0.0, min(r.remaining for r in self.batch)) * self.step_seconds()
        return math.inf

    def advance(self, time: float) -> None:
        """Decode until `time`; a prefill pauses decoding."""
        if self.prefilling is None and self.batch:
            tokens = (time - self.now) / self.step_seconds()
            for request in self.batch:
                request.remaining -= tokens
        self.now = time

    def admit(self) -> None:
        """Start the prefill of the first waiting request if none is in progress and it fits."""
        if self.prefilling is None and self.waiting and self.fits(self.waiting[0]):
            self.prefilling = self.waiting.popleft()
            seconds = self.prefilling.input_tokens * self.engine.prefill_seconds_per_token
            self.prefill_end = self.now + (self.engine.prefill_base_seconds + seconds)

    def execute_event(self) -> None:
        """End the prefill, or the sequences that have their last token."""
        if self.prefilling is not None:
            request, self.prefilling = self.prefilling, None
            request.first_token_at = self.now
            if request.output_tokens > 1:
                request.remaining = request.output_tokens - 1
                self.batch.append(request)
            else:
                self.complete(request)
        else:
            least = min(request.remaining for request in self.batch)
            done = [request for request in self.batch if request.remaining <= least + SAME_TOKEN]
            self.batch = [request for request in self.batch if request not in done]
            for request in done:
                self.complete(request)
        self.admit()

    def complete(self, request: Request) -> None:
        """Complete a request that has its last token."""
        request.outcome = RequestOutcome.COMPLETED
        request.finished_at = self.now

    def lose_all(self) -> None:
        """Lose all requests, as the instance dies."""
        for request in [*self.without_first_token(), *self.batch]:
            request.outcome = RequestOutcome.LOST
        self.waiting.clear()
        self.batch.clear()
        self.prefilling = None


class Splitmix:
    """splitmix64: each state is the last one plus a constant, and a draw is its hash."""

    def __init__(self, state: int) -> None:
        self.state = state

    def draw(self) -> float:
        """Draw uniformly from [0, 1)."""
        mask = 2**64 - 1
        self.state = (self.state + 0x9E3779B97F4A7C15) & mask
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return ((z ^ (z >> 31)) >> 11) / 2**53


@dataclass(slots=True, eq=False)
class Client:
    """A client, with the digit that its header ends in and the cookie that it last got."""

    digit: int
    target: Instance | None = None
    pool: int = 0
    expires: float = -math.inf


@dataclass(slots=True, eq=False)
class Balancer:
    """A load balancer with one target group a pool."""

    engines: Sequence[Engine]
    weights: list[float]
    random: Splitmix
    output_reserved: float = 0.5
    pool_choice: PoolChoice = PoolChoice.WEIGHTED_RANDOM
    target_choice: TargetChoice = TargetChoice.LEAST_OUTSTANDING
    affinity: Affinity = NO_AFFINITY
    hash_weights: list[list[float]] = field(default_factory=list)
    clients: dict[int, Client] = field(default_factory=dict)
    targets: list[list[Instance]] = field(default_factory=list)
    instances: list[Instance] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    credits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.targets = [[] for _ in self.engines]
        self.turns = [0 for _ in self.engines]
        self.credits = [0.0 for _ in self.engines]

    def join(self, pool: int, now: float) -> Instance:
        """Add a target to a pool."""
        instance = Instance(self.engines[pool], self.output_reserved, now)
        self.targets[pool].append(instance)
        self.instances.append(instance)
        return instance

    def drain(self, instance: Instance) -> None:
        """Stop new requests to an instance. The last target takes its seat, which affects whose turn is next."""
        for seats in self.targets:
            if instance in seats:
                seat = seats.index(instance)
                last = seats.pop()
                if last is not instance:
                    seats[seat] = last

    def kill(self, instance: Instance) -> None:
        """Remove an instance with its requests."""
        self.drain(instance)
        instance.lose_all()

    def set_weights(self, weights: Sequence[float]) -> None:
        """Share the traffic in proportion to the weights from now on."""
        self.weights = list(weights)
        self.credits = [0.0 for _ in self.engines]

    def sender(self) -> Client | None:
        """Return the client of the next request: one of the active ones, or a new one in its place."""
        if self.affinity == NO_AFFINITY:
            return None
        clients = self.affinity.clients
        place = int(self.random.draw() * clients.active)
        if place not in self.clients or self.random.draw() < 1 / clients.requests_each:
            self.clients[place] = Client(int(self.random.draw() * max(1, self.affinity.digits)))
        return self.clients[place]

    def choose_pool(self, client: Client | None, now: float) -> int | None:
        """Choose a pool by the client's cookie, else by weight; None if all weights are 0."""
        if client is not None and client.expires > now:
            return client.pool
        weights = self.weights if client is None or not self.affinity.digits else self.hash_weights[client.digit]
        total = sum(weights)
        if total <= 0:
            return None
        pools = [p for p, weight in enumerate(weights) if weight > 0]
        if self.pool_choice is PoolChoice.SMOOTH_WEIGHTED:
            for p in pools:
                self.credits[p] += weights[p]
            best = max(pools, key=lambda p: self.credits[p])
            self.credits[best] -= total
            return best
        mark = self.random.draw() * total
        for p in pools:
            if mark < weights[p]:
                return p
            mark -= weights[p]
        return pools[-1]

    def choose_target(self, pool: int) -> Instance:
        """Choose the target with the fewest requests, the next in turn, or any."""
        seats = self.targets[pool]
        if self.target_choice is TargetChoice.RANDOM:
            return seats[int(self.random.draw() * len(seats))]
        turn = self.turns[pool] if self.turns[pool] < len(seats) else 0
        order = [(turn + k) % len(seats) for k in range(len(seats))]
        if self.target_choice is TargetChoice.LEAST_OUTSTANDING:
            seat = min(order, key=lambda k: seats[k].outstanding)
        else:
            seat = order[0]
        self.turns[pool] = seat + 1
        return seats[seat]

    def arrive(self, request: Request) -> None:
        """Route a request at its arrival time."""
        client = self.sender()
        pool = self.choose_pool(client, request.at)
        if pool is None or not self.targets[pool]:
            request.outcome = RequestOutcome.NO_TARGET
            return
        sticks = client is not None and self.affinity.stickiness_seconds > 0
        instance = client.target if sticks and client and client.expires > request.at else None
        if instance not in self.targets[pool]:
            instance = self.choose_target(pool)
        assert instance is not None
        if client is not None and sticks:
            client.target, client.pool = instance, pool
            client.expires = request.at + self.affinity.stickiness_seconds
        if instance.kv_tokens(request) > instance.engine.kv_cache_tokens:
            request.outcome = RequestOutcome.TOO_LONG
            return
        limit, unread = instance.engine.queue_limit, instance.without_first_token()
        held = (
            (instance.outstanding, limit.requests),
            (len(instance.waiting), limit.waiting),
            (sum(r.input_tokens for r in unread), limit.prompt_tokens),
        )
        if any(most is not None and number >= most for number, most in held):
            request.outcome = RequestOutcome.QUEUE_FULL
            return
        request.pool = pool
        instance.advance(request.at)
        instance.waiting.append(request)
        instance.admit()


Change = tuple[float, Callable[[Balancer, float], None]]
"""A time, and the change of the balancer at that time."""


def simulate(balancer: Balancer, requests: Sequence[Request], changes: Sequence[Change], until: float) -> None:
    """Let everything before `until` happen. `requests` and `changes` are in order of time.

    At one time, changes come first, then the instances' events, then arrivals.
    """
    arrivals, plan = deque(requests), deque(changes)
    while True:
        change = plan[0][0] if plan else math.inf
        arrival = arrivals[0].at if arrivals else math.inf
        soonest = min(balancer.instances, key=lambda i: i.next_event(), default=None)
        event = soonest.next_event() if soonest is not None else math.inf
        if min(change, arrival, event) >= until:
            break
        if change <= event and change <= arrival:
            plan.popleft()[1](balancer, change)
        elif soonest is not None and event <= arrival:
            soonest.advance(event)
            soonest.execute_event()
        else:
            balancer.arrive(arrivals.popleft())


def simulate_steps(engine: Engine, output_reserved: float, requests: Sequence[Request]) -> None:
    """Run one instance in whole steps, as an engine's loop does; the token clock simplifies this.

    Each turn of the loop prefills the first waiting request if it fits, else makes one token for each sequence of the
    batch. No request joins or leaves within a turn. Answers are whole tokens.
    """
    instance = Instance(engine, output_reserved, 0.0)
    arrivals = deque(requests)
    while arrivals or instance.outstanding:
        if not instance.outstanding:
            instance.now = max(instance.now, arrivals[0].at)
        while arrivals and arrivals[0].at <= instance.now:
            instance.waiting.append(arrivals.popleft())
        instance.admit()
        if instance.prefilling is not None:
            instance.now = instance.prefill_end
            request, instance.prefilling = instance.prefilling, None
            request.first_token_at = instance.now
            request.remaining = request.output_tokens - 1
            if request.remaining > 0:
                instance.batch.append(request)
            else:
                instance.complete(request)
        else:
            instance.now += instance.step_seconds()
            for request in instance.batch:
                request.remaining -= 1
                if request.remaining <= 0:
                    instance.complete(request)
            instance.batch = [request for request in instance.batch if request.remaining > 0]
