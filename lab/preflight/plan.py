"""Every check that a stack asks for, in the order in which a reader would ask."""

from __future__ import annotations

from lab.preflight import (
    account,
    ami,
    certificate,
    concurrency,
    counts,
    firewall,
    image,
    instance_types,
    quotas,
    routes,
    secret,
    service_roles,
    topic,
    volume_key,
    vpc,
    zones,
)
from lab.preflight.check import Check
from lab.preflight.stack import Stack

CONCEPTS = (
    account, service_roles, zones, vpc, routes, instance_types, quotas, counts, ami, volume_key, image, secret,
    certificate, firewall, topic, concurrency,
)  # fmt: skip


def plan(stack: Stack) -> list[Check]:
    """The checks of a stack."""
    return [check for concept in CONCEPTS for check in concept.checks(stack)]
