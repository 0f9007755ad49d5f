"""The policy: what a service aims at, and how boldly. One file of policies/ is one `Policy`.

Every key has a default that suits a chat model on GPU instances that take minutes to boot; a policy file names only
what it wants otherwise. Units stand in the names; shares are fractions only where the name says so (`attainment`,
`confidence`, `target_utilization`), else `_percent`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[int, Field(ge=0, le=999)]
"""The range of an ALB target group's weight:
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html"""


class Section(BaseModel):
    """A mapping of a file that a user writes: unknown keys are errors, and what was read never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Workload(StrEnum):
    """What the instances do."""

    INFERENCE = "inference"
    TRAINING = "training"


class Mode(StrEnum):
    """Whether decisions are carried out."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class LoadUnit(StrEnum):
    """What `load` and `capacity` count. The first three add up over instances; the last two are means of percents."""

    CONCURRENCY = "concurrency"
    REQUESTS = "requests_per_second"
    TOKENS = "tokens_per_second"
    GPU = "gpu_utilization"
    KV_CACHE = "kv_cache_utilization"


class Request(Section):
    """The typical request, from which a profile's capacity follows."""

    input_tokens: Annotated[float, Field(gt=0)] = 1000
    """Prompt length, tokens."""
    output_tokens: Annotated[float, Field(gt=0)] = 200
    """Answer length, tokens."""


class Slo(Section):
    """What a request may expect. Without it the service is sized by `sizing.target_utilization` alone."""

    ttft_seconds: Annotated[float, Field(gt=0)]
    """Longest time to the first token of a short prompt."""
    ttft_seconds_per_1000_input_tokens: Seconds = 0.0
    """Allowed on top for each 1000 tokens of prompt: a long prompt may take longer to read."""
    tpot_seconds: Annotated[float, Field(gt=0)] = 0.1
    """Longest mean time per output token after the first."""
    attainment: Fraction = 0.995
    """Share of requests that must keep to the limits."""

    def ttft_limit_seconds(self, input_tokens: float) -> float:
        """The limit of a request with this prompt length."""
        return self.ttft_seconds + self.ttft_seconds_per_1000_input_tokens * input_tokens / 1000


class Load(Section):
    """How load is measured."""

    unit: LoadUnit = LoadUnit.CONCURRENCY
    """Unit of load and capacity."""
    stale_after_seconds: Annotated[float, Field(gt=0)] = 180
    """A value older than this is missing, not old; CloudWatch's newest minute arrives up to two minutes late."""


class Thresholds(Section):
    """Node signals (the article, 3.2.1) that call for more instances when they pass their limit, whatever the load."""

    cpu_percent: Percent | None = None
    """Mean CPU use of a pool."""
    memory_percent: Percent | None = None
    """Mean use of main memory."""
    gpu_percent: Percent | None = None
    """Mean GPU use."""
    kv_cache_percent: Percent | None = 95.0
    """Mean use of the KV cache: beyond it the engine preempts requests."""
    network_latency_seconds: Annotated[float, Field(gt=0)] | None = None
    """ALB to target, connection and first byte of a health check."""


class SizingMode(StrEnum):
    """What capacity follows from."""

    SLO = "slo"
    THRESHOLD = "threshold"


class Sizing(Section):
    """How much capacity a demand needs."""

    mode: SizingMode | None = None
    """`slo` sizes by waiting time, `threshold` by utilisation; unset: `slo` where the policy has an SLO."""
    target_utilization: Annotated[float, Field(gt=0, le=1)] = 0.8
    """U_max per instance: the article's threshold of 80 %. In mode `slo` it is used for R alone."""
    wait_budget: Fraction | None = None
    """Share of requests that may wait longer than the SLO leaves time for; unset: half of 1 - slo.attainment."""
    drain_backlog_seconds: Annotated[float, Field(gt=0)] = 120
    """A backlog is worked off within this time."""


class ForecastMethod(StrEnum):
    """How demand is looked ahead."""

    NONE = "none"
    PEAK = "peak"
    TREND = "trend"
    SEASONAL = "seasonal"
    AUTO = "auto"


