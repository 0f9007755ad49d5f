"""What one evaluation leaves for the next. Losing it costs a hold, never a wrong move: `State()` is a lost state.

Each step of the model has a small memory of its own and reads no other's by accident. `after_gap` says what of a memory
still holds after a pause in which nobody looked: what was learnt stays, windows and open questions go. Everything is
bounded: a service's state is one DynamoDB item, written each minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Self

from gpu_fleet.scaling.boot import LastBoot

LEAST_REWEIGHED = 1e-6


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series, at the end of the interval it was measured over."""

    at: float
    rps: float


@dataclass(frozen=True, slots=True)
class Pending:
    """Each method's forecast for a time to come, compared with what is seen then."""

    due: float
    rps: Mapping[str, float]
    made_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Hindsight:
    """How a forecast method has done: decaying sums over time, each weighted by the demand seen."""

    late: tuple[float, ...] = ()
    """Requests that would have come late, for each level of `gpu_fleet.scaling.headroom`."""
    queued: tuple[float, ...] = ()
    """Seconds that the queue would take now, for each level."""
    episode: tuple[float, ...] = ()
    """Those late since the last break of a lead time, for each level."""
    calm: tuple[float, ...] = ()
    """Seconds without any, for each level."""
    worst: tuple[float, ...] = ()
    """Those of the largest episode, for each level."""
    absolute: float = 0.0
    """Sum of |seen - forecast|."""
    weight: float = 0.0
    """Sum of the demand seen."""
    said: float = 0.0
    """Sum of the demand forecast."""


@dataclass(frozen=True, slots=True)
class Season:
    """Shapes of a working day and of a weekend day, from up to 14 days of 5-minute history."""

    read_at: float
    working: tuple[float, ...]
    """Mean rps of each 5-minute slot of a working day (UTC)."""
    weekend: tuple[float, ...]
    """The same of a Saturday or Sunday."""
    days: float
    """Days of history behind it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A zone of a pool in which a launch failed, and which is avoided for a while. The zone "" is the whole pool."""

    zone: str
    until: float
    errors: int
    """Errors in a row; each doubles the time."""
    spot: bool = False
    why: str = ""
    """Why the launch failed, in AWS's words."""
    booted: bool = False
    """Whether the instance was launched, and given up before it served: only one that serves clears the mark."""


@dataclass(frozen=True, slots=True)
class Short:
    """A group has lacked at least `count` of its desired instances since then."""

    count: int
    since: float


@dataclass(frozen=True, slots=True)
class PoolState:
    """What is remembered of one pool."""

    leads: tuple[float, ...] = ()
    """Seconds from launch to ready of its latest launches."""
    boot: LastBoot | None = None
    """The newest of them, by phases."""
    starting: tuple[str, ...] = ()
    """Instances that were starting at the last evaluation."""
    marks: tuple[Mark, ...] = ()
    marked_at: float = 0.0
    """Time of the newest failed launch taken into account."""
    correction: float = 1.0
    """Capacity seen, over the catalog's figure."""
    short: tuple[Short, ...] = ()
    """Orders that the group has not filled yet, oldest first."""


@dataclass(frozen=True, slots=True)
class DemandMemory:
    """What measuring the demand remembers."""

    request_weight: float = 1.0
    """Work of a request of the engines, over what the profiles say of one with such lengths."""
    queue: Point | None = None
    """Requests that waited in the engines, when it was last told."""
    answers: float = 1.0
    """Requests of the engines for each of the load balancer's: 8 for answers in eight versions, 0.1 where 9 of 10 are
    GET /v1/models."""
    answered: float = 0.0
    """The load balancer's requests behind that ratio, old ones counting less."""
    answered_at: float = 0.0
    """End of the newest minute that it was learnt from."""
    counted: bool | None = None
    """Whether demand was last counted from arrivals; else it was the work done, a floor where instances are full."""
    dispersion: float | None = None
    """Variance over mean of the arrivals in 10 seconds; 1 for a Poisson process."""
    dispersed_at: float = 0.0
    """End of the newest minute that it was learnt from."""
    dispersed_seconds: float = 120.0
    """Time behind it, old time counting less."""

    def after_gap(self) -> Self:
        """Keep what was learnt, and no time of a clock that may have jumped."""
        return replace(self, answered_at=0.0, dispersed_at=0.0, queue=None)


