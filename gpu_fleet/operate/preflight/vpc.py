"""A VPC that is there already, and its subnets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.config.document import Path
from gpu_fleet.config.settings import ExistingNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws, UnansweredError
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.stack_needs import Stack
from gpu_fleet.operate.preflight.subnets import described

Described = Mapping[str, Any]

LEAST_FREE_ADDRESSES = 8
"""In each subnet of a load balancer:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#subnets-load-balancer"""


def vpc(answer: Described | None) -> Finding:
    """It is there."""
    found = next(iter((answer or {}).get("Vpcs", ())), None)
    return wrong("there is no such VPC in this region") if found is None else ok(f"{found.get('CidrBlock')}")


def subnet(vpc_id: str, zone: str, found: Described | None) -> Finding:
    """It is in the VPC and in the zone that the file names for it; an empty zone: the file names none."""
    if found is None:
        return wrong("there is no such subnet in this region")
    if found.get("VpcId") != vpc_id:
        return wrong(f"is in {found.get('VpcId')}, must be in {vpc_id}")
    if zone and found.get("AvailabilityZone") != zone:
        return wrong(f"is in {found.get('AvailabilityZone')}, zones say {zone}")
    return ok(f"in {found.get('AvailabilityZone')}")


def balancer_zones(subnets: Sequence[Described]) -> Finding:
    """A load balancer stands in two zones or more, with one subnet in each.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html
    """
    by_zone: dict[str, list[str]] = {}
    for one in subnets:
        by_zone.setdefault(one.get("AvailabilityZone", ""), []).append(one["SubnetId"])
    crowded = [f"{' and '.join(ids)} are both in {zone}" for zone, ids in by_zone.items() if len(ids) > 1]
    if crowded:
        return wrong(f"must be one subnet in each zone: {'; '.join(crowded)}")
    if len(by_zone) < 2:
        return wrong(f"must be in two zones or more (got {', '.join(by_zone)})")
    return ok(f"in {', '.join(sorted(by_zone))}")


def free_addresses(found: Described) -> Finding:
    """A load balancer finds room in it to grow."""
    free = found.get("AvailableIpAddressCount", 0)
    text = f"{free} free addresses, a load balancer needs {LEAST_FREE_ADDRESSES}"
    return ok(text) if free >= LEAST_FREE_ADDRESSES else wrong(text)


def checks(stack: Stack) -> Iterator[Check]:
    """The VPC and each subnet of a network that is given by ids; nothing of one that the stack makes."""
    network = stack.settings.network
    if not isinstance(network, ExistingNetwork):
        return

    def look(aws: ReadOnlyAws) -> Finding:
        return vpc(_vpc(aws, network))

    def look_at_zones(aws: ReadOnlyAws) -> Finding:
        there = described(aws, network)
        missing = [one for one in network.public_subnet_ids if one not in there]
        if missing:
            return not_known(f"{', '.join(missing)} is not there")
        return balancer_zones([there[one] for one in network.public_subnet_ids])

    yield Check("VPC", network.vpc_id, ("network", "vpc_id"), look)
    zones = network.zones or [""] * len(network.private_subnet_ids)
    places: list[tuple[str, str, Path]] = [
        (one, "", ("network", "public_subnet_ids", i)) for i, one in enumerate(network.public_subnet_ids)
    ]
    places += [
        (one, zone, ("network", "private_subnet_ids", i))
        for i, (one, zone) in enumerate(zip(network.private_subnet_ids, zones, strict=True))
    ]
    for one, zone, path in places:

        def look_at(aws: ReadOnlyAws, one: str = one, zone: str = zone) -> Finding:
            found = described(aws, network).get(one)
            if found is not None and _is_gone(aws, network):
                return not_known(f"is in {found.get('VpcId')}, and there is no {network.vpc_id}")
            return subnet(network.vpc_id, zone, found)

        yield Check("subnet", one, path, look_at)
    public: Path = ("network", "public_subnet_ids")
    yield Check("load balancer's zones", f"{len(network.public_subnet_ids)} subnets", public, look_at_zones)
    for i, one in enumerate(network.public_subnet_ids):

        def look_at_addresses(aws: ReadOnlyAws, one: str = one) -> Finding:
            found = described(aws, network).get(one)
            return not_known("the subnet is not there") if found is None else free_addresses(found)

        yield Check("load balancer's addresses", one, (*public, i), look_at_addresses)


def _vpc(aws: ReadOnlyAws, network: ExistingNetwork) -> Described | None:
    return aws.ask("ec2", "DescribeVpcs", absent=("InvalidVpcID.NotFound",), VpcIds=[network.vpc_id])


def _is_gone(aws: ReadOnlyAws, network: ExistingNetwork) -> bool:
    """Whether AWS says that there is no such VPC: one wrong id is one row, not one for each subnet beside it."""
    try:
        return _vpc(aws, network) is None
    except UnansweredError:
        return False
