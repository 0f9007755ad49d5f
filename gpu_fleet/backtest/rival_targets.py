"""The best target of a rival on a trace, and its default target on its best pool.

The best target costs least among those that reach the SLO, over all pools that can; if none does, it is the one that
comes nearest. As the target rises, attainment and cost fall, so the target is found by bisection. The next higher
target is tried too, since chance may favour it. A run is given up once more requests have failed than may fail.

**Long traces.** A run of a fortnight takes a minute or two. There targets are tuned on a seeded sample of hours, and
then tried on the whole trace: a step safer until the SLO is reached, or a step bolder as long as it is reached and the
cost falls. So every reported figure comes from a run of the whole trace, but a much bolder target that would also do
may be missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gpu_fleet.backtest import bound, roster
from gpu_fleet.backtest.rivals.static_peak import instances_for
from gpu_fleet.backtest.roster import Entrant
from gpu_fleet.backtest.run import Run, SloOutOfReach, run
from gpu_fleet.backtest.scenario import Scenario
from gpu_fleet.backtest.trace_demand import WINDOW_SECONDS, demand
from gpu_fleet.traffic import RateTrace, Trace, crop

LONG_SECONDS = 6 * 3600.0
"""On traces up to this length, every target is tried on the whole trace."""
SAMPLE_HOURS = 12
"""Hours of a longer trace on which targets are tuned first."""
HOUR_SECONDS = 3600.0
BOLDER_STEPS = 2
"""Steps above the sample's target that are tried if the whole trace allows it."""


def with_default_target(scenario: Scenario, rule: str) -> Run:
    """Run the rival with its default target, on the pool that suits it best. Raises ValueError for an unknown rule."""
    if rule not in roster.RIVALS:
        raise ValueError(f"contender: must be a rival (got {rule})")
    share = roster.RIVALS[rule].default_share
    traffic = traffic_of(scenario)
    return _best_over_pools(scenario, lambda pool: run(scenario, Entrant(rule, pool, share), traffic=traffic))


def with_best_target(scenario: Scenario, rule: str, *, details: bool = False) -> Run:
    """Run the rival at its best on this trace. Raises ValueError for an unknown rule."""
    search = _search_whole if scenario.span_seconds <= LONG_SECONDS else _search_sample_first
    best = _best_over_pools(scenario, lambda pool: search(_Targets(scenario, rule, pool, details=details)))
    return replace(best, entrant=replace(best.entrant, tuned=True))


_last_traffic: dict[tuple[object, ...], Trace] = {}
"""The last scenario's requests in this process, since most tasks of a scenario follow each other."""


def traffic_of(scenario: Scenario) -> Trace | RateTrace:
    """Return the scenario's traffic; single requests are scaled only once in a row."""
    if isinstance(scenario.trace, RateTrace):
        return scenario.traffic()
    if scenario.traffic_key not in _last_traffic:
        _last_traffic.clear()
        _last_traffic[scenario.traffic_key] = scenario.traffic()  # type: ignore[assignment]  (of requests a trace of requests)
    return _last_traffic[scenario.traffic_key]


@dataclass(frozen=True, slots=True)
class PricedPool:
    """A pool, and the least cost of any fleet of this pool alone."""

    name: str
    least_usd: float


def pools_by_price(scenario: Scenario) -> list[PricedPool]:
    """Return the pools that a rival may take, the cheapest first."""
    service, may_fail = scenario.setting.service, 1 - scenario.setting.attainment
    priced: list[PricedPool] = []
    for name in roster.pools_for(service):
        demand = scenario.demand.of_pool(service, name)
        least = bound.without_boot(roster.service_with(service, name), demand, may_fail=may_fail)
        priced.append(PricedPool(name, least.usd))
    return sorted(priced, key=lambda pool: pool.least_usd)


def _best_over_pools(scenario: Scenario, run_on: Callable[[str], Run]) -> Run:
    """Return the best run over the pools. A pool whose cheapest possible fleet costs more than the best is skipped."""
    first, *others = pools_by_price(scenario)
    best = run_on(first.name)
    for pool in others:
        if not (best.meets_slo and pool.least_usd >= best.result.cost_usd):
            best = better(best, run_on(pool.name))
    return best


def better(one: Run, other: Run | None) -> Run:
    """Return the run that reaches the SLO; the cheaper if both do, the one with more attainment if neither does."""
    if other is None:
        return one
    if one.meets_slo != other.meets_slo:
        return one if one.meets_slo else other
    if one.meets_slo:
        return one if one.result.cost_usd <= other.result.cost_usd else other
    return one if one.result.slo_attainment >= other.result.slo_attainment else other


