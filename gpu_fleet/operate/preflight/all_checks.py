"""All checks of a stack, in the order in which a reader would look for them."""

from __future__ import annotations

from gpu_fleet.operate.preflight import (
    account,
    account_zones,
    ami,
    certificate,
    concurrency,
    firewall,
    image,
    image_cache,
    instance_types,
    quotas,
    secret,
    service_roles,
    stack_quotas,
    topic,
    volume_key,
    vpc,
    vpc_routes,
)
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.stack_needs import Stack

CONCEPTS = (
    account, service_roles, account_zones, vpc, vpc_routes, instance_types, quotas, stack_quotas, ami, volume_key,
    image, image_cache, secret, certificate, firewall, topic, concurrency,
)  # fmt: skip


def plan(stack: Stack) -> list[Check]:
    """Return the checks of a stack."""
    return [check for concept in CONCEPTS for check in concept.checks(stack)]
