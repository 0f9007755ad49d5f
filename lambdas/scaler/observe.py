"""Observe: from AWS to one `Observation` a service, with as few calls as the APIs allow.

What cannot be seen of one service costs that service its turn; what cannot be measured is missing from its
observation, which then holds. Neither touches the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.observation import (
    CapacityError,
    Instance,
    JobQueue,
    Observation,
    Phase,
    PoolObservation,
    Reading,
)
from gpu_fleet.scaling.policy import LoadUnit, VerticalMethod, Workload
from gpu_fleet.scaling.state import State
from lambdas.scaler import activities, groups, metrics, rules, signals, targets
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.groups import Group
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.metrics import Answers, Query, Series
from lambdas.scaler.result import ErrorCode, Fault
from lambdas.scaler.rules import Rule
from lambdas.scaler.signals import PoolQueries, ServiceQueries
from lambdas.scaler.targets import Target

SERVING = (Phase.READY, Phase.UNHEALTHY, Phase.DRAINING)
"""Phases in which an instance may hold requests."""

REFRESHING = frozenset({"Pending", "InProgress", "Baking", "Cancelling", "RollbackInProgress"})
"""https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstanceRefresh.html"""


@dataclass(frozen=True, slots=True)
class Seen:
    """One service: the model's observation and what stands behind it."""

    observation: Observation
    groups: Mapping[str, Group]
    """By pool."""
    rule: Rule | None
    faults: tuple[Fault, ...] = ()
    """What is missing from the observation, and why."""


@dataclass(frozen=True, slots=True)
class Survey:
    """All services."""

    seen: Mapping[str, Seen]
    unseen: Mapping[str, Fault]
    """Services that cannot be decided on this time."""


@dataclass(slots=True)
class _Sight:
    """One service while it is being looked at."""

    parameter: ServiceParameter
    state: State
    groups: Mapping[str, Group]
    rule: Rule | None
    instances: dict[str, tuple[Instance, ...]] = field(default_factory=dict)
    capacity_errors: dict[str, tuple[CapacityError, ...]] = field(default_factory=dict)
    refreshing: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Types that a refresh under way brings, by pool."""
    queries: ServiceQueries = field(default_factory=lambda: ServiceQueries({}))
    waiting_jobs: int | None = None
    faults: list[Fault] = field(default_factory=list)


def survey(
    parameters: Sequence[ServiceParameter],
    states: Mapping[str, State],
    clients: Clients,
    book: InstanceBook,
    now: float,
) -> Survey:
    """Look at all services at `now` (seconds since the epoch, UTC)."""
    sights, unseen = _standing(parameters, states, clients)
    _learn_instances(sights.values(), clients, book)
    for name, sight in list(sights.items()):
        try:
            _look(sight, clients, book, now)
        except Exception as error:  # noqa: BLE001 one service's trouble is its own
            unseen[name] = Fault.of(error)
            del sights[name]
    answers, past = _measure(sights.values(), clients, now)
    seen: dict[str, Seen] = {}
    for name, sight in sights.items():
        try:
            seen[name] = _seen(sight, answers, past, now)
        except Exception as error:  # noqa: BLE001 one service's trouble is its own
            unseen[name] = Fault.of(error)
    return Survey(seen, unseen)


def _standing(
    parameters: Sequence[ServiceParameter], states: Mapping[str, State], clients: Clients
) -> tuple[dict[str, _Sight], dict[str, Fault]]:
    """Groups and rules of all services, in batches."""
    group_names = [pool.group for p in parameters for pool in p.bindings.pools.values()]
    described = groups.describe(clients.autoscaling, group_names)
    ruled = rules.describe(
        clients.elbv2, [p.bindings.listener_rule_arn for p in parameters if p.bindings.listener_rule_arn]
    )
    sights: dict[str, _Sight] = {}
    unseen: dict[str, Fault] = {}
    for parameter in parameters:
        bindings = parameter.bindings
        fault = next(
            (described.faults[pool.group] for pool in bindings.pools.values() if pool.group in described.faults),
            ruled.faults.get(bindings.listener_rule_arn or ""),
        )
        if fault is not None:
            unseen[parameter.name] = fault
            continue
        sights[parameter.name] = _Sight(
            parameter,
            states.get(parameter.name, State()),
            {pool: described.found[binding.group] for pool, binding in bindings.pools.items()},
            ruled.found.get(bindings.listener_rule_arn or ""),
        )
    return sights, unseen


def _learn_instances(sights: Iterable[_Sight], clients: Clients, book: InstanceBook) -> None:
    everyone = list(sights)
    ids = {member.id for sight in everyone for group in sight.groups.values() for member in group.members}
    try:
        book.learn(clients.ec2, ids)
    except (ClientError, BotoCoreError) as error:
        fault = Fault.of(error, "DescribeInstances")
        for sight in everyone:
            if any(book.facts(m.id) is None for group in sight.groups.values() for m in group.members):
                sight.faults.append(fault)


def _look(sight: _Sight, clients: Clients, book: InstanceBook, now: float) -> None:
    """What has to be asked pool by pool. Raises botocore's errors where no decision is possible without the answer."""
    parameter = sight.parameter
    for pool, group in sight.groups.items():
        target_group_arn = parameter.bindings.pools[pool].target_group_arn
        health: Mapping[str, Target] = (
            targets.describe(clients.elbv2, target_group_arn) if target_group_arn and group.members else {}
        )
        sight.instances[pool] = _instances(group, health, book, now, behind_load_balancer=bool(target_group_arn))
        ready = sum(instance.phase is Phase.READY for instance in sight.instances[pool])
        if group.desired > ready:
            _read_failed_launches(sight, pool, group, clients, now)
        if parameter.service.policy.vertical.method is VerticalMethod.IN_PLACE:
            brought = _brought(clients, group)
            if brought is not None:
                sight.refreshing[pool] = brought
    if parameter.bindings.queue_url:
        try:
            sight.waiting_jobs = _waiting_jobs(clients, parameter.bindings.queue_url)
        except (ClientError, BotoCoreError) as error:
            sight.faults.append(Fault.of(error, "GetQueueAttributes"))
    ids = {pool: [instance.id for instance in instances] for pool, instances in sight.instances.items()}
    sight.queries = signals.queries(parameter, sight.state, ids)


