"""What a case says was seen: the keys of `given`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from gpu_fleet.scaling.policy import Percent, Seconds, Section, Weight
from gpu_fleet.scaling.service import MAX_POOLS

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class MissingSignal(StrEnum):
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
    max: Annotated[int, Field(ge=1, le=1000)] = 20
    """Most instances."""
    on_demand_base: Annotated[int, Field(ge=0, le=1000)] = 0
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
    missing: tuple[MissingSignal, ...] = ()
    """Signals that were not seen."""
    age_seconds: Seconds = 0
    """How old the newest readings are."""
    capacity_errors: tuple[str, ...] = ()
    """Pools of which AWS had no instance in the last minute."""
    jobs: GivenJobs | None = None
    """Training: the queue."""
