"""Observe: from AWS to one `Observation` a service, with as few calls as the APIs allow.

Each API has a module that reads its facts. The facts of all services are read first, then their metrics in one go, and
`gpu_fleet.scaling.assembly` makes the observations of both. A service that cannot be seen loses its turn; what cannot
be measured is missing from its observation, which then holds. Neither affects the other services.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.assembly import PoolFacts, ServiceFacts, assemble
from gpu_fleet.scaling.observation import CapacityError, Instance, Observation, Phase
from gpu_fleet.scaling.policy import VerticalMethod
from gpu_fleet.scaling.series import FINE_SECONDS, HISTORY_SECONDS, MINUTE_SECONDS
from gpu_fleet.scaling.state import State
from lambdas.scaler import activities, groups, job_queue, metrics, queries, refreshes, rules, targets
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.groups import Group
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.metrics import Answers
from lambdas.scaler.queries import ServiceQueries
from lambdas.scaler.result import ErrorCode, Fault
from lambdas.scaler.rules import Rule

T = TypeVar("T")


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


@dataclass(frozen=True, slots=True)
class _Standing:
    """One service as its groups and its rule describe it."""

    parameter: ServiceParameter
    state: State
    groups: Mapping[str, Group]
    rule: Rule | None
    faults: list[Fault] = field(default_factory=list)
    """Filled while the rest is read."""

    def optional(self, call: Callable[[], T], during: str) -> T | None:
        """The call's answer; without one the observation lacks it, and a fault says why."""
        try:
            return call()
        except (ClientError, BotoCoreError) as error:
            self.faults.append(Fault.of(error, during))
            return None


@dataclass(frozen=True, slots=True)
class _Looked:
    """One service with its facts, and what to ask CloudWatch of it."""

    standing: _Standing
    facts: ServiceFacts
    queries: ServiceQueries


def survey(
    parameters: Sequence[ServiceParameter],
    states: Mapping[str, State],
    clients: Clients,
    book: InstanceBook,
    now: float,
) -> Survey:
    """Look at all services at `now` (seconds since the epoch, UTC)."""
    standing, unseen = _standing(parameters, states, clients)
    _learn_instances(standing.values(), clients, book)
    looked: dict[str, _Looked] = {}
    for name, service in standing.items():
        try:
            looked[name] = _look(service, clients, book, now)
        except Exception as error:  # noqa: BLE001 one service's trouble is its own
            unseen[name] = Fault.of(error)
    answers, past = _measure(looked.values(), clients, now)
    seen: dict[str, Seen] = {}
    for name, service in looked.items():
        try:
            seen[name] = _seen(service, answers, past.get(name), now)
        except Exception as error:  # noqa: BLE001 one service's trouble is its own
            unseen[name] = Fault.of(error)
    return Survey(seen, unseen)


def _standing(
    parameters: Sequence[ServiceParameter], states: Mapping[str, State], clients: Clients
) -> tuple[dict[str, _Standing], dict[str, Fault]]:
    """Groups and rules of all services, in batches."""
    group_names = [pool.group for p in parameters for pool in p.bindings.pools.values()]
    described = groups.describe(clients.autoscaling, group_names)
    ruled = rules.describe(clients.elbv2, [arn for p in parameters for arn in p.bindings.rule_arns])
    standing: dict[str, _Standing] = {}
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
        standing[parameter.name] = _Standing(
            parameter,
            states.get(parameter.name, State()),
            {pool: described.found[binding.group] for pool, binding in bindings.pools.items()},
            ruled.service(bindings),
            [ruled.faults[arn] for arn in bindings.hash_rule_arns if arn in ruled.faults],
        )
    return standing, unseen


def _learn_instances(services: Iterable[_Standing], clients: Clients, book: InstanceBook) -> None:
    """Ask EC2 for the instances that the book does not know yet."""
    everyone = list(services)
    ids = {member.id for service in everyone for group in service.groups.values() for member in group.members}
    try:
        book.learn(clients.ec2, ids)
    except (ClientError, BotoCoreError) as error:
        fault = Fault.of(error, "DescribeInstances")
        for service in everyone:
            if any(book.facts(m.id) is None for group in service.groups.values() for m in group.members):
                service.faults.append(fault)


def _look(service: _Standing, clients: Clients, book: InstanceBook, now: float) -> _Looked:
    """Read the facts that must be asked pool by pool.

    Raises botocore's errors where no decision is possible without the answer.
    """
    parameter = service.parameter
    pools = {pool: _pool_facts(service, pool, clients, book, now) for pool in service.groups}
    url = parameter.bindings.queue_url
    waiting = service.optional(lambda: job_queue.waiting_jobs(clients.sqs, url), "GetQueueAttributes") if url else None
    ids = {pool: [instance.id for instance in facts.instances] for pool, facts in pools.items()}
    return _Looked(service, ServiceFacts(pools, waiting), queries.queries(parameter, service.state, ids))


