"""The network of the stack: a VPC that the stack creates, or an existing one."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config.settings import ZONE_LETTERS, ExistingNetwork, Nat, NewNetwork

ENDPOINTS = (
    "autoscaling", "ec2", "ecr.api", "ecr.dkr", "logs", "monitoring", "secretsmanager", "sqs", "ssm", "ssmmessages",
)  # fmt: skip
"""Services that an instance calls; without a NAT gateway each needs an interface endpoint:
https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html"""

EVERYWHERE = "0.0.0.0/0"


@dataclass(frozen=True, slots=True)
class NetworkArgs:
    """The network's settings in the stack's YAML."""

    settings: NewNetwork | ExistingNetwork
    region: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SubnetRanges:
    """The CIDR ranges of one zone's subnets."""

    public: str
    private: str


def subnet_ranges(cidr: str, letter: str) -> SubnetRanges:
    """Return a zone's sixteenths of the VPC by its letter: zone a has the first for instances, the ninth for the load
    balancer.

    A zone keeps its ranges whatever other zones come and go; AWS refuses two subnets that overlap. /16 gives sixteenths
    of 4091 addresses; /23, the smallest, gives /27, the least that a load balancer takes:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#subnets-load-balancer
    """
    sixteenths = [str(part) for part in ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=4)]
    index = ZONE_LETTERS.index(letter)
    return SubnetRanges(public=sixteenths[len(ZONE_LETTERS) + index], private=sixteenths[index])


@dataclass(frozen=True, slots=True)
class PrivateSubnet:
    """A subnet of instances."""

    id: pulumi.Output[str]
    zone: str | None
    """None in an existing VPC whose YAML names no zones."""


@dataclass(frozen=True, slots=True)
class _Vpc:
    """A VPC that the stack creates, and what its parts need."""

    name: str
    """Prefix of its parts' names."""
    settings: NewNetwork
    region: str
    common_tags: Mapping[str, str]
    id: pulumi.Output[str]

    def tags(self, part: str) -> Mapping[str, str]:
        """Return the tags of a part."""
        return {**self.common_tags, "Name": f"{self.name}-{part}"}


@dataclass(frozen=True, slots=True)
class _InternetAccess:
    """The way from the public subnets to the internet and back."""

    gateway: aws.ec2.InternetGateway
    route: aws.ec2.Route
    public_table: aws.ec2.RouteTable


@dataclass(frozen=True, slots=True)
class _Zone:
    """The subnets of one availability zone."""

    name: str
    letter: str
    public: aws.ec2.Subnet
    private: aws.ec2.Subnet