class Forecast(Section):
    """Demand at the time when an instance ordered now would serve."""

    method: ForecastMethod = ForecastMethod.AUTO
    """`none` the level now, `peak` the highest of the last ten minutes or hour, `trend`, `seasonal`; `auto` takes the
    method that would lately have carried the share `confidence` for the least capacity."""
    confidence: Fraction | None = None
    """Quantile of the forecast's own recent errors that becomes head-room; unset: half of what the SLO allows to fail
    is left to the forecast, 0.95 without an SLO."""
    max_headroom_percent: Annotated[float, Field(ge=0)] = 150
    """Head-room never exceeds this share of the forecast."""
    history_days: Annotated[int, Field(ge=1, le=14)] = 14
    """Days of 5-minute history read for `seasonal`, and of which each day's highest demand is remembered."""


class Burst(Section):
    """A sudden rise, taken from the newest high-resolution data and acted on at once."""

    factor: Annotated[float, Field(gt=1)] = 1.5
    """The newest load counts as a burst from this multiple of the minute's load on."""
    hold_seconds: Seconds = 300
    """How long the size reached in a burst is kept at least."""


class Horizontal(Section):
    """How far and how fast counts may change."""

    tolerance_percent: Percent = 5
    """No change while the wanted capacity is within this of what stands."""
    max_step_out: Annotated[int, Field(ge=1)] = 50
    """Instances added to one pool in one step, at most."""
    max_step_in: Annotated[int, Field(ge=1)] = 10
    """Instances taken from one pool in one step, at most."""
    scale_in_stabilization_seconds: Seconds = 120
    """Capacity goes down to the highest that was wanted within this time."""
    launch_timeout_seconds: Annotated[float, Field(gt=0)] = 1200
    """An instance that is not ready after this time no longer counts as coming."""
    busy_max_drain_seconds: Seconds = 900
    """How long a draining instance may finish its requests."""


class VerticalMethod(StrEnum):
    """How the type of instance may change."""

    POOLS = "pools"
    IN_PLACE = "in_place"
    OFF = "off"


class Vertical(Section):
    """Changing the type of instance that serves."""

    method: VerticalMethod = VerticalMethod.POOLS
    """`pools` moves between the service's pools, make-before-break; `in_place` rolls another type through the only
    pool by instance refresh; `off` never changes types."""
    minimum_stay_seconds: Annotated[float, Field(gt=0)] = 3600
    """A move must pay for the overlap of both pools within this time, and the next one waits for it. Above 0: within
    no time no move ever pays."""
    minimum_saving_percent: Percent = 5
    """A move that saves less is not made."""


class Availability(Section):
    """The floor that is kept whatever the load."""

    min_instances: Annotated[int, Field(ge=0)] = 1
    """Ready instances over all pools, while the service is awake."""
    min_zones: Annotated[int, Field(ge=1, le=6)] = 1
    """Zones that hold them."""


class CapacityErrors(Section):
    """What follows when AWS has no such instance (InsufficientInstanceCapacity and its kin)."""

    avoid_seconds: Annotated[float, Field(gt=0)] = 300
    """First time a pool and zone are left alone; doubles with each error in a row up to an hour."""


class RoutingStrategy(StrEnum):
    """How traffic is shared among pools."""

    STATIC = "static"
    STICKY = "sticky"
    CAPACITY = "capacity"
    RESPONSE_TIME = "response_time"
    AUTO = "auto"


class RoutingPolicy(Section):
    """How traffic is shared among pools (the article, 3.2.1)."""

    strategy: RoutingStrategy = RoutingStrategy.AUTO
    """`static` fixed weights; `sticky` sessions stay with a pool; `capacity` by healthy capacity; `response_time`
    by capacity, corrected by latency seen; `auto` starts as capacity and goes over when the loads drift apart."""
    static_weights: dict[str, Weight] = {}
    """Weight of each pool, for `static`."""
    stickiness_seconds: Annotated[int, Field(ge=1, le=604800)] = 3600
    """How long a session stays with its pool, for `sticky`."""
    dead_band_percent: Percent = 1
    """Weights are rewritten only when some pool's share changes by more than this."""
    max_step_percent: Annotated[float, Field(gt=0, le=100)] = 25
    """A healthy pool's share moves by at most this in one step."""
    slow_start_seconds: Seconds = 60
    """A pool that has just become healthy reaches its share over this time."""
    drift_percent: Percent = 20
    """`auto`: spread of the pools' utilisations from which on response times are taken into account."""
    damping: Annotated[float, Field(gt=0, le=1)] = 0.3
    """`response_time`: part of the correction made in one step."""


