"""Quotas on what a stack has once: a VPC, addresses, a load balancer. Those that it already has are not counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gpu_fleet.config import naming
from gpu_fleet.config.settings import Nat, NewNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.quotas import quota_value
from gpu_fleet.operate.preflight.stack_needs import Stack

VPCS = ("vpc", "L-F678F1CE")
"""VPCs per Region: https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html"""
ADDRESSES = ("ec2", "L-0263D0A3")
"""EC2-VPC Elastic IPs: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-resource-limits.html"""
LOAD_BALANCERS = ("elasticloadbalancing", "L-53DA6B97")
"""Application Load Balancers per Region:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""


def judge_room(needed: int, others: int, quota: float) -> Finding:
    """The quota covers the stack's resources beside all others."""
    text = f"{others} others, {needed} for this stack, quota {quota:g}"
    return ok(text) if others + needed <= quota else wrong(text)


def count_others(stack: Stack, resources: Iterable[Mapping[str, Any]]) -> int:
    """Return how many of the resources lack this stack's tag."""
    ours = {"Key": naming.STACK_TAG, "Value": stack.full_name}
    return sum(ours not in resource.get("Tags", ()) for resource in resources)


def count_other_balancers(stack: Stack, answer: Mapping[str, Any]) -> int:
    """Return how many Application Load Balancers do not have this stack's name."""
    ours = re.escape(naming.fitting(stack.full_name, naming.MAX_LOAD_BALANCER_NAME)) + r"-[0-9a-f]+"
    balancers = [each for each in answer.get("LoadBalancers", ()) if each.get("Type") == "application"]
    return sum(re.fullmatch(ours, each.get("LoadBalancerName", "")) is None for each in balancers)


def count_addresses(network: NewNetwork) -> int:
    """Return how many Elastic IP addresses the NAT gateways need."""
    return {Nat.NONE: 0, Nat.ONE: 1, Nat.PER_ZONE: len(network.zones)}[network.nat]


def checks(stack: Stack) -> Iterator[Check]:
    """Yield the checks of VPC and addresses, if the stack creates its network, and of the load balancer."""
    network = stack.settings.network

    def examine_vpcs(aws: ReadOnlyAws) -> Finding:
        existing = aws.get("ec2", "DescribeVpcs").get("Vpcs", ())
        return judge_room(1, count_others(stack, existing), quota_value(aws, *VPCS))

    def examine_addresses(aws: ReadOnlyAws, needed: int) -> Finding:
        existing = aws.get("ec2", "DescribeAddresses").get("Addresses", ())
        return judge_room(needed, count_others(stack, existing), quota_value(aws, *ADDRESSES))

    def examine_balancers(aws: ReadOnlyAws) -> Finding:
        existing = aws.get("elbv2", "DescribeLoadBalancers")
        return judge_room(1, count_other_balancers(stack, existing), quota_value(aws, *LOAD_BALANCERS))

    if isinstance(network, NewNetwork):
        yield Check("quota", f"VPCs ({VPCS[1]})", ("network",), examine_vpcs)
        if needed := count_addresses(network):
            subject = f"Elastic IPs ({ADDRESSES[1]})"
            yield Check("quota", subject, ("network", "nat"), lambda aws: examine_addresses(aws, needed))
    yield Check("quota", f"load balancers ({LOAD_BALANCERS[1]})", ("load_balancer",), examine_balancers)
