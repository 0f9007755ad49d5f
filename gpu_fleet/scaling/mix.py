"""The mix: which pools carry the work at the least cost per hour, and when to move from one mix to another.

This is the vertical axis. Spot make-up, marked capacity errors and zones reach it as `at_least` and `at_most`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.policy import Vertical, VerticalMethod

EXACT_NODES = 2000
"""Branches up to which the search asks for the very optimum; about 2 ms. Seldom passed: see bench/bench_mix.py."""
NEAR = 1e-4
"""Beyond EXACT_NODES, plans whose costs differ by less than this share are equal: one cent of 100 USD."""
MOST_NODES = 8000
"""Where the search ends, about 8 ms, whatever was proven: the best plan so far is taken. On the bench's worst inputs it
costs at most 0.05 % more than that of a search 25 times as long."""
TIE_PER_INSTANCE_USD = 1e-6
"""Of plans at the same price that with the fewest instances is taken."""
TIE_PER_PLACE_USD = 1e-9
"""And of these that of the earlier options."""
SLACK = 1e-9
"""Share of the work by which rounding may miss it."""


@dataclass(frozen=True, slots=True)
class PoolOption:
    """One pool as the mix sees it. Raises ValueError when the bounds cross."""

    name: str
    instance_rps: float
    """Work that one instance may be asked for: throughput_rps * usable_share."""
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
class Mix:
    """Instances wanted of each pool."""

    counts: Mapping[str, int]
    reasons: tuple[Reason, ...]
    moved: bool = False
    """The mix was changed to save money, not for capacity: the time to remember as `State.moved_at`."""
    short_rps: float = 0.0
    """Work that no allowed mix carries."""


def cost(options: Sequence[PoolOption], counts: Mapping[str, int]) -> float:
    """USD per hour of these counts."""
    return sum(option.usd_per_hour * counts.get(option.name, 0) for option in options)


def work(options: Sequence[PoolOption], counts: Mapping[str, int]) -> float:
    """Work per second that these counts may be asked for."""
    return sum(option.instance_rps * counts.get(option.name, 0) for option in options)


def cheapest(
    options: Sequence[PoolOption], required_rps: float, quotas: Mapping[str, int], min_instances: int = 0
) -> Mapping[str, int] | None:
    """The counts that carry `required_rps` at the least cost per hour, or None when none do.

    Subject to each option's bounds, to the vCPUs of each quota and to `min_instances` over all options. A quota that
    `at_least` alone exceeds leaves room for no more. Ties: fewest instances, then the earlier options.

    Branch and bound: options in the order of cost per work, counts from the greedy one downwards, each branch cut by
    the cost of the fractional rest (the linear relaxation; a quota that binds enters with its Lagrange multiplier, as
    in M. L. Fisher, "The Lagrangian relaxation method for solving integer programming problems", Management Science
    27(1), 1981). Exact up to EXACT_NODES branches, then within NEAR of the optimum.
    """
    return _Search(options, required_rps, quotas, min_instances).run()


def most(options: Sequence[PoolOption], quotas: Mapping[str, int]) -> Mapping[str, int]:
    """The counts that carry the most within bounds and quotas: for a demand that nothing carries.

    Each quota is a knapsack of its own.
    """
    counts = {option.name: option.at_most for option in options if not option.quota or option.quota not in quotas}
    for quota in {option.quota for option in options if option.quota in quotas}:
        members = [option for option in options if option.quota == quota]
        left = quotas[quota] - sum(option.vcpus * option.at_least for option in members)
        counts |= _fullest(members, max(0, left))
    return {option.name: counts[option.name] for option in options}


def choose(
    options: Sequence[PoolOption],
    required_rps: float,
    standing: Mapping[str, int],
    quotas: Mapping[str, int],
    min_instances: int = 0,
    *,
    vertical: Vertical,
    lead_seconds: Mapping[str, float],
    last_move_at: float | None,
    now: float,
) -> Mix:
    """The mix to have: what stands, grown or shrunk where that is cheapest, unless moving to another pays.

    (a) is the cheapest mix in which no count of `standing` falls where more is needed, and none rises where less is;
    (b) the cheapest of all. (b) is taken where `vertical.method` is `pools`, it saves at least `minimum_saving_percent`
    of (a), `minimum_stay_seconds` have passed since `last_move_at`, and what it saves within that time is more
    than the new instances cost until they serve (`lead_seconds`, the longest of the pools that grow), since the old
    ones run on meanwhile. Capacity never waits for any of this: (a) carries the demand wherever some mix does.

    Worked: 8 at 1.01 USD stand where 4 at 1.86 would do: saves 0.64 USD an hour (7.9 %), and 4 * 1.86 * 300/3600 =
    0.62 USD are paid twice; pays within an hour by 2 cents.
    """
    carried = work(options, standing)
    grows = carried < required_rps * (1 - SLACK)
    free = cheapest(options, required_rps, quotas, min_instances)
    if free is None:
        return _short(options, required_rps, quotas, min_instances)
    held = [_held(option, standing, grows=grows) for option in options]
    if all(option.at_least <= free[option.name] <= option.at_most for option in held):
        return _adjusted(options, required_rps, standing, free)  # (b) is (a)
    kept = cheapest(held, required_rps, quotas, min_instances)
    if kept is None:
        # What stands does not fit the bounds or quotas any more, or only another type has room: capacity goes first.
        return _adjusted(options, required_rps, standing, free)
    saving = cost(options, kept) - cost(options, free)
    if saving <= 0:
        return _adjusted(options, required_rps, standing, kept)
    refusal = _refusal(options, standing, kept, free, saving, vertical, lead_seconds, last_move_at, now)
    if refusal is None:
        return _move(options, kept, free, saving, _overlap_usd(options, standing, kept, free, lead_seconds))
    adjusted = _adjusted(options, required_rps, standing, kept)
    return Mix(adjusted.counts, (*adjusted.reasons, refusal))


def _held(option: PoolOption, standing: Mapping[str, int], *, grows: bool) -> PoolOption:
    """The option with what stands as a bound, as far as its own bounds allow."""
    count = min(max(standing.get(option.name, 0), option.at_least), option.at_most)
    low, high = (count, option.at_most) if grows else (option.at_least, count)
    return PoolOption(option.name, option.instance_rps, option.usd_per_hour, low, high, option.vcpus, option.quota)


def _overlap_usd(
    options: Sequence[PoolOption],
    standing: Mapping[str, int],
    kept: Mapping[str, int],
    free: Mapping[str, int],
    lead_seconds: Mapping[str, float],
) -> float:
    """What the move pays twice: the new instances, from their order until the slowest of them serves."""
    grown = [option for option in options if free[option.name] > standing.get(option.name, 0)]
    seconds = max((lead_seconds.get(option.name, 0.0) for option in grown), default=0.0)
    return seconds / 3600 * sum(option.usd_per_hour * max(0, free[option.name] - kept[option.name]) for option in grown)


def _refusal(
    options: Sequence[PoolOption],
    standing: Mapping[str, int],
    kept: Mapping[str, int],
    free: Mapping[str, int],
    saving: float,
    vertical: Vertical,
    lead_seconds: Mapping[str, float],
    last_move_at: float | None,
    now: float,
) -> Reason | None:
    """Why a cheaper mix is not taken now, or None when it is."""
    percent = 100 * saving / cost(options, kept)
    stay = vertical.minimum_stay_seconds
    overlap = _overlap_usd(options, standing, kept, free, lead_seconds)
    numbers = {"saving_usd_per_hour": saving, "saving_percent": percent, "overlap_usd": overlap}
    found = f"{_text(free)} would save {saving:.2f} USD per hour ({percent:.1f} %)"
    if vertical.method is not VerticalMethod.POOLS:
        return Reason(Step.MIX, "mix.off", f"{found}, but vertical.method is {vertical.method}.", numbers)
    if percent < vertical.minimum_saving_percent:
        least = f"less than vertical.minimum_saving_percent, {vertical.minimum_saving_percent:g} %"
        return Reason(Step.MIX, "mix.small", f"{found}: {least}.", numbers)
    if overlap > 0 and saving * stay / 3600 <= overlap:
        pays = f"within {stay:.0f} s that is not more than the {overlap:.2f} USD that both cost during the move"
        return Reason(Step.MIX, "mix.unpaid", f"{found}; {pays}.", numbers)
    if last_move_at is not None and now - last_move_at < stay:
        waits = f"the last move was {now - last_move_at:.0f} s ago, the next waits until {stay:.0f} s"
        return Reason(Step.MIX, "mix.stay", f"{found}; {waits}.", numbers | {"since_move_seconds": now - last_move_at})
    return None


def _move(
    options: Sequence[PoolOption], kept: Mapping[str, int], free: Mapping[str, int], saving: float, overlap: float
) -> Mix:
    percent = 100 * saving / cost(options, kept)
    sentence = (
        f"Moves from {_text(kept)} to {_text(free)}: saves {saving:.2f} USD per hour ({percent:.1f} %) and pays "
        f"{overlap:.2f} USD twice meanwhile."
    )
    numbers = {
        "saving_usd_per_hour": saving,
        "saving_percent": percent,
        "overlap_usd": overlap,
        "usd_per_hour": cost(options, free),
    }
    return Mix(free, (Reason(Step.MIX, "mix.move", sentence, numbers),), moved=True)


def _adjusted(
    options: Sequence[PoolOption], required_rps: float, standing: Mapping[str, int], counts: Mapping[str, int]
) -> Mix:
    before, after = work(options, standing), work(options, counts)
    usd = cost(options, counts)
    numbers = {"required_rps": required_rps, "carried_rps": after, "usd_per_hour": usd}
    tail = f"carries {after:.2f} of {required_rps:.2f} rps required, at {usd:.2f} USD per hour"
    if all(counts[option.name] == standing.get(option.name, 0) for option in options):
        return Mix(counts, (Reason(Step.MIX, "mix.keep", f"Keeps {_text(counts)}: {tail}.", numbers),))
    code, verb = ("mix.grow", "Grows") if after > before else ("mix.shrink", "Shrinks")
    return Mix(counts, (Reason(Step.MIX, code, f"{verb} to {_text(counts)}: {tail}.", numbers),))


def _short(options: Sequence[PoolOption], required_rps: float, quotas: Mapping[str, int], min_instances: int) -> Mix:
    counts = cheapest(options, required_rps, quotas)
    if counts is None:
        counts = most(options, quotas)
        what = f"No allowed mix carries {required_rps:.2f} rps: {_text(counts)} carries the most"
    else:  # the work is carried, by fewer instances than the floor asks for
        low, high = 0, min_instances - 1
        while low < high:
            middle = (low + high + 1) // 2
            plan = cheapest(options, required_rps, quotas, middle)
            counts, low, high = (plan, middle, high) if plan is not None else (counts, low, middle - 1)
        floor = f"{min_instances} instances and carries {required_rps:.2f} rps"
        what = f"No allowed mix has {floor}: {_text(counts)} has the most"
    carried, total = work(options, counts), sum(counts.values())
    missing = max(0.0, required_rps - carried)
    numbers = {"required_rps": required_rps, "carried_rps": carried, "short_rps": missing, "instances": total}
    sentence = f"{what}, {carried:.2f} rps with {total} instances."
    return Mix(counts, (Reason(Step.MIX, "mix.short", sentence, numbers),), short_rps=missing)


def _text(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {name}" for name, count in counts.items() if count) or "no instance"


class _Search:
    """Branch and bound over what comes on top of each option's `at_least`."""

    def __init__(
        self, options: Sequence[PoolOption], required_rps: float, quotas: Mapping[str, int], min_instances: int
    ) -> None:
        self.options = options
        self.slack = SLACK * max(1.0, abs(required_rps))
        self.names = [quota for quota in quotas if any(option.quota == quota for option in options)]
        self.left = [
            float(
                max(
                    0,
                    quotas[quota] - sum(option.vcpus * option.at_least for option in options if option.quota == quota),
                )
            )
            for quota in self.names
        ]
        self.rest = required_rps - sum(option.instance_rps * option.at_least for option in options)
        self.missing = min_instances - sum(option.at_least for option in options)
        self.nodes = 0
        self.best = math.inf
        self.best_counts: list[int] | None = None
        # One tuple a option: place, cost with ties, work, room, vCPUs, quota's place or -1.
        self.items: list[tuple[int, float, float, int, int, int]] = []
        for place, option in enumerate(options):
            quota = self.names.index(option.quota) if option.quota in self.names and option.vcpus else -1
            room = option.at_most - option.at_least
            if quota >= 0:
                room = min(room, int(self.left[quota] // option.vcpus))
            if room:
                price = option.usd_per_hour + TIE_PER_INSTANCE_USD + TIE_PER_PLACE_USD * place
                self.items.append((place, price, max(0.0, option.instance_rps), room, option.vcpus, quota))
        self._drop_idle_quotas()
        self.multipliers = self._multipliers()
        self._arrange()

    def _drop_idle_quotas(self) -> None:
        """A quota that all its options together cannot exceed is none."""
        for q, left in enumerate(self.left):
            if sum(item[3] * item[4] for item in self.items if item[5] == q) <= left:
                self.items = [(*item[:5], -1) if item[5] == q else item for item in self.items]

    def _arrange(self) -> None:
        """Order by price per work, the price with its share of the quota, and lay out what the bound reads."""

        def per_work(item: tuple[int, float, float, int, int, int]) -> tuple[float, float]:
            price = self._price(item)
            return (price / item[2] if item[2] else math.inf, price)

        self.items.sort(key=per_work)
        self.relaxed = [
            (self._price(item), item[2], item[3], item[4], item[5], self._price(item) / item[2] if item[2] else 0.0)
            for item in self.items
        ]
        self.least_price = [min(item[1] for item in self.items[i:]) for i in range(len(self.items))]
        self.counts = [0] * len(self.items)

    def _price(self, item: tuple[int, float, float, int, int, int]) -> float:
        return item[1] + (self.multipliers[item[5]] * item[4] if item[5] >= 0 else 0.0)

    def _multipliers(self) -> list[float]:
        """USD per hour and vCPU of each quota, so that the fractional plan keeps within it; that plan is `ideal`, and
        empty where no quota binds.

        The least multiplier that does. Just below it the plan takes too much, just at it too little: the fractional
        optimum mixes the two so that the quota is just used up.
        """
        self.multipliers = [0.0] * len(self.left)
        self.ideal: dict[int, float] = {}
        for q in {item[5] for item in self.items if item[5] >= 0}:
            below = self._fractional()
            if self._used(q, below) <= self.left[q]:
                continue
            low, high = 0.0, 2 * max(item[1] / max(1, item[4]) for item in self.items) * len(self.items)
            within = dict.fromkeys(below, 0.0)
            for _ in range(24):
                self.multipliers[q] = (low + high) / 2
                plan = self._fractional()
                if self._used(q, plan) > self.left[q]:
                    low, below = self.multipliers[q], plan
                else:
                    high, within = self.multipliers[q], plan
            self.multipliers[q] = high
            most, least = self._used(q, below), self._used(q, within)
            share = (self.left[q] - least) / (most - least)
            self.ideal = {place: share * below[place] + (1 - share) * within[place] for place in below}
        return self.multipliers

    def _fractional(self) -> dict[int, float]:
        """Fractional counts that do the work at the least price, at the multipliers of now, whatever the quotas."""
        plan, rest = {item[0]: 0.0 for item in self.items}, self.rest
        for item in sorted((item for item in self.items if item[2]), key=lambda item: self._price(item) / item[2]):
            if rest <= 0:
                break
            plan[item[0]] = min(item[3], rest / item[2])
            rest -= plan[item[0]] * item[2]
        return plan

    def _used(self, quota: int, plan: Mapping[int, float]) -> float:
        return sum(plan[item[0]] * item[4] for item in self.items if item[5] == quota)

    def run(self) -> dict[str, int] | None:
        if self.rest <= self.slack and self.missing <= 0:
            return {option.name: option.at_least for option in self.options}
        if self.items and self._bound(0, self.rest, self.missing, self.left) < math.inf and self._carried():
            self._branch(0, self.rest, self.missing, self.left, 0.0)
        if self.best_counts is None:
            return None
        extra = {self.items[i][0]: count for i, count in enumerate(self.best_counts)}
        return {option.name: option.at_least + extra.get(place, 0) for place, option in enumerate(self.options)}

    def _carried(self) -> bool:
        """Whether any plan does the work: else a search over whole instances would have to try them all."""
        if all(item[5] < 0 for item in self.items):
            return True
        quotas = dict(zip(self.names, (int(left) for left in self.left), strict=True))
        extra = [
            PoolOption(str(i), item[2], item[1], 0, item[3], item[4], self.names[item[5]] if item[5] >= 0 else "")
            for i, item in enumerate(self.items)
        ]
        return work(extra, most(extra, quotas)) >= self.rest - self.slack

    def _bound(self, i: int, rest: float, missing: int, left: list[float]) -> float:
        """At least what the options from i on cost for the rest; infinite where they cannot carry it."""
        slack = self.slack
        bound, room_for = 0.0, 0
        for price, work, room, vcpus, quota, per_work in self.relaxed[i:]:
            if quota >= 0 and room * vcpus > left[quota]:
                room = left[quota] / vcpus  # noqa: PLW2901
            room_for += room
            if rest > slack:
                if work * room >= rest:
                    bound += rest * per_work
                    rest = 0.0
                else:
                    bound += price * room
                    rest -= work * room
        if rest > slack or room_for < missing:
            return math.inf
        for q, multiplier in enumerate(self.multipliers):
            if multiplier:
                bound -= multiplier * left[q]
        if missing > 0:
            bound = max(bound, missing * self.least_price[i])
        return max(0.0, bound)

    def _full(self, i: int, rest: float, left: list[float]) -> bool:
        """Whether the options from i on can carry the rest within the quotas they share (a fractional knapsack
        each).
        """
        left = left.copy()
        for item in sorted(self.items[i:], key=lambda item: item[2] / item[4] if item[5] >= 0 else 0, reverse=True):
            count = float(item[3])
            if item[5] >= 0:
                count = min(count, left[item[5]] / item[4])
                left[item[5]] -= count * item[4]
            rest -= count * item[2]
        return rest <= self.slack

    def _branch(self, i: int, rest: float, missing: int, left: list[float], spent: float) -> None:
        _, price, work, room, vcpus, quota = self.items[i]
        most = self._needed(work, rest, missing)
        room = min(room, int((left[quota] + 1e-9) // vcpus)) if quota >= 0 else room
        if i == len(self.items) - 1 or most == 0:
            self.nodes += 1
            if most <= room and spent + most * price < self.best - 1e-12:
                self.best = spent + most * price
                self.best_counts = [*self.counts[:i], most, *[0] * (len(self.items) - i - 1)]
            return
        top = min(most, room)
        if any(self.multipliers):
            self._branch_around(i, top, rest, missing, left, spent)
            return
        before = math.inf
        for count in range(top, -1, -1):
            if self._spent_out():
                return
            then = self._after(i, count, left)
            bound = spent + count * price + self._bound(i + 1, rest - count * work, missing - count, then)
            if bound >= self.best - self._near():
                if before < math.inf and bound >= before:
                    return  # the bound is convex in the count: from here on it only rises
            elif quota < 0 or self._full(i + 1, rest - count * work, then):
                self.counts[i] = count
                self._branch(i + 1, rest - count * work, missing - count, then, spent + count * price)
            before = bound

    def _branch_around(self, i: int, top: int, rest: float, missing: int, left: list[float], spent: float) -> None:
        """As `_branch` where a quota binds: the bound is flat there, so outwards from the fractional optimum."""
        place, price, work, _, _, _ = self.items[i]
        ideal = self.ideal[place]
        for count in sorted(range(top + 1), key=lambda count: abs(count - ideal)):
            if self._spent_out():
                return
            then = self._after(i, count, left)
            bound = spent + count * price + self._bound(i + 1, rest - count * work, missing - count, then)
            if bound < self.best - self._near() and self._full(i + 1, rest - count * work, then):
                self.counts[i] = count
                self._branch(i + 1, rest - count * work, missing - count, then, spent + count * price)

    def _needed(self, work: float, rest: float, missing: int) -> int:
        """Instances of one option that do all of the rest."""
        return max(math.ceil((rest - self.slack) / work) if work and rest > self.slack else 0, missing, 0)

    def _after(self, i: int, count: int, left: list[float]) -> list[float]:
        """What the quotas leave after so many of option i."""
        quota = self.items[i][5]
        if quota < 0 or not count:
            return left
        then = left.copy()
        then[quota] -= count * self.items[i][4]
        return then

    def _near(self) -> float:
        return 1e-10 if self.nodes <= EXACT_NODES else NEAR * self.best

    def _spent_out(self) -> bool:
        self.nodes += 1
        return self.nodes > MOST_NODES and self.best_counts is not None


def _fullest(members: Sequence[PoolOption], vcpus: int) -> dict[str, int]:
    """The most work within `vcpus` on top of each `at_least`: a bounded knapsack, by branch and bound.

    Exact up to EXACT_NODES branches, then within NEAR of the most.
    """
    order = sorted(
        members, key=lambda option: option.instance_rps / option.vcpus if option.vcpus else math.inf, reverse=True
    )
    rooms = [option.at_most - option.at_least for option in order]
    counts, best_counts, best, nodes = [0] * len(order), [0] * len(order), -1.0, 0

    def reach(i: int, left: float) -> float:
        """At most what the options from i on do within what is left."""
        total = 0.0
        for option, room in zip(order[i:], rooms[i:], strict=True):
            count = min(room, left / option.vcpus) if option.vcpus else room
            left -= count * option.vcpus
            total += count * option.instance_rps
        return total

    def branch(i: int, left: int, done: float) -> None:
        nonlocal best, best_counts, nodes
        if i == len(order):
            if done > best:
                best, best_counts = done, counts.copy()
            return
        option = order[i]
        for count in range(min(rooms[i], left // option.vcpus) if option.vcpus else rooms[i], -1, -1):
            nodes += 1
            after = done + count * option.instance_rps
            near = (SLACK if nodes <= EXACT_NODES else NEAR) * max(best, 0.0)
            if after + reach(i + 1, left - count * option.vcpus) <= best + near:
                return
            counts[i] = count
            branch(i + 1, left - count * option.vcpus, after)

    branch(0, vcpus, 0.0)
    return {option.name: option.at_least + extra for option, extra in zip(order, best_counts, strict=True)}
