"""Subnets, security groups, gateways and VPCs cannot be deleted while in use."""

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

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="parts of a network",
    moto=(
        "deletes subnets, security groups and gateways that instances, load balancers, NAT gateways or endpoints still "
        "use; accepts subnets of /29 and of another region's zone; keeps the address of a deleted NAT gateway "
        "associated and releases that of a live one"
    ),
    aws=(
        "deleting a part in use is a DependencyViolation; a subnet is /16 to /28 in a zone of its region; deleting a "
        "NAT gateway disassociates its address, and an address is released only when nothing uses it"
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


def patch_moto(patches: Patches) -> None:
    """Refuse to delete parts in use, before moto deletes them."""
    patches.wrap(subnets.SubnetBackend, "create_subnet", create_subnet)
    patches.wrap(subnets.SubnetBackend, "delete_subnet", delete_subnet)
    patches.wrap(security_groups.SecurityGroupBackend, "_delete_security_group", delete_security_group)
    patches.wrap(vpcs.VPCBackend, "delete_vpc", delete_vpc)
    gateways = internet_gateways.InternetGatewayBackend
    patches.wrap(gateways, "detach_internet_gateway", detach_internet_gateway)
    patches.wrap(gateways, "attach_internet_gateway", attach_internet_gateway)
    patches.wrap(nat_gateways.NatGatewayBackend, "delete_nat_gateway", delete_nat_gateway)
    patches.wrap(elastic_ip_addresses.ElasticAddressBackend, "release_address", release_address)
    patches.wrap(route_tables.RouteBackend, "associate_route_table", associate_route_table)


def create_subnet(moto: Any, ec2: Any, *args: Any, **kwargs: Any) -> Any:
    """CreateSubnet of a valid size, in a zone of the region."""
    request = arguments(moto, ec2, *args, **kwargs)
    if request["cidr_block"]:
        _check_range(request["cidr_block"])
    zone = request["availability_zone"]
    if zone and not zone.startswith(ec2.region_name):
        raise EC2ClientError(
            "InvalidParameterValue",
            f"Value ({zone}) for parameter availabilityZone is invalid. Subnets can currently only be created in the "
            f"availability zones of {ec2.region_name}.",
        )
    return moto(ec2, *args, **kwargs)


def delete_subnet(moto: Any, ec2: Any, subnet_id: str) -> Any:
    """DeleteSubnet without network interfaces."""
    if any(_in_subnet(ec2, subnet_id)):
        raise _violation(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
    return moto(ec2, subnet_id)


def delete_security_group(moto: Any, ec2: Any, vpc_id: str | None, group_id: str) -> Any:
    """DeleteSecurityGroup that nothing uses."""
    if any(_with_security_group(ec2, vpc_id, group_id)):
        raise _violation(f"resource {group_id} has a dependent object")
    return moto(ec2, vpc_id, group_id)


def delete_vpc(moto: Any, ec2: Any, vpc_id: str) -> Any:
    """DeleteVpc without gateways, endpoints or security groups."""
    if any(_in_vpc(ec2, vpc_id)):
        raise _violation(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
    return moto(ec2, vpc_id)


def detach_internet_gateway(moto: Any, ec2: Any, internet_gateway_id: str, vpc_id: str) -> None:
    """DetachInternetGateway from a VPC without public addresses."""
    if any(_public_in(ec2, vpc_id)):
        raise _violation(
            f"Network {vpc_id} has some mapped public address(es). Please unmap those before detaching the gateway."
        )
    moto(ec2, internet_gateway_id, vpc_id)


def attach_internet_gateway(moto: Any, ec2: Any, internet_gateway_id: str, vpc_id: str) -> Any:
    """AttachInternetGateway to a VPC that has none."""
    gateways = ec2.internet_gateways.values()
    if any(g.id != internet_gateway_id and g.vpc is not None and g.vpc.id == vpc_id for g in gateways):
        raise EC2ClientError(
            "Resource.AlreadyAssociated", f"resource {vpc_id} is already associated with an internet gateway"
        )
    return moto(ec2, internet_gateway_id, vpc_id)


def delete_nat_gateway(moto: Any, ec2: Any, nat_gateway_id: str) -> Any:
    """DeleteNatGateway, which disassociates its address."""
    gateway = ec2.nat_gateways.get(nat_gateway_id)
    if gateway is None:
        raise EC2ClientError("NatGatewayNotFound", f"NatGateway {nat_gateway_id} was not found")
    deleted = moto(ec2, nat_gateway_id)
    for address in ec2.addresses:
        if address.eni is not None and address.eni is gateway._eni:
            ec2.disassociate_address(address=address.public_ip)
    return deleted


def release_address(moto: Any, ec2: Any, address: str | None = None, allocation_id: str | None = None) -> None:
    """ReleaseAddress that no NAT gateway uses."""
    interfaces = [gateway._eni for gateway in _nat_gateways(ec2)]
    for candidate in ec2.addresses:
        matches = candidate.allocation_id == allocation_id if allocation_id else candidate.public_ip == address
        if matches and any(candidate.eni is interface for interface in interfaces):
            raise EC2ClientError("InvalidIPAddress.InUse", f"Address {candidate.public_ip} is in use.")
    moto(ec2, address, allocation_id)


def associate_route_table(
    moto: Any, ec2: Any, route_table_id: str, gateway_id: Any = None, subnet_id: Any = None
) -> Any:
    """AssociateRouteTable with a subnet that has none; the same association again is no error."""
    for table in ec2.route_tables.values():
        if subnet_id and table.id != route_table_id and subnet_id in table._associations.values():
            raise EC2ClientError(
                "Resource.AlreadyAssociated",
                f"the specified association for route table {route_table_id} conflicts with an existing association",
            )
    return moto(ec2, route_table_id, gateway_id, subnet_id)


def _violation(text: str) -> EC2ClientError:
    return EC2ClientError("DependencyViolation", text)


def _check_range(cidr: str) -> None:
    try:
        network = ipaddress.IPv4Network(cidr, strict=False)
    except ValueError:
        return  # moto itself refuses it
    if not 16 <= network.prefixlen <= 28:
        raise EC2ClientError("InvalidSubnet.Range", f"The CIDR '{cidr}' is invalid.")


def _instances(ec2: Any) -> list[Any]:
    """Return the instances that are not terminated."""
    return [i for i in ec2.all_instances() if i._state.name != "terminated"]


def _balancers(ec2: Any) -> list[Any]:
    return list(elbv2_backends[ec2.account_id][ec2.region_name].load_balancers.values())


def _nat_gateways(ec2: Any) -> list[Any]:
    return [gateway for gateway in ec2.nat_gateways.values() if gateway.state != "deleted"]


def _endpoints(ec2: Any) -> list[Any]:
    return [endpoint for endpoint in ec2.vpc_end_points.values() if endpoint.state not in ("deleted", "deleting")]


def _in_subnet(ec2: Any, subnet_id: str) -> Iterator[str]:
    """Yield everything with a network interface in the subnet."""
    yield from (i.id for i in _instances(ec2) if i.subnet_id == subnet_id)
    yield from (b.arn for b in _balancers(ec2) if subnet_id in {subnet.id for subnet in b.subnets})
    yield from (g.id for g in _nat_gateways(ec2) if g.subnet_id == subnet_id)
    yield from (e.id for e in _endpoints(ec2) if subnet_id in (e.subnet_ids or []))


def _with_security_group(ec2: Any, vpc_id: str | None, group_id: str) -> Iterator[str]:
    """Yield everything with the security group, and the other groups of its VPC whose rules name it."""
    yield from (i.id for i in _instances(ec2) if group_id in {group.id for group in i.security_groups})
    yield from (b.arn for b in _balancers(ec2) if group_id in (b.security_groups or []))
    yield from (e.id for e in _endpoints(ec2) if group_id in (e.security_group_ids or []))
    for other in ec2.groups[vpc_id].values():
        rules = [*other.ingress_rules, *other.egress_rules]
        if other.id != group_id and any((rule.source_group or {}).get("GroupId") == group_id for rule in rules):
            yield other.id


def _in_vpc(ec2: Any, vpc_id: str) -> Iterator[str]:
    """Yield what moto does not check: attached gateways, endpoints, and security groups other than the default."""
    yield from (g.id for g in ec2.internet_gateways.values() if g.vpc is not None and g.vpc.id == vpc_id)
    yield from (g.id for g in _nat_gateways(ec2) if g.vpc_id == vpc_id)
    yield from (e.id for e in _endpoints(ec2) if e.vpc_id == vpc_id)
    yield from (g.id for g in ec2.groups.get(vpc_id, {}).values() if g.name != "default")


def _public_in(ec2: Any, vpc_id: str) -> Iterator[str]:
    """Yield everything with a public address in the VPC."""
    yield from (g.id for g in _nat_gateways(ec2) if g.vpc_id == vpc_id and g.connectivity_type != "private")
    yield from (b.arn for b in _balancers(ec2) if b.vpc_id == vpc_id and b.scheme != "internal")
    addresses = {address.instance.id for address in ec2.addresses if address.instance is not None}
    yield from (i.id for i in _instances(ec2) if i.vpc_id == vpc_id and i.id in addresses)
