"""A policy beside its rivals on traces: each rival from its defaults, and with the target that suits the trace best.

A rival's best target is the one that costs least among those that reach the SLO, over all pools that can; where none
does, the one that comes nearest. Attainment falls and cost falls as the target rises, so it is found by bisection, and
the target above is tried too, where chance may be kind. A run is broken off once more requests have failed than may.

**Long traces.** A run of a fortnight takes a minute or two. There targets are tuned on a seeded sample of hours and
then held against the whole trace: one step safer until the SLO is reached, or bolder as long as it is and costs less.
So what is reported was run on the whole trace; that a bolder target far away would do is not ruled out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from gpu_fleet.backtest import bound, roster
from gpu_fleet.backtest.backtest import Entrant, Hopeless, Run, Scenario, Setting, run, scenario
from gpu_fleet.backtest.rivals.static_peak import instances_for
from gpu_fleet.backtest.workers import Map
from gpu_fleet.traffic import RateTrace, Trace, crop

LONG_SECONDS = 6 * 3600.0
"""Up to here every target is tried on the whole trace."""
SAMPLE_HOURS = 12
"""Hours of a longer one on which targets are tuned first."""
HOUR_SECONDS = 3600.0
BOLDER = 2
"""Steps that are tried above the sample's target where the whole trace allows it."""


class Part(StrEnum):
    """What one task computes."""

    OURS = "ours"
    DEFAULT = "default"
    TUNED = "tuned"


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One contender in one scenario."""

    scenario: Scenario
    rule: str
    part: Part
    details: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A trace at a seed, whose demand and bound are yet to be computed."""

    setting: Setting
    trace: Trace | RateTrace
    factor: float
    seed: int
    boot_seconds: float


def rules(names: Sequence[str] | None) -> tuple[str, ...]:
    """The contenders of these names, ours first; all where none is named. Raises ValueError for an unknown name."""
    known = (roster.OURS, *roster.RIVALS)
    for name in names or ():
        if name not in known:
            raise ValueError(f"must be among {', '.join(known)} (got {name})")
    return tuple(name for name in known if not names or name in names)


def compare(
    planned: Sequence[Planned],
    contenders: Sequence[str],
    workers: Map,
    *,
    defaults: bool | None = None,
    details: bool = False,
    begin: Callable[[str, int], None] | None = None,
    done: Callable[[str], None] | None = None,
) -> list[Run]:
    """Every contender on every trace and seed, ours first and the others by cost.

    `defaults`: whether rivals run with their default targets too (None: not on traces longer than `LONG_SECONDS`).
    `details`: keep minutes and decisions of the first seed, for the report. `begin` is told what comes and how many
    tasks it has, `done` each task that is finished.
    """

    def tell(number: int, what: str) -> None:
        if begin is not None:
            begin(what, number)

    tell(len(planned), "demand and bound")
    scenarios = workers(_plan, planned, lambda one: done(one.trace.name) if done else None)
    tasks = [
        task
        for one in scenarios
        for task in _tasks(one, contenders, planned[0].seed, defaults=defaults, details=details)
    ]
    # The longest first, so that no core waits for one that began last.
    tasks.sort(key=lambda task: -task.scenario.requests * (3 if task.part is Part.TUNED else 1))
    tell(len(tasks), "runs")
    runs = workers(compute, tasks, lambda task: done(f"{task.scenario.trace.name} {task.rule}") if done else None)
    order = {id(one.trace): number for number, one in enumerate(planned)}
    names = [next(one.trace.name for one in planned if id(one.trace) == key) for key in order]
    return sorted(
        runs,
        key=lambda run: (names.index(run.trace), run.seed, run.candidate.rule != roster.OURS, run.result.cost_usd),
    )


def _plan(one: Planned) -> Scenario:
    return scenario(one.setting, one.trace, one.factor, one.seed, one.boot_seconds)


def _tasks(
    one: Scenario, contenders: Sequence[str], first_seed: int, *, defaults: bool | None, details: bool
) -> list[Task]:
    detailed = details and one.seed == first_seed
    tasks: list[Task] = []
    for rule in contenders:
        if rule == roster.OURS:
            tasks.append(Task(one, rule, Part.OURS, detailed))
            continue
        tasks.append(Task(one, rule, Part.TUNED, detailed))
        if defaults or (defaults is None and one.span_seconds <= LONG_SECONDS):
            tasks.append(Task(one, rule, Part.DEFAULT))
    return tasks


