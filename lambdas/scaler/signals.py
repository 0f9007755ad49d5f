"""Which metrics a service needs, and what their series say.

Pool-level series are read each run; those of single instances only when an instance is to be chosen, or where jobs
run on them. What a policy has no use for is not asked: each query costs (0.01 USD per 1000).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import LoadUnit, Workload
from gpu_fleet.scaling.state import State
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.metrics import Answers, Query, Series

LOAD_BALANCER = "AWS/ApplicationELB"
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html"""
QUEUE = "AWS/SQS"
ENGINE = "GpuFleet"
"""What the instances themselves publish, every 10 s."""

MINUTE_SECONDS = 60
FINE_SECONDS = 10
HISTORY_SECONDS = 300
"""CloudWatch keeps 5-minute points for 63 days, 1-minute points for 15, 10 s points for 3 hours."""
DAY_SECONDS = 86400

SETTLING_SECONDS = 60
"""For so long after its end a minute's sum may still grow: the load balancer's nodes report one by one."""


@dataclass(frozen=True, slots=True)
class PoolQueries:
    """The queries of one pool; None for a metric that the service has no use for."""

    requests: Query | None = None
    heartbeat: Query | None = None
    response_time: Query | None = None
    running: Query | None = None
    waiting: Query | None = None
    finished: Query | None = None
    input_tokens: Query | None = None
    output_tokens: Query | None = None
    ttft: Query | None = None
    cpu: Query | None = None
    memory: Query | None = None
    gpu: Query | None = None
    kv_cache: Query | None = None
    network_latency: Query | None = None
    history: Query | None = None
    history_heartbeat: Query | None = None
    of_instance: Mapping[str, Mapping[str, Query]] = field(default_factory=dict)
    """By instance id, then by metric name."""

    def minute(self) -> Iterable[Query]:
        """Those over the newest minutes."""
        pool = (
            self.requests, self.heartbeat, self.response_time, self.running, self.waiting, self.finished,
            self.input_tokens, self.output_tokens, self.ttft, self.cpu, self.memory, self.gpu, self.kv_cache,
            self.network_latency,
        )  # fmt: skip
        yield from (query for query in pool if query is not None)
        for queries in self.of_instance.values():
            yield from queries.values()

    def past(self) -> Iterable[Query]:
        """Those over the days behind."""
        yield from (query for query in (self.history, self.history_heartbeat) if query is not None)


@dataclass(frozen=True, slots=True)
class ServiceQueries:
    """The queries of one service."""

    pools: Mapping[str, PoolQueries]
    rejected: Query | None = None
    oldest_job: Query | None = None
    job_seconds: tuple[Query, ...] = ()

    def minute(self) -> Iterable[Query]:
        """Those over the newest minutes."""
        for pool in self.pools.values():
            yield from pool.minute()
        yield from (query for query in (self.rejected, self.oldest_job) if query is not None)
        yield from self.job_seconds

    def past(self) -> Iterable[Query]:
        """Those over the days behind."""
        for pool in self.pools.values():
            yield from pool.past()


def queries(parameter: ServiceParameter, state: State, instance_ids: Mapping[str, Collection[str]]) -> ServiceQueries:
    """What to ask for a service whose pools hold these instances."""
    service, bindings = parameter.service, parameter.bindings
    training = service.policy.workload is Workload.TRAINING
    can_sleep = all(pool.min_instances == 0 for pool in service.pools)
    return ServiceQueries(
        pools={
            pool.name: _pool_queries(parameter, pool.name, state, instance_ids.get(pool.name, ()))
            for pool in service.pools
        },
        rejected=(
            _query(LOAD_BALANCER, "HTTPCode_ELB_503_Count", "Sum", LoadBalancer=bindings.load_balancer)
            if bindings.load_balancer and can_sleep and not training
            else None
        ),
        oldest_job=(
            _query(QUEUE, "ApproximateAgeOfOldestMessage", "Maximum", QueueName=bindings.queue_url.rpartition("/")[2])
            if bindings.queue_url
            else None
        ),
        job_seconds=tuple(
            _query(ENGINE, "job_seconds", "Average", AutoScalingGroupName=pool.group)
            for pool in bindings.pools.values()
            if training
        ),
    )


