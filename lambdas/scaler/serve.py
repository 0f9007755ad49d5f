"""One run: every service observed, decided on and applied, each in its own try."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.policy import Mode
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from lambdas.scaler import apply as hands
from lambdas.scaler import bindings, events, observe
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.environment import Environment
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.observe import Seen
from lambdas.scaler.result import ErrorCode, Fault, Outcome, Result
from lambdas.scaler.store import StateStore, Stored, VersionConflictError

Decide: TypeAlias = Callable[[Service, Observation, State, float], Decision]
Report: TypeAlias = Callable[[Result, ServiceParameter | None, Observation | None, State], None]
"""Told of each service as soon as its turn is over, so that a run that is cut off has said what it did."""

RESERVE_SECONDS = 3.0
"""Left over at the end, for the last service's log and metrics."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What stays the same from run to run."""

    environment: Environment
    clients: Clients
    store: StateStore
    book: InstanceBook
    decide: Decide


@dataclass(frozen=True, slots=True)
class _Memory:
    stored: Stored
    fault: Fault | None = None
    """Why the state could not be read: it counts as lost, and is not written over."""


def serve(
    scaler: Runtime, event: Any, now: float, remaining_seconds: Callable[[], float], report: Report
) -> tuple[Result, ...]:
    """Serve all services that the event concerns, at `now` (seconds since the epoch, UTC).

    Raises botocore's errors only where the services themselves could not be read.
    """
    parameters = bindings.read(scaler.clients.ssm, scaler.environment.services_path)
    results: list[Result] = []

    def done(
        result: Result,
        parameter: ServiceParameter | None = None,
        observation: Observation | None = None,
        state: State | None = None,
    ) -> None:
        results.append(result)
        report(result, parameter, observation, state or State())

    for name, fault in parameters.broken.items():
        done(Result(name, Outcome.FAILED, faults=(fault,)))
    chosen = _in_turn([_with_quotas(p, scaler.environment) for p in events.concerned(event, parameters.read)], now)
    memories = {parameter.name: _remember(scaler.store, parameter.name) for parameter in chosen}
    survey = observe.survey(
        chosen, {name: memory.stored.state for name, memory in memories.items()}, scaler.clients, scaler.book, now
    )
    for parameter in chosen:
        name, memory = parameter.name, memories[parameter.name]
        seen = survey.seen.get(name)
        if seen is None:
            result = Result(name, Outcome.FAILED, faults=(survey.unseen[name],))
        elif remaining_seconds() < RESERVE_SECONDS:
            result = Result(name, Outcome.FAILED, faults=(Fault(ErrorCode.OUT_OF_TIME, f"{name}: no time was left"),))
        else:
            try:
                result = _turn(scaler, parameter, seen, memory, now)
            except Exception as error:  # noqa: BLE001 one service's trouble is its own
                result = Result(name, Outcome.FAILED, faults=(*seen.faults, Fault.of(error)))
        done(result, parameter, seen.observation if seen else None, memory.stored.state)
    if len(chosen) == len(parameters.read):
        scaler.book.forget_all_but(
            {i.id for seen in survey.seen.values() for pool in seen.observation.pools.values() for i in pool.instances}
        )
    return tuple(results)


def _turn(scaler: Runtime, parameter: ServiceParameter, seen: Seen, memory: _Memory, now: float) -> Result:
    """Decide, then write the state, which is the lock: of two runs that read the same version, one may write.

    Without a state written nothing is taken away: what adds is safe to do twice, and a scale-in whose reasons are
    not remembered is not.
    """
    name = parameter.name
    decision = scaler.decide(parameter.service, seen.observation, memory.stored.state, now)
    faults = [*seen.faults]
    if memory.stored.unreadable:
        faults.append(Fault(ErrorCode.STATE_UNREADABLE, memory.stored.unreadable, "GetItem"))
    remembered = memory.fault is None
    if memory.fault is not None:
        faults.append(memory.fault)
    else:
        try:
            scaler.store.write(name, decision.state, memory.stored.version)
        except VersionConflictError:
            return Result(name, Outcome.SUPERSEDED, decision, faults=tuple(faults))
        except (ClientError, BotoCoreError) as error:
            faults.append(Fault.of(error, "PutItem"))
            remembered = False
    if parameter.service.policy.mode is Mode.SHADOW:
        return Result(name, Outcome.SHADOW, decision, faults=tuple(faults))
    applied = hands.apply(parameter, decision, seen.groups, seen.rule, scaler.clients, may_remove=remembered)
    faults += applied.faults
    if applied.faults:
        outcome = Outcome.FAILED
    elif any(write.made for write in applied.writes):
        outcome = Outcome.APPLIED
    else:
        outcome = Outcome.UNCHANGED
    return Result(name, outcome, decision, applied.writes, tuple(faults))


def _remember(store: StateStore, name: str) -> _Memory:
    try:
        return _Memory(store.read(name))
    except (ClientError, BotoCoreError) as error:
        return _Memory(Stored(State()), Fault.of(error, "GetItem"))


def _with_quotas(parameter: ServiceParameter, environment: Environment) -> ServiceParameter:
    quotas: Mapping[str, int] = environment.vcpu_quotas
    if not quotas:
        return parameter
    service = parameter.service.model_copy(update={"vcpu_quotas": {**quotas, **parameter.service.vcpu_quotas}})
    return parameter.model_copy(update={"service": service})


def _in_turn(parameters: Sequence[ServiceParameter], now: float) -> tuple[ServiceParameter, ...]:
    """Each minute another service is first, so that no one is always the last when time runs out."""
    if not parameters:
        return ()
    first = int(now // 60) % len(parameters)
    return (*parameters[first:], *parameters[:first])
