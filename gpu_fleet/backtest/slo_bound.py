"""The cheapest clairvoyant fleet that keeps the SLO in the simulator.

`gpu_fleet.backtest.bound` counts work as a fluid that never queues, so no fleet can reach its cost. This fleet runs
request by request, as every contender does: same engines, boots, drains and bill. It knows the whole trace, so its only
head-room is for what happens within a minute. That head-room is searched: the highest fill that still attains, for each
pool that reaches the SLO and each of `LOOKS_MINUTES`.

**What it is not.** It is found by search, so it shows what is possible, and a cheaper plan may exist: one with a count
of its own for each minute, with several pools, or with steps shorter than a minute. Nor does attainment fall with every
step of the fill, and the search tries only the next few above the first that misses.

**Speed.** A plan's cost is known before it runs, so a plan that is dearer than the best so far is not run. On traces
longer than `LONG_SECONDS` the plan is searched on the sample of hours on which rivals are tuned; then it runs on the
whole trace, with a lower fill until it attains, else with a higher one while it attains.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpu_fleet.backtest.rival_targets import LONG_SECONDS, better, pools_by_price, sample, traffic_of
from gpu_fleet.backtest.roster import CLAIRVOYANT, Entrant
from gpu_fleet.backtest.run import Run, SloOutOfReach, clairvoyant_of, run
from gpu_fleet.backtest.scenario import Scenario

FILL_STEP = 1.01
FILLS = tuple(1.1 / FILL_STEP**step for step in reversed(range(320)))
"""Fills to try, from 0.046 to 1.1, each 1 % above the one before. Above 1 a queue grows within a minute."""
LOOKS_MINUTES = (1.0, 2.0, 10.0, math.inf)
"""The longer a fleet looks back, the less it follows. With infinity it is static; long traces do without."""
LUCKY_STEPS = 3
"""Fills tried above the highest that bisection finds, since chance may favour one."""


@dataclass(frozen=True, slots=True)
class _Plans:
    """The plans of one pool and one look, by the number of their fill, and what they do in some scenarios together."""

    hours: Sequence[Scenario]
    pool: str
    look_minutes: float

    def plan(self, number: int) -> Entrant:
        return Entrant(CLAIRVOYANT, self.pool, FILLS[number], tuned=True, look_minutes=self.look_minutes)

    def usd(self, number: int) -> float:
        return sum(clairvoyant_of(hour, self.plan(number)).usd for hour in self.hours)

    def attains(self, number: int) -> bool:
        if len(self.hours) == 1:
            return self.attempt(number) is not None
        may_fail = (1 - self.hours[0].setting.attainment) * sum(hour.requests for hour in self.hours) + 1e-6
        for hour in self.hours:
            result = run(hour, self.plan(number)).result
            may_fail -= (1 - result.slo_attainment) * result.requests
            if may_fail < 0:
                return False
        return True

    def attempt(self, number: int) -> Run | None:
        """Run the only scenario; return None if the plan does not attain."""
        (scenario,) = self.hours
        try:
            done = run(scenario, self.plan(number), traffic=traffic_of(scenario), give_up=True)
        except SloOutOfReach:
            return None
        return done if done.meets_slo else None

    def first_below(self, usd: float) -> int:
        """Return the lowest number whose plan costs less; the cost falls as the fill rises."""
        return bisect_left(range(len(FILLS)), x=True, key=lambda number: self.usd(number) < usd)

    def highest(self, first: int) -> int | None:
        """Return the highest number from `first` that attains, as bisection and a few steps above it find it.

        None if the first itself does not attain.
        """
        if first == len(FILLS) or not self.attains(first):
            return None
        low, high = first, len(FILLS)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.attains(middle) else (low, middle)
        lucky = range(min(high + LUCKY_STEPS, len(FILLS) - 1), high, -1)
        return next((number for number in lucky if self.attains(number)), low)


def cheapest_with_slo(scenario: Scenario) -> Run:
    """Return the run of the cheapest plan found; if none attains, of the one with the largest fleet tried."""
    is_long = scenario.span_seconds > LONG_SECONDS
    found = _search(scenario, sample(scenario) if is_long else [scenario], is_long=is_long)
    if found is None:
        largest = _Plans([scenario], pools_by_price(scenario)[0].name, LOOKS_MINUTES[-2])
        return run(scenario, largest.plan(0), traffic=traffic_of(scenario))
    plans, number = found
    return _on_the_whole(replace(plans, hours=[scenario]), number)


def _search(scenario: Scenario, hours: Sequence[Scenario], *, is_long: bool) -> tuple[_Plans, int] | None:
    """Return the cheapest plan found that attains over these hours together, and its number; None if none does."""
    best: tuple[_Plans, int] | None = None
    for pool in pools_by_price(scenario):
        for look in LOOKS_MINUTES:
            if is_long and math.isinf(look):
                continue
            plans = _Plans(hours, pool.name, look)
            number = plans.highest(0 if best is None else plans.first_below(best[0].usd(best[1])))
            if number is not None:
                best = plans, number
    return best


def _on_the_whole(plans: _Plans, number: int) -> Run:
    """Return the run of the plan on the whole trace: with a lower fill until it attains, else with one a little higher.

    On a trace that was searched whole, the plan attains and the higher fills are tried again, which changes nothing.
    """
    best = plans.attempt(number)
    while best is None and number > 0:
        number -= 1
        best = plans.attempt(number)
    if best is None:
        return run(plans.hours[0], plans.plan(0), traffic=traffic_of(plans.hours[0]))
    for bolder in range(number + 1, min(number + 1 + LUCKY_STEPS, len(FILLS))):
        attempt = plans.attempt(bolder)
        if attempt is None:
            break
        best = better(best, attempt)
    return best
