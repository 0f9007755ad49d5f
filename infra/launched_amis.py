"""Which parameter names the AMI that each pool launches."""

from __future__ import annotations

from collections.abc import Mapping

from gpu_fleet.config import naming
from gpu_fleet.config.settings import ServiceSettings


def parameters(project: str, stack: str, service: str, settings: ServiceSettings) -> Mapping[str, str]:
    """Return the parameters by pool: of the baked AMI where the service has one, else the pool's own."""
    if settings.boot.baked_ami:
        return dict.fromkeys(settings.pools, naming.baked_ami_parameter(project, stack, service))
    return {name: pool.ami_parameter for name, pool in settings.pools.items()}
