"""Mixes: how many instances of each pool, what they cost and carry, and which mix is cheapest.

`gpu_fleet.scaling.mix_choice` decides whether to move from one mix to another. Spot make-up, capacity errors and zones
reach this module as the bounds `at_least` and `at_most`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

EXACT_NODES = 2000
"""Branches up to which the search proves the optimum; about 2 ms. Few inputs need more: see bench/bench_mix.py."""
NEAR = 1e-4
"""Beyond EXACT_NODES, plans whose costs differ by less than this share count as equal: one cent of 100 USD."""
MOST_NODES = 8000
"""Branches at which the search stops, about 8 ms, and returns the best plan so far. On the bench's worst inputs that
plan costs at most 0.05 % more than the plan of a search 25 times as long."""
TIE_PER_INSTANCE_USD = 1e-6
"""Added to each instance's price: of plans at the same price, the one with the fewest instances wins."""
TIE_PER_PLACE_USD = 1e-9
"""Added per place in the list of options: of plans with equally many instances, the earlier options win."""
SLACK = 1e-9
"""Share of the required work that a plan may miss by rounding."""
MULTIPLIER_HALVINGS = 24
"""Bisection steps for a quota's price per vCPU."""
NO_QUOTA = -1


@dataclass(frozen=True, slots=True)
class PoolOption:
    """One pool as the mix sees it. Raises ValueError when the bounds cross."""

    name: str
    instance_rps: float
    """Work that one instance may carry: throughput_rps * usable_share."""
    usd_per_hour: float
    at_least: int
    at_most: int
    vcpus: int = 0
    quota: str = ""
    """Name of the vCPU quota that its instances share with others'; empty: none."""

    def __post_init__(self) -> None:
        if not 0 <= self.at_least <= self.at_most:
            raise ValueError(
                f"option {self.name}: at_least must be within 0..at_most ({self.at_most}) (got {self.at_least})"
            )


@dataclass(frozen=True, slots=True)
class Move:
    """A move from one mix to a cheaper one of other types, with its saving and its cost."""

    before: Mapping[str, int]
    """The cheapest counts that keep the types in use."""
    after: Mapping[str, int]
    """The cheapest counts of all."""
    usd_per_hour: float
    """Of `after`."""
    saving_usd_per_hour: float
    saving_percent: float
    """Of the cost of `before`."""
    overlap_usd: float
    """Cost of the new instances until they serve, while the old ones run on, and of their launches."""


def usd_per_hour(options: Sequence[PoolOption], counts: Mapping[str, int]) -> float:
    """Return the cost of these counts."""
    return sum(option.usd_per_hour * counts.get(option.name, 0) for option in options)


def carried_rps(options: Sequence[PoolOption], counts: Mapping[str, int]) -> float:
    """Return the work per second that these counts may carry."""
    return sum(option.instance_rps * counts.get(option.name, 0) for option in options)


def cheapest(
    options: Sequence[PoolOption], required_rps: float, quotas: Mapping[str, int], min_instances: int = 0
) -> Mapping[str, int] | None:
    """Return the counts that carry `required_rps` at the least cost per hour, or None when no counts do.

    The counts keep each option's bounds, the vCPUs of each quota and `min_instances` over all options. A quota that the
    options' `at_least` alone exceeds leaves room for no more. Ties: fewest instances, then the earlier options.

    Branch and bound: options in the order of cost per work, counts from the greedy one downwards. Each branch is cut by
    the fractional cost of the remaining work (the linear relaxation; a quota that binds enters with its Lagrange
    multiplier, as in M. L. Fisher, "The Lagrangian relaxation method for solving integer programming problems",
    Management Science 27(1), 1981). Exact up to EXACT_NODES branches, then within NEAR of the optimum.
    """
    return _Search(options, required_rps, quotas, min_instances).run()


def largest(options: Sequence[PoolOption], quotas: Mapping[str, int]) -> Mapping[str, int]:
    """Return the counts that carry the most within bounds and quotas, for a demand that no mix carries.

    Each quota is a knapsack of its own.
    """
    counts = {option.name: option.at_most for option in options if not option.quota or option.quota not in quotas}
    for quota in {option.quota for option in options if option.quota in quotas}:
        members = [option for option in options if option.quota == quota]
        counts |= _fullest(members, _free_vcpus(members, quotas[quota]))
    return {option.name: counts[option.name] for option in options}


def _free_vcpus(members: Sequence[PoolOption], quota_vcpus: int) -> int:
    """What a quota leaves beyond its members' `at_least`."""
    return max(0, quota_vcpus - sum(option.vcpus * option.at_least for option in members))


