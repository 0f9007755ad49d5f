"""Which metrics a service needs, as queries to CloudWatch, and the series that answer them.

Pool-level series are read each run; those of single instances only when an instance is to be chosen, or where jobs
run on them. A metric that the policy has no use for is not queried: 1000 queries cost 0.01 USD.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from gpu_fleet.scaling.assembly import PoolSeries, ServiceSeries
from gpu_fleet.scaling.boot import NODE_PHASES
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.series import FINE_SECONDS, HISTORY_SECONDS, MINUTE_SECONDS, Series, rates, sum_of_known
from gpu_fleet.scaling.state import State
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.metrics import Answers, Query

LOAD_BALANCER = "AWS/ApplicationELB"
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html"""
QUEUE = "AWS/SQS"
ENGINE = "GpuFleet"
"""What the instances themselves publish, every 10 s."""

DAY_SECONDS = 86400
"""CloudWatch keeps 5-minute points for 63 days, 1-minute points for 15, 10 s points for 3 hours."""


@dataclass(frozen=True, slots=True)
class PoolQueries:
    """The queries of one pool; None for a metric that the service has no use for."""

    requests: Query | None = None
    heartbeat: Query | None = None
    refused: Query | None = None
    response_time: Query | None = None
    publishers: Query | None = None
    running: Query | None = None
    waiting: Query | None = None
    finished: Query | None = None
    judged: Query | None = None
    late: Query | None = None
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
    boot: Mapping[str, Query] = field(default_factory=dict)
    """By phase of a boot; asked only after a launch."""
    of_instance: Mapping[str, Mapping[str, Query]] = field(default_factory=dict)
    """By instance id, then by metric name."""

    def minute(self) -> Iterable[Query]:
        """Those over the newest minutes."""
        pool = (
            self.requests, self.heartbeat, self.refused, self.response_time, self.publishers, self.running,
            self.waiting, self.finished, self.judged, self.late, self.input_tokens, self.output_tokens, self.ttft,
            self.cpu, self.memory, self.gpu, self.kv_cache, self.network_latency,
        )  # fmt: skip
        yield from (query for query in pool if query is not None)
        yield from self.boot.values()
        for queries in self.of_instance.values():
            yield from queries.values()

    def past(self) -> Iterable[Query]:
        """Those over the days behind."""
        yield from (query for query in (self.history, self.history_heartbeat) if query is not None)

    def series(self, answers: Answers) -> PoolSeries:
        """The series that answer the queries over the newest minutes."""
        counted = self.requests is not None and not {self.requests, self.heartbeat} & answers.failed.keys()
        return PoolSeries(
            requests=answers.of(self.requests) if counted else None,
            heartbeat=answers.of(self.heartbeat),
            refused=answers.of(self.refused),
            response_time=answers.of(self.response_time),
            publishers=answers.of(self.publishers),
            running=answers.of(self.running),
            waiting=answers.of(self.waiting),
            finished=answers.of(self.finished),
            judged=answers.of(self.judged),
            late=answers.of(self.late),
            input_tokens=answers.of(self.input_tokens),
            output_tokens=answers.of(self.output_tokens),
            ttft=answers.of(self.ttft),
            cpu=answers.of(self.cpu),
            memory=answers.of(self.memory),
            gpu=answers.of(self.gpu),
            kv_cache=answers.of(self.kv_cache),
            network_latency=answers.of(self.network_latency),
            boot={phase: answers.of(query) for phase, query in self.boot.items()},
            of_instance={
                id_: {metric: answers.of(query) for metric, query in queries.items()}
                for id_, queries in self.of_instance.items()
            },
        )


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

    def series(self, answers: Answers, past: Answers | None) -> ServiceSeries:
        """The series that answer the queries; `past` answers those over the days behind, where they were made."""
        read = self.rejected is not None and self.rejected not in answers.failed
        return ServiceSeries(
            pools={name: pool.series(answers) for name, pool in self.pools.items()},
            rejected=answers.of(self.rejected) if read else None,
            history_rps=() if past is None else self._history_rps(past),
            oldest_job=answers.of(self.oldest_job),
            job_seconds=tuple(answers.of(query) for query in self.job_seconds),
        )

    def _history_rps(self, past: Answers) -> Series:
        if past.failed:
            # Without one pool's part the sum would be a history of less traffic than there was.
            return ()
        return sum_of_known(
            [
                rates(past.of(pool.history), past.of(pool.history_heartbeat), HISTORY_SECONDS)
                for pool in self.pools.values()
            ]
        )