@dataclass(frozen=True, slots=True)
class RequestMemory:
    """Running means of the requests seen."""

    tokens: tuple[float, float] | None = None
    """Prompt and answer, in tokens."""
    count: float = 0.0
    """Requests behind those means, old ones counting less."""

    def after_gap(self) -> Self:
        """Keep all: lengths of requests change slowly."""
        return self


@dataclass(frozen=True, slots=True)
class ForecastMemory:
    """The demand's own series, and how forecasts of it have done."""

    series: tuple[Point, ...] = ()
    """Demand, in typical requests per second, newest last."""
    highest: tuple[Point, ...] = ()
    """The highest demand of each day (UTC), oldest first."""
    pending: tuple[Pending, ...] = ()
    hindsight: Mapping[str, Hindsight] = field(default_factory=dict)
    """By method."""
    season: Season | None = None
    season_wanted: bool = False

    def mean_rps(self, otherwise: float) -> float:
        """Mean demand of the series; `otherwise` before there is any."""
        return sum(p.rps for p in self.series) / len(self.series) if self.series else otherwise

    def after_gap(self) -> Self:
        """Forget the series and the forecasts made from it; hindsight, highs and the season stay."""
        return replace(self, series=(), pending=())

    def reweighed(self, factor: float) -> Self:
        """In other units: a request was learnt to be `factor` times as much work, which is no rise of the demand."""
        if abs(factor - 1) < LEAST_REWEIGHED:
            return self

        def points(of: tuple[Point, ...]) -> tuple[Point, ...]:
            return tuple(replace(p, rps=p.rps * factor) for p in of)

        orders = tuple(replace(p, rps={name: rps * factor for name, rps in p.rps.items()}) for p in self.pending)
        return replace(self, series=points(self.series), highest=points(self.highest), pending=orders)

    def of_another_measure(self) -> Self:
        """Leave unjudged what was forecast from one measure of demand and would be judged by another."""
        return replace(self, pending=())


@dataclass(frozen=True, slots=True)
class FeedbackMemory:
    """The share of the demand that forecasts may miss (`gpu_fleet.scaling.feedback`)."""

    allowance: float | None = None
    """That share, as feedback has corrected it."""
    measured_at: float = 0.0
    """End of the newest minute that it has learnt from."""

    def after_gap(self) -> Self:
        """Keep all."""
        return self


@dataclass(frozen=True, slots=True)
class BurstMemory:
    """The last burst."""

    last: Point | None = None
    """Kept until its time is over."""

    def after_gap(self) -> Self:
        """Forget the burst: it is over, and nobody saw how it ended."""
        return replace(self, last=None)


@dataclass(frozen=True, slots=True)
class Passed:
    """A node signal as it was when it passed its limit, before any instances came for it."""

    at: float
    """When it passed its limit."""
    value: float
    share: float
    """Work over the throughput of the ready instances."""
    full_rps: float
    """Throughput of the ready instances."""


@dataclass(frozen=True, slots=True)
class SignalMemory:
    """How one node signal of a pool has answered to the work of an instance (`gpu_fleet.scaling.thresholds`)."""

    value: float | None = None
    """Its mean over some minutes, since the capacity last changed."""
    newest: tuple[Point, ...] = ()
    """Its last two readings; `rps` stands for the signal's own unit."""
    passed: Passed | None = None
    """Kept until it has been within its limit for a while."""
    passed_at: float = 0.0
    """When it was last over its limit."""
    within: float | None = None
    """Most work over throughput at which it kept its limit."""
    over: float | None = None
    """Least work over throughput that was too much for it."""
    over_at: float = 0.0
    quiet_until: float = 0.0
    """It did not fall when instances came: until then it asks for none."""


@dataclass(frozen=True, slots=True)
class ThresholdMemory:
    """What node signals and their limits have to know of the past."""

    full_rps: float | None = None
    """Throughput of the ready instances, since it last changed; None before it was seen."""
    since: float = 0.0
    """When it last changed."""
    work_rps: float | None = None
    """Mean demand of the last minutes."""
    signals: Mapping[str, SignalMemory] = field(default_factory=dict)
    """By pool and signal, as "l4.cpu_percent"."""

    def after_gap(self) -> Self:
        """Keep what was learnt of each signal; means and open questions begin anew."""
        return replace(
            self,
            full_rps=None,
            since=0.0,
            work_rps=None,
            signals={
                name: replace(signal, value=None, newest=(), passed=None) for name, signal in self.signals.items()
            },
        )


