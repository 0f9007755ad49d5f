"""Vertical scaling in place: an instance refresh rolls other types through the only pool of a service.

A refresh with a minimum healthy percentage of 100 starts new instances before old ones go, one for one. So while it
runs there are as many instances as before, or as many as the new types need if that is more, and two kinds of
instances stand side by side:

- load is measured by the mean of the instances that serve: their capacities add up;
- counts follow the weakest kind that is there or comes. Any instance may be the next to go, and the rest must carry
  the demand; the surplus goes when the refresh is over.

https://docs.aws.amazon.com/autoscaling/ec2/userguide/instance-refresh-overview.html
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling import sizing
from gpu_fleet.scaling.decision import Decision, Reason, Refresh
from gpu_fleet.scaling.missing import ALIVE
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import Policy, SizingMode, VerticalMethod
from gpu_fleet.scaling.reasons import vertical as reasons
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import MixMemory, State

LEAST_SURGE_PERCENT, MOST_SURGE_PERCENT = 10, 100
"""A tenth must always fit; with a minimum healthy percentage of 100 the maximum is at most 200:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_RefreshPreferences.html"""
SETTLE_SECONDS = 120.0
"""From the end of a refresh until the surplus goes: one run sees the end, the next knows the least busy."""
ROUNDING = 1e-9
"""Share of the work by which rounding may miss it."""


@dataclass(frozen=True, slots=True)
class _Option:
    """A fleet of one kind of instance that carries the requirement."""

    kind: Pool
    count: int
    """Instances that carry the requirement."""
    through: int
    """Desired count while the refresh runs."""
    surge_percent: int
    overlap_usd: float
    """Cost of the refresh: what stands during it, beyond what would stand without it."""

    @property
    def usd_per_hour(self) -> float:
        return self.count * self.kind.usd_per_hour

    @property
    def choice(self) -> reasons.Choice:
        return reasons.Choice(self.kind.types, self.count, self.usd_per_hour)


def as_measured(service: Service, seen: Observation) -> Service:
    """Set the pool's figures to the mean of the instances that serve; no change where types do not change."""
    if not _changes_types(service):
        return service
    pool = service.pools[0]
    view = seen.pools[pool.name]
    ready = _standing(pool, view, Phase.READY) or [(launching(pool, view), 1)]
    return service.model_copy(update={"pools": (_mean(ready),)})


def as_counted(service: Service, seen: Observation) -> Service:
    """Set the pool's figures to those of the weakest instance; no change where types do not change."""
    if not _changes_types(service):
        return service
    pool = service.pools[0]
    view = seen.pools[pool.name]
    there = _standing(pool, view, *ALIVE)
    weakest = min([launching(pool, view), *(kind for kind, _ in there)], key=lambda kind: kind.throughput_rps)
    return service.model_copy(update={"pools": (weakest,)})


def launching(pool: Pool, view: PoolObservation) -> Pool:
    """The pool with the types that its group launches now; the first written where the group's are none of these."""
    return next((kind for kind in pool.kinds if kind.types == view.types), pool)


def consider(service: Service, seen: Observation, decision: Decision, now: float) -> Decision:
    """Add a refresh to other types to the decision where that is right, and in any case say what was found.

    Other types come when the present ones do not carry the requirement within maximum and quota and others do, or when
    others carry it for `vertical.minimum_saving_percent` less, the saving within `vertical.minimum_stay_seconds` is
    more than the refresh costs, and no type was changed for that long. Never while a refresh runs; never types that do
    not carry the requirement, miss the SLO where others meet it, or do not fit maximum and quota in the refresh too.

    `service` has the figures of each kind, as written and at the request seen; not `as_counted`.
    """
    required = decision.signals.required_rps
    if not _changes_types(service) or decision.held or decision.state.zero.asleep or required is None:
        return decision
    pool = service.pools[0]
    view = seen.pools[pool.name]
    if view.desired == 0:
        return decision
    present = launching(pool, view)
    if view.refreshing:
        return _with(decision, reasons.refreshing(present.types))
    if view.launch_suspended:
        return decision
    needed = max([required, *(point.rps for point in decision.state.guard.required)])
    options = _options(service, view, present, needed, decision.state)
    if view.types and view.types != present.types:
        return _as_written(service, view, decision, options, now)
    kept = next((option for option in options if option.kind.types == present.types), None)
    others = [option for option in options if option is not kept]
    best = min(others, key=lambda option: (option.usd_per_hour, option.overlap_usd), default=None)
    if best is None:
        why = reasons.no_others(kept.choice, needed) if kept else reasons.no_types(pool.name, needed)
        return _with(decision, why)
    if kept is None:
        return _start(decision, best, reasons.kept_cannot_carry(present.types, needed, best.choice), now)
    saving = kept.usd_per_hour - best.usd_per_hour
    numbers = {"saving_usd_per_hour": saving, "overlap_usd": best.overlap_usd, "required_rps": needed}
    if (loss := _loss(service.policy, kept, best, saving)) is not None:
        return _with(decision, reasons.no_saving(kept.choice, best.choice, loss, numbers))
    if (delay := _delay(service, view, decision, now)) is not None:
        return _with(decision, reasons.wait(f"Stays with {kept.choice}", best.choice, delay, numbers))
    return _start(decision, best, reasons.saves(kept.choice, best.choice, saving, best.overlap_usd), now, numbers)


