"""Policy tests for users: a policy's `cases`, each an observation in short form and bounds on the decision.

    cases:
      - name: a fleet near its limit grows
        given:
          pools: {l4: {types: [g6.xlarge], min: 1, max: 12, ready: 4, load_percent: 95}}
        expect:
          total_desired: ">=5"

What a case does not say is filled in so that the whole is consistent: loads from arrivals, or arrivals from loads, by
the pool's own curve (`scaling.service.Pool`), the desired count from the instances, weights from what is ready.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from infra.composition import pool
from infra.settings import PoolSettings, StackSettings
from scaling.decision import Decision
from scaling.document import Document, DocumentError, Problem, check, suggestion
from scaling.library import Library, PoolPlan, plan_problems
from scaling.observation import (
    CapacityError,
    Instance,
    JobQueue,
    Observation,
    Phase,
    PoolObservation,
    Reading,
)
from scaling.policy import LoadUnit, Percent, Policy, Seconds, Section, Weight, Workload
from scaling.service import MAX_POOLS, Pool, Service
from scaling.state import State

Decide = Callable[[Service, Observation, State, float], Decision]

NOW = 1_767_787_200.0
"""When every case is decided: Wednesday, 2026-01-07, 12:00 UTC."""
ZONES = ("us-east-1a", "us-east-1b")
"""Zones of a case that names no stack."""

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class Signal(StrEnum):
    """What can be missing."""

    LOAD = "load"
    ARRIVALS = "arrivals"
    BURST = "burst"
    TOKENS = "tokens"
    RATE = "rate"
    RESPONSE_TIME = "response_time"
    TTFT = "ttft"
    NODE = "node"


class GivenPool(Section):
    """One pool: what it is (unless a stack says so), and what was seen of it."""

    types: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Instance types; needed without `stack`. The instances seen are of the first."""
    alternatives: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    """Types that may take their place (`vertical.method: in_place`)."""
    min: Count = 0
    """Fewest instances."""
    max: Annotated[int, Field(ge=1)] = 20
    """Most instances."""
    on_demand_base: Count = 0
    """On-demand instances before any spot instance."""
    spot_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of spot instances above the base."""
    gpus_per_copy: Annotated[int, Field(ge=1)] | None = None
    """GPUs that one copy of the model is spread over; unset: all of the instance's."""
    ready: Count = 0
    """Instances in service."""
    starting: Count = 0
    """Instances ordered and not yet ready."""
    unhealthy: Count = 0
    """Instances that fail their health checks."""
    draining: Count = 0
    """Instances on their way out."""
    spot: Count = 0
    """How many of the ready ones are spot."""
    starting_for_minutes: Amount = 1
    """How long ago the starting ones were ordered."""
    desired: Count | None = None
    """The group's desired count; unset: ready, starting and unhealthy together."""
    weight: Weight | None = None
    """Traffic weight; unset: 100 where something is ready, else 0."""
    load_percent: Amount | None = None
    """Load of each ready instance, percent of what it can carry."""
    load: Amount | None = None
    """Load of the whole pool in the policy's unit, instead of load_percent."""
    waiting: Amount = 0
    """Requests that wait in the engines."""
    rate_rps: Amount | None = None
    """Requests per second; unset: the pool's share of arrivals_rps."""
    response_time_seconds: Seconds | None = None
    """Mean time to the response's first header."""
    ttft_seconds: Seconds | None = None
    """95th percentile of the time to the first token."""
    cpu_percent: Percent | None = None
    """Mean CPU use."""
    memory_percent: Percent | None = None
    """Mean memory use."""
    gpu_percent: Percent | None = None
    """Mean GPU use."""
    kv_cache_percent: Percent | None = None
    """Mean use of the KV cache."""
    network_latency_seconds: Seconds | None = None
    """Mean network latency."""
    busy: Count = 0
    """Training: how many of the ready ones run jobs, each as many as the policy allows."""
    remaining_seconds: Seconds | None = None
    """Training: expected time until those jobs end."""
    refreshing: bool = False
    """An instance refresh is under way."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min: must be at most max, {self.max} (got {self.min})")
        for i, name in enumerate(self.types or ()):
            if name in (self.types or ())[:i]:
                raise ValueError(f"types[{i}]: must be given once (got {name} twice)")
        return self


class GivenJobs(Section):
    """Training: the queue."""

    waiting: Count = 0
    """Jobs that wait."""
    oldest_seconds: Seconds = 0
    """How long the oldest has waited."""
    mean_job_seconds: Seconds | None = None
    """Mean length of the jobs finished lately."""


class Earlier(Section):
    """What was seen before: everything as in `given`, but for what is named here."""

    for_minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    """How long."""
    pools: dict[str, GivenPool] = Field(default={})
    """Keys of a pool that were other."""
    arrivals_rps: Amount | None = None
    """Requests per second of the whole service."""


class Given(Section):
    """An observation in short form."""

    stack: str | None = None
    """Take the pools of this stack."""
    service: str | None = None
    """Which of the stack's services; needed where it has several."""
    pools: Annotated[dict[str, GivenPool], Field(min_length=1, max_length=MAX_POOLS)]
    """What was seen of each pool."""
    for_minutes: Annotated[int, Field(ge=1, le=1440)] = 10
    """How long it has been so, seen each minute; 1 without `before` is a scaler that has just lost its state."""
    before: Earlier | None = None
    """What was seen before that."""
    arrivals_rps: Amount | None = None
    """Requests per second of the whole service; unset: what the loads come to."""
    burst_rps: Amount | None = None
    """The same over the newest 10 s."""
    rejected_rps: Amount | None = None
    """Requests per second that found no instance."""
    input_tokens: Amount | None = None
    """Mean prompt length; unset: the policy's."""
    output_tokens: Amount | None = None
    """Mean answer length; unset: the policy's."""
    missing: tuple[Signal, ...] = ()
    """Signals that were not seen."""
    age_seconds: Seconds = 0
    """How old the newest readings are."""
    capacity_errors: tuple[str, ...] = ()
    """Pools of which AWS had no instance in the last minute."""
    jobs: GivenJobs | None = None
    """Training: the queue."""


