"""Requests that AWS refuses and moto accepts, or the reverse: one module per kind of resource.

They need no world and no clock.
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
    lambda_functions,
)

REFUSALS: tuple[Difference, ...] = tuple(module.DIFFERENCE for module in _MODULES)
"""Every refusal, with its source."""


def refuse(patches: Patches) -> None:
    """Let moto refuse what AWS refuses, until the patches end."""
    for module in _MODULES:
        module.patch_moto(patches)
