"""Which purchase option, zone and instance type a group's next instance gets. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gpu_fleet.emulator.lifelike.difference import Difference

DIFFERENCE = Difference(
    name="mixed instances policy",
    moto="starts every instance in the first subnet, on demand, with the launch template's own type",
    aws=(
        "keeps the zones of the group equally full; on-demand capacity is the base and the "
        "percentage above it, the rest is "
        "spot; with a prioritized strategy the first override that has capacity is launched"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/allocation-strategies.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html"
    ),
)


@dataclass(frozen=True, slots=True)
class Split:
    """A desired capacity by purchase option."""

    on_demand: int
    spot: int


def split(desired: int, policy: Mapping[str, Any] | None) -> Split:
    """How many of `desired` instances are on demand and how many spot.

    Above the base the on-demand share is rounded up: 3 above the base at 50 percent are 2 on demand and 1 spot. A group
    without a mixed instances policy is all on demand. Source: InstancesDistribution in the API reference,
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html
    """
    distribution = (policy or {}).get("InstancesDistribution") or {}
    base = int(distribution.get("OnDemandBaseCapacity") or 0)
    percent = distribution.get("OnDemandPercentageAboveBaseCapacity")
    percent = 100 if percent is None else int(percent)
    above = max(0, desired - base)
    on_demand = min(desired, base) + math.ceil(above * percent / 100)
    return Split(on_demand, desired - on_demand)


def instance_types(policy: Mapping[str, Any] | None, template_type: str) -> tuple[str, ...]:
    """The types to try, the preferred first: the policy's overrides, or the template's own type without any.

    The order stands for every allocation strategy; that of lowest-price and capacity-optimized is EC2's own knowledge.
    """
    overrides = ((policy or {}).get("LaunchTemplate") or {}).get("Overrides") or []
    types = tuple(o["InstanceType"] for o in overrides if o.get("InstanceType"))
    return types or ((template_type,) if template_type else ())


def zones_by_need(zones: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """The group's zones, the emptiest first; among equals in the group's own order."""
    distinct = list(dict.fromkeys(zones))
    return sorted(distinct, key=lambda zone: counts.get(zone, 0))
