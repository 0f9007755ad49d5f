"""Availability zones: whether this account has them, and which of them a pool launches into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gpu_fleet.config.settings import ExistingNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack, StackPool
from gpu_fleet.operate.preflight.subnets import described


def zone(name: str, answer: Mapping[str, Any]) -> Finding:
    """The account has the zone, and it is up. Accounts differ in the zones that they have of one region.

    https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AvailabilityZone.html
    """
    there = {z["ZoneName"]: z for z in answer.get("AvailabilityZones", ())}
    found = there.get(name)
    if found is None:
        return wrong(f"this account has {', '.join(sorted(there)) or 'no zones'}")
    if found.get("State") != "available":
        return wrong(f"is {found.get('State')}")
    if found.get("OptInStatus") == "not-opted-in":
        return wrong("is not enabled for this account")
    return ok(f"available ({found.get('ZoneId')})")


def of_pool(stack: Stack, pool: StackPool, aws: ReadOnlyAws) -> tuple[str, ...]:
    """The zones that the pool launches into: its own, the stack's, or those of the private subnets it is given."""
    network = stack.settings.network
    named = pool.settings.zones or network.zones
    if named or not isinstance(network, ExistingNetwork):
        return named
    there = described(aws, network)
    return tuple(sorted({there[i]["AvailabilityZone"] for i in network.private_subnet_ids if i in there}))


def checks(stack: Stack) -> Iterator[Check]:
    """Each zone of the stack; pools launch in no others."""
    for i, name in enumerate(stack.settings.network.zones):

        def look(aws: ReadOnlyAws, name: str = name) -> Finding:
            return zone(name, aws.get("ec2", "DescribeAvailabilityZones"))

        yield Check("zone", name, ("network", "zones", i), look)