@dataclass(slots=True)
class _Item:
    """An option in the search: instances that may come on top of its `at_least`."""

    place: int
    """Index of the option."""
    price: float
    """USD per hour of one instance, with the tie-breakers."""
    work: float
    """Requests per second of one instance."""
    room: int
    """Instances that bounds and quota allow."""
    vcpus: int
    quota: int
    """Index of the quota, or NO_QUOTA."""


@dataclass(slots=True)
class _Relaxed:
    """An item in the lower bound, where fractions of instances are allowed."""

    price: float
    """USD per hour, with the quota's multiplier."""
    work: float
    room: int
    vcpus: int
    quota: int
    price_per_work: float


class _Search:
    """Branch and bound over the instances on top of each option's `at_least`.

    A branch at depth i has fixed the counts of the first i items. It knows the work and the instances still to place
    (`rps_left`, `instances_left`), the vCPUs that each quota still has (`vcpus_left`) and the USD per hour spent.
    """

    def __init__(
        self, options: Sequence[PoolOption], required_rps: float, quotas: Mapping[str, int], min_instances: int
    ) -> None:
        self.options = options
        self.slack = SLACK * max(1.0, abs(required_rps))
        self.quota_names = [quota for quota in quotas if any(option.quota == quota for option in options)]
        self.vcpus_left = [
            float(_free_vcpus([option for option in options if option.quota == quota], quotas[quota]))
            for quota in self.quota_names
        ]
        self.rps_left = required_rps - sum(option.instance_rps * option.at_least for option in options)
        self.instances_left = min_instances - sum(option.at_least for option in options)
        self.nodes = 0
        self.best = math.inf
        self.best_counts: list[int] | None = None
        self.items = self._items()
        self._drop_idle_quotas()
        self.multipliers = [0.0] * len(self.vcpus_left)
        self.ideal: dict[int, float] = {}
        self._price_quotas()
        self._arrange()

    def run(self) -> dict[str, int] | None:
        if self.rps_left <= self.slack and self.instances_left <= 0:
            return {option.name: option.at_least for option in self.options}
        start = (0, self.rps_left, self.instances_left, self.vcpus_left)
        if self.items and self._bound(*start) < math.inf and self._feasible():
            self._branch(*start, 0.0)
        if self.best_counts is None:
            return None
        extra = {item.place: count for item, count in zip(self.items, self.best_counts, strict=True)}
        return {option.name: option.at_least + extra.get(place, 0) for place, option in enumerate(self.options)}

    def _items(self) -> list[_Item]:
        items: list[_Item] = []
        for place, option in enumerate(self.options):
            room, quota = option.at_most - option.at_least, NO_QUOTA
            if option.vcpus and option.quota in self.quota_names:
                quota = self.quota_names.index(option.quota)
                room = min(room, int(self.vcpus_left[quota] // option.vcpus))
            if room:
                price = option.usd_per_hour + TIE_PER_INSTANCE_USD + TIE_PER_PLACE_USD * place
                items.append(_Item(place, price, max(0.0, option.instance_rps), room, option.vcpus, quota))
        return items

    def _drop_idle_quotas(self) -> None:
        """Ignore a quota that all its options together cannot exceed."""
        for quota, vcpus in enumerate(self.vcpus_left):
            if sum(item.room * item.vcpus for item in self.items if item.quota == quota) <= vcpus:
                self.items = [replace(item, quota=NO_QUOTA) if item.quota == quota else item for item in self.items]

    def _price_quotas(self) -> None:
        """Set each quota's multiplier, in USD per hour and vCPU, so that the fractional plan keeps the quota.

        The multiplier is the least that does. Just below it the plan takes too much, just at it too little: the
        fractional optimum mixes the two so that it uses the quota up. That plan is `ideal`, empty where no quota binds.
        """
        for quota in {item.quota for item in self.items if item.quota != NO_QUOTA}:
            over = self._fractional()
            vcpus = self.vcpus_left[quota]
            if self._used(quota, over) <= vcpus:
                continue
            low, high = 0.0, 2 * max(item.price / max(1, item.vcpus) for item in self.items) * len(self.items)
            within = dict.fromkeys(over, 0.0)
            for _ in range(MULTIPLIER_HALVINGS):
                self.multipliers[quota] = (low + high) / 2
                plan = self._fractional()
                if self._used(quota, plan) > vcpus:
                    low, over = self.multipliers[quota], plan
                else:
                    high, within = self.multipliers[quota], plan
            self.multipliers[quota] = high
            most, least = self._used(quota, over), self._used(quota, within)
            share = (vcpus - least) / (most - least)
            self.ideal = {place: share * over[place] + (1 - share) * within[place] for place in over}

    def _fractional(self) -> dict[int, float]:
        """Fractional counts that carry the work at the least price, at today's multipliers, whatever the quotas."""
        plan, rps_left = {item.place: 0.0 for item in self.items}, self.rps_left
        useful = (item for item in self.items if item.work)
        for item in sorted(useful, key=lambda item: self._price(item) / item.work):
            if rps_left <= 0:
                break
            plan[item.place] = min(item.room, rps_left / item.work)
            rps_left -= plan[item.place] * item.work
        return plan

    def _used(self, quota: int, plan: Mapping[int, float]) -> float:
        """VCPUs that the plan takes from a quota."""
        return sum(plan[item.place] * item.vcpus for item in self.items if item.quota == quota)

    def _price(self, item: _Item) -> float:
        """USD per hour with the price of the item's vCPUs."""
        return item.price + (self.multipliers[item.quota] * item.vcpus if item.quota != NO_QUOTA else 0.0)

    def _arrange(self) -> None:
        """Order the items by price per work, and lay out what the bounds read at each depth."""

        def per_work(item: _Item) -> tuple[float, float]:
            price = self._price(item)
            return (price / item.work if item.work else math.inf, price)

        def density(item: _Item) -> float:
            return item.work / item.vcpus if item.quota != NO_QUOTA else 0

        self.items.sort(key=per_work)
        depths = range(len(self.items))
        relaxed: list[_Relaxed] = []
        for item in self.items:
            price = self._price(item)
            price_per_work = price / item.work if item.work else 0.0
            relaxed.append(_Relaxed(price, item.work, item.room, item.vcpus, item.quota, price_per_work))
        self.relaxed = [relaxed[depth:] for depth in depths]
        self.densest: list[list[_Item]] = []
        if any(item.quota != NO_QUOTA for item in self.items):
            self.densest = [sorted(self.items[depth:], key=density, reverse=True) for depth in depths]
        self.least_price = [min(item.price for item in self.items[depth:]) for depth in depths]
        self.counts = [0] * len(self.items)

    def _feasible(self) -> bool:
        """Whether any plan carries the work: without this check the search would try all whole counts."""
        if all(item.quota == NO_QUOTA for item in self.items):
            return True
        names = [*self.quota_names, ""]  # NO_QUOTA is the last
        quotas = dict(zip(self.quota_names, (int(vcpus) for vcpus in self.vcpus_left), strict=True))
        extra = [
            PoolOption(str(item.place), item.work, item.price, 0, item.room, item.vcpus, names[item.quota])
            for item in self.items
        ]
        return carried_rps(extra, largest(extra, quotas)) >= self.rps_left - self.slack

    def _bound(self, depth: int, rps_left: float, instances_left: int, vcpus_left: list[float]) -> float:
        """A lower bound of what the items from `depth` on cost; infinite where they cannot carry the rest."""
        slack = self.slack
        bound, rooms = 0.0, 0.0
        for item in self.relaxed[depth]:
            room: float = item.room
            if item.quota != NO_QUOTA and room * item.vcpus > vcpus_left[item.quota]:
                room = vcpus_left[item.quota] / item.vcpus
            rooms += room
            if rps_left > slack:
                if item.work * room >= rps_left:
                    bound += rps_left * item.price_per_work
                    rps_left = 0.0
                else:
                    bound += item.price * room
                    rps_left -= item.work * room
        if rps_left > slack or rooms < instances_left:
            return math.inf
        for quota, multiplier in enumerate(self.multipliers):
            if multiplier:
                bound -= multiplier * vcpus_left[quota]
        if instances_left > 0:
            bound = max(bound, instances_left * self.least_price[depth])
        return max(0.0, bound)

    def _fits_quotas(self, depth: int, rps_left: float, vcpus_left: list[float]) -> bool:
        """Whether the items from `depth` on can carry the rest within the quotas, each a fractional knapsack."""
        vcpus_left = vcpus_left.copy()
        for item in self.densest[depth]:
            count = float(item.room)
            if item.quota != NO_QUOTA:
                count = min(count, vcpus_left[item.quota] / item.vcpus)
                vcpus_left[item.quota] -= count * item.vcpus
            rps_left -= count * item.work
        return rps_left <= self.slack

    def _branch(self, depth: int, rps_left: float, instances_left: int, vcpus_left: list[float], spent: float) -> None:
        item = self.items[depth]
        needed = self._needed(item.work, rps_left, instances_left)
        room = item.room
        if item.quota != NO_QUOTA:
            room = min(room, int((vcpus_left[item.quota] + 1e-9) // item.vcpus))
        if depth == len(self.items) - 1 or needed == 0:
            self._close(depth, needed, room, spent)
            return
        top = min(needed, room)
        if any(self.multipliers):
            self._branch_around_ideal(depth, top, rps_left, instances_left, vcpus_left, spent)
            return
        last_bound = math.inf
        for count in range(top, -1, -1):
            if self._out_of_nodes():
                return
            after = self._vcpus_after(item, count, vcpus_left)
            rps, instances = rps_left - count * item.work, instances_left - count
            bound = spent + count * item.price + self._bound(depth + 1, rps, instances, after)
            if bound >= self.best - self._near():
                if last_bound < math.inf and bound >= last_bound:
                    return  # the bound is convex in the count: from here on it only rises
            elif item.quota == NO_QUOTA or self._fits_quotas(depth + 1, rps, after):
                self.counts[depth] = count
                self._branch(depth + 1, rps, instances, after, spent + count * item.price)
            last_bound = bound

    def _branch_around_ideal(
        self, depth: int, top: int, rps_left: float, instances_left: int, vcpus_left: list[float], spent: float
    ) -> None:
        """Branch outwards from the fractional optimum: where a quota binds, the bound is flat around it."""
        item = self.items[depth]
        ideal = self.ideal[item.place]
        for count in sorted(range(top + 1), key=lambda count: abs(count - ideal)):
            if self._out_of_nodes():
                return
            after = self._vcpus_after(item, count, vcpus_left)
            rps, instances = rps_left - count * item.work, instances_left - count
            bound = spent + count * item.price + self._bound(depth + 1, rps, instances, after)
            if bound < self.best - self._near() and self._fits_quotas(depth + 1, rps, after):
                self.counts[depth] = count
                self._branch(depth + 1, rps, instances, after, spent + count * item.price)

    def _close(self, depth: int, count: int, room: int, spent: float) -> None:
        """Finish a plan with this count of the item at `depth` and none after it; keep it if it is the best."""
        self.nodes += 1
        price = spent + count * self.items[depth].price
        if count <= room and price < self.best - 1e-12:
            self.best = price
            self.best_counts = [*self.counts[:depth], count, *[0] * (len(self.items) - depth - 1)]

    def _needed(self, work: float, rps_left: float, instances_left: int) -> int:
        """Instances of one option that carry all of the rest."""
        for_work = math.ceil((rps_left - self.slack) / work) if work and rps_left > self.slack else 0
        return max(for_work, instances_left, 0)

    def _vcpus_after(self, item: _Item, count: int, vcpus_left: list[float]) -> list[float]:
        """What the quotas leave after `count` instances of the item."""
        if item.quota == NO_QUOTA or not count:
            return vcpus_left
        after = vcpus_left.copy()
        after[item.quota] -= count * item.vcpus
        return after

    def _near(self) -> float:
        """How much cheaper than the best a plan must be to count."""
        return 1e-10 if self.nodes <= EXACT_NODES else NEAR * self.best

    def _out_of_nodes(self) -> bool:
        self.nodes += 1
        return self.nodes > MOST_NODES and self.best_counts is not None


def _fullest(members: Sequence[PoolOption], vcpus: int) -> dict[str, int]:
    """The counts with the most work within `vcpus` on top of each `at_least`: a bounded knapsack, by branch and bound.

    Exact up to EXACT_NODES branches, then within NEAR of the most.
    """
    order = sorted(
        members, key=lambda option: option.instance_rps / option.vcpus if option.vcpus else math.inf, reverse=True
    )
    rooms = [option.at_most - option.at_least for option in order]
    counts, best_counts, best_rps, nodes = [0] * len(order), [0] * len(order), -1.0, 0

    def reachable_rps(depth: int, vcpus_left: float) -> float:
        """An upper bound of what the options from `depth` on carry within `vcpus_left`."""
        rps = 0.0
        for option, room in zip(order[depth:], rooms[depth:], strict=True):
            count = min(room, vcpus_left / option.vcpus) if option.vcpus else room
            vcpus_left -= count * option.vcpus
            rps += count * option.instance_rps
        return rps

    def branch(depth: int, vcpus_left: int, rps: float) -> None:
        nonlocal best_rps, best_counts, nodes
        if depth == len(order):
            if rps > best_rps:
                best_rps, best_counts = rps, counts.copy()
            return
        option = order[depth]
        top = min(rooms[depth], vcpus_left // option.vcpus) if option.vcpus else rooms[depth]
        for count in range(top, -1, -1):
            nodes += 1
            after = rps + count * option.instance_rps
            near = (SLACK if nodes <= EXACT_NODES else NEAR) * max(best_rps, 0.0)
            if after + reachable_rps(depth + 1, vcpus_left - count * option.vcpus) <= best_rps + near:
                return
            counts[depth] = count
            branch(depth + 1, vcpus_left - count * option.vcpus, after)

    branch(0, vcpus, 0.0)
    return {option.name: option.at_least + extra for option, extra in zip(order, best_counts, strict=True)}