def _instances(
    group: Group, health: Mapping[str, Target], book: InstanceBook, now: float, *, behind_load_balancer: bool
) -> tuple[Instance, ...]:
    instances: list[Instance] = []
    for member in group.members:
        phase = targets.phase(member, health.get(member.id), behind_load_balancer=behind_load_balancer)
        if phase is None:
            continue
        facts = book.facts(member.id)
        instances.append(
            Instance(
                id=member.id,
                type=member.type,
                zone=member.zone,
                phase=phase,
                # EC2 shows a new instance some seconds after Auto Scaling does: it was launched just now.
                since=facts.launched_at if facts else now,
                spot=facts.spot if facts else False,
                ready_at=book.ready_at(member.id, phase, now),
            )
        )
    return tuple(sorted(instances, key=lambda instance: (instance.since, instance.id)))


def _read_failed_launches(sight: _Sight, pool: str, group: Group, clients: Clients, now: float) -> None:
    try:
        failed = activities.read(clients.autoscaling, group.name, now)
    except (ClientError, BotoCoreError) as error:
        sight.faults.append(Fault.of(error, "DescribeScalingActivities"))
        return
    sight.capacity_errors[pool] = failed.capacity_errors
    sight.faults.extend(Fault(ErrorCode.LAUNCH_FAILED, f"{group.name}: {message}") for message in failed.other)


def _brought(clients: Clients, group: Group) -> tuple[str, ...] | None:
    """Types that a refresh under way brings; None where none is.

    The group's own overrides follow only when the refresh has succeeded:
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_StartInstanceRefresh.html. Raises botocore's errors: a
    second refresh must not be decided blindly.
    """
    answer = clients.autoscaling.describe_instance_refreshes(AutoScalingGroupName=group.name, MaxRecords=1)
    for refresh in answer["InstanceRefreshes"]:
        if refresh.get("Status") in REFRESHING:
            return groups.types_of(refresh.get("DesiredConfiguration", {}).get("MixedInstancesPolicy")) or group.types
    return None


