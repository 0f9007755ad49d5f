"""The cases in the policy files, each with its service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gpu_fleet.cases.case import Case
from gpu_fleet.cases.expect import Expect
from gpu_fleet.cases.given import Given, GivenPool
from gpu_fleet.cases.observed import ZONES
from gpu_fleet.config.composition import pool
from gpu_fleet.config.document import Document, DocumentError, Problem
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import plan_problems
from gpu_fleet.config.library import Library
from gpu_fleet.config.rules.plan import plans
from gpu_fleet.config.settings import PoolSettings, StackSettings
from gpu_fleet.config.validation import check
from gpu_fleet.config.wording import suggestion
from gpu_fleet.scaling.service import Service

Stacks = Callable[[str], StackSettings]
"""Returns the settings of a stack by its name; raises DocumentError for an unknown or invalid stack."""


def cases(library: Library, names: list[str], stack: Stacks) -> tuple[list[Case], list[Problem]]:
    """Return the cases of these policies, and every error in how they are written."""
    valid: list[Case] = []
    problems: list[Problem] = []
    for policy_name in names:
        document = library.documents[policy_name]
        case_names = [case.name for case in library.policies[policy_name].cases]
        for i, case_name in enumerate(case_names):
            if case_name in case_names[:i]:
                text = f"must differ from the other cases' (got {case_name})"
                problems.append(document.problem(("cases", i, "name"), text))
            try:
                valid.append(_Written(policy_name, i, case_name, document, library).case(stack))
            except DocumentError as error:
                problems += error.problems
    return valid, problems


@dataclass(frozen=True)
class _Written:
    """One case as it is written in a policy's file."""

    policy_name: str
    index: int
    name: str
    document: Document
    library: Library

    def at(self, *path: str | int) -> KeyPath:
        """Return the path of a key of the case."""
        return ("cases", self.index, *path)

    def case(self, stack: Stacks) -> Case:
        """Return the case with its service. Raises DocumentError with every error in it."""
        given, expect = self._parts()
        service = self._service(given, stack)
        if unknown := self._unknown_pools(given, expect, service):
            raise DocumentError(unknown)
        place = self.document.place(self.at("name"))
        return Case(self.policy_name, self.name, f"{place.file}:{place.line}", service, given, expect)

    def _parts(self) -> tuple[Given, Expect]:
        problems: list[Problem] = []
        parts: list[Any] = []
        for key, model in (("given", Given), ("expect", Expect)):
            try:
                parts.append(check(self.document, model, self.at(key)))
            except DocumentError as error:
                problems += error.problems
        if problems:
            raise DocumentError(problems)
        given, expect = parts
        return given, expect

    def _service(self, given: Given, stack: Stacks) -> Service:
        pools, zones = self._written_pools(given) if given.stack is None else self._stack_pools(given, stack)
        problems = plan_problems(self.policy_name, plans(pools), self.library)
        if problems:
            raise DocumentError(self.document.problem(self.at("given", *p.path), p.text) for p in problems)
        return Service(
            name=self.policy_name,
            policy=self.library.policies[self.policy_name],
            pools=tuple(pool(name, value, self.policy_name, self.library, zones) for name, value in pools.items()),
        )

    def _written_pools(self, given: Given) -> tuple[Mapping[str, PoolSettings], tuple[str, ...]]:
        """Return the pools that the case itself describes, and their zones."""
        without_types = [name for name, value in given.pools.items() if value.types is None]
        if without_types:
            raise DocumentError(
                self.document.problem(self.at("given", "pools", name, "types"), "is missing (or name a stack)")
                for name in without_types
            )
        return {name: _settings(value) for name, value in given.pools.items()}, ZONES

    def _stack_pools(self, given: Given, stack: Stacks) -> tuple[Mapping[str, PoolSettings], tuple[str, ...]]:
        """Return the pools of the stack that the case names, and their zones."""
        try:
            settings = stack(given.stack or "")
        except DocumentError as error:
            raise DocumentError(
                self.document.problem(self.at("given", "stack"), f"cannot be used: {problem}")
                for problem in error.problems
            ) from None
        service_name = given.service or (next(iter(settings.services)) if len(settings.services) == 1 else "")
        if service_name not in settings.services:
            text = (
                f"must be a service of stack {given.stack}; {suggestion(service_name, settings.services)} "
                f"(got {service_name or 'nothing'})"
            )
            raise DocumentError([self.document.problem(self.at("given", "service"), text)])
        return settings.services[service_name].pools, settings.network.zones or ZONES

    def _unknown_pools(self, given: Given, expect: Expect, service: Service) -> list[Problem]:
        pool_names = [one.name for one in service.pools]
        named: list[tuple[KeyPath, str]] = [
            *((("given", "pools", name), name) for name in given.pools),
            *((("given", "capacity_errors", i), name) for i, name in enumerate(given.capacity_errors)),
            *((("expect", "pools", name), name) for name in expect.pools),
            *((("given", "before", "pools", name), name) for name in (given.before.pools if given.before else ())),
        ]
        return [
            self.document.problem(self.at(*path), f"must be a pool of the service; {suggestion(name, pool_names)}")
            for path, name in named
            if name not in pool_names
        ]


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
