"""The instances that a group terminates at scale-in. Pure."""

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
        "takes from the fullest zone; there, of the surplus purchase option, then by the group's termination policies "
        "(by default the oldest launch template, then the oldest instance); never one protected from scale-in"
    ),
    source="https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html",
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An instance that scale-in may choose."""

    id: str
    zone: str
    spot: bool
    launched_at: float
    template_version: int
    protected: bool = False


def choose(candidates: Sequence[Candidate], count: int, goal: Split, policies: Sequence[str]) -> list[str]:
    """Return up to `count` ids in the order of their termination; fewer if the rest is protected.

    `goal` is the group's split by purchase option afterwards. `policies` are termination policies; those modelled are
    Default, AllocationStrategy, OldestInstance, NewestInstance and OldestLaunchTemplate. OldestLaunchConfiguration,
    ClosestToNextInstanceHour and a Lambda function's policy are not modelled and are ignored.
    """
    left = [c for c in candidates if not c.protected]
    zones = Counter(c.zone for c in candidates)
    spot = sum(c.spot for c in candidates)
    on_demand = len(candidates) - spot
    chosen: list[str] = []
    while left and len(chosen) < count:
        fullest = max(zones[c.zone] for c in left)
        pool = [c for c in left if zones[c.zone] == fullest]
        surplus_spot, surplus_on_demand = spot - goal.spot, on_demand - goal.on_demand
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
            case _:  # AllocationStrategy: `choose` has picked the purchase option
                pass
    return (*keys, candidate.launched_at, candidate.id)
