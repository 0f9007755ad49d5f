"""What one evaluation leaves for the next. Losing it costs a hold, never a wrong move: `State()` is a lost state.

Everything here is small and bounded: a service's state is one DynamoDB item, written each minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series, at the end of the interval it was measured over."""

    at: float
    rps: float


@dataclass(frozen=True, slots=True)
class Pending:
    """What each method said of a time to come; held against what is seen then."""

    due: float
    rps: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Errors:
    """How a forecast method has done: a decaying histogram of seen / forecast, weighted by demand."""

    bins: tuple[float, ...] = ()
    absolute: float = 0.0
    """Decaying sum of |seen - forecast|."""
    weight: float = 0.0
    """Decaying sum of what was seen."""
    said: float = 0.0
    """Decaying sum of what was forecast."""


@dataclass(frozen=True, slots=True)
class Season:
    """Shape of a day and of a week, from up to 14 days of 5-minute history."""

    read_at: float
    day: tuple[float, ...]
    """Mean rps of each 5-minute slot of the day (UTC)."""
    weekday: tuple[float, ...]
    """Factor of each day of the week, Thursday first (the epoch's day)."""
    days: float
    """Days of history behind it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A zone of a pool that had no such instance, and is left alone for a while. The zone "" is the whole pool."""

    zone: str
    until: float
    errors: int
    """Errors in a row; each doubles the time."""
    spot: bool = False


@dataclass(frozen=True, slots=True)
class Short:
    """At least so many instances have been missing from a group's desired count since then."""

    count: int
    since: float


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is remembered of one pool."""

    leads: tuple[float, ...] = ()
    """Seconds from launch to ready of its latest launches."""
    starting: tuple[str, ...] = ()
    """Instances that were starting at the last evaluation."""
    marks: tuple[Mark, ...] = ()
    marked_at: float = 0.0
    """The newest capacity error that has been taken into account."""
    correction: float = 1.0
    """What the pool is seen to carry, over what the catalog says."""
    short: tuple[Short, ...] = ()
    """Orders that the group has not filled yet, the oldest first."""


@dataclass(frozen=True, slots=True)
class RoutingState:
    """What the weights depend on besides what is seen (`gpu_fleet.scaling.routing`)."""

    by_response_time: bool = False
    """Strategy `auto`: response times are taken into account, since the loads drifted apart."""
    healthy_since: Mapping[str, float] = field(default_factory=dict)
    """Since when each pool has had ready targets; for the slow start."""
    corrections: Mapping[str, float] = field(default_factory=dict)
    """Factor on each pool's capacity from its response time."""
    moving: bool = False
    """The last step was cut short by `max_step_percent`: the move is finished whatever the dead band."""


@dataclass(frozen=True, slots=True)
class State:
    """The memory of the model, one part per step. Opaque to everyone but scaling/."""

    at: float = 0.0
    """When it was written (seconds since the epoch); 0 for a lost state."""
    since: float = 0.0
    """Since when evaluations have followed one another without a gap."""
    stepped_at: float = 0.0
    """When instances and weights were last looked at as the schedule does (`gpu_fleet.scaling.guard.is_extra`)."""
    series: tuple[Point, ...] = ()
    """Demand, in typical requests per second, newest last."""
    highest: tuple[Point, ...] = ()
    """The highest demand of each day (UTC), oldest first."""
    pending: tuple[Pending, ...] = ()
    errors: Mapping[str, Errors] = field(default_factory=dict)
    season: Season | None = None
    request: tuple[float, float] | None = None
    """Running means of the prompts and answers seen, in tokens."""
    request_count: float = 0.0
    """Requests that those means stand on, old ones counting less."""
    request_weight: float = 1.0
    """Work of a request, over what the profiles say of one with such lengths."""
    counted: bool | None = None
    """Whether the series is of arrivals; else it is of work done, and the two do not compare."""
    dispersion: float | None = None
    """Variance over mean of the arrivals in 10 seconds; 1 for a Poisson process."""
    newest: tuple[Point, ...] = ()
    """10-second arrivals whose minute has not been seen yet (requests per second, not typical ones)."""
    dispersed_at: float = 0.0
    """The newest 10 seconds that were held against their minute."""
    allowance: float | None = None
    """Share of the demand that forecasts may miss, as feedback has corrected it (`gpu_fleet.scaling.feedback`)."""
    late: float | None = None
    """Share of the last minute's requests that came late, times its weight; None once it has been learnt from."""
    required: tuple[Point, ...] = ()
    """Capacity that was wanted within the stabilisation window."""
    burst: Point | None = None
    """The last burst, kept until its time is over."""
    burst_due: Point | None = None
    """The last burst, at the time when instances ordered for it serve."""
    burst_lasts: float = 1.0
    """What earlier bursts had come to by then, over what they were."""
    pools: Mapping[str, PoolState] = field(default_factory=dict)
    moved_at: float = 0.0
    """When types were last changed."""
    routing: RoutingState = field(default_factory=RoutingState)
    idle_since: float | None = None
    idle_nodes: Mapping[str, float] = field(default_factory=dict)
    """Training: since when each instance has been without a job."""
    asleep: bool = False
    learning_reset: str = ""
    loads_wanted: int = 0
    """Evaluations in a row that would have taken an instance, had they known the least busy."""
    season_wanted: bool = False

    def mean_rps(self, otherwise: float) -> float:
        """Mean demand of the series; `otherwise` before there is any."""
        return sum(p.rps for p in self.series) / len(self.series) if self.series else otherwise

    @property
    def wants_history(self) -> bool:
        """Whether the next observation should bring `history_rps` (up to 14 days, read a few times a day)."""
        return self.season_wanted

    @property
    def wants_instance_loads(self) -> bool:
        """Whether the next observation should bring each instance's own load: an instance is about to be chosen."""
        return self.loads_wanted > 0
