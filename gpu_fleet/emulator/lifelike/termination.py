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
        "identifies which purchase option is to be terminated, then takes from the zone with most instances of it, by "
        "the group's termination policies (by default the oldest launch template, then the oldest instance); never one "
        "protected from scale-in"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-termination-policies.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/mixed-instances-groups-set-up-overview.html"
    ),
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
    zones = Counter((c.zone, c.spot) for c in candidates)
    spot = sum(c.spot for c in candidates)
    on_demand = len(candidates) - spot
    chosen: list[str] = []
    while left and len(chosen) < count:
        surplus_is_spot = spot - goal.spot >= on_demand - goal.on_demand
        pool = [c for c in left if c.spot is surplus_is_spot] or left
        fullest = max(zones[c.zone, c.spot] for c in pool)
        victim = min((c for c in pool if zones[c.zone, c.spot] == fullest), key=lambda c: _order(c, policies))
        left.remove(victim)
        zones[victim.zone, victim.spot] -= 1
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
