"""VPCs, subnets, routes, gateways, endpoints, security groups, flow logs."""

from __future__ import annotations

from typing import Any

from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    makes,
    tag_specification,
    to_int,
    without_none,
)


@makes("aws:ec2/vpc:Vpc", no_effect=("instanceTenancy",))
def vpc(aws: MotoAccount, r: Resource) -> MadeResource:
    """A VPC."""
    ec2, i = aws.client("ec2"), r.inputs
    made = ec2.create_vpc(CidrBlock=i["cidrBlock"], TagSpecifications=tag_specification(r, "vpc"))["Vpc"]
    identity = made["VpcId"]
    for key, attribute in (("enableDnsSupport", "EnableDnsSupport"), ("enableDnsHostnames", "EnableDnsHostnames")):
        if key in i:
            ec2.modify_vpc_attribute(VpcId=identity, **{attribute: {"Value": i[key]}})
    of_vpc = [{"Name": "vpc-id", "Values": [identity]}]
    groups = ec2.describe_security_groups(Filters=of_vpc)["SecurityGroups"]
    tables = ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]
    return identity, {
        "arn": aws.arn("ec2", f"vpc/{identity}"),
        "ownerId": aws.account,
        "mainRouteTableId": tables[0]["RouteTableId"],
        "defaultRouteTableId": tables[0]["RouteTableId"],
        "defaultSecurityGroupId": groups[0]["GroupId"],
    }


@makes("aws:ec2/subnet:Subnet")
def subnet(aws: MotoAccount, r: Resource) -> MadeResource:
    """A subnet."""
    ec2, i = aws.client("ec2"), r.inputs
    made = ec2.create_subnet(
        VpcId=i["vpcId"],
        CidrBlock=i["cidrBlock"],
        TagSpecifications=tag_specification(r, "subnet"),
        **without_none(AvailabilityZone=i.get("availabilityZone")),
    )["Subnet"]
    if i.get("mapPublicIpOnLaunch"):
        ec2.modify_subnet_attribute(SubnetId=made["SubnetId"], MapPublicIpOnLaunch={"Value": True})
    return made["SubnetId"], {
        "arn": made["SubnetArn"],
        "ownerId": aws.account,
        "availabilityZone": made["AvailabilityZone"],
        "availabilityZoneId": made["AvailabilityZoneId"],
    }


@makes("aws:ec2/internetGateway:InternetGateway")
def internet_gateway(aws: MotoAccount, r: Resource) -> MadeResource:
    """An internet gateway, attached to its VPC if one is given."""
    ec2, i = aws.client("ec2"), r.inputs
    made = ec2.create_internet_gateway(TagSpecifications=tag_specification(r, "internet-gateway"))["InternetGateway"]
    identity = made["InternetGatewayId"]
    if "vpcId" in i:
        ec2.attach_internet_gateway(InternetGatewayId=identity, VpcId=i["vpcId"])
    return identity, {"arn": aws.arn("ec2", f"internet-gateway/{identity}"), "ownerId": aws.account}


@makes("aws:ec2/eip:Eip")
def eip(aws: MotoAccount, r: Resource) -> MadeResource:
    """An elastic IP address."""
    made = aws.client("ec2").allocate_address(
        Domain=r.inputs.get("domain") or "vpc", TagSpecifications=tag_specification(r, "elastic-ip")
    )
    identity = made["AllocationId"]
    return identity, {
        "allocationId": identity,
        "publicIp": made["PublicIp"],
        "arn": aws.arn("ec2", f"elastic-ip/{identity}"),
    }


@makes("aws:ec2/natGateway:NatGateway")
def nat_gateway(aws: MotoAccount, r: Resource) -> MadeResource:
    """A NAT gateway."""
    i = r.inputs
    made = aws.client("ec2").create_nat_gateway(
        SubnetId=i["subnetId"],
        TagSpecifications=tag_specification(r, "natgateway"),
        **without_none(AllocationId=i.get("allocationId"), ConnectivityType=i.get("connectivityType")),
    )["NatGateway"]
    address = (made.get("NatGatewayAddresses") or [{}])[0]
    return made["NatGatewayId"], {
        "publicIp": address.get("PublicIp"),
        "privateIp": address.get("PrivateIp"),
        "networkInterfaceId": address.get("NetworkInterfaceId"),
    }


