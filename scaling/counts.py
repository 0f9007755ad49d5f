"""How many instances of each pool: the mix, at the worth that instances have among that many, over the floors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from scaling import guard, learning, mix, zero
from scaling.decision import Reason, Step
from scaling.fleet import Fleet, survey
from scaling.observation import Observation
from scaling.service import Service
from scaling.state import State


def settle(
    service: Service, seen: Observation, fleet: Fleet, wanted: float, band: guard.Band, state: State, now: float
) -> tuple[Fleet, Mapping[str, int], State, list[Reason]]:
    """The counts, with each instance's worth as it is among that many.

    More instances pool better, so each may be used more: judged by the share of the ten that stand, two might go that
    eight would have to call back. Going in, one look at the smaller count is on the safe side; going out the first
    look asks for too many, the second for too few, and the third, at that fewer, for enough.
    """
    counts, after, said = _mix(service, seen, fleet, wanted, state, now)
    stand = sum(fleet.standing.values())
    looks = 0 if sum(counts.values()) == stand else 1 if sum(counts.values()) < stand else 2
    for _ in range(looks):
        fleet = survey(service, seen, state, now, instances=counts)
        wanted, _ = guard.wanted_rps(band, fleet.standing_rps, service.policy.horizontal.tolerance_percent)
        counts, after, said = _mix(service, seen, fleet, wanted, state, now)
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
    floor = max(floor, _zone_floor(service, seen, state, now))
    chosen = mix.choose(
        fleet.rungs,
        wanted,
        fleet.standing,
        quotas=service.vcpu_quotas,
        min_instances=floor,
        vertical=policy.vertical,
        lead_seconds={p.name: learning.lead_seconds(p, state) for p in service.pools},
        last_move_at=state.moved_at or None,
        now=now,
    )
    if chosen.moved:
        state = replace(state, moved_at=now)
    return chosen.counts, state, list(chosen.reasons)


def _zone_floor(service: Service, seen: Observation, state: State, now: float) -> int:
    """Instances that it takes to stand in `availability.min_zones` zones, seen from where they stand.

    A group launches in the zone in which it has the fewest, so one more opens one more zone, and an order that is not
    there yet may be that one. Where no zone that would count can be had, or there are already more instances than the
    pools have zones (then more would not help, and the group's own rebalancing spreads them), nothing is added.
    """
    zones = guard.Zones.of(service.policy.availability.min_zones, seen.pools.values())
    closed = {m.zone for p in service.pools for m in state.pools[p.name].marks if m.until > now}
    others = {zone for p in service.pools for zone in p.zones if p.max_instances > 0} - zones.alive.keys() - closed
    lacking = min(zones.least - len(zones.alive), len(others))
    there = sum(zones.alive.values())
    return there + lacking if lacking > 0 and there <= sum(len(p.zones) for p in service.pools) else 0
