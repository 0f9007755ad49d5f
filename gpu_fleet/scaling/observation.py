"""What was seen of a service at one time. Whatever was not seen, or is too old, is None: never zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Reading:
    """A value and the end of the interval that it was measured over (seconds since the epoch, UTC)."""

    value: float
    at: float


def current(reading: Reading | None, now: float, stale_after_seconds: float) -> float | None:
    """The reading's value; None where it is missing, stale, or from the future (a clock that jumped)."""
    if reading is None or now - reading.at > stale_after_seconds or reading.at > now + 60:
        return None
    return reading.value


class Phase(StrEnum):
    """Where an instance stands between order and end."""

    STARTING = "starting"
    """Ordered, booting, loading the model, or not yet healthy at the load balancer."""
    READY = "ready"
    """In service and healthy: the only phase that counts as capacity."""
    UNHEALTHY = "unhealthy"
    """Was ready, and fails its health checks."""
    DRAINING = "draining"
    """Takes no new requests and finishes those it has."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a pool."""

    id: str
    type: str
    zone: str
    phase: Phase
    since: float
    """When it was launched (seconds since the epoch)."""
    spot: bool = False
    booting: bool = False
    """It waits for its launching hook, which its own heartbeats keep open: AWS ends one that sends none."""
    ready_at: float | None = None
    """When it became ready, where that was seen: from it the pool's lead time is learnt."""
    load: Reading | None = None
    """Its own load; read only when an instance is to be chosen."""
    jobs: int | None = None
    """Training: jobs that run on it; None where not known, which protects it."""
    remaining_seconds: float | None = None
    """Training: expected time until its jobs end."""


@dataclass(frozen=True, slots=True)
class CapacityError:
    """A launch that failed, for whatever reason: from the group's scaling activities."""

    zone: str
    """The zone that it concerns; empty where it concerns all, or none is named."""
    at: float
    spot: bool | None = False
    """Whether it concerns spot instances or on-demand ones; None: both."""
    why: str = field(default="", compare=False)
    """AWS's own words, shortened: for whoever reads the reasons."""
    booted: bool = False
    """Whether the instance could be launched, and was given up before it served: another that boots proves nothing."""


@dataclass(frozen=True, slots=True)
class PoolObservation:
    """What was seen of one pool."""

    desired: int
    min_size: int
    max_size: int
    """The group's own bounds, as they stand."""
    weight: int
    """Traffic weight, as it stands."""
    instances: tuple[Instance, ...] = ()
    on_demand_base: int | None = None
    """The group's on-demand base, as it stands; None for a group without a mixed policy."""
    load: Reading | None = None
    """Total over the pool's instances, in the policy's load unit."""
    running: Reading | None = None
    """Requests in service, the engines' own count."""
    waiting: Reading | None = None
    """Requests that the engines hold back."""
    publishers: float | None = None
    """Instances that `running` and `waiting` were counted at; None where it is not told: the ready ones."""
    rate_rps: Reading | None = None
    """Requests per second that the load balancer gave the pool. Zero is a reading only under a live heartbeat."""
    response_time_seconds: Reading | None = None
    """Mean time to the response's first header."""
    ttft_seconds: Reading | None = None
    """95th percentile of the time to the first token, where the engine tells."""
    cpu_percent: Reading | None = None
    memory_percent: Reading | None = None
    gpu_percent: Reading | None = None
    kv_cache_percent: Reading | None = None
    network_latency_seconds: Reading | None = None
    boot_seconds: Mapping[str, Reading] = field(default_factory=dict)
    """By phase, as the instances timed their boots: mean of those that entered service in the newest minute. Read only
    after a launch (`LastBoot.wanted`)."""
    capacity_errors: tuple[CapacityError, ...] = ()
    zones: tuple[str, ...] = ()
    """The group's own availability zones; empty: unknown."""
    launch_suspended: bool = False
    """The group's process `Launch` is suspended: it fills no order until somebody resumes it."""
    refreshing: bool = False
    """An instance refresh is under way."""
    types: tuple[str, ...] = ()
    """Types in which the group launches: those that a refresh under way brings, else those of its overrides. Read only
    where types change in place; empty: the pool's first ones."""

    def those(self, *phases: Phase) -> list[Instance]:
        """The instances that are in one of these phases."""
        return [i for i in self.instances if i.phase in phases]

    @property
    def ready_count(self) -> int:
        """Instances that count as capacity."""
        return len(self.those(Phase.READY))

    @property
    def counted_at(self) -> float:
        """Instances that the load was counted at: not those that are ready now, if some have joined or left since."""
        return self.publishers or self.ready_count


@dataclass(frozen=True, slots=True)
class JobQueue:
    """Training: what waits and what was finished lately."""

    waiting: int
    oldest_seconds: float
    mean_job_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen of a service."""

    pools: Mapping[str, PoolObservation]
    arrivals_rps: Reading | None = None
    """Requests per second of the whole service, over the newest complete minute: the load balancer's count."""
    burst_rps: Reading | None = None
    """The engines' own count of what arrived, over the newest 10 s.

    It is not the load balancer's: a request for n answers is n of the engine, and GET /v1/models is none. So it is
    held against the next two only.
    """
    engine_rps: Reading | None = None
    """The same over the newest minute, that of the loads."""
    matched_rps: Reading | None = None
    """The same over the minute of `arrivals_rps`, so that the two counts compare."""
    dispersion: Reading | None = None
    """Variance over mean of the engines' arrivals in 10 s, within the minute of `engine_rps`."""
    rejected_rps: Reading | None = None
    """Requests per second that found no target (503): the waking signal of a service that sleeps."""
    input_tokens: Reading | None = None
    """Mean prompt length of the newest minute."""
    output_tokens: Reading | None = None
    late_share: Reading | None = None
    """Share of the requests of the newest minute that missed the SLO, as the engines measured it."""
    history_rps: tuple[Reading, ...] = field(default=())
    """5-minute means, oldest first; read only when the state asks for it (`State.wants_history`)."""
    jobs: JobQueue | None = None