def _changes_types(service: Service) -> bool:
    return service.policy.vertical.method is VerticalMethod.IN_PLACE and bool(service.pools[0].alternatives)


def _standing(pool: Pool, view: PoolObservation, *phases: Phase) -> list[tuple[Pool, int]]:
    """Count instances of each kind; one whose type no set names counts as the kind launched now."""
    by_type = {name: kind for kind in reversed(pool.kinds) for name in kind.types}
    default = launching(pool, view)
    counts = Counter(by_type.get(i.type, default).types for i in view.those(*phases))
    return [(kind, counts[kind.types]) for kind in pool.kinds if counts[kind.types]]


def _mean(counts: Sequence[tuple[Pool, int]]) -> Pool:
    """The mean instance.

    Worked: two with C = 40, 4 rps and one with C = 10, 1 rps have the mean C = 30, 3 rps; by Little's law a request is
    in service for (2*4*10 + 1*1*10)/(2*4 + 1*1) = 10 s.
    """
    if len(counts) == 1:
        return counts[0][0]
    kinds = [kind for kind, _ in counts]
    total = sum(count for _, count in counts)
    throughput = sum(kind.throughput_rps * count for kind, count in counts) / total

    def mean(figure: str) -> float:
        return sum(getattr(kind, figure) * count for kind, count in counts) / total

    def mean_of_work(figure: str) -> float:
        return sum(getattr(kind, figure) * kind.throughput_rps * count for kind, count in counts) / total / throughput

    spot = all(kind.spot_usd_per_hour is not None for kind in kinds)
    most, _ = max(counts, key=lambda one: one[1])
    return most.model_copy(
        update={
            "capacity": mean("capacity"),
            "throughput_rps": throughput,
            "slots": mean("slots") if all(kind.slots for kind in kinds) else 0.0,
            "slowdown": mean_of_work("slowdown"),
            "service_seconds": mean_of_work("service_seconds"),
            "first_token_seconds": max(kind.first_token_seconds for kind in kinds),
            "on_demand_usd_per_hour": mean("on_demand_usd_per_hour"),
            "spot_usd_per_hour": mean("spot_usd_per_hour") if spot else None,
        }
    )


