"""How many instances of each pool: the mix, at the worth that instances have among that many, over the floors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gpu_fleet.scaling import guard, learning, mix_choice, zero
from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.fleet import Fleet, survey
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State

MOST_LOOKS = 5
"""Three are enough but where pools of very different size take turns."""


def settle(
    service: Service,
    seen: Observation,
    fleet: Fleet,
    wanted: float,
    band: guard.Band,
    state: State,
    now: float,
    headroom: float = 1.0,
) -> tuple[Fleet, Mapping[str, int], State, list[Reason]]:
    """The counts, with each instance's worth as it is among that many.

    More instances pool better, so each may be used more: judged by the share of the ten that stand, two might go that
    eight would have to call back. Going in, one look at the smaller count is on the safe side; going out the first
    look asks for too many and the second for too few, so it is looked at again until the counts stay.
    """
    counts, after, said = _mix(service, seen, fleet, wanted, state, now)
    grows = any(count > fleet.standing[name] for name, count in counts.items())
    looks = MOST_LOOKS if grows else int(counts != fleet.standing)
    for _ in range(looks):
        before = counts
        fleet = survey(service, seen, state, now, headroom, counts)
        wanted, _ = guard.wanted_rps(band, fleet.standing_rps, service.policy.horizontal.tolerance_percent)
        counts, after, said = _mix(service, seen, fleet, wanted, state, now)
        if counts == before:
            break
    return fleet, counts, after, said


def _mix(
    service: Service, seen: Observation, fleet: Fleet, wanted: float, state: State, now: float
) -> tuple[Mapping[str, int], State, list[Reason]]:
    policy = service.policy
    if state.asleep:
        text = "Nobody has asked for the policy's idle time: the service sleeps."
        return dict.fromkeys(fleet.standing, 0), state, [Reason(Step.MIX, "zero.asleep", text)]
    floor = max(policy.availability.min_instances, policy.availability.min_zones)
    if sum(fleet.standing.values()) == 0:
        floor = max(floor, policy.zero.wake_instances if zero.may_sleep(service) else 1)

    terms = mix_choice.MoveTerms(
        policy.vertical,
        lead_seconds={p.name: learning.lead_seconds(p, state) for p in service.pools},
        last_move_at=state.moved_at or None,
        now=now,
    )

    def choose(floor: int) -> mix_choice.Mix:
        problem = mix_choice.MixProblem(fleet.options, wanted, service.vcpu_quotas, floor)
        return mix_choice.choose(problem, fleet.standing, terms)

    chosen = choose(floor)
    more = _to_open_zones(service, seen, state, sum(chosen.counts.values()), now)
    if more:
        chosen = choose(max(floor, more))
    if chosen.moved:
        state = replace(state, moved_at=now)
    return chosen.counts, state, list(chosen.reasons)


def _to_open_zones(service: Service, seen: Observation, state: State, wanted: int, now: float) -> int:
    """Instances to have so that they come to stand in `availability.min_zones` zones; 0 where nothing is to be added.

    A group launches in the zone in which it has the fewest, so one more opens one more zone, and an order that is not
    there yet may be that one. Nothing is added while `wanted` is less than what is there (of what leaves, none is the
    last of its zone), where no zone that would count can be had, or where there are already more instances than the
    pools have zones (then more would not help, and the group's own rebalancing spreads them).
    """
    if service.policy.availability.min_zones == 1:
        return 0  # whatever stands, stands in a zone
    zones = guard.Zones.of(service.policy.availability.min_zones, seen.pools.values())
    closed = {m.zone for p in service.pools for m in state.pools[p.name].marks if m.until > now}
    others = {zone for p in service.pools for zone in p.zones if p.max_instances > 0} - zones.alive.keys() - closed
    lacking = min(zones.least - len(zones.alive), len(others))
    there = sum(zones.alive.values())
    useful = lacking > 0 and there <= min(wanted, sum(len(p.zones) for p in service.pools))
    return there + lacking if useful else 0
