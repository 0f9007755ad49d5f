"""The policy: a service's aims and how boldly it pursues them. One file of policies/ is one `Policy`.

Every key has a default that suits a chat model on GPU instances that take minutes to boot; a policy file names only
the keys that differ. Names carry their units. Shares are fractions in `attainment`, `confidence`, `wait_budget` and
`target_utilization`, and percentages elsewhere (`_percent`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(ge=0)]
Percent = Annotated[float, Field(ge=0, le=100)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
MAX_WEIGHT = 999
"""Of an ALB's target group:
https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupTuple.html"""
Weight = Annotated[int, Field(ge=0, le=MAX_WEIGHT)]


class Section(BaseModel):
    """A mapping in a user's file: unknown keys are errors, and values never change once read."""

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
    """Unit of load and capacity; both add up over instances. Use of GPU and KV cache are limits, in `thresholds`."""

    CONCURRENCY = "concurrency"
    REQUESTS = "requests_per_second"


class Request(Section):
    """The typical request: a profile's capacity is computed for it."""

    input_tokens: Annotated[float, Field(gt=0)] = 1000
    """Prompt length, tokens."""
    output_tokens: Annotated[float, Field(gt=0)] = 200
    """Answer length, tokens."""


class Slo(Section):
    """Latency limits of a request. Without them, `sizing.target_utilization` alone sizes the service."""

    ttft_seconds: Annotated[float, Field(gt=0)]
    """Longest time to first token for a short prompt."""
    ttft_seconds_per_1000_input_tokens: Seconds = 0.0
    """Extra time for each 1000 tokens of prompt: a long prompt may take longer to read."""
    tpot_seconds: Annotated[float, Field(gt=0)] = 0.1
    """Longest mean time per output token after the first."""
    attainment: Fraction = 0.995
    """Share of requests that must keep the limits."""

    def ttft_limit_seconds(self, input_tokens: float) -> float:
        """Return the limit on time to first token for a prompt of this length."""
        return self.ttft_seconds + self.ttft_seconds_per_1000_input_tokens * input_tokens / 1000


class Load(Section):
    """How to measure load."""

    unit: LoadUnit = LoadUnit.CONCURRENCY
    """Unit of load and capacity."""
    stale_after_seconds: Annotated[float, Field(gt=0)] = 180
    """A value older than this counts as missing; CloudWatch's newest minute arrives up to two minutes late."""


class Thresholds(Section):
    """Limits of node signals (the article, 3.2.1): a signal over its limit adds instances, whatever the load, as long
    as it falls when they come; no instance leaves that would bring it back over.
    """

    cpu_percent: Percent | None = None
    """Mean CPU use of the pool's instances."""
    memory_percent: Percent | None = None
    """Mean use of main memory."""
    gpu_percent: Percent | None = None
    """Mean GPU use."""
    kv_cache_percent: Percent | None = 95.0
    """Mean use of the KV cache: above this the engine preempts requests."""
    network_latency_seconds: Annotated[float, Field(gt=0)] | None = None
    """From ALB to target: connection and first byte of a health check."""


class SizingMode(StrEnum):
    """What decides how much an instance may carry."""

    SLO = "slo"
    THRESHOLD = "threshold"


class Sizing(Section):
    """How much capacity a demand needs."""

    mode: SizingMode | None = None
    """`slo` sizes by waiting time, `threshold` by utilisation; unset: `slo` if the policy has an SLO."""
    target_utilization: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of an instance that mode `threshold` uses: the article's threshold of 80 %."""
    wait_budget: Fraction | None = None
    """Share of requests that may wait longer than the SLO allows; unset: half of 1 - slo.attainment."""
    drain_backlog_seconds: Annotated[float, Field(gt=0)] = 120
    """Time within which capacity must work off a backlog."""


class ForecastMethod(StrEnum):
    """How to forecast demand."""

    NONE = "none"
    PEAK = "peak"
    TREND = "trend"
    SEASONAL = "seasonal"
    AUTO = "auto"


class Forecast(Section):
    """Forecast of the demand at the time when an instance ordered now would serve."""

    method: ForecastMethod = ForecastMethod.AUTO
    """`none` takes the level now, `peak` the highest of the last ten minutes or hour, `trend` extrapolates, `seasonal`
    follows the day and the week; `auto` takes the method that recently carried the share `confidence` with the least
    capacity."""
    confidence: Fraction | None = None
    """Share of the requests that head-room must keep in time, by what was seen lately; unset: it may miss half of the
    share that the SLO allows to fail, or 0.05 without an SLO."""
    max_headroom_percent: Annotated[float, Field(ge=0)] = 150
    """Largest head-room, as a share of the forecast."""
    history_days: Annotated[int, Field(ge=1, le=14)] = 14
    """Days of 5-minute history that `seasonal` reads, and days whose highest demand the scaler remembers."""


