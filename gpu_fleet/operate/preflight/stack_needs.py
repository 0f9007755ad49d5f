"""A stack's YAML as the checks read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpu_fleet.config.document import Path
from gpu_fleet.config.library import Library
from gpu_fleet.config.settings import PoolSettings, ServiceSettings, StackSettings
from gpu_fleet.config.stack_file import PROJECT


@dataclass(frozen=True, slots=True)
class StackPool:
    """One pool and its place in the stack's file."""

    service_name: str
    service: ServiceSettings
    name: str
    settings: PoolSettings

    @property
    def title(self) -> str:
        """Service and pool, for a reader."""
        return f"{self.service_name}/{self.name}"

    @property
    def path(self) -> Path:
        """The pool's path in `StackSettings`."""
        return ("services", self.service_name, "pools", self.name)

    @property
    def types(self) -> Iterator[tuple[Path, str]]:
        """Every instance type that the pool may launch, with its path."""
        for i, name in enumerate(self.settings.types):
            yield (*self.path, "types", i), name
        for i, types in enumerate(self.settings.alternatives):
            for j, name in enumerate(types):
                yield (*self.path, "alternatives", i, j), name


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack's settings and the library that they refer to."""

    name: str
    settings: StackSettings
    library: Library

    @property
    def full_name(self) -> str:
        """Prefix of the resources' names, and value of their tag `gpu-fleet:stack`."""
        return f"{PROJECT}-{self.name}"

    @property
    def pools(self) -> list[StackPool]:
        """The pools of all services, in the file's order."""
        return [
            StackPool(service_name, service, name, pool)
            for service_name, service in self.settings.services.items()
            for name, pool in service.pools.items()
        ]