_BOUND = re.compile(r"\s*(>=|<=|==|!=|>|<)?\s*(-?\d+(?:\.\d+)?)\s*(?:\.\.\s*(-?\d+(?:\.\d+)?)\s*)?")
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def _bound(value: str) -> str:
    match = _BOUND.fullmatch(value)
    if match is None or (match[1] and match[3]):
        raise ValueError(f'must be a number, a bound like ">=5", or a range like "5..8" (got {value})')
    return value


def _as_text(value: object) -> object:
    return f"{value:g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else value


Bound = Annotated[
    str, BeforeValidator(_as_text), AfterValidator(_bound), WithJsonSchema({"type": ["string", "number"]})
]
"""5, ">=5", "<3", "5..8"."""


def within(value: float, bound: str) -> bool:
    """Whether a value keeps to a bound."""
    match = _BOUND.fullmatch(bound)
    if match is None:
        raise ValueError(f"not a bound: {bound}")
    if match[3]:
        return float(match[2]) <= value <= float(match[3])
    return _OPERATORS[match[1] or "=="](value, float(match[2]))


class ExpectPool(Section):
    """Bounds on what one pool shall be."""

    desired: Bound | None = None
    """Desired count."""
    weight: Bound | None = None
    """Traffic weight, 0 to 999."""
    share_percent: Bound | None = None
    """Its share of all weights."""
    take: Bound | None = None
    """How many instances leave."""
    protected: Bound | None = None
    """How many instances must not be taken."""
    on_demand_base: Bound | None = None
    """On-demand instances in front of the spot share."""


class Expect(Section):
    """Bounds on the decision."""

    pools: dict[str, ExpectPool] = Field(default={})
    """On each pool."""
    total_desired: Bound | None = None
    """Desired counts of all pools together."""
    usd_per_hour: Bound | None = None
    """Cost of the counts decided."""
    held: bool | None = None
    """Whether counts were kept because something needed was missing."""
    codes: tuple[str, ...] = ()
    """Reason codes that the decision must carry."""
    without_codes: tuple[str, ...] = ()
    """Reason codes that it must not carry."""
    refresh: bool | None = None
    """Whether another type is rolled through the pool."""


@dataclass(frozen=True)
class Case:
    """One case, ready to run."""

    policy: str
    name: str
    place: str
    service: Service
    given: Given
    expect: Expect


