"""Bursts: met at once, held, and met by what they turn out to leave."""

from dataclasses import replace

import pytest

from gpu_fleet.scaling import burst
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.demand import measure
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Burst
from gpu_fleet.scaling.state import Point, State
from tests.scaling.builders import NOW, changed, pool_seen, remembered, seen, service

POLICY = Burst(factor=1.5, hold_seconds=300)
LEAD = 300.0


def meet(policy, demand, expected_rps, state, lead_seconds, now):
    rps, memory, reasons = burst.meet(policy, demand, expected_rps, state.burst, lead_seconds, now)
    return rps, replace(state, burst=memory), reasons


def demand_at(now, arrivals, burst=None):
    observation = seen(at=now, arrivals=arrivals, burst_rps=None if burst is None else Reading(burst, now - 10))
    return measure(Context(service(), observation, State(at=now - 60), now))[0]


def test_a_burst_is_met_whole_the_first_time():
    met, state, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), LEAD, NOW)
    assert met == pytest.approx(20.0)
    assert [(r.step, r.code, r.numbers) for r in reasons] == [
        (Step.DEMAND, "demand.burst", {"burst_rps": 20.0, "met_rps": 20.0})
    ]
    assert "20.00 rps was seen 10 s ago" in reasons[0].sentence
    assert state.burst.due == Point(NOW - 10 + LEAD, 20.0)


def test_a_burst_below_what_is_expected_anyway_changes_nothing():
    met, _, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 30.0, State(), LEAD, NOW)
    assert (met, reasons) == (30.0, ())


def test_a_burst_is_held_for_its_time_and_no_longer():
    _, state, _ = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), LEAD, NOW)
    state = changed(state, burst_due=None)
    assert meet(POLICY, demand_at(NOW + 290, 2.0), 3.0, state, LEAD, NOW + 290)[0] == 20.0
    assert meet(POLICY, demand_at(NOW + 291, 2.0), 3.0, state, LEAD, NOW + 291)[0] == 3.0


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
    state = remembered(burst_due=Point(NOW - 60, 20.0))
    unknown = measure(Context(service(), seen(pools={"l4": pool_seen(load=None)}), State(at=NOW - 60), NOW))[0]
    _, after, _ = meet(POLICY, unknown, 0.0, state, LEAD, NOW)
    assert after.burst.due == state.burst.due


def test_a_burst_that_mostly_goes_away_is_not_met_beyond_what_is_expected_anyway():
    """20 rps of which half is left when instances come: 10 are below the 15 expected, so 15 it is."""
    half = remembered(burst_lasts=0.5)
    met, _, reasons = meet(POLICY, demand_at(NOW, 2.0, 20.0), 15.0, half, LEAD, NOW)
    assert (met, reasons) == (15.0, ())
    assert meet(POLICY, demand_at(NOW, 2.0, 20.0), 10.0, half, LEAD, NOW)[2] == ()
    assert meet(POLICY, demand_at(NOW, 2.0, 20.0), 9.0, half, LEAD, NOW)[0] == 10.0


def test_a_second_burst_of_the_same_size_is_held_from_its_own_time():
    _, state, _ = meet(POLICY, demand_at(NOW, 2.0, 20.0), 3.0, State(), LEAD, NOW)
    _, state, _ = meet(POLICY, demand_at(NOW + 120, 2.0, 20.0), 3.0, state, LEAD, NOW + 120)
    assert state.burst.last == Point(NOW + 110, 20.0)
    assert state.burst.due == Point(NOW + 110 + LEAD, 20.0)


@pytest.mark.parametrize(("due_rps", "arrivals", "lasts"), [(20.0, 10.0, 0.85), (20.0, 60.0, 1.0), (0.5, 0.0, 0.7)])
def test_a_burst_is_judged_by_the_demand_when_its_instances_come(due_rps, arrivals, lasts):
    """0.7 of what was known and 0.3 of what is left, which is never more than the burst itself."""
    state = remembered(burst_due=Point(NOW, due_rps))
    early = meet(POLICY, demand_at(NOW - 1, arrivals), 0.0, state, LEAD, NOW - 1)[1]
    assert (early.burst.due, early.burst.lasts) == (state.burst.due, 1.0)
    judged = meet(POLICY, demand_at(NOW, arrivals), 0.0, state, LEAD, NOW)[1]
    assert (judged.burst.due, judged.burst.lasts) == (None, lasts)
