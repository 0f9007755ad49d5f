"""The choice of the mix: the cheapest counts of the types in use, unless a move to other types pays.

This is the vertical axis: `gpu_fleet.scaling.mix` finds the cheapest mix, and this module decides when to move to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.mix import SLACK, Move, PoolOption, carried_rps, cheapest, largest, usd_per_hour
from gpu_fleet.scaling.policy import Vertical, VerticalMethod
from gpu_fleet.scaling.reasons import mix as reasons


@dataclass(frozen=True, slots=True)
class MixProblem:
    """What a mix must carry, and what it may use."""

    options: Sequence[PoolOption]
    required_rps: float
    quotas: Mapping[str, int]
    """vCPUs of each quota."""
    min_instances: int = 0
    """Over all options."""

    def cheapest(self) -> Mapping[str, int] | None:
        """Return the cheapest counts, or None when no counts are enough."""
        return cheapest(self.options, self.required_rps, self.quotas, self.min_instances)


@dataclass(frozen=True, slots=True)
class MoveTerms:
    """What decides whether a move to a cheaper mix pays now."""

    vertical: Vertical
    lead_seconds: Mapping[str, float]
    """Of each pool, from an instance's order to its first request."""
    last_move_at: float | None
    now: float
    may_move: bool = True
    """Whether a move may be made for money at all."""
    instead_of: Mapping[str, int] | None = None
    """The counts that a move is held against; None: the cheapest of the types in use."""
    launch_usd: Mapping[str, float] = field(default_factory=dict)
    """Of each pool, what a launch costs beside the instance's hours."""
    margin: float = 1.0
    """What a mix that is moved to must carry, over what is required: else noise of the next minute undoes the move."""
    most_more: int = 1000
    """The most instances that one run orders of a pool (`horizontal.max_step_out`): the next run, which knows nothing
    of a larger move, would undo the half of it that was ordered."""


@dataclass(frozen=True, slots=True)
class Mix:
    """The chosen instances of each pool."""

    counts: Mapping[str, int]
    reasons: tuple[Reason, ...]
    instead_of: Mapping[str, int] | None = None
    """The counts without the move, where the mix changed to save money and not for capacity."""
    short_rps: float = 0.0
    """Work that no allowed mix carries."""

    @property
    def moved(self) -> bool:
        """Whether the caller has to remember the time as `MixMemory.moved_at`."""
        return self.instead_of is not None


def choose(problem: MixProblem, current: Mapping[str, int], terms: MoveTerms) -> Mix:
    """Choose the mix: grow or shrink the `current` counts where that is cheapest, unless a move to others pays.

    (a) is the cheapest mix in which no current count falls where more is needed, and none rises where less is;
    (b) the cheapest of all. (b) wins where `vertical.method` is `pools`, it saves at least `minimum_saving_percent`
    of (a), `minimum_stay_seconds` have passed since `last_move_at`, and its saving within that time exceeds the cost
    of the new instances until they serve (`lead_seconds`, the longest of the pools that grow), since the old ones run
    on meanwhile, and of their launches (`launch_usd`). Capacity never waits for any of this: (a) carries the demand
    wherever some mix does.

    Worked: 4 instances at 1.86 USD would replace 8 at 1.01: that saves 0.64 USD an hour (7.9 %), and 4 * 1.86 *
    300/3600 = 0.62 USD are paid twice; the move pays within an hour by 2 cents.
    """
    best = problem.cheapest()
    if best is None:
        return _short(problem)
    bounded = _without_moves(problem, current)
    if all(option.at_least <= best[option.name] <= option.at_most for option in bounded.options):
        return _adjusted(problem, current, best)  # (b) is (a)
    kept = terms.instead_of or bounded.cheapest()
    if kept is None:
        # The current mix breaks a bound or quota, or only another type has room: capacity goes first.
        return _adjusted(problem, current, best)
    if not terms.may_move or usd_per_hour(problem.options, kept) <= usd_per_hour(problem.options, best):
        return _adjusted(problem, current, kept)
    best = _reachable(problem, current, terms).cheapest()
    if best is None:
        return _adjusted(problem, current, kept)
    move = _move(problem.options, current, kept, best, terms)
    refusal = _refusal(move, terms)
    if refusal is None:
        return Mix(best, (reasons.move(move),), instead_of=kept)
    adjusted = _adjusted(problem, current, kept)
    return Mix(adjusted.counts, (*adjusted.reasons, refusal))


