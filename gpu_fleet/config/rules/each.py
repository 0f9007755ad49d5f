"""The readable services and pools of a stack."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_fleet.config.settings import PoolSettings, ServiceSettings, StackSettings
from gpu_fleet.config.validation import until_hole


def services(settings: StackSettings) -> list[tuple[str, ServiceSettings]]:
    """Return each service with its name; none if `services` could not be read."""
    return until_hole(_services, settings)


def pools(service: ServiceSettings) -> list[tuple[str, PoolSettings]]:
    """Return each pool of a service with its name; none if `pools` could not be read."""
    return until_hole(_pools, service)


def _services(settings: StackSettings) -> Iterator[tuple[str, ServiceSettings]]:
    yield from settings.services.items()


def _pools(service: ServiceSettings) -> Iterator[tuple[str, PoolSettings]]:
    yield from service.pools.items()