def _pool_facts(service: _Standing, pool: str, clients: Clients, book: InstanceBook, now: float) -> PoolFacts:
    group, parameter = service.groups[pool], service.parameter
    arn = parameter.bindings.pools[pool].target_group_arn
    instances = _instances(group, arn, clients, book, now)
    missing = group.desired > sum(instance.phase is Phase.READY for instance in instances)
    changes_types = parameter.service.policy.vertical.method is VerticalMethod.IN_PLACE
    if group.launch_suspended is not None:
        why = f"{group.name}: Launch is suspended. {group.launch_suspended}".rstrip()
        service.faults.append(Fault(ErrorCode.LAUNCH_SUSPENDED, why))
    brought = refreshes.refreshed_types(clients.autoscaling, group) if changes_types else None
    return PoolFacts(
        desired=group.desired,
        min_size=group.min_size,
        max_size=group.max_size,
        weight=service.rule.weights.get(arn or "", 0) if service.rule else 0,
        instances=instances,
        on_demand_base=group.on_demand_base,
        capacity_errors=_capacity_errors(service, group, clients, now) if missing else (),
        zones=group.zones,
        launch_suspended=group.launch_suspended is not None,
        refreshing=brought is not None,
        types=(brought or group.types) if changes_types else (),
    )


def _instances(
    group: Group, target_group_arn: str | None, clients: Clients, book: InstanceBook, now: float
) -> tuple[Instance, ...]:
    health = targets.describe(clients.elbv2, target_group_arn) if target_group_arn and group.members else {}
    instances: list[Instance] = []
    for member in group.members:
        phase = targets.phase(member, health.get(member.id), behind_load_balancer=bool(target_group_arn))
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
                booting=member.booting,
                ready_at=book.ready_at(member.id, phase, now),
            )
        )
    return tuple(sorted(instances, key=lambda instance: (instance.since, instance.id)))


def _capacity_errors(service: _Standing, group: Group, clients: Clients, now: float) -> tuple[CapacityError, ...]:
    """The group's failed launches; those that operators have to do something about are faults as well."""
    failed = service.optional(
        lambda: activities.read(clients.autoscaling, group.name, now), "DescribeScalingActivities"
    )
    if failed is None:
        return ()
    service.faults.extend(Fault(ErrorCode.LAUNCH_FAILED, f"{group.name}: {message}") for message in failed.other)
    return failed.capacity_errors


def _measure(services: Iterable[_Looked], clients: Clients, now: float) -> tuple[Answers, Mapping[str, Answers]]:
    """Read the newest minutes of all services in one go, and the past of those whose state asks for it."""
    everyone = list(services)
    policies = {one.standing.parameter.name: one.standing.parameter.service.policy for one in everyone}
    stale = max((policy.load.stale_after_seconds for policy in policies.values()), default=0.0)
    end = math.floor(now / FINE_SECONDS) * FINE_SECONDS
    # A reading may be `stale` old at its end, and its period begins a minute before that.
    start = math.floor((now - stale) / MINUTE_SECONDS - 1) * MINUTE_SECONDS
    answers = metrics.fetch(clients.cloudwatch, [q for one in everyone for q in one.queries.minute()], start, end)
    past: dict[str, Answers] = {}
    for one in everyone:
        name, wanted = one.standing.parameter.name, list(one.queries.past())
        if wanted:
            until = math.floor(now / HISTORY_SECONDS) * HISTORY_SECONDS
            since = until - policies[name].forecast.history_days * queries.DAY_SECONDS
            past[name] = metrics.fetch(clients.cloudwatch, wanted, since, until)
    return answers, past


def _seen(looked: _Looked, answers: Answers, past: Answers | None, now: float) -> Seen:
    service = looked.standing
    unanswered = [query for query in looked.queries.minute() if query in answers.failed]
    faults = list(service.faults)
    if unanswered:
        why = answers.failed[unanswered[0]]
        faults.append(Fault(why.code, f"{len(unanswered)} metrics are missing: {why.message}", why.during))
    if past is not None and past.failed:
        faults.append(next(iter(past.failed.values())))
    series = looked.queries.series(answers, past)
    observation = assemble(service.parameter.service.policy, looked.facts, series, now)
    return Seen(observation, service.groups, service.rule, tuple(faults))
