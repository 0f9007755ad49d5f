"""Load balancers: their names, subnets and security groups, and when they may be deleted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateLoadBalancerName, ELBClientError, SubnetNotFoundError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

DIFFERENCE = Difference(
    name="load balancers",
    moto=(
        "takes any name, subnets of one zone, of several VPCs, or of a VPC without an internet gateway, security "
        "groups of another VPC, and deletes what is protected; is active only once it was described"
    ),
    aws=(
        "a name has 32 letters, digits and hyphens and is there once; an Application Load Balancer needs subnets of "
        "/27 in two zones, one in each, all in its own VPC as its security groups are, and an internet gateway where "
        "it faces the internet; one that is protected is not deleted"
    ),
    source=(
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_SetSubnets.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_DeleteLoadBalancer.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html"
    ),
)

SMALLEST_SUBNET = 27
"""Prefix length: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html"""


def mend(patches: Patches) -> None:
    """Check before moto acts."""
    backend = models.ELBv2Backend

    def create_load_balancer(
        self: Any, name: str, security_groups: list[str], subnet_ids: list[str],
        subnet_mappings: list[dict[str, str]] | None = None, scheme: str | None = None,
        loadbalancer_type: str | None = None, *more: Any, **named: Any,
    ) -> Any:  # fmt: skip
        _check_name(name)
        wanted = [*subnet_ids, *(mapping["SubnetId"] for mapping in subnet_mappings or [])]
        for balancer in self.load_balancers.values():
            if balancer.name == name:
                same = (
                    (balancer.scheme or "internet-facing") == (scheme or "internet-facing")
                    and {subnet.id for subnet in balancer.subnets} == set(wanted)
                    and set(balancer.security_groups or []) == set(security_groups or [])
                )
                if same:  # "create multiple load balancers with the same settings, each call succeeds"
                    return balancer
                raise DuplicateLoadBalancerName
        if (loadbalancer_type or "application") == "application" and wanted:
            vpc = _check_subnets(self, wanted)
            _check_security_groups(self, security_groups or [], vpc)
            if scheme in (None, "internet-facing") and not _has_internet_gateway(self.ec2_backend, vpc):
                raise ELBClientError("InvalidSubnet", f"VPC {vpc} has no internet gateway")
        made = moto_create(
            self, name, security_groups, subnet_ids, subnet_mappings, scheme, loadbalancer_type, *more, **named
        )
        made.activate()
        return made

    def set_subnets(self: Any, arn: str, subnets: list[str], subnet_mappings: list[dict[str, Any]]) -> Any:
        balancer = self.load_balancers.get(arn)
        if balancer is not None and balancer.type == "application":
            wanted = [*subnets, *(mapping["SubnetId"] for mapping in subnet_mappings or [])]
            _check_subnets(self, wanted, own=balancer.vpc_id)
        return moto_subnets(self, arn, subnets, subnet_mappings)

    def set_security_groups(self: Any, arn: str, sec_groups: list[str]) -> None:
        balancer = self.load_balancers.get(arn)
        if balancer is not None:
            _check_security_groups(self, sec_groups, balancer.vpc_id)
        moto_groups(self, arn, sec_groups)

    def delete_load_balancer(self: Any, arn: str) -> None:
        balancer = self.load_balancers.get(arn)
        if balancer is not None and balancer.attrs.get("deletion_protection.enabled") == "true":
            raise ELBClientError(
                "OperationNotPermitted",
                f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled",
            )
        moto_delete(self, arn)

    moto_create = patches.put(backend, "create_load_balancer", create_load_balancer)
    moto_subnets = patches.put(backend, "set_subnets", set_subnets)
    moto_groups = patches.put(backend, "set_security_groups", set_security_groups)
    moto_delete = patches.put(backend, "delete_load_balancer", delete_load_balancer)


def _check_name(name: str) -> None:
    if len(name) > 32:
        raise ELBClientError(
            "ValidationError", f"The load balancer name '{name}' cannot be longer than '32' characters"
        )
    if not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ELBClientError(
            "ValidationError",
            f"The load balancer name '{name}' can only contain characters that are alphanumeric characters and "
            "hyphens(-)",
        )
    if name.startswith("-") or name.endswith("-"):
        raise ELBClientError("ValidationError", f"The load balancer name '{name}' cannot begin or end with a hyphen(-)")
    if name.startswith("internal-"):
        raise ELBClientError("ValidationError", f"The load balancer name '{name}' cannot begin with 'internal-'")


def _check_subnets(backend: Any, ids: Sequence[str], own: str | None = None) -> str:
    """The VPC of the subnets. Raises AWS's error where they are not of one VPC, or not one in each of two zones."""
    subnets = []
    for subnet_id in ids:
        found = [s for zone in backend.ec2_backend.subnets.values() for s in zone.values() if s.id == subnet_id]
        if not found:
            raise SubnetNotFoundError
        subnets += found
    vpcs = {subnet.vpc_id for subnet in subnets}
    if own and vpcs != {own}:
        raise ELBClientError(
            "InvalidConfigurationRequest", f"The specified subnets must belong to the load balancer's VPC '{own}'"
        )
    if len(vpcs) > 1:
        raise ELBClientError("InvalidConfigurationRequest", "All subnets must belong to the same VPC")
    zones = [subnet.availability_zone for subnet in subnets]
    if len(set(zones)) < len(zones):
        raise ELBClientError(
            "InvalidConfigurationRequest",
            "A load balancer cannot be attached to multiple subnets in the same Availability Zone",
        )
    if len(zones) < 2:
        raise ELBClientError(
            "ValidationError", "At least two subnets in two different Availability Zones must be specified"
        )
    for subnet in subnets:
        if subnet.cidr.prefixlen > SMALLEST_SUBNET:
            raise ELBClientError(
                "InvalidSubnet",
                f"Not enough IP space available in {subnet.id}. ELB requires at least 8 free IP addresses in each "
                "subnet.",
            )
    return str(vpcs.pop())


def _check_security_groups(backend: Any, ids: Sequence[str], vpc: str) -> None:
    for group_id in ids:
        group = backend.ec2_backend.get_security_group_from_id(group_id)
        if group is None:
            raise ELBClientError("InvalidSecurityGroup", f"Security group '{group_id}' does not exist")
        if group.vpc_id != vpc:
            raise ELBClientError(
                "InvalidConfigurationRequest",
                f"One or more security groups are invalid: '{group_id}' belongs to another VPC than '{vpc}'",
            )


def _has_internet_gateway(ec2: Any, vpc: str) -> bool:
    return any(gateway.vpc is not None and gateway.vpc.id == vpc for gateway in ec2.internet_gateways.values())
