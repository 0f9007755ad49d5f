"""An existing VPC and its subnets."""

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


def judge_vpc(answer: Described | None) -> Finding:
    """The VPC exists."""
    description = next(iter((answer or {}).get("Vpcs", ())), None)
    return (
        wrong("there is no such VPC in this region") if description is None else ok(f"{description.get('CidrBlock')}")
    )


def judge_subnet(vpc_id: str, zone: str, subnet: Described | None) -> Finding:
    """The subnet is in the VPC and in the zone that the file names for it; `zone` is empty if the file names none."""
    if subnet is None:
        return wrong("there is no such subnet in this region")
    if subnet.get("VpcId") != vpc_id:
        return wrong(f"is in {subnet.get('VpcId')}, must be in {vpc_id}")
    if zone and subnet.get("AvailabilityZone") != zone:
        return wrong(f"is in {subnet.get('AvailabilityZone')}, zones say {zone}")
    return ok(f"in {subnet.get('AvailabilityZone')}")


def judge_balancer_zones(subnets: Sequence[Described]) -> Finding:
    """The load balancer has one subnet in each of two or more zones.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html
    """
    by_zone: dict[str, list[str]] = {}
    for subnet in subnets:
        by_zone.setdefault(subnet.get("AvailabilityZone", ""), []).append(subnet["SubnetId"])
    crowded = [f"{' and '.join(ids)} are both in {zone}" for zone, ids in by_zone.items() if len(ids) > 1]
    if crowded:
        return wrong(f"must be one subnet in each zone: {'; '.join(crowded)}")
    if len(by_zone) < 2:
        return wrong(f"must be in two zones or more (got {', '.join(by_zone)})")
    return ok(f"in {', '.join(sorted(by_zone))}")


def judge_free_addresses(subnet: Described) -> Finding:
    """The subnet has room for the load balancer to grow."""
    free = subnet.get("AvailableIpAddressCount", 0)
    text = f"{free} free addresses, a load balancer needs {LEAST_FREE_ADDRESSES}"
    return ok(text) if free >= LEAST_FREE_ADDRESSES else wrong(text)


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the checks of an existing VPC and of each of its subnets."""
    network = stack.settings.network
    if not isinstance(network, ExistingNetwork):
        return

    def examine(aws: ReadOnlyAws) -> Finding:
        return judge_vpc(_vpc(aws, network))

    def examine_zones(aws: ReadOnlyAws) -> Finding:
        subnets = described(aws, network)
        missing = [subnet_id for subnet_id in network.public_subnet_ids if subnet_id not in subnets]
        if missing:
            return not_known(f"{', '.join(missing)} does not exist")
        return judge_balancer_zones([subnets[subnet_id] for subnet_id in network.public_subnet_ids])

    yield Check("VPC", network.vpc_id, ("network", "vpc_id"), examine)
    zones = network.zones or [""] * len(network.private_subnet_ids)
    places: list[tuple[str, str, Path]] = [
        (subnet_id, "", ("network", "public_subnet_ids", i)) for i, subnet_id in enumerate(network.public_subnet_ids)
    ]
    places += [
        (subnet_id, zone, ("network", "private_subnet_ids", i))
        for i, (subnet_id, zone) in enumerate(zip(network.private_subnet_ids, zones, strict=True))
    ]
    for subnet_id, zone, path in places:

        def examine_subnet(aws: ReadOnlyAws, subnet_id: str = subnet_id, zone: str = zone) -> Finding:
            subnet = described(aws, network).get(subnet_id)
            if subnet is not None and _is_missing(aws, network):
                return not_known(f"is in {subnet.get('VpcId')}, and {network.vpc_id} does not exist")
            return judge_subnet(network.vpc_id, zone, subnet)

        yield Check("subnet", subnet_id, path, examine_subnet)
    public: Path = ("network", "public_subnet_ids")
    yield Check("load balancer's zones", f"{len(network.public_subnet_ids)} subnets", public, examine_zones)
    for i, subnet_id in enumerate(network.public_subnet_ids):

        def examine_addresses(aws: ReadOnlyAws, subnet_id: str = subnet_id) -> Finding:
            subnet = described(aws, network).get(subnet_id)
            return not_known("the subnet does not exist") if subnet is None else judge_free_addresses(subnet)

        yield Check("load balancer's addresses", subnet_id, (*public, i), examine_addresses)


def _vpc(aws: ReadOnlyAws, network: ExistingNetwork) -> Described | None:
    return aws.ask("ec2", "DescribeVpcs", not_found=("InvalidVpcID.NotFound",), VpcIds=[network.vpc_id])


def _is_missing(aws: ReadOnlyAws, network: ExistingNetwork) -> bool:
    """Whether AWS says that the VPC does not exist. A wrong VPC id is then one row, not another for each subnet."""
    try:
        return _vpc(aws, network) is None
    except UnansweredError:
        return False
