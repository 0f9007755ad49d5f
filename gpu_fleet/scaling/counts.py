"""Choose instance counts: the cheapest mix, valued at that fleet size, above the policy's floors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.scaling import capacity_errors, learning, mix_choice, zero
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.fixed_shares import pinned
from gpu_fleet.scaling.fleet import Fleet, survey
from gpu_fleet.scaling.reasons import zero as reasons
from gpu_fleet.scaling.state import MixMemory
from gpu_fleet.scaling.window import Band, wanted_rps
from gpu_fleet.scaling.zones import Zones, zones_of

MOST_LOOKS = 5
"""Three passes converge unless very different pools alternate."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Instances wanted of each pool, with the fleet valued at these counts."""

    by_pool: Mapping[str, int]
    fleet: Fleet
    memory: MixMemory
    reasons: tuple[Reason, ...]
    instead_of: Mapping[str, int] | None = None
    """As in `mix_choice.Mix`."""


def settle(
    context: Context, fleet: Fleet, wanted: float, band: Band, headroom: float = 1.0, *, may_move: bool = True
) -> Counts:
    """Choose counts that agree with the worth of an instance among as many.

    More instances pool better, so each may be used more: judged by the share of the ten that stand, two might leave
    that eight would have to call back. Scaling in, one look at the smaller count is on the safe side; scaling out, the
    first look orders too many and the second too few, so looks repeat until the counts stay.

    A move to other types begins in the first look, which values each type by what stands, and is held against that
    look's counts in the later ones, which value it by the plan: at the worth of two L4s, nine that stand would seem to
    do the work of seven, and any others cheap.
    """
    chosen = _choose(context, fleet, wanted, may_move=may_move)
    first = chosen
    grows = any(count > fleet.standing[name] for name, count in chosen.by_pool.items())
    looks = MOST_LOOKS if grows else int(chosen.by_pool != fleet.standing)
    planned: dict[str, int] = {}
    for _ in range(looks):
        before = chosen.by_pool
        # A pool that a look has dropped keeps its worth among as many as that look took it for: valued as a large one
        # again, a lone L4 would come back.
        planned |= {name: count for name, count in before.items() if count or name not in planned}
        fleet = survey(context, headroom, planned)
        wanted, _ = wanted_rps(band, fleet, context.policy.horizontal.tolerance_percent)
        chosen = _choose(context, fleet, wanted, may_move=first.instead_of is not None, instead_of=first.instead_of)
        if chosen.by_pool == before:
            break
    return chosen


def _choose(
    context: Context, fleet: Fleet, wanted: float, *, may_move: bool, instead_of: Mapping[str, int] | None = None
) -> Counts:
    policy, memory = context.policy, context.state.mix
    if context.state.zero.asleep:
        return Counts(dict.fromkeys(fleet.standing, 0), fleet, memory, (reasons.asleep(),))
    floor = max(policy.availability.min_instances, policy.availability.min_zones)
    if sum(fleet.standing.values()) == 0:
        floor = max(floor, policy.zero.wake_instances if zero.may_sleep(context.service) else 1)
    terms = _terms(context, may_move=may_move, instead_of=instead_of)
    chosen = _mix(context, fleet, wanted, floor, terms)
    more = _to_open_zones(context, fleet, sum(chosen.counts.values()))
    if more:
        chosen = _mix(context, fleet, wanted, max(floor, more), terms)
    memory = MixMemory(context.now) if chosen.moved else memory
    return Counts(chosen.counts, fleet, memory, tuple(chosen.reasons), chosen.instead_of)


def _mix(context: Context, fleet: Fleet, wanted: float, floor: int, terms: mix_choice.MoveTerms) -> mix_choice.Mix:
    options = fleet.options
    if fleet.shares:  # what a pool cannot carry of its share, the others cannot carry for it
        options = pinned(options, fleet.shares, wanted)
        wanted = min(wanted, sum(option.at_least * option.instance_rps for option in options))
    problem = mix_choice.MixProblem(options, wanted, context.service.vcpu_quotas, floor)
    return mix_choice.choose(problem, fleet.standing, terms)


def _terms(context: Context, *, may_move: bool, instead_of: Mapping[str, int] | None) -> mix_choice.MoveTerms:
    state, policy = context.state, context.policy
    return mix_choice.MoveTerms(
        policy.vertical,
        lead_seconds={p.name: learning.lead_seconds(p, state) for p in context.service.pools},
        launch_usd={p.name: p.launch_usd for p in context.service.pools},
        last_move_at=state.mix.moved_at or None,
        now=context.now,
        may_move=may_move,
        instead_of=instead_of,
        margin=1 + policy.horizontal.tolerance_percent / 100,
        most_more=policy.horizontal.max_step_out,
    )


def _to_open_zones(context: Context, fleet: Fleet, wanted: int) -> int:
    """Instances that bring the service to `availability.min_zones` zones; 0 where nothing needs to be added.

    A group launches in the zone where it has fewest instances, so each additional one opens another zone, and an order
    that is not filled yet may open one. Nothing is added while `wanted` is less than what is there (what leaves is
    never the last of its zone), where no pool with room has a zone that would count, or where there are already more
    instances than the pools have zones (then more would not help, and the group's own rebalancing spreads them).
    """
    least = context.policy.availability.min_zones
    if least == 1:
        return 0  # any instance is in a zone
    zones = Zones.of(least, context.seen.pools.values())
    room = {option.name: option.at_most > fleet.standing[option.name] for option in fleet.options}
    known, others = 0, set[str]()
    for pool, view in context.pools():
        known += len(zones_of(pool, view))
        if room[pool.name]:
            others |= capacity_errors.open_zones(pool, view, context.state.pools[pool.name], context.now)
    others -= {"", *zones.alive}
    lacking = min(zones.least - len(zones.alive), len(others))
    there = sum(zones.alive.values())
    useful = lacking > 0 and there <= min(wanted, known)
    return there + lacking if useful else 0
