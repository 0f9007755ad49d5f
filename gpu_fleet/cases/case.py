"""A case, and what comes of it when it is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gpu_fleet.cases.expect import Expect, Mismatch, differences
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
    """What came of a case."""

    case: Case
    decision: Decision
    differences: tuple[Mismatch, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return not self.differences


def run(case: Case, decide: Decide) -> CaseResult:
    """Decide what the case gives, minute by minute up to `NOW`, and hold the last decision against its bounds."""
    state = State()
    given = case.given
    minutes: list[Given] = [given] * given.for_minutes
    if given.before is not None:
        minutes = [_earlier(given, given.before)] * given.before.for_minutes + minutes
    decision: Decision | None = None
    for i, minute in enumerate(minutes):
        now = NOW - 60.0 * (len(minutes) - 1 - i)
        # An error of the last minute is one event: it is seen in the last evaluation alone.
        last = i == len(minutes) - 1
        seen = observation(case.service, minute if last else minute.model_copy(update={"capacity_errors": ()}), now)
        decision = decide(case.service, seen, state, now)
        state = decision.state
    if decision is None:
        raise ValueError("a case lasts a minute at least")
    return CaseResult(case, decision, tuple(differences(case.expect, decision)))


def _earlier(given: Given, before: Earlier) -> Given:
    pools = {
        name: value.model_copy(update=before.pools[name].model_dump(exclude_unset=True))
        if name in before.pools
        else value
        for name, value in given.pools.items()
    }
    arrivals = before.arrivals_rps if before.arrivals_rps is not None else given.arrivals_rps
    return given.model_copy(update={"pools": pools, "arrivals_rps": arrivals, "burst_rps": None, "missing": ()})
