"""Bursts: met at once, held, and met by what they turn out to leave."""

from dataclasses import replace

import pytest

from scaling.burst import meet
from scaling.demand import measure
from scaling.observation import Reading
from scaling.policy import Burst
from scaling.state import Point, State
from tests.scaling.builders import NOW, pool_seen, seen, service

POLICY = Burst(factor=1.5, hold_seconds=300)
LEAD = 300.0


def demand_at(now, arrivals, burst=None):
    observation = seen(at=now, arrivals=arrivals, burst_rps=None if burst is None else Reading(burst, now - 10))
    return measure(service(), observation, State(at=now - 60), now)[0]


def test_a_burst_is_met_whole_the_first_time():
    met, state, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), LEAD, NOW)
    assert met == pytest.approx(20.0)
    assert [r.code for r in reasons] == ["demand.burst"]
    assert state.burst_due == Point(NOW - 10 + LEAD, 20.0)


def test_a_burst_below_what_is_expected_anyway_changes_nothing():
    met, _, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 30.0, State(), LEAD, NOW)
    assert (met, reasons) == (30.0, [])


def test_a_burst_is_held_for_its_time_and_no_longer():
    _, state, _ = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), LEAD, NOW)
    assert meet(POLICY, demand_at(NOW + 280, 2.0), 3.0, replace(state, burst_due=None), LEAD, NOW + 280)[0] == 20.0
    assert meet(POLICY, demand_at(NOW + 300, 2.0), 3.0, state, LEAD, NOW + 300)[0] == 3.0


def test_bursts_that_are_over_before_instances_come_are_met_by_less_and_less():
    state, now, met = State(), NOW, []
    for _ in range(8):
        value, state, _ = meet(POLICY, demand_at(now, 2.0, 20.0), 0.0, state, LEAD, now)
        met.append(value)
        now += LEAD + 120
        _, state, _ = meet(POLICY, demand_at(now, 2.0), 0.0, state, LEAD, now)
        now += 600
    assert met == sorted(met, reverse=True)
    assert met[0] == pytest.approx(20.0)
    assert met[-1] < 4.0


def test_bursts_that_stay_are_met_whole_for_good():
    state, now = State(), NOW
    for _ in range(5):
        value, state, _ = meet(POLICY, demand_at(now, 2.0, 20.0), 0.0, state, LEAD, now)
        assert value == pytest.approx(20.0)
        now += LEAD + 120
        _, state, _ = meet(POLICY, demand_at(now, 20.0), 0.0, state, LEAD, now)
        now += 600


def test_missing_demand_judges_no_burst():
    state = State(burst_due=Point(NOW - 60, 20.0))
    unknown = measure(service(), seen(pools={"l4": pool_seen(load=None)}), State(at=NOW - 60), NOW)[0]
    _, after, _ = meet(POLICY, unknown, 0.0, state, LEAD, NOW)
    assert after.burst_due == state.burst_due
