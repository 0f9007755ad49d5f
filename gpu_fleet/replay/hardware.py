"""Hardware that the replay simulates: how fast the engines of an instance serve, and what the instance costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from gpu_fleet.config.boot_estimate import expected_boot, launch_price
from gpu_fleet.config.composition import boot_path
from gpu_fleet.config.engines import queue_options
from gpu_fleet.config.library import Library
from gpu_fleet.config.queue_options import as_served, counted
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.scaling.boot import Boot
from gpu_fleet.scaling.profile import Profile
from gpu_fleet.scaling.queue_limit import QueueLimit, queue_limit
from gpu_fleet.scaling.service import Pool
from gpu_fleet.simulator.simulation import Engine


@dataclass(frozen=True, slots=True)
class InstanceHardware:
    """One instance of one type in one pool."""

    profile: Profile
    copies: int
    """Engines that it runs, one for each copy of the model."""
    queue_limit: QueueLimit
    """What each engine holds at most."""
    gpus: int
    on_demand_usd_per_hour: float
    spot_usd_per_hour: float | None
    boot: Boot = field(default_factory=Boot)
    launch_usd: float = 0.0
    """What a launch costs beside the instance's hours."""

    @property
    def engine(self) -> Engine:
        """The engine of one copy."""
        return Engine.of(self.profile, self.queue_limit)

    def usd_per_hour(self, *, spot: bool) -> float:
        """Return the price; a spot instance without a known price costs as much as on demand."""
        if spot and self.spot_usd_per_hour is not None:
            return self.spot_usd_per_hour
        return self.on_demand_usd_per_hour


Hardware: TypeAlias = Mapping[str, Mapping[str, InstanceHardware]]
"""Hardware by pool and instance type; the first type of a pool is the preferred one."""


def service_hardware(stack: StackSettings, service: str, library: Library) -> Hardware:
    """Return the hardware of every type that the service's pools may launch.

    Raises ValueError where the model has no profile for a type; settings that were checked against the library have.
    """
    settings = stack.services[service]
    image = settings.container.image
    policy, options = as_served(library.policies[settings.policy], image), queue_options(image)
    model = library.profiles.models[policy.model]
    hardware: dict[str, dict[str, InstanceHardware]] = {}
    for name, pool in settings.pools.items():
        hardware[name] = {}
        path = boot_path(stack, settings, pool)
        for type_ in (type_ for types in (pool.types, *pool.alternatives) for type_ in types):
            entry = library.catalog.types[type_]
            gpus = pool.gpus_per_copy or entry.gpus
            profile = model.placement(entry.gpu, gpus)
            if profile is None:
                raise ValueError(f"{policy.model} has no profile on {gpus} x {entry.gpu}")
            boot = expected_boot(entry, model, profile, library.catalog, path)
            hardware[name][type_] = InstanceHardware(
                profile=profile,
                copies=entry.gpus // gpus,
                queue_limit=counted(queue_limit(policy, profile), options),
                gpus=entry.gpus,
                on_demand_usd_per_hour=entry.on_demand_usd_per_hour,
                spot_usd_per_hour=entry.spot_usd_per_hour,
                boot=boot,
                launch_usd=launch_price(entry, model, boot, library.catalog, path).extra_usd,
            )
    return hardware


def preferred(hardware: Hardware, pool: str) -> InstanceHardware:
    """Return the hardware of the pool's first type."""
    return next(iter(hardware[pool].values()))


def instance_label(pool: Pool) -> str:
    """Name the pool's instances for a reader: by pool, or by preferred type where types change in place."""
    return pool.types[0] if pool.alternatives else pool.name