def _route(aws: MotoAccount, table: str, route: Any) -> None:
    aws.client("ec2").create_route(
        RouteTableId=table,
        **without_none(
            DestinationCidrBlock=route.get("destinationCidrBlock") or route.get("cidrBlock"),
            DestinationIpv6CidrBlock=route.get("destinationIpv6CidrBlock") or route.get("ipv6CidrBlock"),
            DestinationPrefixListId=route.get("destinationPrefixListId"),
            GatewayId=route.get("gatewayId"),
            NatGatewayId=route.get("natGatewayId"),
            TransitGatewayId=route.get("transitGatewayId"),
            VpcPeeringConnectionId=route.get("vpcPeeringConnectionId"),
        ),
    )


@makes("aws:ec2/routeTable:RouteTable")
def route_table(aws: MotoAccount, r: Resource) -> MadeResource:
    """A route table with its inline routes."""
    made = aws.client("ec2").create_route_table(
        VpcId=r.inputs["vpcId"], TagSpecifications=tag_specification(r, "route-table")
    )["RouteTable"]
    identity = made["RouteTableId"]
    for route in r.inputs.get("routes") or []:
        _route(aws, identity, route)
    return identity, {"arn": aws.arn("ec2", f"route-table/{identity}"), "ownerId": aws.account}


@makes("aws:ec2/route:Route")
def route(aws: MotoAccount, r: Resource) -> MadeResource:
    """A route."""
    _route(aws, r.inputs["routeTableId"], r.inputs)
    destination = r.inputs.get("destinationCidrBlock") or r.inputs.get("destinationPrefixListId") or ""
    return f"r-{r.inputs['routeTableId']}{destination}", {"state": "active", "origin": "CreateRoute"}


@makes("aws:ec2/routeTableAssociation:RouteTableAssociation")
def route_table_association(aws: MotoAccount, r: Resource) -> MadeResource:
    """The association of a route table with a subnet or gateway."""
    made = aws.client("ec2").associate_route_table(
        RouteTableId=r.inputs["routeTableId"],
        **without_none(SubnetId=r.inputs.get("subnetId"), GatewayId=r.inputs.get("gatewayId")),
    )
    return made["AssociationId"], {}


@makes("aws:ec2/vpcEndpoint:VpcEndpoint")
def vpc_endpoint(aws: MotoAccount, r: Resource) -> MadeResource:
    """A VPC endpoint."""
    i = r.inputs
    made = aws.client("ec2").create_vpc_endpoint(
        VpcId=i["vpcId"],
        ServiceName=i["serviceName"],
        TagSpecifications=tag_specification(r, "vpc-endpoint"),
        **without_none(
            VpcEndpointType=i.get("vpcEndpointType"),
            RouteTableIds=i.get("routeTableIds"),
            SubnetIds=i.get("subnetIds"),
            SecurityGroupIds=i.get("securityGroupIds"),
            PrivateDnsEnabled=i.get("privateDnsEnabled"),
            PolicyDocument=i.get("policy"),
        ),
    )["VpcEndpoint"]
    identity = made["VpcEndpointId"]
    return identity, {
        "arn": aws.arn("ec2", f"vpc-endpoint/{identity}"),
        "state": "available",
        "prefixListId": "pl-63a5400a",
        "networkInterfaceIds": made.get("NetworkInterfaceIds", []),
    }


def _permission(rule: Any) -> dict[str, Any]:
    protocol = str(rule.get("ipProtocol") or rule.get("protocol"))
    permission: dict[str, Any] = {"IpProtocol": protocol}
    if protocol != "-1":
        permission |= {"FromPort": to_int(rule.get("fromPort")), "ToPort": to_int(rule.get("toPort"))}
    description = without_none(Description=rule.get("description"))
    cidrs = rule.get("cidrBlocks") or ([rule.get("cidrIpv4")] if rule.get("cidrIpv4") else [])
    groups = list(rule.get("securityGroups") or [])
    groups += [g for g in (rule.get("referencedSecurityGroupId"), rule.get("sourceSecurityGroupId")) if g]
    prefixes = rule.get("prefixListIds") or ([rule.get("prefixListId")] if rule.get("prefixListId") else [])
    ipv6_cidrs = rule.get("ipv6CidrBlocks") or ([rule.get("cidrIpv6")] if rule.get("cidrIpv6") else [])
    permission["IpRanges"] = [{"CidrIp": c, **description} for c in cidrs]
    permission["Ipv6Ranges"] = [{"CidrIpv6": c, **description} for c in ipv6_cidrs]
    permission["UserIdGroupPairs"] = [{"GroupId": g, **description} for g in groups]
    permission["PrefixListIds"] = [{"PrefixListId": p, **description} for p in prefixes]
    return permission


