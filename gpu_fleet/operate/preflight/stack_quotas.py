"""Quotas of what a stack makes once: a VPC, addresses, a load balancer. What it has made already is not counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gpu_fleet.config import naming
from gpu_fleet.config.settings import Nat, NewNetwork
from gpu_fleet.operate.preflight.aws import ReadOnlyAws
from gpu_fleet.operate.preflight.check import Check
from gpu_fleet.operate.preflight.finding import Finding, ok, wrong
from gpu_fleet.operate.preflight.quotas import applied
from gpu_fleet.operate.preflight.stack_needs import Stack

VPCS = ("vpc", "L-F678F1CE")
"""VPCs per Region: https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html"""
ADDRESSES = ("ec2", "L-0263D0A3")
"""EC2-VPC Elastic IPs: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-resource-limits.html"""
LOAD_BALANCERS = ("elasticloadbalancing", "L-53DA6B97")
"""Application Load Balancers per Region:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""


def room(needed: int, others: int, quota: float) -> Finding:
    """The quota has room for what the stack makes beside what others have."""
    text = f"{others} others, {needed} for this stack, quota {quota:g}"
    return ok(text) if others + needed <= quota else wrong(text)


def others(stack: Stack, resources: Iterable[Mapping[str, Any]]) -> int:
    """How many of them do not carry this stack's tag."""
    ours = {"Key": naming.STACK_TAG, "Value": stack.full_name}
    return sum(ours not in resource.get("Tags", ()) for resource in resources)


def other_balancers(stack: Stack, answer: Mapping[str, Any]) -> int:
    """How many Application Load Balancers have another name than this stack's has."""
    ours = re.escape(naming.fitting(stack.full_name, naming.MAX_LOAD_BALANCER_NAME)) + r"-[0-9a-f]+"
    there = [one for one in answer.get("LoadBalancers", ()) if one.get("Type") == "application"]
    return sum(re.fullmatch(ours, one.get("LoadBalancerName", "")) is None for one in there)


def addresses(network: NewNetwork) -> int:
    """Elastic addresses that the NAT gateways take."""
    return {Nat.NONE: 0, Nat.ONE: 1, Nat.PER_ZONE: len(network.zones)}[network.nat]


def checks(stack: Stack) -> Iterator[Check]:
    """VPC and addresses where the stack makes its network, and the load balancer."""
    network = stack.settings.network

    def vpcs(aws: ReadOnlyAws) -> Finding:
        there = aws.get("ec2", "DescribeVpcs").get("Vpcs", ())
        return room(1, others(stack, there), applied(aws, *VPCS))

    def elastic(aws: ReadOnlyAws, needed: int) -> Finding:
        there = aws.get("ec2", "DescribeAddresses").get("Addresses", ())
        return room(needed, others(stack, there), applied(aws, *ADDRESSES))

    def balancers(aws: ReadOnlyAws) -> Finding:
        there = aws.get("elbv2", "DescribeLoadBalancers")
        return room(1, other_balancers(stack, there), applied(aws, *LOAD_BALANCERS))

    if isinstance(network, NewNetwork):
        yield Check("quota", f"VPCs ({VPCS[1]})", ("network",), vpcs)
        if needed := addresses(network):
            subject = f"Elastic IPs ({ADDRESSES[1]})"
            yield Check("quota", subject, ("network", "nat"), lambda aws: elastic(aws, needed))
    yield Check("quota", f"load balancers ({LOAD_BALANCERS[1]})", ("load_balancer",), balancers)
