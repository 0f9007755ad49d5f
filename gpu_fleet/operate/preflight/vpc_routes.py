"""The routes of a VPC that is there already: clients find the load balancer, and instances find a way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_fleet.config.settings import ExistingNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, not_known, ok, wrong
from gpu_fleet.operate.preflight.image import EcrImage
from gpu_fleet.operate.preflight.stack_needs import Stack
from gpu_fleet.operate.preflight.subnets import described
from infra.network import ENDPOINTS

Described = Mapping[str, Any]

EVERYWHERE = "0.0.0.0/0"
INTERNET_GATEWAY = "igw-"


def table_of(subnet_id: str, tables: Sequence[Described]) -> Described:
    """Of a VPC's route tables the one that a subnet is associated with, else the main one.

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


def target(table: Described) -> str:
    """What a table's default route leads to; empty where there is none, or where what it led to is gone."""
    for route in table.get("Routes", ()):
        if route.get("DestinationCidrBlock") == EVERYWHERE and route.get("State") != "blackhole":
            # Peering is not among them: it leads into the other VPC alone, and not through it.
            # https://docs.aws.amazon.com/vpc/latest/peering/vpc-peering-basics.html#vpc-peering-limitations
            keys = ("NatGatewayId", "TransitGatewayId", "NetworkInterfaceId", "CoreNetworkArn", "GatewayId")
            return next((route[key] for key in keys if route.get(key)), "")
    return ""


def internet(table: Described) -> Finding:
    """A load balancer for the internet stands in subnets with a route to an internet gateway."""
    leads_to = target(table)
    if leads_to.startswith(INTERNET_GATEWAY):
        return ok(f"by {leads_to}")
    return wrong(f"must have an internet gateway in its default route, unless internal: true ({_said(leads_to)})")


def route_out(table: Described) -> str:
    """By what instances without a public address get out of the VPC; empty: they do not."""
    leads_to = target(table)
    return "" if leads_to.startswith(INTERNET_GATEWAY) else leads_to


def by_endpoints(table: Described, endpoints: Sequence[Described], region: str, images: Sequence[str]) -> Finding:
    """Without a route out, instances reach AWS by endpoints, and images only where they lie in ECR here."""
    missing = missing_endpoints(table, endpoints, region)
    if missing:
        leads_to = target(table)
        public = ", which serves public addresses only" if leads_to else ""
        return wrong(
            f"must have a NAT gateway or the like in its default route, or endpoints ({_said(leads_to)}{public}; "
            f"there are no endpoints of {', '.join(missing)})"
        )
    away = [image for image in images if (ecr := EcrImage.read(image)) is None or ecr.region != region]
    if away:
        return wrong(f"by endpoints alone {', '.join(away)} cannot be pulled; take an image of ECR in {region}")
    return ok("by endpoints")


def missing_endpoints(table: Described, endpoints: Sequence[Described], region: str) -> list[str]:
    """Services that instances call and that have no endpoint which the VPC's names lead to.

    S3, where ECR keeps the layers, has a gateway in the subnet's table, or an interface as the others:
    https://docs.aws.amazon.com/AmazonECR/latest/userguide/vpc-endpoints.html
    """
    up = [one for one in endpoints if one.get("State", "").casefold() == "available"]
    private = [one["ServiceName"] for one in up if one.get("PrivateDnsEnabled")]
    gateways = [one["ServiceName"] for one in up if table.get("RouteTableId") in one.get("RouteTableIds", ())]
    missing = [service for service in ENDPOINTS if not _has(private, region, service)]
    return missing if _has(private + gateways, region, "s3") else [*missing, "s3"]


def checks(stack: Stack) -> Iterator[Check]:
    """Each subnet of a network that is given by ids; nothing of one that the stack makes."""
    network = stack.settings.network
    if not isinstance(network, ExistingNetwork):
        return
    images = sorted({service.container.image for service in stack.settings.services.values()})
    public = () if stack.settings.load_balancer.internal else network.public_subnet_ids
    for i, one in enumerate(public):

        def look_in(aws: ReadOnlyAws, one: str = one) -> Finding:
            table = _table(aws, network, one)
            return not_known("the VPC has no such subnet") if table is None else internet(table)

        yield Check("internet", one, ("network", "public_subnet_ids", i), look_in)
    for i, one in enumerate(network.private_subnet_ids):

        def look_out(aws: ReadOnlyAws, one: str = one) -> Finding:
            table = _table(aws, network, one)
            if table is None:
                return not_known("the VPC has no such subnet")
            if way := route_out(table):
                return ok(f"by {way}")
            answer = aws.get("ec2", "DescribeVpcEndpoints", Filters=_of_vpc(network))
            return by_endpoints(table, answer.get("VpcEndpoints", ()), stack.settings.region, images)

        yield Check("way out", one, ("network", "private_subnet_ids", i), look_out)


def _table(aws: ReadOnlyAws, network: ExistingNetwork, subnet_id: str) -> Described | None:
    """The subnet's route table; None where the VPC has no such subnet."""
    found = described(aws, network).get(subnet_id)
    if found is None or found.get("VpcId") != network.vpc_id:
        return None
    tables = aws.get("ec2", "DescribeRouteTables", Filters=_of_vpc(network)).get("RouteTables", ())
    return table_of(subnet_id, tables)


def _of_vpc(network: ExistingNetwork) -> list[dict[str, Any]]:
    return [{"Name": "vpc-id", "Values": [network.vpc_id]}]


def _has(names: Sequence[str], region: str, service: str) -> bool:
    return any(name.endswith(f".{region}.{service}") for name in names)


def _said(leads_to: str) -> str:
    return f"it leads to {leads_to}" if leads_to else "there is none, or what it led to is gone"
