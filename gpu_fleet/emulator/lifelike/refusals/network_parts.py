"""Subnets, security groups, gateways and VPCs stay while something stands in them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import (
    elastic_ip_addresses,
    internet_gateways,
    nat_gateways,
    route_tables,
    security_groups,
    subnets,
    vpcs,
)
from moto.elbv2.models import elbv2_backends

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="parts of a network",
    moto=(
        "deletes subnets, security groups and gateways that instances, load balancers, NAT gateways or endpoints still "
        "use; takes subnets of /29 and of another region's zone; keeps the address of a deleted NAT gateway and "
        "releases that of a live one"
    ),
    aws=(
        "what is still used is a DependencyViolation; a subnet is /16 to /28 in a zone of its region; a deleted NAT "
        "gateway gives its address back, and an address is released only once nothing has it"
    ),
    source=(
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSubnet.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSecurityGroup.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteVpc.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachInternetGateway.html "
        "https://docs.aws.amazon.com/vpc/latest/userguide/delete-igw.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSubnet.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteNatGateway.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html "
        "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html"
    ),
)


def mend(patches: Patches) -> None:
    """Ask who uses it before moto deletes it."""

    def create_subnet(
        self: Any, vpc_id: str, cidr_block: str, ipv6_cidr_block: Any = None, availability_zone: str | None = None,
        *more: Any, **named: Any,
    ) -> Any:  # fmt: skip
        if cidr_block:
            _check_range(cidr_block)
        if availability_zone and not availability_zone.startswith(self.region_name):
            raise EC2ClientError(
                "InvalidParameterValue",
                f"Value ({availability_zone}) for parameter availabilityZone is invalid. Subnets can currently only be "
                f"created in the availability zones of {self.region_name}.",
            )
        return moto_subnet(self, vpc_id, cidr_block, ipv6_cidr_block, availability_zone, *more, **named)

    def delete_subnet(self: Any, subnet_id: str) -> Any:
        if any(_in_subnet(self, subnet_id)):
            raise _violation(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
        return moto_delete_subnet(self, subnet_id)

    def delete_security_group(self: Any, vpc_id: str | None, group_id: str) -> Any:
        if any(_with_security_group(self, vpc_id, group_id)):
            raise _violation(f"resource {group_id} has a dependent object")
        return moto_delete_group(self, vpc_id, group_id)

    def delete_vpc(self: Any, vpc_id: str) -> Any:
        if any(_in_vpc(self, vpc_id)):
            raise _violation(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
        return moto_delete_vpc(self, vpc_id)

    def detach_internet_gateway(self: Any, internet_gateway_id: str, vpc_id: str) -> None:
        if any(_public_in(self, vpc_id)):
            raise _violation(
                f"Network {vpc_id} has some mapped public address(es). Please unmap those before detaching the gateway."
            )
        moto_detach(self, internet_gateway_id, vpc_id)

    def attach_internet_gateway(self: Any, internet_gateway_id: str, vpc_id: str) -> Any:
        gateways = self.internet_gateways.values()
        if any(g.id != internet_gateway_id and g.vpc is not None and g.vpc.id == vpc_id for g in gateways):
            raise EC2ClientError(
                "Resource.AlreadyAssociated", f"resource {vpc_id} is already associated with an internet gateway"
            )
        return moto_attach(self, internet_gateway_id, vpc_id)

    def delete_nat_gateway(self: Any, nat_gateway_id: str) -> Any:
        gateway = self.nat_gateways.get(nat_gateway_id)
        if gateway is None:
            raise EC2ClientError("NatGatewayNotFound", f"NatGateway {nat_gateway_id} was not found")
        deleted = moto_delete_nat(self, nat_gateway_id)
        for address in self.addresses:
            if address.eni is not None and address.eni is gateway._eni:  # noqa: SLF001 moto has no other way to it
                self.disassociate_address(address=address.public_ip)
        return deleted

    def release_address(self: Any, address: str | None = None, allocation_id: str | None = None) -> None:
        holders = [gateway._eni for gateway in _nat_gateways(self)]  # noqa: SLF001 as above
        for one in self.addresses:
            asked_for = one.allocation_id == allocation_id if allocation_id else one.public_ip == address
            if asked_for and any(one.eni is holder for holder in holders):
                raise EC2ClientError("InvalidIPAddress.InUse", f"Address {one.public_ip} is in use.")
        moto_release(self, address, allocation_id)

    def associate_route_table(self: Any, route_table_id: str, gateway_id: Any = None, subnet_id: Any = None) -> Any:
        if subnet_id:
            for table in self.route_tables.values():
                if subnet_id in table._associations.values():  # noqa: SLF001 moto's own way
                    if table.id == route_table_id:
                        break  # moto answers with the association that is there
                    raise EC2ClientError(
                        "Resource.AlreadyAssociated",
                        f"the specified association for route table {route_table_id} conflicts with an existing "
                        "association",
                    )
        return moto_associate(self, route_table_id, gateway_id, subnet_id)

    moto_subnet = patches.put(subnets.SubnetBackend, "create_subnet", create_subnet)
    moto_delete_subnet = patches.put(subnets.SubnetBackend, "delete_subnet", delete_subnet)
    moto_delete_group = patches.put(
        security_groups.SecurityGroupBackend, "_delete_security_group", delete_security_group
    )
    moto_delete_vpc = patches.put(vpcs.VPCBackend, "delete_vpc", delete_vpc)
    gateways = internet_gateways.InternetGatewayBackend
    moto_detach = patches.put(gateways, "detach_internet_gateway", detach_internet_gateway)
    moto_attach = patches.put(gateways, "attach_internet_gateway", attach_internet_gateway)
    moto_delete_nat = patches.put(nat_gateways.NatGatewayBackend, "delete_nat_gateway", delete_nat_gateway)
    moto_release = patches.put(elastic_ip_addresses.ElasticAddressBackend, "release_address", release_address)
    moto_associate = patches.put(route_tables.RouteBackend, "associate_route_table", associate_route_table)


def _violation(text: str) -> EC2ClientError:
    return EC2ClientError("DependencyViolation", text)


def _check_range(cidr: str) -> None:
    try:
        network = ipaddress.IPv4Network(cidr, strict=False)
    except ValueError:
        return  # moto's own refusal
    if not 16 <= network.prefixlen <= 28:
        raise EC2ClientError("InvalidSubnet.Range", f"The CIDR '{cidr}' is invalid.")


def _instances(ec2: Any) -> list[Any]:
    """Instances that are not terminated."""
    return [i for i in ec2.all_instances() if i._state.name != "terminated"]  # noqa: SLF001 as moto's own filters do


def _balancers(ec2: Any) -> list[Any]:
    return list(elbv2_backends[ec2.account_id][ec2.region_name].load_balancers.values())


def _nat_gateways(ec2: Any) -> list[Any]:
    return [gateway for gateway in ec2.nat_gateways.values() if gateway.state != "deleted"]


def _endpoints(ec2: Any) -> list[Any]:
    return [endpoint for endpoint in ec2.vpc_end_points.values() if endpoint.state not in ("deleted", "deleting")]


def _in_subnet(ec2: Any, subnet_id: str) -> Iterator[str]:
    """Whatever has a network interface in the subnet."""
    yield from (i.id for i in _instances(ec2) if i.subnet_id == subnet_id)
    yield from (b.arn for b in _balancers(ec2) if subnet_id in {subnet.id for subnet in b.subnets})
    yield from (g.id for g in _nat_gateways(ec2) if g.subnet_id == subnet_id)
    yield from (e.id for e in _endpoints(ec2) if subnet_id in (e.subnet_ids or []))


def _with_security_group(ec2: Any, vpc_id: str | None, group_id: str) -> Iterator[str]:
    """Whatever carries the security group, and the other groups of its VPC whose rules name it."""
    yield from (i.id for i in _instances(ec2) if group_id in {group.id for group in i.security_groups})
    yield from (b.arn for b in _balancers(ec2) if group_id in (b.security_groups or []))
    yield from (e.id for e in _endpoints(ec2) if group_id in (e.security_group_ids or []))
    for other in ec2.groups[vpc_id].values():
        rules = [*other.ingress_rules, *other.egress_rules]
        if other.id != group_id and any((rule.source_group or {}).get("GroupId") == group_id for rule in rules):
            yield other.id


def _in_vpc(ec2: Any, vpc_id: str) -> Iterator[str]:
    """What moto does not ask for: attached gateways, endpoints, and security groups beside the default one."""
    yield from (g.id for g in ec2.internet_gateways.values() if g.vpc is not None and g.vpc.id == vpc_id)
    yield from (g.id for g in _nat_gateways(ec2) if g.vpc_id == vpc_id)
    yield from (e.id for e in _endpoints(ec2) if e.vpc_id == vpc_id)
    yield from (g.id for g in ec2.groups.get(vpc_id, {}).values() if g.name != "default")


def _public_in(ec2: Any, vpc_id: str) -> Iterator[str]:
    """Whatever has a public address in the VPC."""
    yield from (g.id for g in _nat_gateways(ec2) if g.vpc_id == vpc_id and g.connectivity_type != "private")
    yield from (b.arn for b in _balancers(ec2) if b.vpc_id == vpc_id and b.scheme != "internal")
    addresses = {address.instance.id for address in ec2.addresses if address.instance is not None}
    yield from (i.id for i in _instances(ec2) if i.vpc_id == vpc_id and i.id in addresses)
