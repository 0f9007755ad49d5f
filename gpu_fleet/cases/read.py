"""The cases in the policies' files, each with the service that it is about."""

from __future__ import annotations

from collections.abc import Callable

from gpu_fleet.cases.case import Case
from gpu_fleet.cases.expect import Expect
from gpu_fleet.cases.given import Given, GivenPool
from gpu_fleet.cases.observed import ZONES
from gpu_fleet.config.composition import pool
from gpu_fleet.config.document import Document, DocumentError, Problem, check, suggestion
from gpu_fleet.config.library import Library, plan_problems
from gpu_fleet.config.rules.plan import plans
from gpu_fleet.config.settings import PoolSettings, StackSettings
from gpu_fleet.scaling.service import Service


def cases(
    library: Library, names: list[str], stack: Callable[[str], StackSettings]
) -> tuple[list[Case], list[Problem]]:
    """The cases of these policies, and everything that is wrong in how they are written.

    `stack` gives the settings of a stack by name, and raises DocumentError where there is none.
    """
    found: list[Case] = []
    problems: list[Problem] = []
    for name in names:
        document = library.documents[name]
        seen: set[str] = set()
        for i, written in enumerate(library.policies[name].cases):
            at = ("cases", i)
            if written.name in seen:
                problems.append(
                    document.problem((*at, "name"), f"must differ from the other cases' (got {written.name})")
                )
            seen.add(written.name)
            try:
                given = check(document, Given, (*at, "given"))
            except DocumentError as error:
                problems += error.problems
                given = None
            try:
                expect = check(document, Expect, (*at, "expect"))
            except DocumentError as error:
                problems += error.problems
                continue
            if given is None:
                continue
            try:
                service = _service(name, given, library, document, at, stack)
            except DocumentError as error:
                problems += error.problems
                continue
            more = _unknown_pools(given, expect, service, document, at)
            problems += more
            if not more:
                place = document.place((*at, "name"))
                found.append(Case(name, written.name, f"{place.file}:{place.line}", service, given, expect))
    return found, problems


def _service(
    policy_name: str,
    given: Given,
    library: Library,
    document: Document,
    at: tuple[str | int, ...],
    stack: Callable[[str], StackSettings],
) -> Service:
    policy = library.policies[policy_name]
    here = (*at, "given")
    if given.stack is None:
        lacking = [name for name, value in given.pools.items() if value.types is None]
        if lacking:
            raise DocumentError(
                document.problem((*here, "pools", name, "types"), "is missing (or name a stack)") for name in lacking
            )
        pools = {name: _settings(value) for name, value in given.pools.items()}
        zones = ZONES
    else:
        try:
            settings = stack(given.stack)
        except DocumentError as error:
            raise DocumentError(
                document.problem((*here, "stack"), f"cannot be used: {problem}") for problem in error.problems
            ) from None
        service_name = given.service or (next(iter(settings.services)) if len(settings.services) == 1 else "")
        if service_name not in settings.services:
            raise DocumentError(
                [
                    document.problem(
                        (*here, "service"),
                        f"must be a service of stack {given.stack}; {suggestion(service_name, settings.services)} "
                        f"(got {service_name or 'nothing'})",
                    )
                ]
            )
        pools = settings.services[service_name].pools
        zones = settings.network.zones or ZONES
    wrong = plan_problems(policy_name, plans(pools), library)
    if wrong:
        raise DocumentError(document.problem((*here, *problem.path), problem.text) for problem in wrong)
    return Service(
        name=policy_name,
        policy=policy,
        pools=tuple(pool(name, value, policy_name, library, zones) for name, value in pools.items()),
    )


def _settings(value: GivenPool) -> PoolSettings:
    return PoolSettings(
        types=value.types or (),
        alternatives=value.alternatives,
        min=value.min,
        max=value.max,
        on_demand_base=value.on_demand_base,
        spot_percent=value.spot_percent,
        gpus_per_copy=value.gpus_per_copy,
    )


def _unknown_pools(
    given: Given, expect: Expect, service: Service, document: Document, at: tuple[str | int, ...]
) -> list[Problem]:
    known = [pool.name for pool in service.pools]
    named: list[tuple[tuple[str | int, ...], str]] = [
        *((("given", "pools", name), name) for name in given.pools),
        *((("given", "capacity_errors", i), name) for i, name in enumerate(given.capacity_errors)),
        *((("expect", "pools", name), name) for name in expect.pools),
        *((("given", "before", "pools", name), name) for name in (given.before.pools if given.before else ())),
    ]
    return [
        document.problem((*at, *path), f"must be a pool of the service; {suggestion(name, known)}")
        for path, name in named
        if name not in known
    ]