def _options(service: Service, view: PoolObservation, present: Pool, needed: float, state: State) -> list[_Option]:
    """Find the kinds that carry the requirement within bounds and quotas, during the refresh too."""
    policy, pool = service.policy, service.pools[0]
    at_most = max(view.min_size, min(pool.max_instances, view.max_size))
    at_least = max(
        pool.min_instances, view.min_size, policy.availability.min_instances, policy.availability.min_zones, 1
    )
    correction = state.pool(pool.name).correction
    kinds = pool.kinds
    reaching = [kind for kind in kinds if kind.reaches_slo] or kinds
    options: list[_Option] = []
    for kind in reaching if policy.sizing_mode is SizingMode.SLO else kinds:
        # That the present types carry more than the catalog says tells nothing of others; that they carry less may be
        # due to the requests, and a move in the hope of better would be undone in an hour.
        believed = correction if kind.types == present.types else min(1.0, correction)
        quota = service.vcpu_quotas.get(kind.quota)
        room = at_most if quota is None else min(at_most, quota // kind.vcpus)
        count = _count(kind, policy, needed / believed, at_least, room, state.demand.dispersion or 1.0)
        if count is None:
            continue
        if kind.types == present.types:
            options.append(_Option(kind, count, count, LEAST_SURGE_PERCENT, 0.0))
            continue
        if (option := _through(service, view, present, kind, count, at_most)) is not None:
            options.append(option)
    kept = next((option for option in options if option.kind.types == present.types), None)
    stands_usd = kept.usd_per_hour if kept else view.desired * present.usd_per_hour
    return [
        replace(option, overlap_usd=_overlap_usd(option, present, view.desired, stands_usd))
        if option is not kept
        else option
        for option in options
    ]


def _count(kind: Pool, policy: Policy, needed: float, at_least: int, at_most: int, scv: float) -> int | None:
    """The fewest instances that carry the work, each used as far as allowed among that many; None beyond `at_most`.

    An instance is worth what `gpu_fleet.scaling.fleet` says: at the upper end of the forecast, as the requirement is.
    More instances never carry less, so bisection finds the fewest.
    """

    def carries(n: int) -> bool:
        share = max(
            sizing.usable_share(kind, policy, n, scv), sizing.usable_share(kind, policy, n, scv, sizing.TAIL_BUDGET)
        )
        return n * kind.throughput_rps * share >= needed * (1 - ROUNDING)

    low = max(at_least, math.ceil(needed / kind.throughput_rps - ROUNDING))
    if low > at_most or not carries(at_most):
        return None
    high = at_most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if carries(middle) else (middle + 1, high)
    return high


def _through(
    service: Service, view: PoolObservation, present: Pool, kind: Pool, count: int, at_most: int
) -> _Option | None:
    """Plan the way from what stands to `count` of another kind; None where quota or maximum forbid it.

    The refresh surges as far as fits: all at once is quickest, and cheaper where fewer of the new kind will do, since
    the surplus goes only when the refresh is over.
    """
    through = max(view.desired, count)
    if through > at_most:
        return None
    within = min(MOST_SURGE_PERCENT, max(LEAST_SURGE_PERCENT, 100 * (at_most - through) // through))
    for percent in sorted({within, LEAST_SURGE_PERCENT}, reverse=True):
        surge = _surge(through, percent)
        if kind.quota == present.quota:
            early = view.desired * present.vcpus + (through - view.desired + surge) * kind.vcpus
            late = surge * max(present.vcpus, kind.vcpus) + through * kind.vcpus
            vcpus = max(early, late)
        else:
            vcpus = (through + surge) * kind.vcpus
        if vcpus <= service.vcpu_quotas.get(kind.quota, math.inf):
            return _Option(kind, count, through, percent, 0.0)
    return None


def _surge(through: int, percent: int) -> int:
    return max(1, through * percent // 100)


def _overlap_usd(option: _Option, present: Pool, standing: int, stands_usd: float) -> float:
    """Cost of the refresh beyond what would stand without it (`stands_usd` an hour).

    Each batch takes one lead time, in which it is paid for and serves nobody; before the first the group grows to what
    it needs; after the last the surplus goes. Worked: 4 at 1 USD, all replaced at once by 4 at 2 USD with a lead
    of 360 s, of which 1 is enough: (4 + 8 - 4) * 0.1 h + (8 - 4) * 0.033 h = 0.93 USD.
    """
    old, new = present.usd_per_hour, option.kind.usd_per_hour
    paid = 0.0
    if option.through > standing:
        paid += standing * old + (option.through - standing) * new - stands_usd
    surge, left = _surge(option.through, option.surge_percent), standing
    while left > 0:
        batch = min(surge, left)
        paid += left * old + (option.through - left + batch) * new - stands_usd
        left -= batch
    surplus = max(0.0, option.through * new - stands_usd) if option.through > option.count else 0.0
    return (paid * option.kind.lead_seconds + surplus * SETTLE_SECONDS) / 3600


def _loss(policy: Policy, kept: _Option, best: _Option, saving: float) -> str | None:
    """Why other types do not pay."""
    if saving <= 0:
        return reasons.SAVES_NOTHING
    percent = 100 * saving / kept.usd_per_hour
    if percent < policy.vertical.minimum_saving_percent:
        return reasons.saves_too_little(percent, policy.vertical.minimum_saving_percent)
    stay = policy.vertical.minimum_stay_seconds
    if saving * stay / 3600 <= best.overlap_usd:
        return reasons.saves_less_than_it_costs(saving, stay, best.overlap_usd)
    return None


def _delay(service: Service, view: PoolObservation, decision: Decision, now: float) -> str | None:
    """Why a change that pays is not made now."""
    pool, state = service.pools[0], decision.state
    stay = service.policy.vertical.minimum_stay_seconds
    since = now - state.mix.moved_at
    if state.mix.moved_at and since < stay:
        return reasons.changed_lately(since, stay)
    if any(mark.until > now for mark in state.pool(pool.name).marks):
        return reasons.NO_CAPACITY
    alive = view.those(*ALIVE)
    moving = decision.targets[pool.name].desired != view.desired or len(alive) != view.desired
    if moving or any(i.phase is not Phase.READY for i in alive):
        return reasons.MOVING
    return None


def _as_written(
    service: Service, view: PoolObservation, decision: Decision, options: list[_Option], now: float
) -> Decision:
    """Replace types that the settings no longer name by types that they name."""
    best = min(options, key=lambda option: option.usd_per_hour, default=None)
    if best is None:
        return _with(decision, reasons.no_written_types(view.types))
    if (delay := _delay(service, view, decision, now)) is not None:
        return _with(decision, reasons.wait(reasons.unwritten(view.types), best.choice, delay))
    through = max(best.count, view.desired)
    return _start(decision, replace(best, through=through), reasons.unwritten(view.types), now)


def _start(
    decision: Decision, option: _Option, why: str, now: float, numbers: Mapping[str, float] | None = None
) -> Decision:
    pool, kind = option.kind.name, option.kind
    remembered = decision.state.pool(pool)
    # Lead times, marks and a correction upwards were those of the types that go.
    fresh = replace(remembered, leads=(), marks=(), correction=min(1.0, remembered.correction))
    during = replace(option.choice, count=option.through)
    return replace(
        _with(decision, reasons.refresh(why, pool, during, option.surge_percent, numbers)),
        targets={**decision.targets, pool: replace(decision.targets[pool], desired=option.through, take=())},
        refresh=Refresh(pool, kind.types, option.surge_percent),
        state=replace(decision.state, mix=MixMemory(now), pools={**decision.state.pools, pool: fresh}),
    )


def _with(decision: Decision, reason: Reason) -> Decision:
    return replace(decision, reasons=(*decision.reasons, reason))