class Burst(Section):
    """A sudden rise in the newest high-resolution data, answered at once."""

    factor: Annotated[float, Field(gt=1)] = 1.5
    """The newest load is a burst when it reaches this multiple of the minute's load."""
    hold_seconds: Seconds = 300
    """Shortest time for which the size reached in a burst stays."""


class Horizontal(Section):
    """How far and how fast instance counts may change."""

    tolerance_percent: Percent = 5
    """Counts stay while the required capacity is within this share of the present capacity."""
    max_step_out: Annotated[int, Field(ge=1)] = 50
    """Most instances added to one pool in one step."""
    max_step_in: Annotated[int, Field(ge=1)] = 10
    """Most instances removed from one pool in one step."""
    scale_in_stabilization_seconds: Seconds = 120
    """Scale in only to the highest capacity required within this time; longer, up to an hour, while what was taken is
    soon missed."""
    launch_timeout_seconds: Annotated[float, Field(gt=0)] = 1200
    """An instance that is not ready after this time, and no longer shows progress, does not count as starting."""
    busy_max_drain_seconds: Seconds = 900
    """Time for a draining instance to finish its requests."""


class VerticalMethod(StrEnum):
    """How the instance type may change."""

    POOLS = "pools"
    IN_PLACE = "in_place"
    OFF = "off"


class Vertical(Section):
    """Changing the instance type that serves."""

    method: VerticalMethod = VerticalMethod.POOLS
    """`pools` moves between the service's pools, make-before-break; `in_place` rolls another type through the only
    pool by instance refresh; `off` never changes the type."""
    minimum_stay_seconds: Annotated[float, Field(gt=0)] = 3600
    """A move must pay for the overlap of both pools within this time, and the next move waits for as long. Above 0:
    in no time, no move pays."""
    minimum_saving_percent: Percent = 5
    """Smallest saving that justifies a move."""


class Availability(Section):
    """The least that must run, whatever the load."""

    min_instances: Annotated[int, Field(ge=0)] = 1
    """Serving or starting instances over all pools, while the service is awake."""
    min_zones: Annotated[int, Field(ge=1, le=6)] = 1
    """Availability zones that hold them."""


class Overload(Section):
    """What an engine does with more requests than it can serve in time."""

    refuse: bool = True
    """Refuse (503) what would wait too long, so that the rest is served in time; false lets any number wait. Only for
    engines that have options for it, and only with an SLO or `max_wait_seconds`."""
    max_wait_seconds: Annotated[float, Field(gt=0)] | None = None
    """Longest wait in an engine's queue; unset: what the SLO's time to first token leaves beside reading the prompt."""


class CapacityErrors(Section):
    """Reaction when a launch fails: AWS has no such instance, or refuses for any other reason."""

    avoid_seconds: Annotated[float, Field(gt=0)] = 300
    """Time to avoid the pool and zone after a first error; doubles with each further error in a row, up to an hour."""


class RoutingStrategy(StrEnum):
    """How pools share the traffic."""

    STATIC = "static"
    HASH = "hash"
    STICKY = "sticky"
    CAPACITY = "capacity"
    RESPONSE_TIME = "response_time"
    AUTO = "auto"


class RoutingPolicy(Section):
    """How pools share the traffic (the article, 3.2.1)."""

    strategy: RoutingStrategy = RoutingStrategy.AUTO
    """`static`: fixed weights; `hash`: by capacity, and clients stay with a pool by their header; `sticky`: by
    capacity, and clients that keep cookies stay with an instance; `capacity`: by healthy capacity; `response_time`: by
    capacity, corrected by measured latency; `auto`: starts as `capacity` and becomes `response_time` when the pools'
    loads drift apart."""
    static_weights: dict[str, Weight] = {}
    """`static`: weight of each pool. Each pool gets the instances that its share of the traffic needs, whatever would
    be cheapest."""
    hash_header: str | None = None
    """`hash`: request header whose value ends in an evenly spread hexadecimal digit, like a UUID."""
    stickiness_seconds: Annotated[int, Field(ge=1, le=604800)] = 3600
    """`sticky`: how long a client that sends nothing stays with its instance."""
    dead_band_percent: Percent = 1
    """Weights change only when some pool's share is off by more than this."""
    max_step_percent: Annotated[float, Field(gt=0, le=100)] = 25
    """Largest change of a healthy pool's share in one step."""
    slow_start_seconds: Seconds = 60
    """Time over which a newly healthy pool reaches its share."""
    drift_percent: Percent = 20
    """`auto`: response times count once the pools' loads over capacity are this far apart."""
    damping: Annotated[float, Field(gt=0, le=1)] = 0.3
    """`response_time`: part of the correction applied in one step."""