@dataclass(frozen=True, slots=True)
class Difference:
    """One expectation that was not met."""

    key: str
    wanted: str
    got: str

    def __str__(self) -> str:
        """As the command prints it."""
        return f"{self.key}: wanted {self.wanted}, got {self.got}"


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    case: Case
    decision: Decision
    differences: tuple[Difference, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return not self.differences


def cases(
    library: Library, names: list[str], stack: Callable[[str], StackSettings]
) -> tuple[list[Case], list[Problem]]:
    """The cases of these policies, and everything that is wrong in how they are written.

    `stack` gives the settings of a stack by name, and raises DocumentError where there is none.
    """
    found: list[Case] = []
    problems: list[Problem] = []
    for name in names:
        document = library.documents[name]
        seen: set[str] = set()
        for i, written in enumerate(library.policies[name].cases):
            at = ("cases", i)
            if written.name in seen:
                problems.append(
                    document.problem((*at, "name"), f"must differ from the other cases' (got {written.name})")
                )
            seen.add(written.name)
            try:
                given = check(document, Given, (*at, "given"))
            except DocumentError as error:
                problems += error.problems
                given = None
            try:
                expect = check(document, Expect, (*at, "expect"))
            except DocumentError as error:
                problems += error.problems
                continue
            if given is None:
                continue
            try:
                service = _service(name, given, library, document, at, stack)
            except DocumentError as error:
                problems += error.problems
                continue
            more = _unknown_pools(given, expect, service, document, at)
            problems += more
            if not more:
                place = document.place((*at, "name"))
                found.append(Case(name, written.name, f"{place.file}:{place.line}", service, given, expect))
    return found, problems


def _service(
    policy_name: str,
    given: Given,
    library: Library,
    document: Document,
    at: tuple[str | int, ...],
    stack: Callable[[str], StackSettings],
) -> Service:
    policy = library.policies[policy_name]
    here = (*at, "given")
    if given.stack is None:
        lacking = [name for name, value in given.pools.items() if value.types is None]
        if lacking:
            raise DocumentError(
                document.problem((*here, "pools", name, "types"), "is missing (or name a stack)") for name in lacking
            )
        pools = {name: _settings(value) for name, value in given.pools.items()}
        zones = ZONES
    else:
        try:
            settings = stack(given.stack)
        except DocumentError as error:
            raise DocumentError(
                document.problem((*here, "stack"), f"cannot be used: {problem}") for problem in error.problems
            ) from None
        service_name = given.service or (next(iter(settings.services)) if len(settings.services) == 1 else "")
        if service_name not in settings.services:
            raise DocumentError(
                [
                    document.problem(
                        (*here, "service"),
                        f"must be a service of stack {given.stack}; {suggestion(service_name, settings.services)} "
                        f"(got {service_name or 'nothing'})",
                    )
                ]
            )
        pools = settings.services[service_name].pools
        zones = settings.network.zones or ZONES
    plan = {
        name: PoolPlan(value.types, value.min, value.max, value.spot_percent, value.gpus_per_copy, value.alternatives)
        for name, value in pools.items()
    }
    wrong = plan_problems(policy_name, plan, library)
    if wrong:
        raise DocumentError(document.problem((*here, *problem.path), problem.text) for problem in wrong)
    return Service(
        name=policy_name,
        policy=policy,
        pools=tuple(pool(name, value, policy_name, library, zones) for name, value in pools.items()),
    )


def _settings(value: GivenPool) -> PoolSettings:
    return PoolSettings(
        types=value.types or (),
        alternatives=value.alternatives,
        min=value.min,
        max=value.max,
        on_demand_base=value.on_demand_base,
        spot_percent=value.spot_percent,
        gpus_per_copy=value.gpus_per_copy,
    )


def _unknown_pools(
    given: Given, expect: Expect, service: Service, document: Document, at: tuple[str | int, ...]
) -> list[Problem]:
    known = [pool.name for pool in service.pools]
    named: list[tuple[tuple[str | int, ...], str]] = [
        *((("given", "pools", name), name) for name in given.pools),
        *((("given", "capacity_errors", i), name) for i, name in enumerate(given.capacity_errors)),
        *((("expect", "pools", name), name) for name in expect.pools),
        *((("given", "before", "pools", name), name) for name in (given.before.pools if given.before else ())),
    ]
    return [
        document.problem((*at, *path), f"must be a pool of the service; {suggestion(name, known)}")
        for path, name in named
        if name not in known
    ]


def run(case: Case, decide: Decide) -> Outcome:
    """Decide what the case gives, minute by minute up to `NOW`, and hold the last decision against its bounds."""
    state = State()
    given = case.given
    minutes: list[Given] = [given] * given.for_minutes
    if given.before is not None:
        minutes = [_earlier(given, given.before)] * given.before.for_minutes + minutes
    decision: Decision | None = None
    for i, minute in enumerate(minutes):
        now = NOW - 60.0 * (len(minutes) - 1 - i)
        # An error of the last minute is one event: it is seen in the last evaluation alone.
        last = i == len(minutes) - 1
        seen = observation(case.service, minute if last else minute.model_copy(update={"capacity_errors": ()}), now)
        decision = decide(case.service, seen, state, now)
        state = decision.state
    if decision is None:
        raise ValueError("a case lasts a minute at least")
    return Outcome(case, decision, tuple(_differences(case.expect, decision)))


def _earlier(given: Given, before: Earlier) -> Given:
    pools = {
        name: value.model_copy(update=before.pools[name].model_dump(exclude_unset=True))
        if name in before.pools
        else value
        for name, value in given.pools.items()
    }
    arrivals = before.arrivals_rps if before.arrivals_rps is not None else given.arrivals_rps
    return given.model_copy(update={"pools": pools, "arrivals_rps": arrivals, "burst_rps": None, "missing": ()})


def observation(service: Service, given: Given, now: float) -> Observation:
    """The whole observation that a short form stands for, as it would be seen at `now`."""
    at = now - given.age_seconds
    policy = service.policy
    values = {pool.name: given.pools.get(pool.name, GivenPool()) for pool in service.pools}
    work = {pool.name: _work_rps(pool, values[pool.name], policy) for pool in service.pools}
    arrivals = given.arrivals_rps
    if arrivals is None and policy.workload is Workload.INFERENCE:
        arrivals = sum(value for value in work.values() if value is not None)
    shares = _shares(service, values)
    missing = set(given.missing)

    def reading(value: float | None, signal: Signal | None = None) -> Reading | None:
        return None if value is None or signal in missing else Reading(value, at)

    seen = {}
    for one in service.pools:
        value = values[one.name]
        rate = value.rate_rps
        if rate is None and arrivals is not None:
            rate = arrivals * shares[one.name]
        load = _load(one, value, rate, policy)
        concurrency = policy.load.unit is LoadUnit.CONCURRENCY and load is not None
        instances = _instances(one, value, policy, now, reading(load, Signal.LOAD))
        seen[one.name] = PoolObservation(
            desired=sum(i.phase is not Phase.DRAINING for i in instances) if value.desired is None else value.desired,
            min_size=one.min_instances,
            max_size=one.max_instances,
            weight=(100 if value.ready else 0) if value.weight is None else value.weight,
            instances=instances,
            on_demand_base=one.on_demand_base if one.spot_percent else None,
            load=reading(load, Signal.LOAD),
            running=reading(max(0.0, load - value.waiting) if concurrency and load is not None else None, Signal.LOAD),
            waiting=reading(value.waiting, Signal.LOAD),
            rate_rps=reading(rate, Signal.RATE),
            response_time_seconds=reading(value.response_time_seconds, Signal.RESPONSE_TIME),
            ttft_seconds=reading(value.ttft_seconds, Signal.TTFT),
            cpu_percent=reading(value.cpu_percent, Signal.NODE),
            memory_percent=reading(value.memory_percent, Signal.NODE),
            gpu_percent=reading(value.gpu_percent, Signal.NODE),
            kv_cache_percent=reading(value.kv_cache_percent, Signal.NODE),
            network_latency_seconds=reading(value.network_latency_seconds, Signal.NODE),
            capacity_errors=(CapacityError("", now),) if one.name in given.capacity_errors else (),
            refreshing=value.refreshing,
        )
    jobs = given.jobs
    return Observation(
        pools=seen,
        arrivals_rps=reading(arrivals, Signal.ARRIVALS),
        burst_rps=reading(given.burst_rps, Signal.BURST),
        rejected_rps=reading(given.rejected_rps),
        input_tokens=reading(given.input_tokens or policy.request.input_tokens, Signal.TOKENS),
        output_tokens=reading(given.output_tokens or policy.request.output_tokens, Signal.TOKENS),
        jobs=JobQueue(jobs.waiting, jobs.oldest_seconds, jobs.mean_job_seconds) if jobs else None,
    )


def _work_rps(pool: Pool, value: GivenPool, policy: Policy) -> float | None:
    """Requests per second that a pool completes at the load given; None where none is given.

    At the share x of its capacity an instance completes x*s/(1 + (s-1)*x) of its throughput (`scaling.profile`).
    """
    if value.load_percent is not None:
        x = value.load_percent / 100
    elif value.load is not None and value.ready:
        per_instance = value.load if policy.load.unit in (LoadUnit.GPU, LoadUnit.KV_CACHE) else value.load / value.ready
        x = per_instance / pool.capacity
    else:
        return None
    return value.ready * pool.throughput_rps * x * pool.slowdown / (1 + (pool.slowdown - 1) * x)


def _shares(service: Service, values: Mapping[str, GivenPool]) -> dict[str, float]:
    """Share of the arrivals of each pool: by its weight, or without any weight by what its ready instances carry."""
    sizes = {}
    given = any(v.weight is not None for v in values.values())
    for one in service.pools:
        value = values[one.name]
        sizes[one.name] = float(value.weight or 0) if given else value.ready * one.throughput_rps
    total = sum(sizes.values())
    return {name: size / total if total else 0.0 for name, size in sizes.items()}


def _load(pool: Pool, value: GivenPool, rate_rps: float | None, policy: Policy) -> float | None:
    """The pool's load: as given, else what its rate comes to by the curve of `_work_rps`, turned round.

    f = rate / throughput gives x = f / (s - (s-1)*f); beyond what an instance can complete it holds all its slots.
    """
    percents = policy.load.unit in (LoadUnit.GPU, LoadUnit.KV_CACHE)
    if value.load is not None:
        return value.load
    if value.load_percent is not None:
        x = value.load_percent / 100
    elif rate_rps is None or policy.workload is Workload.TRAINING:
        return None
    elif not value.ready:
        return 0.0
    else:
        f = rate_rps / (value.ready * pool.throughput_rps)
        room = pool.slowdown - (pool.slowdown - 1) * f
        most = max(1.0, pool.slots / pool.capacity) if policy.load.unit is LoadUnit.CONCURRENCY else 2.0
        x = min(most, f / room) if room > 0 else most
    total = x * pool.capacity * (1 if percents else value.ready)
    return total + (value.waiting if policy.load.unit is LoadUnit.CONCURRENCY and value.load_percent is None else 0.0)


def _instances(pool: Pool, value: GivenPool, policy: Policy, now: float, load: Reading | None) -> tuple[Instance, ...]:
    zones = pool.zones or ZONES
    ordered = NOW - 60 * value.starting_for_minutes
    each = load
    if load is not None and policy.load.unit not in (LoadUnit.GPU, LoadUnit.KV_CACHE):
        each = Reading(load.value / max(1, value.ready), load.at)
    made: list[Instance] = []
    ready_since = NOW - 86400
    for phase, count in (
        (Phase.READY, value.ready),
        (Phase.STARTING, value.starting),
        (Phase.UNHEALTHY, value.unhealthy),
        (Phase.DRAINING, value.draining),
    ):
        for i in range(count):
            starting = phase is Phase.STARTING
            if starting and ordered > now:
                continue
            ready = phase is Phase.READY
            training = policy.workload is Workload.TRAINING and ready
            busy = training and i < value.busy
            made.append(
                Instance(
                    id=f"{pool.name}-{phase}-{i}",
                    type=pool.types[0],
                    zone=zones[i % len(zones)],
                    phase=phase,
                    since=ordered if starting else ready_since,
                    spot=ready and i < value.spot,
                    ready_at=None if starting else ready_since + pool.lead_seconds,
                    load=each if ready else None,
                    jobs=(policy.training.jobs_per_instance if busy else 0) if training else None,
                    remaining_seconds=value.remaining_seconds if busy else None,
                )
            )
    return tuple(made)


def _differences(expect: Expect, decision: Decision) -> list[Difference]:
    found: list[Difference] = []

    def hold(key: str, bound: str | None, value: float | None) -> None:
        if bound is None:
            return
        if value is None or not within(value, bound):
            found.append(Difference(key, bound, "nothing" if value is None else f"{value:g}"))

    total_weight = sum(target.weight for target in decision.targets.values())
    for name, wanted in expect.pools.items():
        target = decision.targets.get(name)
        if target is None:
            found.append(Difference(f"pools.{name}", "a target", "none"))
            continue
        hold(f"pools.{name}.desired", wanted.desired, target.desired)
        hold(f"pools.{name}.weight", wanted.weight, target.weight)
        share = 100 * target.weight / total_weight if total_weight else 0.0
        hold(f"pools.{name}.share_percent", wanted.share_percent, share)
        hold(f"pools.{name}.take", wanted.take, len(target.take))
        hold(f"pools.{name}.protected", wanted.protected, len(target.protect))
        hold(f"pools.{name}.on_demand_base", wanted.on_demand_base, target.on_demand_base)
    hold("total_desired", expect.total_desired, sum(target.desired for target in decision.targets.values()))
    hold("usd_per_hour", expect.usd_per_hour, decision.signals.usd_per_hour)
    for key, flag, value in (
        ("held", expect.held, decision.held),
        ("refresh", expect.refresh, decision.refresh is not None),
    ):
        if flag is not None and flag != value:
            found.append(Difference(key, str(flag).lower(), str(value).lower()))
    codes = ", ".join(decision.codes) or "none"
    found += [Difference("codes", code, codes) for code in expect.codes if code not in decision.codes]
    found += [
        Difference("without_codes", f"no {code}", codes) for code in expect.without_codes if code in decision.codes
    ]
    return found
