from __future__ import annotations

from typing import Any


def test_a_route_table_gets_the_route_when_it_joins_and_loses_it_when_it_leaves(account: Any) -> None:
    vpc = account.vpc()
    one, other = (account.ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"] for _ in range(2))
    made = account.ec2.create_vpc_endpoint(
        VpcId=vpc, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway", RouteTableIds=[one]
    )["VpcEndpoint"]["VpcEndpointId"]

    def routed() -> list[bool]:
        tables = account.ec2.describe_route_tables(RouteTableIds=[one, other])["RouteTables"]
        by_id = {table["RouteTableId"]: table["Routes"] for table in tables}
        return [any(r.get("DestinationPrefixListId") for r in by_id[table]) for table in (one, other)]

    assert routed() == [True, False]
    account.ec2.modify_vpc_endpoint(VpcEndpointId=made, AddRouteTableIds=[other])
    assert routed() == [True, True]
    account.ec2.modify_vpc_endpoint(VpcEndpointId=made, RemoveRouteTableIds=[one])
    assert routed() == [False, True]
