"""Bursts: met whole at once, and held."""

from dataclasses import replace

import pytest

from gpu_fleet.scaling import burst
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.demand import measure
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Burst
from gpu_fleet.scaling.state import Point, State
from tests.scaling.builders import NOW, seen, service

POLICY = Burst(factor=1.5, hold_seconds=300)
LEAD = 300.0


def meet(policy, demand, expected_rps, state, now):
    rps, memory, reasons = burst.meet(policy, demand, expected_rps, state.burst, now)
    return rps, replace(state, burst=memory), reasons


def demand_at(now, arrivals, burst=None):
    engines = {} if burst is None else {"burst_rps": Reading(burst, now - 10), "matched_rps": Reading(arrivals, now)}
    observation = seen(at=now, arrivals=arrivals, **engines)
    return measure(Context(service(), observation, State(at=now - 60), now))[0]


def test_a_burst_is_met_whole():
    met, _, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), NOW)
    assert met == pytest.approx(20.0)
    assert [(r.step, r.code, r.numbers) for r in reasons] == [(Step.DEMAND, "demand.burst", {"burst_rps": 20.0})]
    assert "20.00 rps was seen 10 s ago" in reasons[0].sentence


def test_a_burst_below_what_is_expected_anyway_changes_nothing():
    met, _, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 30.0, State(), NOW)
    assert (met, reasons) == (30.0, ())


def test_a_burst_is_held_for_its_time_and_no_longer():
    _, state, _ = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), NOW)
    assert meet(POLICY, demand_at(NOW + 290, 2.0), 3.0, state, NOW + 290)[0] == 20.0
    assert meet(POLICY, demand_at(NOW + 291, 2.0), 3.0, state, NOW + 291)[0] == 3.0


def test_bursts_that_stay_are_met_whole_for_good():
    state, now = State(), NOW
    for _ in range(5):
        value, state, _ = meet(POLICY, demand_at(now, 2.0, 20.0), 0.0, state, now)
        assert value == pytest.approx(20.0)
        now += LEAD + 120
        _, state, _ = meet(POLICY, demand_at(now, 20.0), 0.0, state, now)
        now += 600


def test_a_second_burst_of_the_same_size_is_held_from_its_own_time():
    _, state, _ = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), NOW)
    _, state, _ = meet(POLICY, demand_at(NOW + 120, 2.0, 20.0), 3.0, state, NOW + 120)
    assert state.burst.last == Point(NOW + 110, 20.0)