_drawn: dict[tuple[object, ...], Trace] = {}
"""The last scenario's requests in this process: its tasks mostly come one after the other."""


def _source(one: Scenario) -> Trace | RateTrace:
    if isinstance(one.trace, RateTrace):
        return one.source()
    if one.key not in _drawn:
        _drawn.clear()
        _drawn[one.key] = one.source()  # type: ignore[assignment]  (of requests a trace of requests)
    return _drawn[one.key]


def compute(task: Task) -> Run:
    """What a worker does."""
    match task.part:
        case Part.OURS:
            return run(task.scenario, Entrant(task.rule), source=_source(task.scenario), details=task.details)
        case Part.DEFAULT:
            return default(task.scenario, task.rule)
        case Part.TUNED:
            return tuned(task.scenario, task.rule, details=task.details)


def default(one: Scenario, rule: str) -> Run:
    """The rival with its default target, on the pool that suits it best. Raises ValueError for an unknown rule."""
    shares = roster.RIVALS[rule].default_share if rule in roster.RIVALS else None
    if shares is None:
        raise ValueError(f"contender: must be a rival (got {rule})")
    source = _source(one)
    return _best_pool(_by_price(one), lambda pool: run(one, Entrant(rule, pool, shares), source=source))


def tuned(one: Scenario, rule: str, *, details: bool = False) -> Run:
    """The rival at its best on this trace. Raises ValueError for an unknown rule."""
    search = _on_whole if one.span_seconds <= LONG_SECONDS else _on_sample_then_whole
    best = _best_pool(_by_price(one), lambda pool: search(_Trials(one, rule, pool, details=details)))
    return replace(best, candidate=replace(best.candidate, tuned=True))


def _by_price(one: Scenario) -> list[tuple[str, float]]:
    """The pools a rival may take and the least that any fleet of each alone can cost, the cheapest first."""
    service, demand = one.setting.service, one.demand
    priced: list[tuple[str, float]] = []
    for name in roster.pools_for(service):
        column = [pool.name for pool in service.pools].index(name)
        alone = roster.service_with(service, name)
        least = bound.without_boot(
            alone, replace(demand, work_rps=demand.work_rps[:, [column]]), may_fail=1 - one.setting.attainment
        )
        priced.append((name, least.usd))
    return sorted(priced, key=lambda pair: pair[1])


def _best_pool(pools: Sequence[tuple[str, float]], on: Callable[[str], Run]) -> Run:
    """The best over the pools; a pool whose cheapest possible fleet costs more than the best so far is left out."""
    first, *others = pools
    best = on(first[0])
    for name, least_usd in others:
        if not (best.meets_slo and least_usd >= best.result.cost_usd):
            best = better(best, on(name))
    return best


def better(one: Run, other: Run | None) -> Run:
    """The one that reaches the SLO, at the least cost where both do, with the most attainment where neither does."""
    if other is None:
        return one
    if one.meets_slo != other.meets_slo:
        return one if one.meets_slo else other
    if one.meets_slo:
        return one if one.result.cost_usd <= other.result.cost_usd else other
    return one if one.result.slo_attainment >= other.result.slo_attainment else other


class _Trials:
    """One rival on one pool with one target after the other."""

    def __init__(self, one: Scenario, rule: str, pool: str, *, details: bool = False) -> None:
        self.scenario, self.rule, self.pool = one, rule, pool
        self.shares = shares_for(one, rule, pool)
        self._details = details

    def finished(self, number: int) -> Run:
        """The whole run with the target of this number."""
        candidate = Entrant(self.rule, self.pool, self.shares[number])
        return run(self.scenario, candidate, source=_source(self.scenario), details=self._details)

    def attempt(self, number: int) -> Run | None:
        """The same; None where it cannot reach the SLO."""
        candidate = Entrant(self.rule, self.pool, self.shares[number])
        try:
            found = run(self.scenario, candidate, source=_source(self.scenario), give_up=True, details=self._details)
        except Hopeless:
            return None
        return found if found.meets_slo else None

    def nearest(self) -> Run:
        """Where no target reaches the SLO: the lowest are the largest fleets; the better of the two lowest."""
        best = self.finished(0)
        return better(best, self.finished(1)) if len(self.shares) > 1 else best