def _authorize(aws: MotoAccount, group: str, *, inbound: bool, rule: Any) -> str:
    ec2 = aws.client("ec2")
    operation = ec2.authorize_security_group_ingress if inbound else ec2.authorize_security_group_egress
    made = operation(GroupId=group, IpPermissions=[_permission(rule)])
    return str(made["SecurityGroupRules"][0]["SecurityGroupRuleId"])


@makes("aws:ec2/securityGroup:SecurityGroup", longest_name=255, no_effect=("revokeRulesOnDelete",))
def security_group(aws: MotoAccount, r: Resource) -> MadeResource:
    """A security group with its inline rules; like the provider's it starts without the default egress rule."""
    ec2, i = aws.client("ec2"), r.inputs
    identity = ec2.create_security_group(
        GroupName=r.physical_name,
        Description=i.get("description") or "Managed by Pulumi",
        TagSpecifications=tag_specification(r, "security-group"),
        **without_none(VpcId=i.get("vpcId")),
    )["GroupId"]
    group = ec2.describe_security_groups(GroupIds=[identity])["SecurityGroups"][0]
    if group["IpPermissionsEgress"]:
        ec2.revoke_security_group_egress(GroupId=identity, IpPermissions=group["IpPermissionsEgress"])
    for key, inbound in (("ingress", True), ("egress", False)):
        for rule in i.get(key) or []:
            own = {**rule, "securityGroups": [identity]} if rule.get("self") else rule
            _authorize(aws, identity, inbound=inbound, rule=own)
    return identity, {"arn": aws.arn("ec2", f"security-group/{identity}"), "ownerId": aws.account}


@makes("aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule")
def ingress_rule(aws: MotoAccount, r: Resource) -> MadeResource:
    """An ingress rule."""
    return _rule(aws, r, inbound=True)


@makes("aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule")
def egress_rule(aws: MotoAccount, r: Resource) -> MadeResource:
    """An egress rule."""
    return _rule(aws, r, inbound=False)


def _rule(aws: MotoAccount, r: Resource, *, inbound: bool) -> MadeResource:
    identity = _authorize(aws, r.inputs["securityGroupId"], inbound=inbound, rule=r.inputs)
    return identity, {
        "arn": aws.arn("ec2", f"security-group-rule/{identity}"),
        "securityGroupRuleId": identity,
    }


@makes("aws:ec2/securityGroupRule:SecurityGroupRule")
def security_group_rule(aws: MotoAccount, r: Resource) -> MadeResource:
    """A rule of the older resource type, ingress or egress."""
    i = r.inputs
    rule = {**i.all, "securityGroups": [i["securityGroupId"]]} if i.get("self") else i
    identity = _authorize(aws, i["securityGroupId"], inbound=i["type"] == "ingress", rule=rule)
    return identity, {"securityGroupRuleId": identity}


@makes("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup")
def default_security_group(aws: MotoAccount, r: Resource) -> MadeResource:
    """The VPC's default security group, with the inline rules only."""
    ec2, i = aws.client("ec2"), r.inputs
    filters = [{"Name": "vpc-id", "Values": [i["vpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    group = ec2.describe_security_groups(Filters=filters)["SecurityGroups"][0]
    identity = group["GroupId"]
    if group["IpPermissions"]:
        ec2.revoke_security_group_ingress(GroupId=identity, IpPermissions=group["IpPermissions"])
    if group["IpPermissionsEgress"]:
        ec2.revoke_security_group_egress(GroupId=identity, IpPermissions=group["IpPermissionsEgress"])
    for key, inbound in (("ingress", True), ("egress", False)):
        for rule in i.get(key) or []:
            _authorize(aws, identity, inbound=inbound, rule=rule)
    return identity, {"arn": aws.arn("ec2", f"security-group/{identity}"), "ownerId": aws.account}


@makes("aws:ec2/flowLog:FlowLog", no_effect=("maxAggregationInterval", "logDestinationType"))
def flow_log(aws: MotoAccount, r: Resource) -> MadeResource:
    """A flow log of a VPC."""
    i = r.inputs
    made = aws.client("ec2").create_flow_logs(
        ResourceIds=[i["vpcId"]],
        ResourceType="VPC",
        TrafficType=i.get("trafficType") or "ALL",
        **without_none(
            LogDestination=i.get("logDestination"),
            LogDestinationType=i.get("logDestinationType") or "cloud-watch-logs",
            DeliverLogsPermissionArn=i.get("iamRoleArn"),
        ),
    )
    identity = made["FlowLogIds"][0]
    return identity, {"arn": aws.arn("ec2", f"vpc-flow-log/{identity}")}
