"""What AWS refuses and moto takes, and what AWS takes and moto refuses: one module for each kind of thing.

They need no world and no clock, so a moto server under the real engine can have them too.
"""

from __future__ import annotations

from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.refusals import (
    auto_scaling_groups,
    gateway_endpoints,
    lambda_functions,
    launches,
    listener_rules,
    load_balancers,
    log_groups,
    network_parts,
    parameters,
    policies,
    requests,
    resource_tags,
    security_group_rules,
    target_groups,
)

_MODULES = (
    auto_scaling_groups,
    gateway_endpoints,
    launches,
    listener_rules,
    load_balancers,
    log_groups,
    network_parts,
    parameters,
    policies,
    requests,
    security_group_rules,
    resource_tags,
    target_groups,
)

REFUSALS: tuple[Difference, ...] = tuple(module.DIFFERENCE for module in (*_MODULES, lambda_functions))
"""Everything that is refused, with its source."""


def refuse(patches: Patches, *, concurrent_executions: int = lambda_functions.CONCURRENT_EXECUTIONS) -> None:
    """Let the moto of this process refuse what AWS refuses, until the patches end.

    `concurrent_executions` are those of Lambda that the account has.
    """
    for module in _MODULES:
        module.mend(patches)
    lambda_functions.mend(patches, concurrent_executions)
