"""Purchase option, zone and instance type of a group's next instance. Pure."""

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
        "keeps the group's zones equally full; on-demand capacity is the base plus a percentage of the rest, the "
        "remainder is spot; a prioritized strategy launches the first override that has capacity"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/allocation-strategies.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-availability-zone-balanced.html"
    ),
)


@dataclass(frozen=True, slots=True)
class LaunchPlacement:
    """The type, place and purchase option of one launch."""

    type: str
    zone: str
    subnet: str | None
    spot: bool


@dataclass(frozen=True, slots=True)
class Split:
    """A desired capacity by purchase option."""

    on_demand: int
    spot: int


def split(desired: int, policy: Mapping[str, Any] | None) -> Split:
    """Split `desired` instances into on demand and spot.

    Above the base the on-demand share is rounded up: 3 above the base at 50 percent are 2 on demand and 1 spot. A group
    without a mixed instances policy is all on demand. Source: InstancesDistribution in the API reference,
    https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_InstancesDistribution.html
    """
    distribution = (policy or {}).get("InstancesDistribution") or {}
    base = int(distribution.get("OnDemandBaseCapacity") or 0)
    percent = distribution.get("OnDemandPercentageAboveBaseCapacity")
    percent = 100 if percent is None else int(percent)
    above_base = max(0, desired - base)
    on_demand = min(desired, base) + math.ceil(above_base * percent / 100)
    return Split(on_demand, desired - on_demand)


def instance_types(policy: Mapping[str, Any] | None, template_type: str) -> tuple[str, ...]:
    """Return the types to try, preferred first: the policy's overrides, or else the template's own type.

    Every allocation strategy uses this order; EC2 alone knows the order of lowest-price and capacity-optimized.
    """
    overrides = ((policy or {}).get("LaunchTemplate") or {}).get("Overrides") or []
    types = tuple(o["InstanceType"] for o in overrides if o.get("InstanceType"))
    return types or ((template_type,) if template_type else ())


def zones_by_need(zones: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Return the group's zones, emptiest first; ties keep the group's own order."""
    distinct = list(dict.fromkeys(zones))
    return sorted(distinct, key=lambda zone: counts.get(zone, 0))