def _pool_queries(parameter: ServiceParameter, name: str, state: State, instance_ids: Collection[str]) -> PoolQueries:
    bindings, policy = parameter.bindings, parameter.service.policy
    pool, unit, thresholds = bindings.pools[name], policy.load.unit, policy.thresholds

    def alb(metric: str, statistic: str, period: int = MINUTE_SECONDS) -> Query | None:
        if not bindings.load_balancer or not pool.target_group_arn:
            return None
        dimensions = {"TargetGroup": pool.target_group, "LoadBalancer": bindings.load_balancer}
        return _query(LOAD_BALANCER, metric, statistic, period, **dimensions)

    def engine(metric: str, period: int = MINUTE_SECONDS, *, wanted: bool = True) -> Query | None:
        return _query(ENGINE, metric, "Average", period, AutoScalingGroupName=pool.group) if wanted else None

    serves = policy.workload is Workload.INFERENCE
    history = serves and state.wants_history
    return PoolQueries(
        requests=alb("RequestCount", "Sum"),
        heartbeat=alb("HealthyHostCount", "Average"),
        response_time=alb("TargetResponseTime", "Average"),
        running=engine("requests_running", FINE_SECONDS, wanted=serves),
        waiting=engine("requests_waiting", FINE_SECONDS, wanted=serves),
        finished=engine("finished_rps", FINE_SECONDS, wanted=serves),
        input_tokens=engine("input_tokens", wanted=serves),
        output_tokens=engine("output_tokens", wanted=serves),
        ttft=engine("ttft_p95_seconds", wanted=serves and policy.slo is not None),
        cpu=engine("cpu_percent", wanted=thresholds.cpu_percent is not None),
        memory=engine("memory_percent", wanted=thresholds.memory_percent is not None),
        gpu=engine("gpu_percent", wanted=thresholds.gpu_percent is not None or unit is LoadUnit.GPU),
        kv_cache=engine(
            "kv_cache_percent",
            wanted=serves and (thresholds.kv_cache_percent is not None or unit is LoadUnit.KV_CACHE),
        ),
        network_latency=engine("network_latency_seconds", wanted=thresholds.network_latency_seconds is not None),
        history=alb("RequestCount", "Sum", HISTORY_SECONDS) if history else None,
        history_heartbeat=alb("HealthyHostCount", "Average", HISTORY_SECONDS) if history else None,
        of_instance={
            id_: {
                metric: _query(
                    ENGINE, metric, "Average", MINUTE_SECONDS, AutoScalingGroupName=pool.group, InstanceId=id_
                )
                for metric in _instance_metrics(parameter, state)
            }
            for id_ in sorted(instance_ids)
        },
    )


def _instance_metrics(parameter: ServiceParameter, state: State) -> tuple[str, ...]:
    policy = parameter.service.policy
    if policy.workload is Workload.TRAINING:
        # A busy node is protected every minute, not only when one is about to go.
        return ("jobs_running", "job_remaining_seconds") if state.wants_instance_loads else ("jobs_running",)
    if not state.wants_instance_loads:
        return ()
    match policy.load.unit:
        case LoadUnit.GPU:
            return ("gpu_percent",)
        case LoadUnit.KV_CACHE:
            return ("kv_cache_percent",)
        case _:
            return ("requests_running", "requests_waiting")


def _query(
    namespace: str, name: str, statistic: str, period_seconds: int = MINUTE_SECONDS, **dimensions: str | None
) -> Query:
    pairs = tuple((dimension, value) for dimension, value in dimensions.items() if value is not None)
    return Query(namespace, name, pairs, statistic, period_seconds)


# ---- what the series say ------------------------------------------------------------------------------------------


def newest(series: Series, oldest: float) -> Reading | None:
    """The newest reading, if it is not older than `oldest`."""
    return series[-1] if series and series[-1].at >= oldest else None