def _waiting_jobs(clients: Clients, queue_url: str) -> int:
    attributes = clients.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(attributes["Attributes"]["ApproximateNumberOfMessages"])


def _measure(sights: Iterable[_Sight], clients: Clients, now: float) -> tuple[Answers, Mapping[str, Answers]]:
    """The newest minutes of all services in one go, and the past of those whose state asks for it."""
    everyone = list(sights)
    stale = max((s.parameter.service.policy.load.stale_after_seconds for s in everyone), default=0.0)
    end = math.floor(now / signals.FINE_SECONDS) * signals.FINE_SECONDS
    # A reading may be `stale` old at its end, and its period begins a minute before that.
    start = math.floor((now - stale) / signals.MINUTE_SECONDS - 1) * signals.MINUTE_SECONDS
    answers = metrics.fetch(clients.cloudwatch, [q for s in everyone for q in s.queries.minute()], start, end)
    past: dict[str, Answers] = {}
    for sight in everyone:
        asked = list(sight.queries.past())
        if asked:
            days = sight.parameter.service.policy.forecast.history_days
            until = math.floor(now / signals.HISTORY_SECONDS) * signals.HISTORY_SECONDS
            past[sight.parameter.name] = metrics.fetch(
                clients.cloudwatch, asked, until - days * signals.DAY_SECONDS, until
            )
    return answers, past


def _seen(sight: _Sight, answers: Answers, past: Mapping[str, Answers], now: float) -> Seen:
    parameter, queries = sight.parameter, sight.queries
    oldest = now - parameter.service.policy.load.stale_after_seconds
    behind = past.get(parameter.name)
    unanswered = [q for q in queries.minute() if q in answers.failed]
    faults = list(sight.faults)
    if unanswered:
        why = answers.failed[unanswered[0]]
        faults.append(Fault(why.code, f"{len(unanswered)} metrics are missing: {why.message}", why.during))
    if behind is not None and behind.failed:
        faults.append(next(iter(behind.failed.values())))
    pools = {pool: _pool(sight, pool, answers, now, oldest) for pool in sight.groups}
    arrivals = signals.settled(signals.total([_rates(sight, pool, answers, now) for pool in pools]), now, oldest)
    in_flight = signals.total([_in_flight(sight, pool, answers, now) for pool in pools])
    finished = signals.total([_of_pool(sight, p, answers.of(queries.pools[p].finished), now) for p in pools])
    observation = Observation(
        pools=pools,
        arrivals_rps=arrivals if parameter.bindings.load_balancer else None,
        burst_rps=signals.burst(arrivals, in_flight, oldest, finished),
        rejected_rps=_rejected(queries, answers, oldest),
        input_tokens=_mean_over_pools(pools, {p: queries.pools[p].input_tokens for p in pools}, answers, oldest),
        output_tokens=_mean_over_pools(pools, {p: queries.pools[p].output_tokens for p in pools}, answers, oldest),
        history_rps=() if behind is None else _history(queries, behind),
        jobs=_jobs(sight, answers, oldest),
    )
    return Seen(observation, sight.groups, sight.rule, tuple(faults))


