"""Gateway endpoints keep the routes of their tables."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.vpcs import VPCBackend

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="routes of gateway endpoints",
    moto="a route table that joins a gateway endpoint gets no route to it, and one that leaves keeps its own",
    aws="a route to the service's prefix list is added to each route table of the endpoint, and goes with it",
    source="https://docs.aws.amazon.com/vpc/latest/privatelink/gateway-endpoints.html",
)


def mend(patches: Patches) -> None:
    """Make and take the routes that moto forgets."""

    def modify_vpc_endpoint(
        self: Any, vpc_id: str, policy_doc: Any, add_subnets: Any, remove_subnets: Any,
        remove_route_tables: list[str] | None, add_route_tables: list[str] | None, **security_groups: Any,
    ) -> None:  # fmt: skip
        endpoint = self.describe_vpc_endpoints(vpc_end_point_ids=[vpc_id])[0]
        before = set(endpoint.route_table_ids or [])
        moto_modify(
            self, vpc_id, policy_doc, add_subnets, remove_subnets, remove_route_tables, add_route_tables,
            **security_groups,
        )  # fmt: skip
        after, prefixes = set(endpoint.route_table_ids or []), endpoint.destination_prefix_list_id
        if prefixes:
            for table in sorted(after - before):
                self.create_route(table, None, gateway_id=vpc_id, destination_prefix_list_id=prefixes)
            for table in sorted(before - after):
                self.delete_route(table, prefixes)

    moto_modify = patches.put(VPCBackend, "modify_vpc_endpoint", modify_vpc_endpoint)