class Zero(Section):
    """Sleep while there are no requests. A service can sleep only if every pool's minimum is 0."""

    idle_seconds: Annotated[float, Field(ge=60)] | None = None
    """Sleep after this time without a request; unset: never."""
    wake_instances: Annotated[int, Field(ge=1)] = 1
    """Instances that the first request starts."""


class Training(Section):
    """`workload: training`: capacity follows the job queue."""

    jobs_per_instance: Annotated[int, Field(ge=1)] = 1
    """Jobs that run on one instance at a time."""
    start_within_seconds: Annotated[float, Field(gt=0)] = 600
    """Longest time that a job may wait for a free place before the scaler starts an instance for it."""
    idle_seconds: Seconds = 300
    """Time that an instance without a job waits for the next one."""
    protect_remaining_seconds: Seconds = 300
    """A waiting job starts no instance if a running job will end and make room for it within this time."""


class Learning(Section):
    """Correction of the catalog's capacity by measured capacity."""

    enabled: bool = True
    """Whether to correct the catalog's capacity."""
    bound_percent: Annotated[float, Field(ge=0, le=90)] = 30
    """Largest correction in either direction."""
    half_life_seconds: Annotated[float, Field(gt=0)] = 21600
    """Half-life with which the correction follows measurements."""
    reset: str = ""
    """Any change of this text discards what was learnt."""


class PolicyCase(Section):
    """A test written by the policy's owner: `given` an observation in short form, `expect` bounds on the decision."""

    name: str
    """The expectation, in a sentence."""
    given: dict[str, Any]
    """An observation in short form; see Cases below for its keys."""
    expect: dict[str, Any]
    """Bounds on the decision; see Cases below for their keys."""


class Policy(Section):
    """One file of policies/."""

    description: str = ""
    """Purpose of the policy."""
    workload: Workload = Workload.INFERENCE
    """`inference` serves requests, `training` runs the jobs of a queue."""
    mode: Mode = Mode.ENFORCE
    """`enforce` applies decisions; `shadow` decides, logs and publishes, and changes nothing."""
    model: str
    """Name of the serving profile, which says what an instance can carry."""
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
    overload: Overload = Overload()
    capacity_errors: CapacityErrors = CapacityErrors()
    routing: RoutingPolicy = RoutingPolicy()
    zero: Zero = Zero()
    training: Training = Training()
    learning: Learning = Learning()
    cases: tuple[PolicyCase, ...] = ()

    @property
    def sizing_mode(self) -> SizingMode:
        """The mode in force: `sizing.mode`, else `slo` if there is an SLO."""
        return self.sizing.mode or (SizingMode.SLO if self.slo else SizingMode.THRESHOLD)

    @property
    def refuses(self) -> bool:
        """Whether full engines refuse requests."""
        serves = self.workload is Workload.INFERENCE and self.overload.refuse
        return serves and (self.slo is not None or self.overload.max_wait_seconds is not None)

    @property
    def wait_budget(self) -> float:
        """Share of requests that may wait too long: half of the share that the SLO allows to fail. The other half is
        for demand above its forecast.
        """
        if self.sizing.wait_budget is not None:
            return self.sizing.wait_budget
        return (1 - self.slo.attainment) / 2 if self.slo else 0.01

    @property
    def forecast_confidence(self) -> float:
        """Share of the demand that capacity ordered in time must carry."""
        if self.forecast.confidence is not None:
            return self.forecast.confidence
        return 1 - (1 - self.slo.attainment) / 2 if self.slo else 0.95

    @model_validator(mode="after")
    def _mode_slo_has_an_slo(self) -> Self:
        if self.sizing.mode is SizingMode.SLO and self.slo is None:
            raise ValueError("sizing.mode: slo needs the key slo")
        return self

    @model_validator(mode="after")
    def _a_longest_wait_is_kept(self) -> Self:
        wait = self.overload.max_wait_seconds
        if wait is not None and not self.overload.refuse:
            raise ValueError(f"overload.max_wait_seconds: needs overload.refuse (got {wait:g}, and refuse: false)")
        return self

    @model_validator(mode="after")
    def _strategy_static_has_weights(self) -> Self:
        if self.routing.strategy is RoutingStrategy.STATIC and not self.routing.static_weights:
            raise ValueError("routing.strategy: static needs routing.static_weights")
        return self

    @model_validator(mode="after")
    def _strategy_hash_has_a_header(self) -> Self:
        header = self.routing.hash_header
        if self.routing.strategy is RoutingStrategy.HASH and header is None:
            raise ValueError("routing.strategy: hash needs routing.hash_header")
        # The load balancer drops headers with other characters, and has another kind of condition for `host`.
        if header is not None and (not re.fullmatch(r"[A-Za-z0-9-]{1,40}", header) or header.lower() == "host"):
            raise ValueError(
                f"routing.hash_header: must be a header of at most 40 letters, digits and -, not host (got {header})"
            )
        return self
