"""Addresses: the network's range and zones, and the clients that may connect."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import ZONE_LETTERS, NewNetwork, PoolSettings, StackSettings

MAX_INBOUND_RULES = 60
"""Inbound rules of a security group:
https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html#vpc-limits-security-groups"""

MIN_PREFIX, MAX_PREFIX = 16, 23
"""Prefix lengths of the VPC. Its subnets are sixteenths, and a load balancer takes no subnet smaller than /27:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/application-load-balancers.html#subnets-load-balancer"""


def range_problems(at: KeyPath, text: str) -> Iterator[PlanProblem]:
    """Check that a text is an IPv4 range written from its first address, as AWS requires."""
    if re.fullmatch(r"(\d{1,3}\.){3}\d{1,3}/\d{1,2}", text) is None:
        yield PlanProblem(at, f"must be an IPv4 range like 10.0.0.0/16 (got {text})")
        return
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        yield PlanProblem(at, f"must be an IPv4 range of four numbers of 0 to 255 and a length of 0 to 32 (got {text})")
        return
    if str(network) != text:
        yield PlanProblem(at, f"must be written from its first address, {network} (got {text})")


def network_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check the network's range, zones and subnets."""
    network = settings.network
    if not isinstance(network, NewNetwork):
        for key in ("public_subnet_ids", "private_subnet_ids"):
            ids = getattr(network, key, ())
            for i, subnet in enumerate(ids):
                if subnet in ids[:i]:
                    yield PlanProblem(("network", key, i), f"must be given once (got {subnet} twice)")
    zones = getattr(network, "zones", ())
    region = getattr(settings, "region", None)
    for i, zone in enumerate(zones):
        at = ("network", "zones", i)
        if region is not None and zone[:-1] != region:
            yield PlanProblem(at, f"must be a zone of {region} (got {zone})")
        elif isinstance(network, NewNetwork) and zone[-1] not in ZONE_LETTERS:
            yield PlanProblem(at, f"must end in {ZONE_LETTERS[0]} to {ZONE_LETTERS[-1]} (got {zone})")
    if isinstance(network, NewNetwork):
        if len(set(zones)) < len(zones):
            yield PlanProblem(("network", "zones"), f"must differ (got {', '.join(zones)})")
        yield from _vpc_problems(network.cidr)
    elif network.zones and len(network.zones) != len(network.private_subnet_ids):
        yield PlanProblem(
            ("network", "zones"),
            f"must be as many as private_subnet_ids, {len(network.private_subnet_ids)} (got {len(network.zones)})",
        )


def pool_zone_problems(at: KeyPath, pool: PoolSettings, settings: StackSettings) -> Iterator[PlanProblem]:
    """Check that a pool's zones are among the stack's, which have subnets."""
    zones = settings.network.zones
    for i, zone in enumerate(pool.zones):
        if zone in pool.zones[:i]:
            yield PlanProblem((*at, "zones", i), f"must be given once (got {zone} twice)")
        elif zone not in zones:
            allowed = ", ".join(zones) or "which names none"
            yield PlanProblem((*at, "zones", i), f"must be one of network.zones, {allowed} (got {zone})")


def _vpc_problems(cidr: str) -> Iterator[PlanProblem]:
    at = ("network", "cidr")
    problems = list(range_problems(at, cidr))
    yield from problems
    if not problems and not MIN_PREFIX <= ipaddress.IPv4Network(cidr).prefixlen <= MAX_PREFIX:
        yield PlanProblem(at, f"must be /{MIN_PREFIX} to /{MAX_PREFIX} (got {cidr})")


def client_problems(settings: StackSettings) -> Iterator[PlanProblem]:
    """Check who may connect: each range takes a rule of the load balancer's security group, two with TLS."""
    balancer = settings.load_balancer
    cidrs = balancer.allowed_cidrs or ()
    at = ("load_balancer", "allowed_cidrs")
    if balancer.allowed_cidrs is None and balancer.certificate_arn is None and not balancer.internal:
        yield PlanProblem(
            at,
            "must be given without certificate_arn or internal: true: plain HTTP would serve anybody on the internet",
        )
    for i, cidr in enumerate(cidrs):
        yield from range_problems((*at, i), cidr)
        if cidr in cidrs[:i]:
            yield PlanProblem((*at, i), f"must be given once (got {cidr} twice)")
    ports = 2 if balancer.certificate_arn is not None else 1
    if len(cidrs) * ports > MAX_INBOUND_RULES:
        and_ports = " and two ports" if ports == 2 else ""
        yield PlanProblem(
            at,
            f"must be at most {MAX_INBOUND_RULES // ports} ranges: a security group has {MAX_INBOUND_RULES} rules, "
            f"one for each range{and_ports} (got {len(cidrs)})",
        )