class Zero(Section):
    """Sleeping when nobody asks. A service can sleep only where every pool's minimum is 0."""

    idle_seconds: Annotated[float, Field(ge=60)] | None = None
    """Sleep after this long without a request; unset: never."""
    wake_instances: Annotated[int, Field(ge=1)] = 1
    """Instances started by the first request."""


class Training(Section):
    """For `workload: training`: capacity follows the job queue."""

    jobs_per_instance: Annotated[int, Field(ge=1)] = 1
    """Jobs that run on an instance at a time."""
    start_within_seconds: Annotated[float, Field(gt=0)] = 600
    """How long a job may wait for a free place before more instances are started for it."""
    idle_seconds: Seconds = 300
    """An instance without a job is kept this long for the next."""
    protect_remaining_seconds: Seconds = 300
    """Waiting jobs that a running one's end will serve within this time start no instance of their own."""


class Learning(Section):
    """Correcting the catalog's capacity by what is seen."""

    enabled: bool = True
    """Whether the catalog's capacity is corrected at all."""
    bound_percent: Annotated[float, Field(ge=0, le=90)] = 30
    """The correction never exceeds this in either direction."""
    half_life_seconds: Annotated[float, Field(gt=0)] = 21600
    """How slowly it follows."""
    reset: str = ""
    """Any change of this text forgets what was learnt."""


class PolicyCase(Section):
    """A test that the policy's owner writes: `given` an observation in short form, `expect` bounds on the decision."""

    name: str
    """What must hold, as one would say it."""
    given: dict[str, Any]
    """An observation in short form; the keys stand below, under Cases."""
    expect: dict[str, Any]
    """Bounds on the decision; the keys stand below, under Cases."""


class Policy(Section):
    """One file of policies/."""

    description: str = ""
    """What the policy is for."""
    workload: Workload = Workload.INFERENCE
    """`inference` serves requests, `training` runs jobs of a queue."""
    mode: Mode = Mode.ENFORCE
    """`shadow` decides, logs and publishes, and touches nothing."""
    model: str
    """The serving profile that says what an instance can carry."""
    request: Request = Request()
    slo: Slo | None = None
    load: Load = Load()
    thresholds: Thresholds = Thresholds()
    sizing: Sizing = Sizing()
    forecast: Forecast = Forecast()
    burst: Burst = Burst()
    horizontal: Horizontal = Horizontal()
    vertical: Vertical = Vertical()
    availability: Availability = Availability()
    capacity_errors: CapacityErrors = CapacityErrors()
    routing: RoutingPolicy = RoutingPolicy()
    zero: Zero = Zero()
    training: Training = Training()
    learning: Learning = Learning()
    cases: tuple[PolicyCase, ...] = ()

    @property
    def sizing_mode(self) -> SizingMode:
        """The mode in force: the one named, else `slo` where there is an SLO."""
        return self.sizing.mode or (SizingMode.SLO if self.slo else SizingMode.THRESHOLD)

    @property
    def wait_budget(self) -> float:
        """Share of requests that may wait too long: half of what the SLO allows to fail; the other half is left to
        demand that no forecast saw.
        """
        if self.sizing.wait_budget is not None:
            return self.sizing.wait_budget
        return (1 - self.slo.attainment) / 2 if self.slo else 0.01

    @property
    def forecast_confidence(self) -> float:
        """Share of the demand that the capacity ordered in time shall carry."""
        if self.forecast.confidence is not None:
            return self.forecast.confidence
        return 1 - (1 - self.slo.attainment) / 2 if self.slo else 0.95

    @model_validator(mode="after")
    def _slo_is_there(self) -> Self:
        if self.sizing.mode is SizingMode.SLO and self.slo is None:
            raise ValueError("sizing.mode: slo needs the key slo")
        return self

    @model_validator(mode="after")
    def _static_weights_are_there(self) -> Self:
        if self.routing.strategy is RoutingStrategy.STATIC and not self.routing.static_weights:
            raise ValueError("routing.strategy: static needs routing.static_weights")
        return self
