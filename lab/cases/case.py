"""A case, and what comes of it when it is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lab.cases.expect import Difference, Expect, differences
from lab.cases.given import Earlier, Given
from lab.cases.observed import NOW, observation
from scaling.decision import Decision
from scaling.observation import Observation
from scaling.service import Service
from scaling.state import State

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
class Outcome:
    """What came of a case."""

    case: Case
    decision: Decision
    differences: tuple[Difference, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return not self.differences


def run(case: Case, decide: Decide) -> Outcome:
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
    return Outcome(case, decision, tuple(differences(case.expect, decision)))


def _earlier(given: Given, before: Earlier) -> Given:
    pools = {
        name: value.model_copy(update=before.pools[name].model_dump(exclude_unset=True))
        if name in before.pools
        else value
        for name, value in given.pools.items()
    }
    arrivals = before.arrivals_rps if before.arrivals_rps is not None else given.arrivals_rps
    return given.model_copy(update={"pools": pools, "arrivals_rps": arrivals, "burst_rps": None, "missing": ()})