def _without_moves(problem: MixProblem, current: Mapping[str, int]) -> MixProblem:
    """The problem with the current counts as lower bounds where more is needed, else as upper bounds."""
    grows = carried_rps(problem.options, current) < problem.required_rps * (1 - SLACK)
    options = []
    for option in problem.options:
        count = min(max(current.get(option.name, 0), option.at_least), option.at_most)
        options.append(replace(option, at_least=count) if grows else replace(option, at_most=count))
    return replace(problem, options=options)


def _reachable(problem: MixProblem, current: Mapping[str, int], terms: MoveTerms) -> MixProblem:
    """The problem of a mix that this run can order whole, and that noise does not undo."""
    most = {option.name: current.get(option.name, 0) + terms.most_more for option in problem.options}
    options = [replace(o, at_most=max(o.at_least, min(o.at_most, most[o.name]))) for o in problem.options]
    return replace(problem, options=options, required_rps=problem.required_rps * terms.margin)


def _move(
    options: Sequence[PoolOption],
    current: Mapping[str, int],
    kept: Mapping[str, int],
    best: Mapping[str, int],
    terms: MoveTerms,
) -> Move:
    """The move from `kept` to `best`. Both run from the order of the new instances until the slowest of them serves."""
    kept_usd, best_usd = usd_per_hour(options, kept), usd_per_hour(options, best)
    saving = kept_usd - best_usd
    grown = [option for option in options if best[option.name] > current.get(option.name, 0)]
    seconds = max((terms.lead_seconds.get(option.name, 0.0) for option in grown), default=0.0)
    more = {option.name: max(0, best[option.name] - kept[option.name]) for option in grown}
    new_usd = sum(option.usd_per_hour * more[option.name] for option in grown)
    launches_usd = sum(terms.launch_usd.get(name, 0.0) * count for name, count in more.items())
    return Move(
        before=kept,
        after=best,
        usd_per_hour=best_usd,
        saving_usd_per_hour=saving,
        saving_percent=100 * saving / kept_usd,
        overlap_usd=seconds / 3600 * new_usd + launches_usd,
    )


def _refusal(move: Move, terms: MoveTerms) -> Reason | None:
    """Why the cheaper mix has to wait, or None when the move is due."""
    vertical = terms.vertical
    stay_seconds = vertical.minimum_stay_seconds
    if vertical.method is not VerticalMethod.POOLS:
        return reasons.off(move, vertical)
    if move.saving_percent < vertical.minimum_saving_percent:
        return reasons.small(move, vertical)
    if move.overlap_usd > 0 and move.saving_usd_per_hour * stay_seconds / 3600 <= move.overlap_usd:
        return reasons.unpaid(move, vertical)
    if terms.last_move_at is not None and terms.now - terms.last_move_at < stay_seconds:
        return reasons.stay(move, vertical, terms.now - terms.last_move_at)
    return None


def _adjusted(problem: MixProblem, current: Mapping[str, int], counts: Mapping[str, int]) -> Mix:
    options = problem.options
    carried = carried_rps(options, counts)
    if all(counts[option.name] == current.get(option.name, 0) for option in options):
        reason = reasons.keep
    elif carried > carried_rps(options, current):
        reason = reasons.grow
    else:
        reason = reasons.shrink
    return Mix(counts, (reason(counts, problem.required_rps, carried, usd_per_hour(options, counts)),))


def _short(problem: MixProblem) -> Mix:
    """The mix that comes closest: the one that carries the most, or as many of `min_instances` as fit."""
    options, required_rps, quotas = problem.options, problem.required_rps, problem.quotas
    counts = cheapest(options, required_rps, quotas)
    floor = None
    if counts is None:
        counts = largest(options, quotas)
    else:  # the work fits, the number of instances does not
        floor = problem.min_instances
        low, high = 0, floor - 1
        while low < high:
            middle = (low + high + 1) // 2
            plan = cheapest(options, required_rps, quotas, middle)
            counts, low, high = (plan, middle, high) if plan is not None else (counts, low, middle - 1)
    carried = carried_rps(options, counts)
    reason = reasons.short(counts, required_rps, carried, floor)
    return Mix(counts, (reason,), short_rps=max(0.0, required_rps - carried))
