"""Where the fleet stands: a VPC of its own, or one that is there already."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra.settings import ExistingNetwork, Nat, NewNetwork

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
    """One public and one private range for each zone."""

    public: Sequence[str]
    private: Sequence[str]


def ranges(cidr: str, zones: int) -> Ranges:
    """Eighths of the VPC: the first for instances, from the fifth on for the load balancer.

    /16 gives eighths of 8187 addresses; /24, the smallest, gives /27, the least that a load balancer takes:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#subnets-load-balancer
    """
    eighths = [str(part) for part in ipaddress.IPv4Network(cidr).subnets(prefixlen_diff=3)]
    return Ranges(public=eighths[4 : 4 + zones], private=eighths[:zones])


class Network(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Network`. A VPC over two or three zones: public subnets for the load balancer,
    private ones for instances, NAT by setting, a gateway endpoint for S3. For an existing VPC it makes nothing.
    """

    vpc_id: pulumi.Output[str]
    public_subnet_ids: Sequence[pulumi.Output[str]]
    private_subnet_ids: Sequence[pulumi.Output[str]]

    def __init__(self, name: str, args: NetworkArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Network", name, None, opts)
        match args.settings:
            case ExistingNetwork() as there:
                self.vpc_id = pulumi.Output.from_input(there.vpc_id)
                self.public_subnet_ids = [pulumi.Output.from_input(i) for i in there.public_subnet_ids]
                self.private_subnet_ids = [pulumi.Output.from_input(i) for i in there.private_subnet_ids]
            case NewNetwork() as new:
                self._make(name, new, args)
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "public_subnet_ids": self.public_subnet_ids,
                "private_subnet_ids": self.private_subnet_ids,
            }
        )

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
        gateway = aws.ec2.InternetGateway(f"{name}-internet", vpc_id=vpc.id, tags=tags("internet"), opts=child)
        public_table = aws.ec2.RouteTable(f"{name}-public", vpc_id=vpc.id, tags=tags("public"), opts=child)
        aws.ec2.Route(
            f"{name}-public-default",
            route_table_id=public_table.id,
            destination_cidr_block="0.0.0.0/0",
            gateway_id=gateway.id,
            opts=child,
        )
        cut = ranges(new.cidr, len(new.zones))
        public, private, private_tables = [], [], []
        nat_id: pulumi.Output[str] | None = None
        for zone, public_range, private_range in zip(new.zones, cut.public, cut.private, strict=True):
            letter = zone[len(args.region) :]
            public_subnet = aws.ec2.Subnet(
                f"{name}-public-{letter}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=public_range,
                tags=tags(f"public-{letter}"),
                opts=child,
            )
            aws.ec2.RouteTableAssociation(
                f"{name}-public-{letter}", subnet_id=public_subnet.id, route_table_id=public_table.id, opts=child
            )
            private_subnet = aws.ec2.Subnet(
                f"{name}-private-{letter}",
                vpc_id=vpc.id,
                availability_zone=zone,
                cidr_block=private_range,
                tags=tags(f"private-{letter}"),
                opts=child,
            )
            table = aws.ec2.RouteTable(
                f"{name}-private-{letter}", vpc_id=vpc.id, tags=tags(f"private-{letter}"), opts=child
            )
            aws.ec2.RouteTableAssociation(
                f"{name}-private-{letter}", subnet_id=private_subnet.id, route_table_id=table.id, opts=child
            )
            if new.nat is Nat.PER_ZONE or (new.nat is Nat.ONE and nat_id is None):
                address = aws.ec2.Eip(f"{name}-nat-{letter}", domain="vpc", tags=tags(f"nat-{letter}"), opts=child)
                nat_id = aws.ec2.NatGateway(
                    f"{name}-nat-{letter}",
                    allocation_id=address.id,
                    subnet_id=public_subnet.id,
                    tags=tags(f"nat-{letter}"),
                    opts=pulumi.ResourceOptions(parent=self, depends_on=[gateway]),
                ).id
            if nat_id is not None:
                aws.ec2.Route(
                    f"{name}-private-{letter}-default",
                    route_table_id=table.id,
                    destination_cidr_block="0.0.0.0/0",
                    nat_gateway_id=nat_id,
                    opts=child,
                )
            public.append(public_subnet.id)
            private.append(private_subnet.id)
            private_tables.append(table.id)
        if new.s3_endpoint:
            aws.ec2.VpcEndpoint(
                f"{name}-s3",
                vpc_id=vpc.id,
                service_name=f"com.amazonaws.{args.region}.s3",
                vpc_endpoint_type="Gateway",
                route_table_ids=private_tables,
                tags=tags("s3"),
                opts=child,
            )
        if new.nat is Nat.NONE:
            self._make_endpoints(name, vpc.id, new.cidr, private, args)
        self.vpc_id = vpc.id
        self.public_subnet_ids = public
        self.private_subnet_ids = private

    def _make_endpoints(
        self,
        name: str,
        vpc_id: pulumi.Output[str],
        cidr: str,
        subnet_ids: Sequence[pulumi.Output[str]],
        args: NetworkArgs,
    ) -> None:
        child = pulumi.ResourceOptions(parent=self)
        group = aws.ec2.SecurityGroup(
            f"{name}-endpoints",
            vpc_id=vpc_id,
            description="AWS endpoints inside the VPC",
            tags={**args.tags, "Name": f"{name}-endpoints"},
            opts=child,
        )
        aws.vpc.SecurityGroupIngressRule(
            f"{name}-endpoints",
            security_group_id=group.id,
            ip_protocol="tcp",
            from_port=443,
            to_port=443,
            cidr_ipv4=cidr,
            tags=args.tags,
            opts=child,
        )
        for service in ENDPOINTS:
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
