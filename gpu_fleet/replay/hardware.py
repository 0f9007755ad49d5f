"""What an instance of each pool is at the desk: how fast its engines serve, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.config.library import Library
from gpu_fleet.config.settings import ServiceSettings
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.simulator.simulation import Engine


@dataclass(frozen=True, slots=True)
class Price:
    """Of one instance type, USD an hour."""

    on_demand: float
    spot: float | None


@dataclass(frozen=True, slots=True)
class PoolHardware:
    """One pool."""

    profile: Profile
    copies: int
    """Engines on one instance."""
    gpus: int
    """Of one instance."""
    prices: Mapping[str, Price]
    """By instance type."""

    @property
    def engine(self) -> Engine:
        """One copy."""
        return Engine.of(self.profile)

    def usd_per_hour(self, type_: str, *, spot: bool) -> float:
        """What an instance costs; a spot instance without a known price costs as much as on demand."""
        price = self.prices[type_]
        return price.spot if spot and price.spot is not None else price.on_demand


def pool_hardware(settings: ServiceSettings, library: Library) -> dict[str, PoolHardware]:
    """By pool, the figures of its preferred type. The caller has checked that the settings fit the library."""
    policy = library.policies[settings.policy]
    found: dict[str, PoolHardware] = {}
    for name, pool in settings.pools.items():
        kinds = {type_: library.catalog.types[type_] for type_ in pool.types}
        preferred = kinds[pool.types[0]]
        gpus = pool.gpus_per_copy or preferred.gpus
        placement = library.profiles.models[policy.model].placement(preferred.gpu, gpus)
        if placement is None:
            raise ValueError(f"{policy.model} has no profile on {gpus} x {preferred.gpu}")
        found[name] = PoolHardware(
            profile=placement,
            copies=preferred.gpus // gpus,
            gpus=preferred.gpus,
            prices={type_: Price(kind.on_demand_usd_per_hour, kind.spot_usd_per_hour) for type_, kind in kinds.items()},
        )
    return found
