"""Load balancers: names, subnets and security groups, and deletion protection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from moto.elbv2 import models
from moto.elbv2.exceptions import DuplicateLoadBalancerName, ELBClientError, SubnetNotFoundError

from gpu_fleet.emulator.lifelike.difference import Difference, Patches, arguments

DIFFERENCE = Difference(
    name="load balancers",
    moto=(
        "accepts any name, subnets of one zone, of several VPCs, or of a VPC without an internet gateway, security "
        "groups of another VPC, and deletes a protected one; becomes active only when described"
    ),
    aws=(
        "a name has at most 32 letters, digits and hyphens and is unique; an Application Load Balancer needs subnets "
        "of at least /27 in two zones, one in each, all in its own VPC like its security groups, and an internet "
        "gateway if it faces the internet; a protected one is not deleted"
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


def patch_moto(patches: Patches) -> None:
    """Check requests before moto acts."""
    backend = models.ELBv2Backend
    patches.wrap(backend, "create_load_balancer", create_load_balancer)
    patches.wrap(backend, "set_subnets", set_subnets)
    patches.wrap(backend, "set_security_groups", set_security_groups)
    patches.wrap(backend, "delete_load_balancer", delete_load_balancer)


def create_load_balancer(moto: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
    """CreateLoadBalancer with a valid name, subnets and security groups; it is active at once.

    A repeated request with the same settings returns the existing load balancer.
    """
    request = arguments(moto, backend, *args, **kwargs)
    name, security_groups = request["name"], request["security_groups"] or []
    subnet_ids = [*request["subnet_ids"], *(mapping["SubnetId"] for mapping in request["subnet_mappings"] or [])]
    scheme = request["scheme"] or "internet-facing"
    _check_name(name)
    for balancer in backend.load_balancers.values():
        if balancer.name == name:
            same = (
                (balancer.scheme or "internet-facing") == scheme
                and {subnet.id for subnet in balancer.subnets} == set(subnet_ids)
                and set(balancer.security_groups or []) == set(security_groups)
            )
            if same:  # "create multiple load balancers with the same settings, each call succeeds"
                return balancer
            raise DuplicateLoadBalancerName
    if (request["loadbalancer_type"] or "application") == "application" and subnet_ids:
        vpc = _check_subnets(backend, subnet_ids)
        _check_security_groups(backend, security_groups, vpc)
        if scheme == "internet-facing" and not _has_internet_gateway(backend.ec2_backend, vpc):
            raise ELBClientError("InvalidSubnet", f"VPC {vpc} has no internet gateway")
    balancer = moto(backend, *args, **kwargs)
    balancer.activate()
    return balancer


def set_subnets(moto: Any, backend: Any, arn: str, subnets: list[str], subnet_mappings: list[dict[str, Any]]) -> Any:
    """SetSubnets within the load balancer's VPC."""
    balancer = backend.load_balancers.get(arn)
    if balancer is not None and balancer.type == "application":
        subnet_ids = [*subnets, *(mapping["SubnetId"] for mapping in subnet_mappings or [])]
        _check_subnets(backend, subnet_ids, own_vpc=balancer.vpc_id)
    return moto(backend, arn, subnets, subnet_mappings)


def set_security_groups(moto: Any, backend: Any, arn: str, sec_groups: list[str]) -> None:
    """SetSecurityGroups of the load balancer's VPC."""
    balancer = backend.load_balancers.get(arn)
    if balancer is not None:
        _check_security_groups(backend, sec_groups, balancer.vpc_id)
    moto(backend, arn, sec_groups)


def delete_load_balancer(moto: Any, backend: Any, arn: str) -> None:
    """DeleteLoadBalancer without deletion protection."""
    balancer = backend.load_balancers.get(arn)
    if balancer is not None and balancer.attrs.get("deletion_protection.enabled") == "true":
        raise ELBClientError(
            "OperationNotPermitted",
            f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled",
        )
    moto(backend, arn)


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


def _check_subnets(backend: Any, ids: Sequence[str], own_vpc: str | None = None) -> str:
    """Return the subnets' VPC. Raises AWS's error unless they lie in one VPC, one in each of two or more zones."""
    subnets = []
    for subnet_id in ids:
        matches = [s for zone in backend.ec2_backend.subnets.values() for s in zone.values() if s.id == subnet_id]
        if not matches:
            raise SubnetNotFoundError
        subnets += matches
    vpcs = {subnet.vpc_id for subnet in subnets}
    if own_vpc and vpcs != {own_vpc}:
        raise ELBClientError(
            "InvalidConfigurationRequest", f"The specified subnets must belong to the load balancer's VPC '{own_vpc}'"
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
