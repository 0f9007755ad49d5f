"""The observation of a case in short form: the keys of `given`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from gpu_fleet.scaling.policy import Percent, Seconds, Section, Weight
from gpu_fleet.scaling.service import MAX_POOLS

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0)]


class MissingSignal(StrEnum):
    """A signal that can be missing."""

    LOAD = "load"
    ARRIVALS = "arrivals"
    BURST = "burst"
    TOKENS = "tokens"
    RATE = "rate"
    RESPONSE_TIME = "response_time"
    TTFT = "ttft"
    NODE = "node"


class GivenPool(Section):
    """One pool: its settings (unless a stack gives them), and its observation."""

    types: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Instance types; required without `stack`. The observed instances have the first type."""
    alternatives: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()
    """Lists of types that may replace `types` (`vertical.method: in_place`)."""
    min: Count = 0
    """Minimum number of instances."""
    max: Annotated[int, Field(ge=1, le=1000)] = 20
    """Maximum number of instances."""
    on_demand_base: Annotated[int, Field(ge=0, le=1000)] = 0
    """On-demand instances to launch before any spot instance."""
    spot_percent: Annotated[int, Field(ge=0, le=100)] = 0
    """Share of spot instances above the base."""
    gpus_per_copy: Annotated[int, Field(ge=1)] | None = None
    """GPUs per copy of the model; unset: all of the instance's."""
    ready: Count = 0
    """Instances in service."""
    starting: Count = 0
    """Instances launched and not yet ready."""
    unhealthy: Count = 0
    """Instances that fail their health checks."""
    draining: Count = 0
    """Instances that drain before they leave."""
    spot: Count = 0
    """Number of ready instances that are spot."""
    starting_for_minutes: Amount = 1
    """Time since the starting instances were launched."""
    desired: Count | None = None
    """The group's desired count; unset: the sum of ready, starting and unhealthy."""
    weight: Weight | None = None
    """Traffic weight; unset: 100 if an instance is ready, else 0."""
    load_percent: Amount | None = None
    """Load of each ready instance, percent of its capacity."""
    load: Amount | None = None
    """Load of the whole pool in the policy's unit, as an alternative to load_percent."""
    waiting: Amount = 0
    """Requests waiting in the engines."""
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
    """Training: number of ready instances that run jobs, each as many as the policy allows."""
    remaining_seconds: Seconds | None = None
    """Training: expected time until these jobs end."""
    refreshing: bool = False
    """Whether an instance refresh is in progress."""

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
    """Jobs waiting."""
    oldest_seconds: Seconds = 0
    """Age of the oldest waiting job."""
    mean_job_seconds: Seconds | None = None
    """Mean duration of recently finished jobs."""


class Earlier(Section):
    """The time before: as in `given`, except for the keys set here."""

    for_minutes: Annotated[int, Field(ge=1, le=1440)] = 30
    """Duration."""
    pools: dict[str, GivenPool] = Field(default={})
    """Keys of each pool that differ."""
    arrivals_rps: Amount | None = None
    """Requests per second of the whole service."""


class Given(Section):
    """An observation in short form."""

    stack: str | None = None
    """Use the pools of this stack."""
    service: str | None = None
    """A service of the stack; required if it has several."""
    pools: Annotated[dict[str, GivenPool], Field(min_length=1, max_length=MAX_POOLS)]
    """Each pool, by name."""
    for_minutes: Annotated[int, Field(ge=1, le=1440)] = 10
    """Duration of this state, observed each minute; 1 without `before` is a scaler that has just lost its state."""
    before: Earlier | None = None
    """The time before."""
    arrivals_rps: Amount | None = None
    """Requests per second of the whole service; unset: computed from the loads."""
    burst_rps: Amount | None = None
    """Requests per second over the newest 10 s."""
    rejected_rps: Amount | None = None
    """Requests per second rejected for want of an instance."""
    input_tokens: Amount | None = None
    """Mean prompt length; unset: the policy's."""
    output_tokens: Amount | None = None
    """Mean answer length; unset: the policy's."""
    missing: tuple[MissingSignal, ...] = ()
    """Missing signals."""
    age_seconds: Seconds = 0
    """Age of the newest readings."""
    capacity_errors: tuple[str, ...] = ()
    """Pools for which AWS had no capacity in the last minute."""
    jobs: GivenJobs | None = None
    """Training: the queue."""
