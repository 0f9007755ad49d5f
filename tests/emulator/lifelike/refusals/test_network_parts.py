from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("cidr", "code"),
    [
        ("10.0.0.0/29", "InvalidSubnet.Range"),
        ("10.1.0.0/24", "InvalidSubnet.Range"),
        ("10.0.9.128/25", "InvalidSubnet.Conflict"),
    ],
)
def test_a_subnet_is_a_free_part_of_its_vpc(account: Any, refused: Any, cidr: str, code: str) -> None:
    vpc = account.vpc()
    account.subnet(vpc, "10.0.9.0/24")
    with refused(code):
        account.subnet(vpc, cidr)
    account.subnet(vpc, "10.0.0.0/28")


def test_a_subnet_is_in_a_zone_of_its_region(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    with refused("InvalidParameterValue", "us-west-2a"):
        account.ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-west-2a")


def test_a_subnet_with_an_instance_cannot_be_deleted(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    subnet, group = account.subnet(vpc, "10.0.0.0/24"), account.security_group(vpc)
    instance = account.instance(subnet, group)
    with refused("DependencyViolation"):
        account.ec2.delete_subnet(SubnetId=subnet)
    with refused("DependencyViolation", "has a dependent object"):
        account.ec2.delete_security_group(GroupId=group)
    account.ec2.terminate_instances(InstanceIds=[instance])
    account.ec2.delete_subnet(SubnetId=subnet)
    account.ec2.delete_security_group(GroupId=group)


def test_a_load_balancer_uses_its_subnets_groups_and_gateway(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    subnets, group = account.two_zones(vpc), account.security_group(vpc)
    balancer = account.balancer(subnets, SecurityGroups=[group])
    gateway = account.ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    with refused("DependencyViolation"):
        account.ec2.delete_subnet(SubnetId=subnets[0])
    with refused("DependencyViolation"):
        account.ec2.delete_security_group(GroupId=group)
    with refused("DependencyViolation", "mapped public address"):
        account.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    account.elb.delete_load_balancer(LoadBalancerArn=balancer)
    account.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    account.ec2.delete_security_group(GroupId=group)
    for subnet in subnets:
        account.ec2.delete_subnet(SubnetId=subnet)
    account.ec2.delete_vpc(VpcId=vpc)


def test_an_internal_load_balancer_does_not_use_the_gateway(account: Any) -> None:
    vpc = account.vpc()
    account.balancer(account.two_zones(vpc), Scheme="internal")
    gateway = account.ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    account.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)


def test_an_endpoint_uses_its_subnet_and_group(account: Any, refused: Any) -> None:
    vpc = account.vpc(gateway=False)
    subnet, group = account.subnet(vpc, "10.0.0.0/24"), account.security_group(vpc)
    endpoint = account.ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.us-east-1.ssm", VpcEndpointType="Interface", SubnetIds=[subnet],
        SecurityGroupIds=[group],
    )["VpcEndpoint"]["VpcEndpointId"]  # fmt: skip
    with refused("DependencyViolation"):
        account.ec2.delete_subnet(SubnetId=subnet)
    with refused("DependencyViolation"):
        account.ec2.delete_security_group(GroupId=group)
    account.ec2.delete_vpc_endpoints(VpcEndpointIds=[endpoint])
    account.ec2.delete_subnet(SubnetId=subnet)
    account.ec2.delete_security_group(GroupId=group)


def test_a_group_named_by_anothers_rule_cannot_be_deleted(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    one, other = account.security_group(vpc), account.security_group(vpc)
    rule = [{"IpProtocol": "tcp", "FromPort": 80, "ToPort": 80, "UserIdGroupPairs": [{"GroupId": one}]}]
    account.ec2.authorize_security_group_ingress(GroupId=other, IpPermissions=rule)
    with refused("DependencyViolation"):
        account.ec2.delete_security_group(GroupId=one)
    account.ec2.revoke_security_group_ingress(GroupId=other, IpPermissions=rule)
    account.ec2.delete_security_group(GroupId=one)


@pytest.mark.parametrize("what", ["gateway", "security group", "subnet", "endpoint"])
def test_a_vpc_in_use_cannot_be_deleted(account: Any, refused: Any, what: str) -> None:
    vpc = account.vpc(gateway=what == "gateway")
    if what == "security group":
        account.security_group(vpc)
    if what == "subnet":
        account.subnet(vpc, "10.0.0.0/24")
    if what == "endpoint":
        account.ec2.create_vpc_endpoint(VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway")
    with refused("DependencyViolation"):
        account.ec2.delete_vpc(VpcId=vpc)


def test_an_empty_vpc_can_be_deleted(account: Any) -> None:
    account.ec2.delete_vpc(VpcId=account.vpc(gateway=False))


def test_a_vpc_has_one_internet_gateway(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    second = account.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    with refused("Resource.AlreadyAssociated"):
        account.attach(second, vpc)
    account.attach(second, account.vpc("10.1.0.0/16", gateway=False))


def test_a_nat_gateway_uses_its_address_until_deleted(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    subnet, other = account.two_zones(vpc)
    address = account.ec2.allocate_address(Domain="vpc")["AllocationId"]
    made = account.ec2.create_nat_gateway(SubnetId=subnet, AllocationId=address)["NatGateway"]["NatGatewayId"]
    gateway = account.ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    with refused("Resource.AlreadyAssociated"):
        account.ec2.create_nat_gateway(SubnetId=other, AllocationId=address)
    with refused("InvalidIPAddress.InUse"):
        account.ec2.release_address(AllocationId=address)
    with refused("DependencyViolation"):
        account.ec2.delete_subnet(SubnetId=subnet)
    with refused("DependencyViolation", "mapped public address"):
        account.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    account.ec2.delete_nat_gateway(NatGatewayId=made)
    assert "AssociationId" not in account.ec2.describe_addresses()["Addresses"][0]
    account.ec2.delete_subnet(SubnetId=subnet)
    again = account.ec2.create_nat_gateway(SubnetId=other, AllocationId=address)["NatGateway"]["NatGatewayId"]
    account.ec2.delete_nat_gateway(NatGatewayId=again)
    account.ec2.release_address(AllocationId=address)
    account.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)


def test_a_subnet_has_one_route_table(account: Any, refused: Any) -> None:
    vpc = account.vpc()
    subnet = account.subnet(vpc, "10.0.0.0/24")
    one, other = (account.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"] for _ in range(2))
    made = account.ec2.associate_route_table(RouteTableId=one, SubnetId=subnet)["AssociationId"]
    assert account.ec2.associate_route_table(RouteTableId=one, SubnetId=subnet)["AssociationId"] == made
    with refused("Resource.AlreadyAssociated"):
        account.ec2.associate_route_table(RouteTableId=other, SubnetId=subnet)
    account.ec2.disassociate_route_table(AssociationId=made)
    account.ec2.associate_route_table(RouteTableId=other, SubnetId=subnet)
