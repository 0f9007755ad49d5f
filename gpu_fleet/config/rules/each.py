"""The services and pools of a stack, as far as they could be read."""

from __future__ import annotations

from collections.abc import Iterator

from gpu_fleet.config.document import asked
from gpu_fleet.config.settings import PoolSettings, ServiceSettings, StackSettings


def services(settings: StackSettings) -> list[tuple[str, ServiceSettings]]:
    """Each service by its name; none where nothing of them could be read."""
    return asked(_services, settings)


def pools(service: ServiceSettings) -> list[tuple[str, PoolSettings]]:
    """Each pool of a service by its name; none where nothing of them could be read."""
    return asked(_pools, service)


def _services(settings: StackSettings) -> Iterator[tuple[str, ServiceSettings]]:
    yield from settings.services.items()


def _pools(service: ServiceSettings) -> Iterator[tuple[str, PoolSettings]]:
    yield from service.pools.items()
