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
from collections.abc import Callable, Sequence

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


def cheapest_with_slo(scenario: Scenario) -> Run:
    """Return the run of the cheapest plan found; if none attains, of the one with the largest fleet tried."""
    if scenario.span_seconds <= LONG_SECONDS:
        plan = _search([scenario], scenario, LOOKS_MINUTES)
        return _run(scenario, plan or _largest(scenario))
    finite = tuple(look for look in LOOKS_MINUTES if math.isfinite(look))
    return _on_the_whole(scenario, _search(sample(scenario), scenario, finite) or _largest(scenario))


def _largest(scenario: Scenario) -> Entrant:
    return _plan(pools_by_price(scenario)[0].name, LOOKS_MINUTES[-2], FILLS[0])


def _plan(pool: str, look_minutes: float, fill: float) -> Entrant:
    return Entrant(CLAIRVOYANT, pool, fill, tuned=True, look_minutes=look_minutes)


def _search(hours: Sequence[Scenario], whole: Scenario, looks: Sequence[float]) -> Entrant | None:
    """Return the cheapest plan found that attains over these hours together, if one does."""
    best: Entrant | None = None
    least_usd = math.inf
    for pool in pools_by_price(whole):
        for look in looks:

            def usd(fill: float, pool: str = pool.name, look: float = look) -> float:
                return sum(clairvoyant_of(hour, _plan(pool, look, fill)).usd for hour in hours)

            # A plan's cost falls as its fill rises.
            first = bisect_left(FILLS, True, key=lambda fill: usd(fill) < least_usd)
            plans = [_plan(pool.name, look, fill) for fill in FILLS[first:]]
            number = _highest(len(plans), lambda number: _attains(hours, plans[number]))
            if number is not None:
                best, least_usd = plans[number], usd(FILLS[first + number])
    return best


def _highest(count: int, attains: Callable[[int], bool]) -> int | None:
    """Return the highest number that attains, as bisection and a few steps above it find it; None if 0 does not."""
    if count == 0 or not attains(0):
        return None
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if attains(middle) else (low, middle)
    lucky = range(min(high + LUCKY_STEPS, count - 1), high, -1)
    return next((number for number in lucky if attains(number)), low)


def _attains(hours: Sequence[Scenario], plan: Entrant) -> bool:
    if len(hours) == 1:
        return _attempt(hours[0], plan) is not None
    may_fail = (1 - hours[0].setting.attainment) * sum(hour.requests for hour in hours) + 1e-6
    for hour in hours:
        result = run(hour, plan).result
        may_fail -= (1 - result.slo_attainment) * result.requests
        if may_fail < 0:
            return False
    return True


def _run(scenario: Scenario, plan: Entrant) -> Run:
    return run(scenario, plan, traffic=traffic_of(scenario))


def _attempt(scenario: Scenario, plan: Entrant) -> Run | None:
    """Return the plan's run; None if it does not attain."""
    try:
        done = run(scenario, plan, traffic=traffic_of(scenario), give_up=True)
    except SloOutOfReach:
        return None
    return done if done.meets_slo else None


def _on_the_whole(scenario: Scenario, plan: Entrant) -> Run:
    """Return the run of the plan on the whole trace, with the fill that suits it."""
    assert plan.pool is not None
    assert plan.share is not None
    number = FILLS.index(plan.share)
    plans = [_plan(plan.pool, plan.look_minutes, fill) for fill in FILLS]
    best = _attempt(scenario, plans[number])
    if best is None:
        lower = (_attempt(scenario, plans[n]) for n in range(number - 1, -1, -1))
        return next((found for found in lower if found is not None), None) or _run(scenario, plans[0])
    for bolder in plans[number + 1 : number + 1 + LUCKY_STEPS]:
        attempt = _attempt(scenario, bolder)
        if attempt is None:
            break
        best = better(best, attempt)
    return best
