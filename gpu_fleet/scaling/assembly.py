"""The assembly: from facts and metric series, as AWS has them, to the observation that the model decides on.

Handler, replay and simulator all come through here, so that one reading of the signals is tested by all of them. What
was not seen stays None; zero is a value only where something shows that it is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpu_fleet.scaling.observation import (
    CapacityError,
    Instance,
    JobQueue,
    Observation,
    Phase,
    PoolObservation,
    Reading,
)
from gpu_fleet.scaling.policy import LoadUnit, Policy, Workload
from gpu_fleet.scaling.series import (
    FINE_SECONDS,
    MINUTE_SECONDS,
    Series,
    complete_until,
    dispersion,
    engine_arrivals,
    last_minute,
    latest_ends,
    minute_of,
    minute_share,
    newest,
    rates,
    settled,
    sum_of_known,
    total,
)

SERVING = (Phase.READY, Phase.UNHEALTHY, Phase.DRAINING)
"""Phases in which an instance may hold requests."""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What the APIs say of a pool: its group, its instances, and what the group could not launch."""

    desired: int
    min_size: int
    max_size: int
    weight: int
    instances: tuple[Instance, ...] = ()
    """Without their loads and jobs, which come from metrics."""
    on_demand_base: int | None = None
    capacity_errors: tuple[CapacityError, ...] = ()
    zones: tuple[str, ...] = ()
    launch_suspended: bool = False
    refreshing: bool = False
    types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolSeries:
    """Metric series of a pool, as published. Empty where nothing was read.

    The engines' counts are sums over the instances that published in each period; the rest are means of one instance.
    """

    requests: Series | None = None
    """RequestCount, sums by minute; None where it could not be read, or the pool is behind no load balancer."""
    heartbeat: Series = ()
    """HealthyHostCount, by minute."""
    refused: Series = ()
    """HTTPCode_Target_5XX_Count, sums by minute: requests of `requests` that no engine served, most of them because its
    queue was full. Published only where not zero."""
    response_time: Series = ()
    """TargetResponseTime, means by minute, over the refused ones as well."""
    publishers: Series = ()
    """By 10 s: instances that published their counts."""
    running: Series = ()
    """By 10 s, as `waiting` and `finished`: sum over the publishers."""
    waiting: Series = ()
    finished: Series = ()
    """Requests that ended, per second."""
    judged: Series = ()
    """Requests that ended and were held against the SLO, sums over the instances by 10 s."""
    late: Series = ()
    """Those of them outside the SLO."""
    input_tokens: Series = ()
    output_tokens: Series = ()
    ttft: Series = ()
    cpu: Series = ()
    memory: Series = ()
    gpu: Series = ()
    kv_cache: Series = ()
    network_latency: Series = ()
    boot: Mapping[str, Series] = field(default_factory=dict)
    """Means by phase of a boot, by minute."""
    of_instance: Mapping[str, Mapping[str, Series]] = field(default_factory=dict)
    """By instance id, then by metric."""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What the APIs say of a service."""

    pools: Mapping[str, PoolFacts]
    waiting_jobs: int | None = None
    """Messages in the job queue; None without a queue, or where it could not be read."""


@dataclass(frozen=True, slots=True)
class ServiceSeries:
    """Metric series of a service."""

    pools: Mapping[str, PoolSeries]
    rejected: Series | None = None
    """503s of the load balancer, sums by minute; None where they are not read."""
    history_rps: Series = ()
    """5-minute means of the requests per second, over the days behind."""
    oldest_job: Series = ()
    job_seconds: tuple[Series, ...] = ()
    """Mean time of a job, by pool."""


def assemble(policy: Policy, facts: ServiceFacts, series: ServiceSeries, now: float) -> Observation:
    """Assemble the observation of a service at `now` (seconds since the epoch, UTC)."""
    oldest = now - policy.load.stale_after_seconds
    parts = [_Pool(policy, facts.pools[name], published, now) for name, published in series.pools.items()]
    pools = {name: part.observation() for name, part in zip(series.pools, parts, strict=True)}
    arrivals = settled(total([part.rates for part in parts]), now, oldest)
    engines = [part.engine_arrivals for part in parts]
    of_service = total(engines)
    last = newest(of_service, oldest)
    return Observation(
        pools=pools,
        arrivals_rps=arrivals,
        burst_rps=last and Reading(max(0.0, last.value), last.at),
        engine_rps=last and minute_of(engines, last.at),
        matched_rps=arrivals and _matched(engines, series, arrivals.at),
        dispersion=last and dispersion(of_service, last.at),
        rejected_rps=_rejected(series, oldest),
        input_tokens=_over_pools(pools, series, lambda pool: pool.input_tokens, oldest),
        output_tokens=_over_pools(pools, series, lambda pool: pool.output_tokens, oldest),
        late_share=minute_share([part for pool in series.pools.values() for part in _judged(pool)], oldest),
        history_rps=series.history_rps,
        jobs=_jobs(facts, series, oldest),
    )


class _Pool:
    """One pool's series, and what they say of its newest minute."""

    def __init__(self, policy: Policy, facts: PoolFacts, published: PoolSeries, now: float) -> None:
        self.policy, self.facts, self.published = policy, facts, published
        self.oldest = now - policy.load.stale_after_seconds
        self.rates = _rates(facts, published, now)
        until = complete_until(published.publishers, now)
        publishers, running, waiting, finished = (
            _from_the_start(facts, series, until, now)
            for series in (published.publishers, published.running, published.waiting, published.finished)
        )
        self.engine_arrivals = engine_arrivals(running, waiting, finished, publishers)
        self.minute_publishers = last_minute(publishers, self.oldest)
        self.minute_running = last_minute(running, self.oldest)
        self.minute_waiting = last_minute(waiting, self.oldest)
        self.rate = settled(self.rates, now, self.oldest)

    def observation(self) -> PoolObservation:
        """What was seen of the pool."""
        facts, published = self.facts, self.published
        return PoolObservation(
            desired=facts.desired,
            min_size=facts.min_size,
            max_size=facts.max_size,
            weight=facts.weight,
            instances=tuple(self._with_metrics(instance) for instance in facts.instances),
            on_demand_base=facts.on_demand_base,
            load=self._load(),
            running=self.minute_running,
            waiting=self.minute_waiting,
            publishers=self.minute_publishers and self.minute_publishers.value,
            rate_rps=self.rate,
            response_time_seconds=self._newest(_of_the_served(published)),
            ttft_seconds=self._newest(published.ttft),
            cpu_percent=self._newest(published.cpu),
            memory_percent=self._newest(published.memory),
            gpu_percent=self._newest(published.gpu),
            kv_cache_percent=self._newest(published.kv_cache),
            network_latency_seconds=self._newest(published.network_latency),
            boot_seconds=self._boot_seconds(),
            capacity_errors=facts.capacity_errors,
            zones=facts.zones,
            launch_suspended=facts.launch_suspended,
            refreshing=facts.refreshing,
            types=facts.types,
        )

    def _boot_seconds(self) -> dict[str, Reading]:
        readings = {phase: self._newest(series) for phase, series in self.published.boot.items()}
        return {phase: reading for phase, reading in readings.items() if reading is not None}

    def _newest(self, series: Series) -> Reading | None:
        return newest(series, self.oldest)

    def _load(self) -> Reading | None:
        if self.policy.load.unit is LoadUnit.REQUESTS:
            return self.rate
        running, waiting = self.minute_running, self.minute_waiting
        if running is None or waiting is None:
            return None
        return Reading(running.value + waiting.value, min(running.at, waiting.at))

    def _with_metrics(self, instance: Instance) -> Instance:
        series = self.published.of_instance.get(instance.id)
        if not series:
            return instance
        if self.policy.workload is not Workload.TRAINING:
            return replace(instance, load=_instance_load(series, self.oldest))
        jobs = self._newest(series.get("jobs_running", ()))
        left = self._newest(series.get("job_remaining_seconds", ()))
        return replace(
            instance,
            # A mean over the minute in which a job ran for a part of it is no whole number: busy.
            jobs=None if jobs is None else math.ceil(jobs.value),
            remaining_seconds=None if left is None else left.value,
        )