def _pool(sight: _Sight, pool: str, answers: Answers, now: float, oldest: float) -> PoolObservation:
    group, queries, parameter = sight.groups[pool], sight.queries.pools[pool], sight.parameter

    def newest(query: Query | None) -> Reading | None:
        return signals.newest(answers.of(query), oldest)

    running = signals.last_minute(_of_pool(sight, pool, answers.of(queries.running), now), oldest)
    waiting = signals.last_minute(_of_pool(sight, pool, answers.of(queries.waiting), now), oldest)
    rate = signals.settled(_rates(sight, pool, answers, now), now, oldest)
    arn = parameter.bindings.pools[pool].target_group_arn
    return PoolObservation(
        desired=group.desired,
        min_size=group.min_size,
        max_size=group.max_size,
        weight=sight.rule.weights.get(arn or "", 0) if sight.rule else 0,
        instances=_with_loads(sight, pool, answers, oldest),
        on_demand_base=group.on_demand_base,
        load=_load(parameter.service.policy.load.unit, queries, answers, running, waiting, rate, oldest),
        running=running,
        waiting=waiting,
        rate_rps=rate if arn else None,
        response_time_seconds=newest(queries.response_time),
        ttft_seconds=newest(queries.ttft),
        cpu_percent=newest(queries.cpu),
        memory_percent=newest(queries.memory),
        gpu_percent=newest(queries.gpu),
        kv_cache_percent=newest(queries.kv_cache),
        network_latency_seconds=newest(queries.network_latency),
        capacity_errors=sight.capacity_errors.get(pool, ()),
        refreshing=pool in sight.refreshing,
        types=sight.refreshing.get(pool, group.types)
        if parameter.service.policy.vertical.method is VerticalMethod.IN_PLACE
        else (),
    )


def _load(
    unit: LoadUnit,
    queries: PoolQueries,
    answers: Answers,
    running: Reading | None,
    waiting: Reading | None,
    rate: Reading | None,
    oldest: float,
) -> Reading | None:
    match unit:
        case LoadUnit.CONCURRENCY:
            if running is None or waiting is None:
                return None
            return Reading(running.value + waiting.value, min(running.at, waiting.at))
        case LoadUnit.REQUESTS:
            return rate
        case LoadUnit.TOKENS:
            if rate is not None and rate.value == 0:
                return rate
            tokens_in = signals.newest(answers.of(queries.input_tokens), oldest)
            tokens_out = signals.newest(answers.of(queries.output_tokens), oldest)
            if rate is None or tokens_in is None or tokens_out is None:
                return None
            return Reading(rate.value * (tokens_in.value + tokens_out.value), min(rate.at, tokens_in.at, tokens_out.at))
        case LoadUnit.GPU:
            return signals.newest(answers.of(queries.gpu), oldest)
        case LoadUnit.KV_CACHE:
            return signals.newest(answers.of(queries.kv_cache), oldest)


def _serving(sight: _Sight, pool: str) -> bool:
    return any(instance.phase in SERVING for instance in sight.instances[pool])


def _nothing(now: float) -> Series:
    """A pool with no instance that serves carries nothing: this is seen from its instances, not assumed."""
    end = math.floor(now / signals.MINUTE_SECONDS) * signals.MINUTE_SECONDS
    fine = math.floor(now / signals.FINE_SECONDS) * signals.FINE_SECONDS
    ends = {float(end - i * signals.MINUTE_SECONDS) for i in range(5)}
    ends |= {float(fine - i * signals.FINE_SECONDS) for i in range(30)}
    return tuple(Reading(0.0, at) for at in sorted(ends))


def _rates(sight: _Sight, pool: str, answers: Answers, now: float) -> Series:
    """Requests per second that the pool was given, by minute."""
    queries = sight.queries.pools[pool]
    if queries.requests is None or queries.requests in answers.failed or queries.heartbeat in answers.failed:
        return ()
    known = signals.rates(answers.of(queries.requests), answers.of(queries.heartbeat))
    if _serving(sight, pool):
        return known
    # Its last requests may be younger than its last instance.
    end = math.floor(now / signals.MINUTE_SECONDS) * signals.MINUTE_SECONDS
    minutes = {float(end - i * signals.MINUTE_SECONDS): 0.0 for i in range(5)}
    minutes |= {reading.at: reading.value for reading in known}
    return tuple(Reading(minutes[at], at) for at in sorted(minutes))


def _of_pool(sight: _Sight, pool: str, series: Series, now: float) -> Series:
    """From the mean of an instance to the sum over the pool's ready ones.

    Those that drain publish nothing of their engines: a pool of them alone carries nothing, and must not make the
    whole service's count unknown for as long as they drain.
    """
    ready = sum(instance.phase is Phase.READY for instance in sight.instances[pool])
    return signals.scaled(series, ready) if ready else _nothing(now)


