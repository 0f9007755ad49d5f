"""Which instances a group takes at scale-in. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gpu_fleet.emulator.lifelike.difference import Difference
from gpu_fleet.emulator.lifelike.placement import Split

DIFFERENCE = Difference(
    name="scale-in choice",
    moto="takes the first instances of its list, and shuffles the list at each scale-in",
    aws=(
        "takes from the fullest zone; there, of the purchase option that is in excess, then by the "
        "group's termination policies "
        "(by default the oldest launch template, then the oldest); never one that is protected from scale-in"
    ),
    source="https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html",
)

POLICIES = ("Default", "AllocationStrategy", "OldestInstance", "NewestInstance", "OldestLaunchTemplate")
"""The termination policies that are modelled. Missing: OldestLaunchConfiguration, ClosestToNextInstanceHour, a
Lambda's.
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance of the group, as the choice sees it."""

    id: str
    zone: str
    spot: bool
    launched_at: float
    template_version: int
    protected: bool = False


def choose(candidates: Sequence[Candidate], count: int, want: Split, policies: Sequence[str]) -> list[str]:
    """Up to `count` ids in the order they are to go; fewer where the rest is protected.

    `want` is the split by purchase option that the group shall have afterwards.
    """
    left = [c for c in candidates if not c.protected]
    zones = Counter(c.zone for c in candidates)
    spot = sum(c.spot for c in candidates)
    on_demand = len(candidates) - spot
    chosen: list[str] = []
    while left and len(chosen) < count:
        fullest = max(zones[c.zone] for c in left)
        pool = [c for c in left if zones[c.zone] == fullest]
        surplus_spot, surplus_on_demand = spot - want.spot, on_demand - want.on_demand
        if surplus_spot > 0 or surplus_on_demand > 0:
            of_surplus = [c for c in pool if c.spot == (surplus_spot >= surplus_on_demand)]
            pool = of_surplus or pool
        victim = min(pool, key=lambda c: _order(c, policies))
        left.remove(victim)
        zones[victim.zone] -= 1
        spot, on_demand = spot - victim.spot, on_demand - (not victim.spot)
        chosen.append(victim.id)
    return chosen


def _order(candidate: Candidate, policies: Sequence[str]) -> tuple[float | str, ...]:
    keys: list[float | str] = []
    for policy in policies or ("Default",):
        match policy:
            case "Default":
                keys += [candidate.template_version, candidate.launched_at]
            case "OldestLaunchTemplate":
                keys.append(candidate.template_version)
            case "OldestInstance":
                keys.append(candidate.launched_at)
            case "NewestInstance":
                keys.append(-candidate.launched_at)
            case _:  # AllocationStrategy: done above, by purchase option
                pass
    return (*keys, candidate.launched_at, candidate.id)
