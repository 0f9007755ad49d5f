"""The fleet: what each pool has, what it may become, and what an instance of it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gpu_fleet.scaling import capacity_errors, learning, mix, sizing
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.fixed_shares import carried_demand_rps, fixed_shares
from gpu_fleet.scaling.missing import Missing, missing, unfilled
from gpu_fleet.scaling.observation import Observation, PoolObservation
from gpu_fleet.scaling.policy import Policy, SizingMode, VerticalMethod
from gpu_fleet.scaling.service import Pool, Service

LEAST_SHARE = 0.25
"""An instance never counts for less. Where the SLO demands it (prompts of 100,000 tokens before short ones, at a
limit of seconds) no number of instances keeps the SLO, and buying them anyway would cost many times the demand."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """Bounds and worth of each pool, and their totals."""

    options: tuple[mix.PoolOption, ...]
    worth: Mapping[str, float]
    """Demand with its head-room that one instance may be counted for, typical requests per second."""
    lost: Mapping[str, int]
    """Instances of the desired count that carry nothing."""
    standing: Mapping[str, int]
    """Desired counts without those, and without orders that the group cannot fill now."""
    ready_rps: float
    standing_rps: float
    """Demand that what stands within the bounds carries: what exceeds them leaves, and is neither counted nor made up
    for."""
    full_rps: float = 1.0
    """Work of a full instance: the mean of those that stand, else of the first pool."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Of the traffic, by pool, where weights are fixed; empty where they follow capacity."""


def survey(context: Context, headroom: float = 1.0, instances: Mapping[str, int] | None = None) -> Fleet:
    """Find bounds and worth of each pool, at the worth of an instance among `instances` of each (default: desired).

    Two things must hold: the expected demand is served as strictly as the SLO says, and its upper end, `headroom`
    times as much, at `sizing.TAIL_BUDGET`. So an instance counts for the lesser of its share at that budget and
    `headroom` times its strict share. Worked: prompts of 12,000 tokens may fill an L40S to 33 % day in, day out, and
    to 64 % at the upper end; with 20 % head-room it counts for 1.2 * 33 = 40 %. An H100, 81 and 97 %: for 97 %.

    Traffic is split among the pools before it is balanced within one, so each pool evens out only its own part: two
    pools of one are no pool of two. A pool without instances is valued as if it had as many as stand in all, until a
    plan gives it some (`gpu_fleet.scaling.counts.settle`).
    """
    service, policy, state = context.service, context.policy, context.state
    counts = instances if instances is not None else {pool.name: view.desired for pool, view in context.pools()}
    total = max(1, sum(counts.values()))
    scv = state.demand.dispersion or 1.0
    reaching = any(p.reaches_slo and p.max_instances > 0 for p in service.pools)
    options: list[mix.PoolOption] = []
    worth: dict[str, float] = {}
    lost: dict[str, int] = {}
    standing: dict[str, int] = {}
    ready_rps = 0.0
    for pool, view in context.pools():
        name = pool.name
        part_scv = thinned(scv, pool, service, counts)
        worth[name] = _worth(context, pool, counts[name] or total, part_scv, headroom)
        gone = missing(policy.horizontal, view, context.now)
        lost[name] = min(gone.count, view.desired)
        standing[name] = view.desired - lost[name]
        ready_rps += view.ready_count * worth[name]
        at_least, at_most = _bounds(pool, view, gone)
        if capacity_errors.blocked(pool, view, state.pools[name], context.now):
            standing[name] = max(0, standing[name] - unfilled(view))
            at_most = min(at_most, standing[name])
        if policy.sizing_mode is SizingMode.SLO and reaching and not pool.reaches_slo:
            at_most = 0
        if policy.vertical.method is VerticalMethod.OFF and pool is not service.pools[0]:
            at_most = min(at_most, max(standing[name], at_least))
        options.append(
            mix.PoolOption(
                name=name,
                instance_rps=worth[name],
                usd_per_hour=pool.usd_per_hour,
                at_least=min(at_least, at_most),
                at_most=at_most,
                vcpus=pool.vcpus,
                quota=pool.quota,
            )
        )
    shares = fixed_shares(policy.routing, options)
    within = {option.name: min(standing[option.name], option.at_most) for option in options}
    standing_rps = carried_demand_rps(options, within, shares)
    full_rps = _full_rps(context, options, within)
    return Fleet(tuple(options), worth, lost, standing, ready_rps, standing_rps, full_rps, shares)


def _full_rps(context: Context, options: Sequence[mix.PoolOption], counts: Mapping[str, int]) -> float:
    """Work of a full instance: standing_rps over it is the sum of the shares that instances may be used to."""
    full = {pool.name: pool.throughput_rps * context.correction(pool) for pool in context.service.pools}
    usable = sum(counts[option.name] * option.instance_rps / full[option.name] for option in options)
    return mix.carried_rps(options, counts) / usable if usable > 0 else full[options[0].name]


def thinned(scv: float, pool: Pool, service: Service, counts: Mapping[str, int]) -> float:
    """Return the burstiness of a pool's part of the traffic, which goes by throughput; all of it where it has none.

    A part p of a stream, dealt out at random, has 1 + (scv - 1) * p as variance over mean: each of its requests is
    kept with probability p (D. R. Cox, V. Isham, "Point Processes", 1980, section 4.3). A quarter of scv 13 has 4.
    """
    everything = sum(counts[each.name] * each.throughput_rps for each in service.pools)
    part = counts[pool.name] * pool.throughput_rps / everything if counts[pool.name] else 1.0
    return 1 + (scv - 1) * part


def _worth(context: Context, pool: Pool, among: int, scv: float, headroom: float) -> float:
    share = counted_share(pool, context.policy, among, scv)
    tail = counted_share(pool, context.policy, among, scv, sizing.TAIL_BUDGET)
    return pool.throughput_rps * context.correction(pool) * min(max(share, tail), headroom * share)


def _bounds(pool: Pool, view: PoolObservation, gone: Missing) -> tuple[int, int]:
    """Fewest and most instances that may carry something: the policy's and the group's, without what is lost."""
    at_most = max(0, min(pool.max_instances, view.max_size) - min(gone.count, view.desired))
    return max(pool.min_instances, min(view.min_size, pool.max_instances)), at_most


def counted_share(pool: Pool, policy: Policy, instances: int, scv: float, budget: float | None = None) -> float:
    """`sizing.usable_share`, and never less than `LEAST_SHARE`."""
    return max(LEAST_SHARE, sizing.usable_share(pool, policy, instances, scv, budget))


def ready_throughput_rps(context: Context) -> float:
    """Work that the ready instances complete when they are full."""
    return sum(view.ready_count * pool.throughput_rps * context.correction(pool) for pool, view in context.pools())


def nothing_stands(seen: Observation) -> bool:
    """Whether there are neither instances nor orders."""
    return all(view.desired == 0 and not view.instances for view in seen.pools.values())


def leads_seconds(context: Context) -> Mapping[str, float]:
    """The lead time of each pool that may be used."""
    return {p.name: learning.lead_seconds(p, context.state) for p in context.service.pools if p.max_instances > 0}


def lead_seconds(context: Context) -> float:
    """The lead time of the slowest pool that has instances, or of the fastest where none has."""
    leads = leads_seconds(context)
    used = [lead for name, lead in leads.items() if context.seen.pools[name].desired > 0]
    if used:
        return max(used)
    return min(leads.values(), default=0.0)