def _in_flight(sight: _Sight, pool: str, answers: Answers, now: float) -> Series:
    queries = sight.queries.pools[pool]
    return signals.total(
        [
            _of_pool(sight, pool, answers.of(queries.running), now),
            _of_pool(sight, pool, answers.of(queries.waiting), now),
        ]
    )


def _with_loads(sight: _Sight, pool: str, answers: Answers, oldest: float) -> tuple[Instance, ...]:
    of_instance = sight.queries.pools[pool].of_instance
    training = sight.parameter.service.policy.workload is Workload.TRAINING
    instances: list[Instance] = []
    for instance in sight.instances[pool]:
        queries = of_instance.get(instance.id, {})
        if training:
            jobs = signals.newest(answers.of(queries.get("jobs_running")), oldest)
            left = signals.newest(answers.of(queries.get("job_remaining_seconds")), oldest)
            instances.append(
                replace(
                    instance,
                    # A mean over the minute in which a job ran for a part of it is between the whole numbers: busy.
                    jobs=None if jobs is None else math.ceil(jobs.value),
                    remaining_seconds=None if left is None else left.value,
                )
            )
        else:
            instances.append(replace(instance, load=signals.instance_load(answers, queries, oldest)))
    return tuple(instances)


def _rejected(queries: ServiceQueries, answers: Answers, oldest: float) -> Reading | None:
    """503s of the load balancer. It has no metric by rule, so services that sleep behind the same one all wake.

    Published only when not zero; a heartbeat of any target group shows that the load balancer reports at all.
    """
    if queries.rejected is None or queries.rejected in answers.failed:
        return None
    heartbeat = signals.sum_of_known([answers.of(pool.heartbeat) for pool in queries.pools.values()])
    series = signals.rates(answers.of(queries.rejected), heartbeat)
    # Any 503 within the window wakes: one that was published late must not be missed because the minute after it,
    # without any, is newer.
    seen = tuple(reading for reading in series if reading.value > 0)
    return signals.newest(seen, oldest) or signals.newest(series, oldest)


def _mean_over_pools(
    pools: Mapping[str, PoolObservation], queries: Mapping[str, Query | None], answers: Answers, oldest: float
) -> Reading | None:
    """Mean of a per-request figure, each pool by its share of the requests (equal shares where rates are missing)."""
    readings = {pool: signals.newest(answers.of(query), oldest) for pool, query in queries.items()}
    known = {pool: reading for pool, reading in readings.items() if reading is not None}
    if not known:
        return None
    shares = {pool: rate.value if (rate := pools[pool].rate_rps) else 0.0 for pool in known}
    if sum(shares.values()) == 0:
        shares = dict.fromkeys(known, 1.0)
    mean = sum(known[pool].value * shares[pool] for pool in known) / sum(shares.values())
    return Reading(mean, min(reading.at for reading in known.values()))


def _history(queries: ServiceQueries, behind: Answers) -> Series:
    if behind.failed:
        # Without one pool's part the sum would be a history of less traffic than there was.
        return ()
    return signals.sum_of_known(
        [
            signals.rates(behind.of(pool.history), behind.of(pool.history_heartbeat), signals.HISTORY_SECONDS)
            for pool in queries.pools.values()
        ]
    )


def _jobs(sight: _Sight, answers: Answers, oldest: float) -> JobQueue | None:
    """The queue; None where the number of waiting jobs is not known.

    SQS publishes the age of the oldest message up to 15 minutes late for a queue that was idle. The age is then at
    least 0, and the number of messages alone speaks.
    """
    if sight.waiting_jobs is None:
        return None
    age = signals.newest(answers.of(sight.queries.oldest_job), oldest)
    seconds = [r.value for q in sight.queries.job_seconds if (r := signals.newest(answers.of(q), oldest)) is not None]
    return JobQueue(
        waiting=sight.waiting_jobs,
        oldest_seconds=age.value if age is not None and sight.waiting_jobs > 0 else 0.0,
        mean_job_seconds=math.fsum(seconds) / len(seconds) if seconds else None,
    )
