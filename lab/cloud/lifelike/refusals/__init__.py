"""What AWS refuses and moto takes, and what AWS takes and moto refuses: one module for each kind of thing.

They need no world and no clock, so a moto server under the real engine can have them too.
"""

from __future__ import annotations

from lab.cloud.lifelike.difference import Difference, Patches
from lab.cloud.lifelike.refusals import (
    auto_scaling_groups,
    functions,
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
    tags,
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
    tags,
    target_groups,
)

REFUSALS: tuple[Difference, ...] = tuple(module.DIFFERENCE for module in (*_MODULES, functions))
"""Everything that is refused, with its source."""


def refuse(patches: Patches, *, concurrent_executions: int = functions.CONCURRENT_EXECUTIONS) -> None:
    """Let the moto of this process refuse what AWS refuses, until the patches end.

    `concurrent_executions` are those of Lambda that the account has.
    """
    for module in _MODULES:
        module.mend(patches)
    functions.mend(patches, concurrent_executions)