class Network(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Network`. A VPC over two or three zones: public subnets for the load balancer,
    private ones for instances, NAT by setting, a gateway endpoint for S3. For an existing VPC it creates nothing.
    """

    vpc_id: pulumi.Output[str]
    public_subnet_ids: Sequence[pulumi.Output[str]]
    private_subnets: Sequence[PrivateSubnet]
    created_subnet_ids: Mapping[str, Sequence[pulumi.Output[str]]]
    """Subnets that the stack creates, by zone."""
    egress_resources: Sequence[pulumi.Resource]
    """What instances need to reach AWS and the internet. It must exist for as long as they do."""
    ingress_resources: Sequence[pulumi.Resource]
    """What the internet needs to reach the load balancer. AWS refuses an internet-facing load balancer without:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html (InvalidSubnet)"""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Network", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        match args.settings:
            case ExistingNetwork() as existing:
                self._use(existing)
            case NewNetwork() as new:
                self._make(self._make_vpc(name, new, args))
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids(()),
            }
        )

    def private_subnet_ids(self, zones: Sequence[str]) -> Sequence[pulumi.Output[str]]:
        """Return the instances' subnets in these zones; all of them if `zones` is empty."""
        return [subnet.id for subnet in self.private_subnets if not zones or subnet.zone in zones]

    def _use(self, existing: ExistingNetwork) -> None:
        zones = existing.zones or [None] * len(existing.private_subnet_ids)
        self.vpc_id = pulumi.Output.from_input(existing.vpc_id)
        self.public_subnet_ids = [pulumi.Output.from_input(subnet_id) for subnet_id in existing.public_subnet_ids]
        self.private_subnets = [
            PrivateSubnet(pulumi.Output.from_input(subnet_id), zone)
            for subnet_id, zone in zip(existing.private_subnet_ids, zones, strict=True)
        ]
        self.created_subnet_ids = {}
        self.egress_resources = self.ingress_resources = []

    def _make(self, vpc: _Vpc) -> None:
        internet = self._make_internet_access(vpc)
        # Sorted: a single NAT gateway stays in its zone when the YAML reorders the zones.
        zones = [self._make_zone(vpc, zone, internet.public_table) for zone in sorted(vpc.settings.zones)]
        self.vpc_id = vpc.id
        self.public_subnet_ids = [zone.public.id for zone in zones]
        self.private_subnets = [PrivateSubnet(zone.private.id, zone.name) for zone in zones]
        self.created_subnet_ids = {zone.name: [zone.public.id, zone.private.id] for zone in zones}
        self.ingress_resources = [internet.gateway, internet.route]
        self.egress_resources = self._make_egress(vpc, zones)

    def _make_vpc(self, name: str, new: NewNetwork, args: NetworkArgs) -> _Vpc:
        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=new.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags={**args.tags, "Name": f"{name}-vpc"},
            opts=self._child,
        )
        return _Vpc(name, new, args.region, args.tags, vpc.id)

    def _make_internet_access(self, vpc: _Vpc) -> _InternetAccess:
        gateway = aws.ec2.InternetGateway(
            f"{vpc.name}-internet",
            vpc_id=vpc.id,
            tags=vpc.tags("internet"),
            # It cannot move to another VPC: AWS detaches no gateway that public addresses use.
            opts=pulumi.ResourceOptions(parent=self, replacement_trigger=vpc.id),
        )
        table = aws.ec2.RouteTable(f"{vpc.name}-public", vpc_id=vpc.id, tags=vpc.tags("public"), opts=self._child)
        route = aws.ec2.Route(
            f"{vpc.name}-public-default",
            route_table_id=table.id,
            destination_cidr_block=EVERYWHERE,
            gateway_id=gateway.id,
            opts=self._child,
        )
        return _InternetAccess(gateway, route, table)

    def _make_zone(self, vpc: _Vpc, zone: str, public_table: aws.ec2.RouteTable) -> _Zone:
        letter = zone[len(vpc.region) :]
        cidrs = subnet_ranges(vpc.settings.cidr, letter)

        def subnet(side: str, cidr: str) -> aws.ec2.Subnet:
            return aws.ec2.Subnet(
                f"{vpc.name}-{side}-{letter}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=cidr,
                tags=vpc.tags(f"{side}-{letter}"),
                opts=self._child,
            )

        public, private = subnet("public", cidrs.public), subnet("private", cidrs.private)
        self._associate(f"{vpc.name}-public-{letter}", public, public_table)
        return _Zone(zone, letter, public, private)

    def _make_egress(self, vpc: _Vpc, zones: Sequence[_Zone]) -> Sequence[pulumi.Resource]:
        """Create what instances need to reach AWS and the internet."""
        egress: list[pulumi.Resource] = []
        tables: list[aws.ec2.RouteTable] = []
        for zone in zones:
            if vpc.settings.nat is Nat.PER_ZONE or not tables:
                side = f"private-{zone.letter}" if vpc.settings.nat is Nat.PER_ZONE else "private"
                table = aws.ec2.RouteTable(f"{vpc.name}-{side}", vpc_id=vpc.id, tags=vpc.tags(side), opts=self._child)
                tables.append(table)
                if vpc.settings.nat is not Nat.NONE:
                    egress.append(self._make_nat_route(f"{vpc.name}-{side}-default", vpc, zone, table))
            egress.append(self._associate(f"{vpc.name}-private-{zone.letter}", zone.private, tables[-1]))
        if vpc.settings.s3_endpoint:
            egress.append(self._make_s3_endpoint(vpc, tables))
        if vpc.settings.nat is Nat.NONE:
            egress += self._make_interface_endpoints(vpc, [zone.private.id for zone in zones])
        return egress

    def _associate(self, name: str, subnet: aws.ec2.Subnet, table: aws.ec2.RouteTable) -> aws.ec2.RouteTableAssociation:
        return aws.ec2.RouteTableAssociation(name, subnet_id=subnet.id, route_table_id=table.id, opts=self._child)

    def _make_nat_route(self, name: str, vpc: _Vpc, zone: _Zone, table: aws.ec2.RouteTable) -> aws.ec2.Route:
        """Create a NAT gateway in the zone, and the private subnets' default route to it.

        An address serves one gateway at a time, so a gateway that AWS replaces with its subnet gets a new address.
        """
        part = f"nat-{zone.letter}"
        address = aws.ec2.Eip(
            f"{vpc.name}-{part}",
            domain="vpc",
            tags=vpc.tags(part),
            opts=pulumi.ResourceOptions(parent=self, replacement_trigger=vpc.id),
        )
        gateway = aws.ec2.NatGateway(
            f"{vpc.name}-{part}",
            allocation_id=address.id,
            subnet_id=zone.public.id,
            tags=vpc.tags(part),
            opts=pulumi.ResourceOptions(parent=self, depends_on=self.ingress_resources),
        )
        return aws.ec2.Route(
            name,
            route_table_id=table.id,
            destination_cidr_block=EVERYWHERE,
            nat_gateway_id=gateway.id,
            opts=self._child,
        )

    def _make_s3_endpoint(self, vpc: _Vpc, tables: Sequence[aws.ec2.RouteTable]) -> aws.ec2.VpcEndpoint:
        return aws.ec2.VpcEndpoint(
            f"{vpc.name}-s3",
            vpc_id=vpc.id,
            service_name=f"com.amazonaws.{vpc.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.id for table in tables],
            tags=vpc.tags("s3"),
            opts=self._child,
        )

    def _make_interface_endpoints(
        self, vpc: _Vpc, subnet_ids: Sequence[pulumi.Output[str]]
    ) -> Sequence[pulumi.Resource]:
        """Create an endpoint for each service that instances call, in place of a NAT gateway."""
        group = aws.ec2.SecurityGroup(
            f"{vpc.name}-endpoints",
            vpc_id=vpc.id,
            description="AWS endpoints inside the VPC",
            tags=vpc.tags("endpoints"),
            opts=self._child,
        )
        rule = aws.vpc.SecurityGroupIngressRule(
            f"{vpc.name}-endpoints",
            security_group_id=group.id,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4=vpc.settings.cidr,
            tags=vpc.common_tags,
            opts=self._child,
        )
        endpoints = [
            aws.ec2.VpcEndpoint(
                f"{vpc.name}-{service.replace('.', '-')}",
                vpc_id=vpc.id,
                service_name=f"com.amazonaws.{vpc.region}.{service}",
                vpc_endpoint_type="Interface",
                private_dns_enabled=True,
                subnet_ids=subnet_ids,
                security_group_ids=[group.id],
                tags=vpc.tags(service),
                opts=self._child,
            )
            for service in ENDPOINTS
        ]
        return [rule, *endpoints]
