"""The fleet: what stands of each pool, what it may become, and what an instance of it is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpu_fleet.scaling import capacity_errors, guard, learning, mix, sizing
from gpu_fleet.scaling.demand import ready_count
from gpu_fleet.scaling.observation import Observation, Phase
from gpu_fleet.scaling.policy import Policy, SizingMode, VerticalMethod
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import State

LEAST_SHARE = 0.25
"""Less of an instance is never counted. Where the SLO asks for less (prompts of 100,000 tokens before short ones, at a
limit of seconds) no number of instances keeps it, and to buy them all the same would cost many times the demand."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Bounds and worth of each pool, and what they come to together."""

    options: tuple[mix.PoolOption, ...]
    worth: Mapping[str, float]
    """What one instance may be counted for, of a demand with its head-room, typical requests per second."""
    lost: Mapping[str, int]
    """Instances of the desired count that carry nothing."""
    standing: Mapping[str, int]
    """Desired counts without those."""
    ready_rps: float
    standing_rps: float
    """Of what stands within the bounds: what is over them goes, and is neither counted nor made up for elsewhere."""


def survey(
    service: Service,
    seen: Observation,
    state: State,
    now: float,
    headroom: float = 1.0,
    instances: Mapping[str, int] | None = None,
) -> Fleet:
    """Bounds and worth of each pool, with the worth that `instances` of each have; unset: as many as stand.

    Two things must hold: the demand that is expected is served as strictly as the SLO says, and its upper end,
    `headroom` times as much, at `sizing.TAIL_BUDGET`. So an instance counts for the less of its share at that budget
    and `headroom` times its strict share. Worked: prompts of 12,000 tokens may fill an L40S to 33 % day in, day out,
    and to 64 % at the upper end; with 20 % head-room it counts for 1.2 * 33 = 40 %. An H100, 81 and 97 %: for 97 %.

    Traffic is split among the pools before it is balanced within one, so each pool evens out its own part alone: two
    pools of one do not make a pool of two. One that has no instance is taken for as many as stand in all.
    """
    policy = service.policy
    counts = instances if instances is not None else {p.name: seen.pools[p.name].desired for p in service.pools}
    total = max(1, sum(counts.values()))
    reaching = any(p.reaches_slo and p.max_instances > 0 for p in service.pools)
    options: list[mix.PoolOption] = []
    worth: dict[str, float] = {}
    lost: dict[str, int] = {}
    standing: dict[str, int] = {}
    ready_rps = 0.0
    for pool in service.pools:
        view, remembered = seen.pools[pool.name], state.pools[pool.name]
        scv = state.dispersion or 1.0
        among = counts[pool.name] or total
        share = counted_share(pool, policy, among, scv)
        tail = counted_share(pool, policy, among, scv, sizing.TAIL_BUDGET)
        whole = pool.throughput_rps * remembered.correction
        worth[pool.name] = whole * min(max(share, tail), headroom * share)
        nothing = guard.gone(policy.horizontal, view, remembered.short, now)
        lost[pool.name] = min(nothing.count, view.desired)
        standing[pool.name] = view.desired - lost[pool.name]
        ready_rps += ready_count(view) * worth[pool.name]
        at_most = max(0, min(pool.max_instances, view.max_size) - lost[pool.name])
        at_least = max(pool.min_instances, min(view.min_size, pool.max_instances))
        if capacity_errors.blocked(pool, remembered, now, spot=pool.spot_percent >= 100):
            alive = len(view.those(Phase.READY, Phase.STARTING))
            at_most = min(at_most, max(0, alive - len(nothing.stuck)))
        if policy.sizing_mode is SizingMode.SLO and reaching and not pool.reaches_slo:
            at_most = 0
        if policy.vertical.method is VerticalMethod.OFF and pool is not service.pools[0]:
            at_most = min(at_most, max(standing[pool.name], at_least))
        options.append(
            mix.PoolOption(
                name=pool.name,
                instance_rps=worth[pool.name],
                usd_per_hour=pool.usd_per_hour,
                at_least=min(at_least, at_most),
                at_most=at_most,
                vcpus=pool.vcpus,
                quota=pool.quota,
            )
        )
    standing_rps = sum(min(standing[option.name], option.at_most) * option.instance_rps for option in options)
    return Fleet(tuple(options), worth, lost, standing, ready_rps, standing_rps)


def counted_share(pool: Pool, policy: Policy, instances: int, scv: float, budget: float | None = None) -> float:
    """`sizing.usable_share`, and never less than `LEAST_SHARE`."""
    return max(LEAST_SHARE, sizing.usable_share(pool, policy, instances, scv, budget))


def nothing_stands(seen: Observation) -> bool:
    """Neither instances nor orders."""
    return all(view.desired == 0 and not view.instances for view in seen.pools.values())


def horizon_seconds(service: Service, seen: Observation, state: State) -> float:
    """The lead time of the slowest pool that stands, or of the fastest where none does."""
    leads = {p.name: learning.lead_seconds(p, state) for p in service.pools if p.max_instances > 0}
    used = [lead for name, lead in leads.items() if seen.pools[name].desired > 0]
    if used:
        return max(used)
    return min(leads.values(), default=0.0)
