"""Where the fleet stands: a VPC of its own, or one that is there already."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config.settings import ZONE_LETTERS, ExistingNetwork, Nat, NewNetwork

ENDPOINTS = (
    "autoscaling", "ec2", "ecr.api", "ecr.dkr", "logs", "monitoring", "secretsmanager", "sqs", "ssm", "ssmmessages",
)  # fmt: skip
"""What an instance calls; without a NAT gateway each needs an interface endpoint:
https://docs.aws.amazon.com/vpc/latest/privatelink/aws-services-privatelink-support.html"""


@dataclass(frozen=True, slots=True)
class NetworkArgs:
    """The network as the stack's YAML has it."""

    settings: NewNetwork | ExistingNetwork
    region: str
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Ranges:
    """The ranges of one zone."""

    public: str
    private: str


def ranges(cidr: str, letter: str) -> Ranges:
    """Sixteenths of the VPC by the zone's letter: zone a has the first for instances, the ninth for the load balancer.

    A zone keeps its ranges whatever other zones come and go; AWS refuses two subnets that overlap. /16 gives sixteenths
    of 4091 addresses; /23, the smallest, gives /27, the least that a load balancer takes:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#subnets-load-balancer
    """
    sixteenths = [str(part) for part in ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=4)]
    place = ZONE_LETTERS.index(letter)
    return Ranges(public=sixteenths[len(ZONE_LETTERS) + place], private=sixteenths[place])


@dataclass(frozen=True, slots=True)
class PrivateSubnet:
    """A subnet of instances."""

    id: pulumi.Output[str]
    zone: str | None
    """None in a given VPC whose YAML names no zones."""