def _rates(facts: PoolFacts, published: PoolSeries, now: float) -> Series:
    """Requests per second that the pool was given, by minute; zero where no instance could have taken any."""
    if published.requests is None:
        return ()
    known = rates(published.requests, published.heartbeat)
    if any(instance.phase in SERVING for instance in facts.instances):
        return known
    # Its last requests may be younger than its last instance.
    minutes = dict.fromkeys(latest_ends(now, MINUTE_SECONDS, 5), 0.0)
    minutes |= {reading.at: reading.value for reading in known}
    return tuple(Reading(minutes[at], at) for at in sorted(minutes))


def _of_the_served(published: PoolSeries) -> Series:
    """Response times without the refused requests, which are answered at once.

    Else a pool would look the faster the more it refuses, and routing would send it more: of 100 requests in a minute
    that took 0.5 s on average, 20 refused, the others took 0.625 s.
    """
    requests = {reading.at: reading.value for reading in published.requests or ()}
    refused = {reading.at: reading.value for reading in published.refused}
    served = {at: 1 - refused.get(at, 0.0) / count for at, count in requests.items() if count > refused.get(at, 0.0)}
    return tuple(
        Reading(reading.value / served.get(reading.at, 1.0), reading.at)
        for reading in published.response_time
        if reading.at in served or not refused.get(reading.at)
    )


