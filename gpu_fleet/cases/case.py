"""A case, and the result of deciding it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gpu_fleet.cases.expect import Expect, Mismatch, mismatches
from gpu_fleet.cases.given import Earlier, Given
from gpu_fleet.cases.observed import NOW, observation
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State

Decide = Callable[[Service, Observation, State, float], Decision]


@dataclass(frozen=True)
class Case:
    """One case, ready to run."""

    policy: str
    name: str
    place: str
    service: Service
    given: Given
    expect: Expect


@dataclass(frozen=True)
class CaseResult:
    """The result of running one case."""

    case: Case
    decision: Decision
    mismatches: tuple[Mismatch, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return not self.mismatches


def run(case: Case, decide: Decide) -> CaseResult:
    """Decide the case minute by minute up to `NOW`, and compare the last decision with its bounds."""
    state = State()
    given = case.given
    minutes: list[Given] = [given] * given.for_minutes
    if given.before is not None:
        minutes = [_before(given, given.before)] * given.before.for_minutes + minutes
    decision: Decision | None = None
    for i, minute in enumerate(minutes):
        now = NOW - 60.0 * (len(minutes) - 1 - i)
        # A capacity error is one event: only the last minute observes it.
        is_last = i == len(minutes) - 1
        short_form = minute if is_last else minute.model_copy(update={"capacity_errors": ()})
        decision = decide(case.service, observation(case.service, short_form, now), state, now)
        state = decision.state
    if decision is None:
        raise ValueError("a case lasts at least one minute")
    return CaseResult(case, decision, tuple(mismatches(case.expect, decision)))


def _before(given: Given, before: Earlier) -> Given:
    """Return the short form of the minutes before the case, as changes to the case."""
    pools = {
        name: value.model_copy(update=before.pools[name].model_dump(exclude_unset=True))
        if name in before.pools
        else value
        for name, value in given.pools.items()
    }
    arrivals = before.arrivals_rps if before.arrivals_rps is not None else given.arrivals_rps
    return given.model_copy(update={"pools": pools, "arrivals_rps": arrivals, "burst_rps": None, "missing": ()})