def queries(parameter: ServiceParameter, state: State, instance_ids: Mapping[str, Collection[str]]) -> ServiceQueries:
    """What to ask for a service whose pools hold these instances."""
    service, bindings = parameter.service, parameter.bindings
    training = service.policy.workload is Workload.TRAINING
    return ServiceQueries(
        pools={
            pool.name: _pool_queries(parameter, pool.name, state, instance_ids.get(pool.name, ()))
            for pool in service.pools
        },
        rejected=(
            _query(LOAD_BALANCER, "HTTPCode_ELB_503_Count", "Sum", LoadBalancer=bindings.load_balancer)
            if bindings.load_balancer and service.may_be_empty and not training
            else None
        ),
        oldest_job=(
            _query(QUEUE, "ApproximateAgeOfOldestMessage", "Maximum", QueueName=bindings.queue_name)
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
    pool, thresholds = bindings.pools[name], policy.thresholds

    def alb(metric: str, statistic: str, period: int = MINUTE_SECONDS) -> Query | None:
        if not bindings.load_balancer or not pool.target_group_arn:
            return None
        dimensions = {"TargetGroup": pool.target_group, "LoadBalancer": bindings.load_balancer}
        return _query(LOAD_BALANCER, metric, statistic, period, **dimensions)

    def engine(metric: str, *, wanted: bool = True) -> Query | None:
        return _query(ENGINE, metric, "Average", AutoScalingGroupName=pool.group) if wanted else None

    serves = policy.workload is Workload.INFERENCE
    judged = serves and policy.slo is not None

    def counts(metric: str, statistic: str = "Sum", *, wanted: bool = serves) -> Query | None:
        # Each instance publishes one value a period. The sum and the number of values belong to the same instances;
        # a mean times those that are in service now does not.
        return _query(ENGINE, metric, statistic, FINE_SECONDS, AutoScalingGroupName=pool.group) if wanted else None

    history = serves and state.wants_history
    boot = state.pool(name).boot
    return PoolQueries(
        requests=alb("RequestCount", "Sum"),
        heartbeat=alb("HealthyHostCount", "Average"),
        refused=alb("HTTPCode_Target_5XX_Count", "Sum") if policy.refuses else None,
        response_time=alb("TargetResponseTime", "Average"),
        publishers=counts("requests_running", "SampleCount"),
        running=counts("requests_running"),
        waiting=counts("requests_waiting"),
        finished=counts("finished_rps"),
        judged=counts("judged_requests", wanted=judged),
        late=counts("late_requests", wanted=judged),
        input_tokens=engine("input_tokens", wanted=serves),
        output_tokens=engine("output_tokens", wanted=serves),
        ttft=engine("ttft_p95_seconds", wanted=judged),
        cpu=engine("cpu_percent", wanted=thresholds.cpu_percent is not None),
        memory=engine("memory_percent", wanted=thresholds.memory_percent is not None),
        gpu=engine("gpu_percent", wanted=thresholds.gpu_percent is not None),
        kv_cache=engine(
            "kv_cache_percent",
            wanted=serves and thresholds.kv_cache_percent is not None,
        ),
        network_latency=engine("network_latency_seconds", wanted=thresholds.network_latency_seconds is not None),
        history=alb("RequestCount", "Sum", HISTORY_SECONDS) if history else None,
        history_heartbeat=alb("HealthyHostCount", "Average", HISTORY_SECONDS) if history else None,
        boot=_boot_queries(pool.group) if boot is not None and boot.wanted else {},
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


def _boot_queries(group: str) -> dict[str, Query]:
    return {
        phase.value: _query(ENGINE, "boot_seconds", "Average", AutoScalingGroupName=group, phase=phase.value)
        for phase in NODE_PHASES
    }


def _instance_metrics(parameter: ServiceParameter, state: State) -> tuple[str, ...]:
    policy = parameter.service.policy
    if policy.workload is Workload.TRAINING:
        # A busy node is protected every minute, not only when one is about to go.
        return ("jobs_running", "job_remaining_seconds") if state.wants_instance_loads else ("jobs_running",)
    return ("requests_running", "requests_waiting") if state.wants_instance_loads else ()


def _query(
    namespace: str, name: str, statistic: str, period_seconds: int = MINUTE_SECONDS, **dimensions: str | None
) -> Query:
    pairs = tuple((dimension, value) for dimension, value in dimensions.items() if value is not None)
    return Query(namespace, name, pairs, statistic, period_seconds)