class _Targets:
    """The targets of one rival on one pool, by number, and runs with them."""

    def __init__(self, scenario: Scenario, rule: str, pool: str, *, details: bool = False) -> None:
        self.scenario, self._rule, self._pool = scenario, rule, pool
        self._shares = shares_for(scenario, rule, pool)
        self._details = details

    def __len__(self) -> int:
        return len(self._shares)

    def entrant(self, number: int) -> Entrant:
        """Return the rival with this target."""
        return Entrant(self._rule, self._pool, self._shares[number])

    def run(self, number: int) -> Run:
        """Run the whole trace with this target."""
        return run(self.scenario, self.entrant(number), traffic=traffic_of(self.scenario), details=self._details)

    def attempt(self, number: int) -> Run | None:
        """Run the trace with this target; return None if it does not reach the SLO."""
        try:
            attempt = run(
                self.scenario,
                self.entrant(number),
                traffic=traffic_of(self.scenario),
                give_up=True,
                details=self._details,
            )
        except SloOutOfReach:
            return None
        return attempt if attempt.meets_slo else None

    def nearest(self) -> Run:
        """Return the better run with the two lowest targets, which give the largest fleets: no target is enough."""
        lowest = self.run(0)
        return better(lowest, self.run(1)) if len(self) > 1 else lowest


def shares_for(scenario: Scenario, rule: str, pool: str) -> tuple[float, ...]:
    """Return the targets to try, rising; of those that mean the same fleet, only the last.

    Static peak runs whole instances, so two targets may mean the same count: 0.95 and 1.0 of 4.1 instances are 5.
    """
    shares = roster.tunings(rule)
    if rule != "static-peak":
        return shares
    service = scenario.setting.service
    chosen = next(p for p in service.pools if p.name == pool)
    peak_rps = scenario.demand.peak_rps(service, pool)
    share_of_count = {instances_for(peak_rps, chosen, share): share for share in shares}
    return tuple(sorted(share_of_count.values()))


def _search_whole(targets: _Targets) -> Run:
    attempts: dict[int, Run | None] = {}
    low, high = -1, len(targets)
    while high - low > 1:
        middle = (low + high) // 2
        attempts[middle] = targets.attempt(middle)
        low, high = (middle, high) if attempts[middle] else (low, middle)
    if high + 1 < len(targets) and high + 1 not in attempts:
        attempts[high + 1] = targets.attempt(high + 1)
    enough = [attempt for attempt in attempts.values() if attempt is not None]
    return min(enough, key=lambda one: one.result.cost_usd) if enough else targets.nearest()


def _search_sample_first(targets: _Targets) -> Run:
    number = _highest_on_sample(targets)
    best = targets.attempt(number)
    if best is None:
        while best is None and number > 0:
            number -= 1
            best = targets.attempt(number)
        return best or targets.run(0)
    for bolder in range(number + 1, min(number + 1 + BOLDER_STEPS, len(targets))):
        attempt = targets.attempt(bolder)
        if attempt is None or attempt.result.cost_usd >= best.result.cost_usd:
            break
        best = attempt
    return best


def _highest_on_sample(targets: _Targets) -> int:
    """Return the number of the highest target that reaches the SLO on the sample; the lowest if none does."""
    hours = sample(targets.scenario)
    low, high = 0, len(targets)
    while high - low > 1:
        middle = (low + high) // 2
        results = [run(hour, targets.entrant(middle)).result for hour in hours]
        requests = sum(result.requests for result in results)
        attained = sum(result.slo_attainment * result.requests for result in results)
        is_enough = attained >= targets.scenario.setting.attainment * requests
        low, high = (middle, high) if is_enough else (low, middle)
    return low


def sample(scenario: Scenario) -> list[Scenario]:
    """Return seeded hours of a long trace, the busiest among them, each as a scenario."""
    step = scenario.trace.step_seconds if isinstance(scenario.trace, RateTrace) else HOUR_SECONDS
    hour_seconds = max(HOUR_SECONDS, math.ceil(HOUR_SECONDS / step) * step)
    count = int(scenario.span_seconds // hour_seconds)
    windows = round(hour_seconds / WINDOW_SECONDS)
    work = scenario.demand.work_rps[: count * windows, 0].reshape(count, windows).sum(axis=1)
    busiest = int(work.argmax())
    random = np.random.default_rng(np.random.SeedSequence((scenario.seed, 11)))
    others = [hour for hour in random.permutation(np.flatnonzero(work > 0)).tolist() if hour != busiest]
    return [_hour(scenario, number, hour_seconds) for number in sorted([busiest, *others[: SAMPLE_HOURS - 1]])]


def _hour(scenario: Scenario, number: int, hour_seconds: float) -> Scenario:
    begins = number * hour_seconds
    windows = round(hour_seconds / WINDOW_SECONDS)
    factor, trace = scenario.factor, scenario.trace
    if isinstance(trace, Trace):
        # Scaled first, then cut: an hour's own peak is not the trace's.
        factor, trace = 1.0, traffic_of(scenario)
    hour = replace(
        scenario,
        trace=crop(trace, begins, begins + hour_seconds),
        factor=factor,
        demand=scenario.demand.between(number * windows, (number + 1) * windows),
        # Static peak's cost is the whole trace's: against it every hour alone would save the impossible.
        static_usd=0.0,
    )
    if isinstance(trace, Trace):
        return hour
    # Of rates, an hour alone draws other requests than the same hour within the trace.
    drawn = hour.traffic().windows(WINDOW_SECONDS, seed=scenario.seed)
    return replace(hour, demand=demand(scenario.setting.service, drawn, scenario.setting.profiles))