@dataclass(frozen=True, slots=True)
class GuardMemory:
    """What scale-in has to know of the past."""

    stepped_at: float = 0.0
    """When instances and weights were last looked at as the schedule does (`continuity.is_extra`)."""
    required: tuple[Point, ...] = ()
    """Capacity required within the stabilisation window: each point that none since has passed."""
    taken_at: float = 0.0
    """When capacity was last taken, if it has not been missed since."""
    patience: float = 1.0
    """The window over the policy's (`gpu_fleet.scaling.window`), at `patience_at`."""
    patience_at: float = 0.0
    loads_wanted_since: float | None = None
    """Since when an instance would have left, had it been known which is the least busy."""

    def after_gap(self) -> Self:
        """Forget the window: less capacity must be earned anew."""
        return replace(self, required=(), loads_wanted_since=None)


@dataclass(frozen=True, slots=True)
class MixMemory:
    """When types were last changed; 0 for never."""

    moved_at: float = 0.0

    def after_gap(self) -> Self:
        """Keep all."""
        return self


@dataclass(frozen=True, slots=True)
class ZeroMemory:
    """Whether the service sleeps, and since when it has been idle."""

    asleep: bool = False
    idle_since: float | None = None

    def after_gap(self) -> Self:
        """Begin the idle time anew; a service that sleeps goes on sleeping."""
        return replace(self, idle_since=None)


@dataclass(frozen=True, slots=True)
class TrainingMemory:
    """Since when each instance has been without a job."""

    idle_nodes: Mapping[str, float] = field(default_factory=dict)

    def after_gap(self) -> Self:
        """Keep all: an instance that has no job now has not lost its idle time."""
        return self


@dataclass(frozen=True, slots=True)
class LearningMemory:
    """The value of `learning.reset` at which learning last began anew."""

    reset: str = ""

    def after_gap(self) -> Self:
        """Keep all."""
        return self


@dataclass(frozen=True, slots=True)
class RoutingState:
    """What the weights depend on besides what is seen (`gpu_fleet.scaling.routing`)."""

    by_response_time: bool = False
    """Strategy `auto`: response times count, since the loads have drifted apart."""
    healthy_since: Mapping[str, float] = field(default_factory=dict)
    """Since when each pool has had ready targets; for the slow start."""
    corrections: Mapping[str, float] = field(default_factory=dict)
    """Factor on each pool's capacity from its response time."""
    moving: bool = False
    """The last step was cut short by `max_step_percent`: the move is finished whatever the dead band."""

    def after_gap(self) -> Self:
        """Keep all."""
        return self


@dataclass(frozen=True, slots=True)
class State:
    """The memory of the model, one part per step. Opaque to everyone but `gpu_fleet.scaling`."""

    at: float = 0.0
    """When it was written (seconds since the epoch); 0 for a lost state."""
    since: float = 0.0
    """Since when evaluations have followed one another without a gap."""
    demand: DemandMemory = field(default_factory=DemandMemory)
    requests: RequestMemory = field(default_factory=RequestMemory)
    forecast: ForecastMemory = field(default_factory=ForecastMemory)
    feedback: FeedbackMemory = field(default_factory=FeedbackMemory)
    burst: BurstMemory = field(default_factory=BurstMemory)
    thresholds: ThresholdMemory = field(default_factory=ThresholdMemory)
    guard: GuardMemory = field(default_factory=GuardMemory)
    mix: MixMemory = field(default_factory=MixMemory)
    zero: ZeroMemory = field(default_factory=ZeroMemory)
    routing: RoutingState = field(default_factory=RoutingState)
    training: TrainingMemory = field(default_factory=TrainingMemory)
    learning: LearningMemory = field(default_factory=LearningMemory)
    pools: Mapping[str, PoolState] = field(default_factory=dict)

    def after_gap(self, now: float) -> Self:
        """The state at the first evaluation after a pause in which nobody looked."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        kept = {name: part.after_gap() for name, part in parts.items() if hasattr(part, "after_gap")}
        return replace(self, since=now, **kept)

    def pool(self, name: str) -> PoolState:
        """What is remembered of a pool; nothing yet of a new one."""
        return self.pools.get(name, PoolState())

    @property
    def wants_history(self) -> bool:
        """Whether the next observation should bring `history_rps` (up to 14 days, read a few times a day)."""
        return self.forecast.season_wanted

    @property
    def wants_instance_loads(self) -> bool:
        """Whether the next observation should bring each instance's own load: an instance is about to be chosen."""
        return self.guard.loads_wanted_since is not None
