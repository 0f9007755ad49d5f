"""The routes of an existing VPC: from clients to the load balancer, and from instances to AWS and the internet."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.config.image_registry import host_and_path
from gpu_fleet.config.settings import ExistingNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, warning, wrong
from gpu_fleet.operate.preflight.image import EcrImage
from gpu_fleet.operate.preflight.stack_needs import Stack
from gpu_fleet.operate.preflight.subnets import described
from infra.network import ENDPOINTS, EVERYWHERE

Described = Mapping[str, Any]

INTERNET_GATEWAY = "igw-"


def route_table(subnet_id: str, tables: Sequence[Described]) -> Described:
    """Return the route table of a subnet: its own, else the VPC's main one.

    https://docs.aws.amazon.com/vpc/latest/userguide/subnet-route-tables.html
    """
    main: Described = {}
    for table in tables:
        for association in table.get("Associations", ()):
            if association.get("SubnetId") == subnet_id:
                return table
            if association.get("Main"):
                main = table
    return main


def default_target(table: Described) -> str:
    """Return the target of a table's default route; empty if there is no such route, or its target was deleted."""
    for route in table.get("Routes", ()):
        if route.get("DestinationCidrBlock") == EVERYWHERE and route.get("State") != "blackhole":
            # Not peering: it leads into the other VPC, but not through it.
            # https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-basics.html#vpc-peering-limitations
            keys = ("NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "CoreNetworkArn", "GatewayId")
            return next((route[key] for key in keys if route.get(key)), "")
    return ""


def judge_internet_route(table: Described) -> Finding:
    """The subnet of an internet-facing load balancer has a route to an internet gateway."""
    target = default_target(table)
    if target.startswith(INTERNET_GATEWAY):
        return ok(f"by {target}")
    return wrong(f"must have an internet gateway in its default route, unless internal: true ({_target_text(target)})")


def route_out(table: Described) -> str:
    """Return the target by which instances without a public address leave the VPC; empty if they cannot."""
    target = default_target(table)
    return "" if target.startswith(INTERNET_GATEWAY) else target


def judge_endpoints(
    table: Described, endpoints: Sequence[Described], region: str, images: Sequence[str], cached: Collection[str]
) -> Finding:
    """Without a route out, instances reach AWS through endpoints, and pull images only from ECR in this region.

    `cached` are the hosts of registries that ECR caches. A first pull through a cache needs a NAT gateway all the same:
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html#ecr-vpc-endpoint-considerations
    """
    missing = missing_endpoints(table, endpoints, region)
    if missing:
        target = default_target(table)
        public = ", which serves public addresses only" if target else ""
        return wrong(
            f"must have a NAT gateway or the like in its default route, or endpoints ({_target_text(target)}{public}; "
            f"there are no endpoints of {', '.join(missing)})"
        )
    through_cache = [image for image in images if host_and_path(image)[0] in cached]
    unreachable = [
        image
        for image in images
        if image not in through_cache and ((ecr := EcrImage.parse(image)) is None or ecr.region != region)
    ]
    if unreachable:
        return wrong(
            f"through endpoints alone {', '.join(unreachable)} cannot be pulled; use an image of ECR in {region}"
        )
    if through_cache:
        return warning(f"by endpoints; only the first pull of {', '.join(through_cache)} needs a NAT gateway")
    return ok("by endpoints")


def missing_endpoints(table: Described, endpoints: Sequence[Described], region: str) -> list[str]:
    """Return the services that instances call and whose names lead to no endpoint in the VPC.

    S3, where ECR keeps the layers, has a gateway in the subnet's table, or an interface endpoint like the others:
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
    """
    available = [each for each in endpoints if each.get("State", "").casefold() == "available"]
    private = [each["ServiceName"] for each in available if each.get("PrivateDnsEnabled")]
    gateways = [each["ServiceName"] for each in available if table.get("RouteTableId") in each.get("RouteTableIds", ())]
    missing = [service for service in ENDPOINTS if not _has_endpoint(private, region, service)]
    return missing if _has_endpoint(private + gateways, region, "s3") else [*missing, "s3"]


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the check of each subnet of an existing VPC."""
    network = stack.settings.network
    if not isinstance(network, ExistingNetwork):
        return
    cached = stack.settings.image_caches
    images = sorted({service.container.image for service in stack.settings.services.values()})
    public = () if stack.settings.load_balancer.internal else network.public_subnet_ids
    for i, subnet_id in enumerate(public):

        def examine_way_in(aws: ReadOnlyAws, subnet_id: str = subnet_id) -> Finding:
            table = _table(aws, network, subnet_id)
            return not_known("the VPC has no such subnet") if table is None else judge_internet_route(table)

        yield Check("internet", subnet_id, ("network", "public_subnet_ids", i), examine_way_in)
    for i, subnet_id in enumerate(network.private_subnet_ids):

        def examine_way_out(aws: ReadOnlyAws, subnet_id: str = subnet_id) -> Finding:
            table = _table(aws, network, subnet_id)
            if table is None:
                return not_known("the VPC has no such subnet")
            if way_out := route_out(table):
                return ok(f"by {way_out}")
            answer = aws.get("ec2", "DescribeVpcEndpoints", Filters=_vpc_filter(network))
            return judge_endpoints(table, answer.get("VpcEndpoints", ()), stack.settings.region, images, cached)

        yield Check("way out", subnet_id, ("network", "private_subnet_ids", i), examine_way_out)


def _table(aws: ReadOnlyAws, network: ExistingNetwork, subnet_id: str) -> Described | None:
    """Return the subnet's route table; None if the VPC has no such subnet."""
    subnet = described(aws, network).get(subnet_id)
    if subnet is None or subnet.get("VpcId") != network.vpc_id:
        return None
    tables = aws.get("ec2", "DescribeRouteTables", Filters=_vpc_filter(network)).get("RouteTables", ())
    return route_table(subnet_id, tables)


def _vpc_filter(network: ExistingNetwork) -> list[dict[str, Any]]:
    return [{"Name": "vpc-id", "Values": [network.vpc_id]}]


def _has_endpoint(names: Sequence[str], region: str, service: str) -> bool:
    return any(name.endswith(f".{region}.{service}") for name in names)


def _target_text(target: str) -> str:
    return f"it leads to {target}" if target else "it has none, or its target was deleted"