class Network(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Network`. A VPC over two or three zones: public subnets for the load balancer,
    private ones for instances, NAT by setting, a gateway endpoint for S3. For an existing VPC it makes nothing.
    """

    vpc_id: pulumi.Output[str]
    public_subnet_ids: Sequence[pulumi.Output[str]]
    private_subnets: Sequence[PrivateSubnet]
    own_subnet_ids: Mapping[str, Sequence[pulumi.Output[str]]]
    """Of the subnets that the stack makes, by zone."""
    ways_out: Sequence[pulumi.Resource]
    """What instances reach AWS and the internet by: it must stand for as long as they do."""
    ways_in: Sequence[pulumi.Resource]
    """What the internet reaches the load balancer by. AWS refuses one that faces the internet without:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html (InvalidSubnet)"""

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Network", name, None, opts)
        match args.settings:
            case ExistingNetwork() as there:
                self.vpc_id = pulumi.Output.from_input(there.vpc_id)
                self.public_subnet_ids = [pulumi.Output.from_input(i) for i in there.public_subnet_ids]
                zones = there.zones or [None] * len(there.private_subnet_ids)
                self.private_subnets = [
                    PrivateSubnet(pulumi.Output.from_input(i), zone)
                    for i, zone in zip(there.private_subnet_ids, zones, strict=True)
                ]
                self.own_subnet_ids = {}
                self.ways_out = self.ways_in = []
            case NewNetwork() as new:
                self._make(name, new, args)
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids(()),
            }
        )

    def private_subnet_ids(self, zones: Sequence[str]) -> Sequence[pulumi.Output[str]]:
        """The instances' subnets in these zones; all of them where no zone is named."""
        return [subnet.id for subnet in self.private_subnets if not zones or subnet.zone in zones]

    def _make(self, name: str, new: NewNetwork, args: NetworkArgs) -> None:
        child = pulumi.ResourceOptions(parent=self)

        def tags(what: str) -> dict[str, str]:
            return {**args.tags, "Name": f"{name}-{what}"}

        vpc = aws.ec2.Vpc(
            f"{name}-vpc",
            cidr_block=new.cidr,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=tags("vpc"),
            opts=child,
        )
        ways_in, public_table = self._make_public_way(name, vpc, tags)
        public, private, tables = [], [], []
        own: dict[str, Sequence[pulumi.Output[str]]] = {}
        ways_out: list[pulumi.Resource] = []
        # In the order of their letters: a single NAT gateway stays where it is when the YAML orders zones anew.
        for zone in sorted(new.zones):
            letter = zone[len(args.region) :]
            cut = ranges(new.cidr, letter)

            def subnet(side: str, cidr: str, zone: str = zone, letter: str = letter) -> aws.ec2.Subnet:
                return aws.ec2.Subnet(
                    f"{name}-{side}-{letter}",
                    vpc_id=vpc.id,
                    availability_zone=zone,
                    cidr_block=cidr,
                    tags=tags(f"{side}-{letter}"),
                    opts=child,
                )

            public_subnet, private_subnet = subnet("public", cut.public), subnet("private", cut.private)
            aws.ec2.RouteTableAssociation(
                f"{name}-public-{letter}", subnet_id=public_subnet.id, route_table_id=public_table.id, opts=child
            )
            if new.nat is Nat.PER_ZONE or not tables:
                side = f"private-{letter}" if new.nat is Nat.PER_ZONE else "private"
                table = aws.ec2.RouteTable(f"{name}-{side}", vpc_id=vpc.id, tags=tags(side), opts=child)
                tables.append(table)
                if new.nat is not Nat.NONE:
                    nat = self._make_nat(f"{name}-nat-{letter}", vpc, public_subnet, ways_in, args.tags)
                    ways_out.append(
                        aws.ec2.Route(
                            f"{name}-{side}-default",
                            route_table_id=table.id,
                            destination_cidr_block="0.0.0.0/0",
                            nat_gateway_id=nat.id,
                            opts=child,
                        )
                    )
            ways_out.append(
                aws.ec2.RouteTableAssociation(
                    f"{name}-private-{letter}",
                    subnet_id=private_subnet.id,
                    route_table_id=tables[-1].id,
                    opts=child,
                )
            )
            own[zone] = [public_subnet.id, private_subnet.id]
            public.append(public_subnet.id)
            private.append(PrivateSubnet(private_subnet.id, zone))
        if new.s3_endpoint:
            ways_out.append(
                aws.ec2.VpcEndpoint(
                    f"{name}-s3",
                    vpc_id=vpc.id,
                    service_name=f"com.amazonaws.{args.region}.s3",
                    vpc_endpoint_type="Gateway",
                    route_table_ids=[table.id for table in tables],
                    tags=tags("s3"),
                    opts=child,
                )
            )
        if new.nat is Nat.NONE:
            ways_out += self._make_endpoints(name, vpc.id, new.cidr, [subnet.id for subnet in private], args)
        self.vpc_id = vpc.id
        self.public_subnet_ids = public
        self.private_subnets = private
        self.own_subnet_ids = own
        self.ways_out = ways_out
        self.ways_in = ways_in

    def _make_public_way(
        self, name: str, vpc: aws.ec2.Vpc, tags: Callable[[str], Mapping[str, str]]
    ) -> tuple[Sequence[pulumi.Resource], aws.ec2.RouteTable]:
        """What leads to the internet, and the route table of the public subnets."""
        child = pulumi.ResourceOptions(parent=self)
        gateway = aws.ec2.InternetGateway(
            f"{name}-internet",
            vpc_id=vpc.id,
            tags=tags("internet"),
            # It does not move to another VPC: AWS detaches none while public addresses stand behind it.
            opts=pulumi.ResourceOptions(parent=self, replacement_trigger=vpc.id),
        )
        table = aws.ec2.RouteTable(f"{name}-public", vpc_id=vpc.id, tags=tags("public"), opts=child)
        route = aws.ec2.Route(
            f"{name}-public-default",
            route_table_id=table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=child,
        )
        return [gateway, route], table

    def _make_nat(
        self,
        name: str,
        vpc: aws.ec2.Vpc,
        subnet: aws.ec2.Subnet,
        after: Sequence[pulumi.Resource],
        tags: Mapping[str, str],
    ) -> aws.ec2.NatGateway:
        """A NAT gateway with an address of its own. An address serves one gateway at a time, so a gateway that is
        replaced (its subnet is) gets a new address.
        """
        address = aws.ec2.Eip(
            name,
            domain="vpc",
            tags={**tags, "Name": name},
            opts=pulumi.ResourceOptions(parent=self, replacement_trigger=vpc.id),
        )
        return aws.ec2.NatGateway(
            name,
            allocation_id=address.id,
            subnet_id=subnet.id,
            tags={**tags, "Name": name},
            opts=pulumi.ResourceOptions(parent=self, depends_on=after),
        )

    def _make_endpoints(
        self,
        name: str,
        vpc_id: pulumi.Output[str],
        cidr: str,
        subnet_ids: Sequence[pulumi.Output[str]],
        args: NetworkArgs,
    ) -> Sequence[pulumi.Resource]:
        child = pulumi.ResourceOptions(parent=self)
        group = aws.ec2.SecurityGroup(
            f"{name}-endpoints",
            vpc_id=vpc_id,
            description="AWS endpoints inside the VPC",
            tags={**args.tags, "Name": f"{name}-endpoints"},
            opts=child,
        )
        rule = aws.vpc.SecurityGroupIngressRule(
            f"{name}-endpoints",
            security_group_id=group.id,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4=cidr,
            tags=args.tags,
            opts=child,
        )
        return [
            rule,
            *(
                aws.ec2.VpcEndpoint(
                    f"{name}-{service.replace('.', '-')}",
                    vpc_id=vpc_id,
                    service_name=f"com.amazonaws.{args.region}.{service}",
                    vpc_endpoint_type="Interface",
                    private_dns_enabled=True,
                    subnet_ids=subnet_ids,
                    security_group_ids=[group.id],
                    tags={**args.tags, "Name": f"{name}-{service}"},
                    opts=child,
                )
                for service in ENDPOINTS
            ),
        ]
