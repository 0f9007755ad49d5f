"""One run: observe, decide and apply for every service. A service that fails does not stop the others."""

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
from lambdas.scaler import apply, bindings, events, observe
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.environment import Environment
from lambdas.scaler.instances import InstanceBook
from lambdas.scaler.observe import Seen
from lambdas.scaler.result import ErrorCode, Fault, Outcome, Result
from lambdas.scaler.store import StateStore, StoredState, VersionConflictError

Decide: TypeAlias = Callable[[Service, Observation, State, float], Decision]
Report: TypeAlias = Callable[[Result, ServiceParameter | None, Observation | None, State], None]
"""Called for each service at the end of its turn, so that a run that is cut off has reported what it did."""

RESERVE_SECONDS = 3.0
"""Time kept at the end of a run for the last service's log and metrics."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs have in common."""

    environment: Environment
    clients: Clients
    store: StateStore
    book: InstanceBook
    decide: Decide


@dataclass(frozen=True, slots=True)
class _Memory:
    """A service's state, as read at the start of a run."""

    stored: StoredState
    fault: Fault | None = None
    """Why the store did not answer. The state then counts as lost, and this run does not write it."""


def serve(
    scaler: Runtime, event: Any, now: float, remaining_seconds: Callable[[], float], report: Report
) -> tuple[Result, ...]:
    """Serve all services that the event concerns, at `now` (seconds since the epoch, UTC).

    Raises botocore's errors only if the service parameters could not be read.
    """
    parameters = bindings.read(scaler.clients.ssm, scaler.environment.services_path)
    results: list[Result] = []

    def finish(
        result: Result,
        parameter: ServiceParameter | None = None,
        observation: Observation | None = None,
        state: State | None = None,
    ) -> None:
        results.append(result)
        report(result, parameter, observation, state or State())

    for name, fault in parameters.broken.items():
        finish(Result(name, Outcome.FAILED, faults=(fault,)))
    chosen = _rotated([_with_quotas(p, scaler.environment) for p in events.concerned(event, parameters.read)], now)
    memories = {parameter.name: _read_memory(scaler.store, parameter.name) for parameter in chosen}
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
                result = _take_turn(scaler, parameter, seen, memory, now)
            except Exception as error:  # noqa: BLE001 a fault of one service must not stop the others
                result = Result(name, Outcome.FAILED, faults=(*seen.faults, Fault.of(error)))
        finish(result, parameter, seen.observation if seen else None, memory.stored.state)
    if len(chosen) == len(parameters.read):
        scaler.book.forget_all_but(
            {i.id for seen in survey.seen.values() for pool in seen.observation.pools.values() for i in pool.instances}
        )
    return tuple(results)


def _take_turn(scaler: Runtime, parameter: ServiceParameter, seen: Seen, memory: _Memory, now: float) -> Result:
    """Decide, write the state, then apply.

    The state is the lock: if two runs read the same version, only one can write it. Unless the state was written,
    nothing is removed. Adding twice does no harm, but a removal whose reasons were not recorded might.
    """
    name = parameter.name
    decision = scaler.decide(parameter.service, seen.observation, memory.stored.state, now)
    faults = [*seen.faults]
    if memory.stored.unreadable:
        faults.append(Fault(ErrorCode.STATE_UNREADABLE, memory.stored.unreadable, "GetItem"))
    state_written = memory.fault is None
    if memory.fault is not None:
        faults.append(memory.fault)
    else:
        try:
            scaler.store.write(name, decision.state, memory.stored.version)
        except VersionConflictError:
            return Result(name, Outcome.SUPERSEDED, decision, faults=tuple(faults))
        except (ClientError, BotoCoreError) as error:
            faults.append(Fault.of(error, "PutItem"))
            state_written = False
    if parameter.service.policy.mode is Mode.SHADOW:
        return Result(name, Outcome.SHADOW, decision, faults=tuple(faults))
    applied = apply.apply(parameter, decision, seen.groups, seen.rule, scaler.clients, may_remove=state_written)
    faults += applied.faults
    if applied.faults:
        outcome = Outcome.FAILED
    elif any(write.made for write in applied.writes):
        outcome = Outcome.APPLIED
    else:
        outcome = Outcome.UNCHANGED
    return Result(name, outcome, decision, applied.writes, tuple(faults))


def _read_memory(store: StateStore, name: str) -> _Memory:
    try:
        return _Memory(store.read(name))
    except (ClientError, BotoCoreError) as error:
        return _Memory(StoredState(State()), Fault.of(error, "GetItem"))


def _with_quotas(parameter: ServiceParameter, environment: Environment) -> ServiceParameter:
    """Return the parameter with the account's vCPU quotas; the service's own override them."""
    quotas: Mapping[str, int] = environment.vcpu_quotas
    if not quotas:
        return parameter
    service = parameter.service.model_copy(update={"vcpu_quotas": {**quotas, **parameter.service.vcpu_quotas}})
    return parameter.model_copy(update={"service": service})


def _rotated(parameters: Sequence[ServiceParameter], now: float) -> tuple[ServiceParameter, ...]:
    """Start with another service each minute, so that no service is always last when time runs out."""
    if not parameters:
        return ()
    first = int(now // 60) % len(parameters)
    return (*parameters[first:], *parameters[:first])
