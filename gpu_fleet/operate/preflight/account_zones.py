"""Availability zones: whether this account has them, and in which of them a pool launches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.config.settings import ExistingNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack, StackPool
from gpu_fleet.operate.preflight.subnets import described


def judge_zone(name: str, answer: Mapping[str, Any]) -> Finding:
    """The account has the zone, and the zone is available. Accounts differ in their zones of a region.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AvailabilityZone.html
    """
    zones = {each["ZoneName"]: each for each in answer.get("AvailabilityZones", ())}
    zone = zones.get(name)
    if zone is None:
        return wrong(f"this account has {', '.join(sorted(zones)) or 'no zones'}")
    if zone.get("State") != "available":
        return wrong(f"is {zone.get('State')}")
    if zone.get("OptInStatus") == "not-opted-in":
        return wrong("is not enabled for this account")
    return ok(f"available ({zone.get('ZoneId')})")


def pool_zones(stack: Stack, pool: StackPool, aws: ReadOnlyAws) -> tuple[str, ...]:
    """Return the zones in which the pool launches: its own, the stack's, or those of the existing private subnets."""
    network = stack.settings.network
    configured = pool.settings.zones or network.zones
    if configured or not isinstance(network, ExistingNetwork):
        return configured
    subnets = described(aws, network)
    return tuple(sorted({subnets[i]["AvailabilityZone"] for i in network.private_subnet_ids if i in subnets}))


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each zone of the stack; pools launch in no others."""
    for i, name in enumerate(stack.settings.network.zones):

        def examine(aws: ReadOnlyAws, name: str = name) -> Finding:
            return judge_zone(name, aws.get("ec2", "DescribeAvailabilityZones"))

        yield Check("zone", name, ("network", "zones", i), examine)