def rates(count: Series, heartbeat: Series, period_seconds: int = MINUTE_SECONDS) -> Series:
    """Requests per second by period. The load balancer publishes RequestCount only when it is not zero and
    HealthyHostCount whenever a target is registered, so a period with the latter alone had no requests, and one with
    neither is not known.
    """
    sums = {reading.at: reading.value for reading in count}
    ends = sorted(sums.keys() | {reading.at for reading in heartbeat})
    return tuple(Reading(sums.get(at, 0.0) / period_seconds, at) for at in ends)


def settled(series: Series, now: float, oldest: float) -> Reading | None:
    """The newest rate that can be trusted.

    A minute that ended just now may lack what some nodes of the load balancer have not reported. If it is below the
    minute before, that one speaks: 600 requests, then 200 so far, is 10 rps until the minute has settled. A rise is
    taken at once, for a sum only grows.
    """
    last = newest(series, oldest)
    if last is None or now - last.at >= SETTLING_SECONDS or len(series) == 1:
        return last
    before = series[-2]
    adjacent = last.at - before.at <= MINUTE_SECONDS
    return before if adjacent and before.value > last.value and before.at >= oldest else last


def total(parts: Sequence[Series]) -> Series:
    """Sum by period over those periods that every part knows."""
    if not parts:
        return ()
    known = [{reading.at: reading.value for reading in part} for part in parts]
    ends = sorted(set.intersection(*(set(part) for part in known)))
    return tuple(Reading(sum(part[at] for part in known), at) for at in ends)


def sum_of_known(parts: Sequence[Series]) -> Series:
    """Sum by period over the parts that know it: a pool that had no target then is no reason to forget the others."""
    sums: dict[float, float] = {}
    for part in parts:
        for reading in part:
            sums[reading.at] = sums.get(reading.at, 0.0) + reading.value
    return tuple(Reading(sums[at], at) for at in sorted(sums))


def scaled(series: Series, factor: float) -> Series:
    """Each value times `factor`: from the mean of an instance to the pool."""
    return tuple(Reading(reading.value * factor, reading.at) for reading in series)


def last_minute(series: Series, oldest: float) -> Reading | None:
    """Mean over the newest minute of a series with finer periods."""
    last = newest(series, oldest)
    if last is None:
        return None
    values = [reading.value for reading in series if reading.at > last.at - MINUTE_SECONDS]
    return Reading(math.fsum(values) / len(values), last.at)


def burst(arrivals: Reading | None, in_flight: Series, oldest: float, finished: Series = ()) -> Reading | None:
    """Requests per second over the newest 10 s, from the balance of flow: what arrives is what ends plus what piles up.

    No load balancer metric is finer than a minute, but the engines count their requests every 10 s. With N1, N2 in
    flight over the newest two periods of d seconds and `finished` the rate at which requests ended in the last of
    them: finished + (N2 - N1) / d. At 10 rps and 300 in flight, 60 more within 10 s are 16 rps. Where the engines do
    not tell what ended, `arrivals` of the minute stands in for it, which adds the chance of the endings to that of the
    arrivals. The value is raw: whether it is a burst or chance is for the model to say.
    None where the series is not there, or its newest two periods do not follow each other.
    """
    last = newest(in_flight, oldest)
    if last is None or len(in_flight) < 2:
        return None
    before = in_flight[-2]
    seconds = last.at - before.at
    ended = next((reading for reading in reversed(finished) if reading.at == last.at), arrivals)
    if ended is None or seconds > 2 * FINE_SECONDS:
        return None
    return Reading(max(0.0, ended.value + (last.value - before.value) / seconds), last.at)


def instance_load(answers: Answers, queries: Mapping[str, Query], oldest: float) -> Reading | None:
    """An instance's own load: the sum of its metrics, None if one of them is missing."""
    readings = [newest(answers.of(query), oldest) for query in queries.values()]
    known = [reading for reading in readings if reading is not None]
    if not known or len(known) < len(readings):
        return None
    return Reading(sum(reading.value for reading in known), min(reading.at for reading in known))