def _matched(engines: Sequence[Series], series: ServiceSeries, end: float) -> Reading | None:
    """What reached the engines in the minute up to `end`: what they took, and what they refused.

    Without the latter a full fleet's engines would seem to make ever less of the load balancer's requests.
    """
    taken = minute_of(engines, end)
    if taken is None:
        return None
    refused = sum(reading.value for pool in series.pools.values() for reading in pool.refused if reading.at == end)
    return Reading(taken.value + refused / MINUTE_SECONDS, end)


def _judged(published: PoolSeries) -> tuple[tuple[Series, Series], ...]:
    """Pairs of what was held against the SLO and what missed it: as the engines counted, and what they refused.

    Refusals are known by whole minutes, older than the engines' newest 10 s. Each falls into one minute of theirs.
    """
    until = published.judged[-1].at if published.judged else -math.inf
    refused = tuple(reading for reading in published.refused if reading.at <= until)
    return (published.judged, published.late), (refused, refused)


def _from_the_start(facts: PoolFacts, sums: Series, until: float, now: float) -> Series:
    """The engines' sums up to `until`, and zero before the pool's first instance was ready.

    Draining instances publish nothing of their engines: a pool that has no others carries nothing, and must not make
    the whole service's count unknown for as long as they drain. An instance that is in service and has not published
    yet carried nothing before it was ready. Both are seen from the instances, so these zeros are no missing values.
    """
    began = min((i.ready_at or -math.inf for i in facts.instances if i.phase is Phase.READY), default=math.inf)
    known = tuple(reading for reading in sums if reading.at <= until) if began < math.inf else ()
    if began == -math.inf:
        return known
    ends = latest_ends(now, MINUTE_SECONDS, 5) | latest_ends(now, FINE_SECONDS, 30)
    values = {end: 0.0 for end in ends if end <= began} | {reading.at: reading.value for reading in known}
    return tuple(Reading(values[at], at) for at in sorted(values))


def _instance_load(series: Mapping[str, Series], oldest: float) -> Reading | None:
    """An instance's own load: the sum of its metrics; None if one of them is missing."""
    readings = [newest(metric, oldest) for metric in series.values()]
    known = [reading for reading in readings if reading is not None]
    if not known or len(known) < len(readings):
        return None
    return Reading(sum(reading.value for reading in known), min(reading.at for reading in known))


def _rejected(series: ServiceSeries, oldest: float) -> Reading | None:
    """503s of the load balancer. It has no metric by rule, so services that sleep behind the same one all wake.

    Published only when not zero; a heartbeat of any target group shows that the load balancer reports at all.
    """
    if series.rejected is None:
        return None
    heartbeat = sum_of_known([pool.heartbeat for pool in series.pools.values()])
    by_minute = rates(series.rejected, heartbeat)
    # Any 503 within the window wakes: one that was published late must not be missed because the minute after it,
    # without any, is newer.
    seen = tuple(reading for reading in by_minute if reading.value > 0)
    return newest(seen, oldest) or newest(by_minute, oldest)


def _over_pools(
    pools: Mapping[str, PoolObservation], series: ServiceSeries, metric: Callable[[PoolSeries], Series], oldest: float
) -> Reading | None:
    """Mean of a per-request figure, each pool by its share of the requests (equal shares where rates are missing)."""
    readings = {name: newest(metric(pool), oldest) for name, pool in series.pools.items()}
    known = {name: reading for name, reading in readings.items() if reading is not None}
    if not known:
        return None
    shares = {name: rate.value if (rate := pools[name].rate_rps) else 0.0 for name in known}
    if sum(shares.values()) == 0:
        shares = dict.fromkeys(known, 1.0)
    mean = sum(known[name].value * shares[name] for name in known) / sum(shares.values())
    return Reading(mean, min(reading.at for reading in known.values()))


def _jobs(facts: ServiceFacts, series: ServiceSeries, oldest: float) -> JobQueue | None:
    """The queue; None where the number of waiting jobs is not known.

    SQS publishes the age of the oldest message up to 15 minutes late for a queue that was idle. The age is then at
    least 0, and only the number of messages counts.
    """
    if facts.waiting_jobs is None:
        return None
    age = newest(series.oldest_job, oldest)
    seconds = [reading.value for job in series.job_seconds if (reading := newest(job, oldest)) is not None]
    return JobQueue(
        waiting=facts.waiting_jobs,
        oldest_seconds=age.value if age is not None and facts.waiting_jobs > 0 else 0.0,
        mean_job_seconds=math.fsum(seconds) / len(seconds) if seconds else None,
    )