def shares_for(one: Scenario, rule: str, pool: str) -> tuple[float, ...]:
    """The targets that are tried, rising; of those that mean the same fleet only the last.

    Static peak comes in whole instances, so two targets may be the same count: 0.95 and 1.0 of 4.1 instances are 5.
    """
    shares = roster.tunings(rule)
    if rule != "static-peak":
        return shares
    service = one.setting.service
    chosen = next(p for p in service.pools if p.name == pool)
    peak = one.demand.peak_rps(service, pool)
    counts = {instances_for(peak, chosen, share): share for share in shares}
    return tuple(sorted(counts.values()))


def _on_whole(trials: _Trials) -> Run:
    found: dict[int, Run | None] = {}
    low, high = -1, len(trials.shares)
    while high - low > 1:
        middle = (low + high) // 2
        found[middle] = trials.attempt(middle)
        low, high = (middle, high) if found[middle] else (low, middle)
    if high + 1 < len(trials.shares) and high + 1 not in found:
        found[high + 1] = trials.attempt(high + 1)
    reached = [one for one in found.values() if one is not None]
    return min(reached, key=lambda one: one.result.cost_usd) if reached else trials.nearest()


def _on_sample_then_whole(trials: _Trials) -> Run:
    number = _sampled(trials)
    best = trials.attempt(number)
    if best is None:
        while best is None and number > 0:
            number -= 1
            best = trials.attempt(number)
        return best or trials.finished(0)
    for bolder in range(number + 1, min(number + 1 + BOLDER, len(trials.shares))):
        other = trials.attempt(bolder)
        if other is None or other.result.cost_usd >= best.result.cost_usd:
            break
        best = other
    return best


def _sampled(trials: _Trials) -> int:
    """The number of the highest target that reaches the SLO on the sample; the lowest where none does."""
    hours = sample(trials.scenario)
    low, high = 0, len(trials.shares)
    while high - low > 1:
        middle = (low + high) // 2
        runs = [run(hour, Entrant(trials.rule, trials.pool, trials.shares[middle])) for hour in hours]
        requests = sum(found.result.requests for found in runs)
        attained = sum(found.result.slo_attainment * found.result.requests for found in runs)
        enough = attained >= trials.scenario.setting.attainment * requests
        low, high = (middle, high) if enough else (low, middle)
    return low


def sample(one: Scenario) -> list[Scenario]:
    """Seeded hours of a long trace, the busiest among them, each a scenario of its own."""
    step = one.trace.step_seconds if isinstance(one.trace, RateTrace) else HOUR_SECONDS
    length = max(HOUR_SECONDS, math.ceil(HOUR_SECONDS / step) * step)
    count = int(one.span_seconds // length)
    per_hour = round(length / bound.WINDOW_SECONDS)
    work = one.demand.work_rps[: count * per_hour, 0].reshape(count, per_hour).sum(axis=1)
    busiest = int(work.argmax())
    random = np.random.default_rng(np.random.SeedSequence((one.seed, 11)))
    others = [hour for hour in random.permutation(np.flatnonzero(work > 0)).tolist() if hour != busiest]
    chosen = sorted([busiest, *others[: SAMPLE_HOURS - 1]])
    return [_hour(one, number * length, length, number * per_hour, per_hour) for number in chosen]


def _hour(one: Scenario, begins: float, length: float, first: int, count: int) -> Scenario:
    rows = slice(first, first + count)
    whole = one.demand
    demand = bound.TraceDemand(
        whole.seconds[rows],
        whole.requests[rows],
        whole.work_rps[rows],
        whole.input_tokens[rows],
        whole.output_tokens[rows],
    )
    factor, trace = one.factor, one.trace
    if isinstance(trace, Trace):
        # An hour's own peak is not the trace's: what is cut is the traffic as it is run.
        factor, trace = 1.0, _source(one)
    # Without static peak: its cost is the whole trace's, and against it every hour alone would save the impossible.
    return replace(one, trace=crop(trace, begins, begins + length), factor=factor, demand=demand, static_usd=0.0)
