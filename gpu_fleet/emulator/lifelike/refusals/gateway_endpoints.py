"""Gateway endpoints add and remove the routes of their route tables."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.vpcs import VPCBackend

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="routes of gateway endpoints",
    moto="a route table that joins a gateway endpoint gets no route to it, and one that leaves keeps its route",
    aws="a route to the service's prefix list is added to each route table of the endpoint, and removed with it",
    source="https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
)


def patch_moto(patches: Patches) -> None:
    """Add and remove the routes that moto forgets."""
    patches.wrap(VPCBackend, "modify_vpc_endpoint", modify_vpc_endpoint)


def modify_vpc_endpoint(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> None:
    """ModifyVpcEndpoint, with the routes of joining and leaving route tables."""
    endpoint_id = arguments(moto, backend, *args, **kwargs)["vpc_id"]  # moto's name for it
    endpoint = backend.describe_vpc_endpoints(vpc_end_point_ids=[endpoint_id])[0]
    before = set(endpoint.route_table_ids or [])
    moto(backend, *args, **kwargs)
    after, prefix_list = set(endpoint.route_table_ids or []), endpoint.destination_prefix_list_id
    if prefix_list:
        for table in sorted(after - before):
            backend.create_route(table, None, gateway_id=endpoint_id, destination_prefix_list_id=prefix_list)
        for table in sorted(before - after):
            backend.delete_route(table, prefix_list)
