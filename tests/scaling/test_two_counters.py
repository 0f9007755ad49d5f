"""Equal work gives equal fleets, however the load balancer counts its requests.

Twenty answers a second, ten instances' worth, for two hours: as requests for one answer each, for several, or among
requests that are none (GET /v1/models).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.observation import Observation, Phase, Reading
from gpu_fleet.scaling.state import State
from tests.scaling.builders import NOW, instances, pool, pool_seen, seen, service

ANSWERS_RPS = 20.0
COUNTED = {
    "two answers each": 10.0,
    "eight answers each": 2.5,
    "every second one a GET": 40.0,
    "nine of ten are GETs": 200.0,
    "half of it passes no load balancer": 10.0,
}
"""Requests per second that the load balancer counts."""


def observed(at: float, counted: float, ready: int, boots: tuple[Any, ...], *, engines: bool) -> Observation:
    """Ready instances share the answers; each ends 2 a second when it holds 20. They all have the same minute."""
    held = ANSWERS_RPS * 10.0
    nodes = instances(ready) + boots
    view = replace(
        pool_seen(ready, load=held, at=at, rate_rps=Reading(counted, at), min_size=1), desired=len(nodes),
        instances=tuple(replace(i, load=Reading(held / ready, at)) for i in nodes),
    )  # fmt: skip
    counts = dict.fromkeys(("burst_rps", "engine_rps", "matched_rps"), Reading(ANSWERS_RPS, at)) if engines else {}
    return seen(at=at, arrivals=counted, pools={"l4": view}, **counts)


def fleet(counted: float, *, engines: bool, start: int = 12, minutes: int = 120) -> tuple[int, set[str]]:
    """Desired count at the end, and the codes of the way."""
    svc = service(pool(max_instances=100), forecast={})
    state, ready, boots, codes = State(), start, [], set[str]()
    for minute in range(minutes):
        now = NOW + 60.0 * minute
        up = [i for i in boots if now - i.since >= 240]
        ready, boots = ready + len(up), [i for i in boots if now - i.since < 240]
        decision = decide(svc, observed(now, counted, ready, tuple(boots), engines=engines), state, now)
        target, state = decision.targets["l4"], decision.state
        codes |= set(decision.codes)
        ready -= sum(i.id in target.take for i in instances(ready))
        more = max(0, target.desired - ready - len(boots))
        boots += instances(more, Phase.STARTING, prefix=f"m{minute}", since=now)
    return ready + len(boots), codes


@pytest.mark.parametrize("what", COUNTED)
def test_with_the_engines_count_fleets_are_equal(what: str) -> None:
    one, _ = fleet(ANSWERS_RPS, engines=True)
    got, codes = fleet(COUNTED[what], engines=True)
    assert got == one == 15
    assert "demand.burst" not in codes


@pytest.mark.parametrize("what", COUNTED)
def test_without_it_the_weight_of_a_request_makes_them_nearly_equal(what: str) -> None:
    got, codes = fleet(COUNTED[what], engines=False)
    assert 13 <= got <= 16
    assert "demand.burst" not in codes


def test_traffic_that_passes_no_load_balancer_at_all_is_carried() -> None:
    assert fleet(0.0, engines=True)[0] == 15
