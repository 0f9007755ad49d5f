"""The threshold that suits a history: cases worked by hand, then general properties."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.traffic import RateTrace, read
from gpu_fleet.traffic.threshold_curve import OrderingRule, advise


def rates(rps, step_seconds=60.0) -> RateTrace:
    values = np.asarray(rps, dtype=np.float64)
    return RateTrace("t", np.arange(len(values)) * step_seconds, values, step_seconds)


def test_capacity_is_the_demand_one_lead_time_earlier_over_the_threshold():
    # Two steps late, at 50 %: twice the demand of two steps before; the first demand stands for what came before.
    assert OrderingRule(120).capacity_rps(np.array([4.0, 4, 8, 2, 2, 2]), 60, 0.5).tolist() == [8, 8, 8, 8, 16, 4]


def test_a_lead_of_part_of_a_step_takes_the_whole_step():
    assert OrderingRule(61).capacity_rps(np.array([1.0, 2, 3]), 60, 1.0).tolist() == [1, 1, 1]


def test_capacity_comes_in_whole_instances():
    assert OrderingRule(0, unit_rps=2.0).capacity_rps(np.array([1.0, 4.0, 4.1]), 60, 1.0).tolist() == [2, 4, 6]


def test_capacity_stays_at_the_highest_order_of_the_hold_time():
    rule = OrderingRule(0, hold_seconds=120)
    assert rule.capacity_rps(np.array([1.0, 9, 2, 2, 2, 2]), 60, 1.0).tolist() == [1, 9, 9, 9, 2, 2]


def test_the_highest_threshold_that_carries_a_known_step_is_recommended():
    # Demand doubles once every half hour and falls back: 10 -> 20 a minute later. With a lead of a minute, a threshold
    # of 50 % carries it, and 51 % breaches by 20 - 10/0.51 = 0.39 in each of those minutes.
    advice = advise(rates(np.tile([10.0] * 15 + [20.0] * 15, 40)), OrderingRule(60), attainment=0.9999)
    assert advice.recommended.threshold == 0.50
    assert advice.recommended.over == 0
    at_51 = next(point for point in advice.points if point.threshold == 0.51)
    assert at_51.over == pytest.approx(40 * (20 - 10 / 0.51) / (600 * 10 + 600 * 20), rel=1e-6)
    assert at_51.cost == pytest.approx((1 / 0.51), rel=0.01)
    assert advice.static_cost == pytest.approx(20 / 15)
    assert advice.static_is_cheaper


def test_constant_demand_needs_no_headroom():
    advice = advise(rates([10.0] * 600), OrderingRule(300), attainment=0.995)
    assert advice.recommended.threshold == 1.0
    assert advice.recommended.cost == pytest.approx(1)


def test_no_threshold_is_recommended_if_none_meets_the_target():
    advice = advise(rates(np.tile([0.0] * 20 + [10.0] * 5, 30)), OrderingRule(300), attainment=0.995)
    assert advice.recommended is None
    assert advice.plain is None
    assert advice.plain_low is None
    assert advice.static_is_cheaper


def test_the_recommendation_is_more_careful_than_the_history_alone(shared):
    trace = read(shared / "traces" / "servegen_m_large_10min.csv")
    advice = advise(trace, OrderingRule(300), attainment=0.995)
    assert advice.recommended.threshold < advice.plain.threshold
    assert advice.recommended.over_high <= advice.target < advice.plain.over_high
    assert advice.plain_low <= advice.plain.threshold <= advice.plain_high
    assert advice.blocks == 336


def test_the_interval_covers_the_truth_as_often_as_promised():
    # Independent hours, each with one minute of 10 + X requests per second, X exponential with mean 10, where 12.5 are
    # carried. Beyond capacity are E[max(0, X - 2.5)] = 10 * exp(-0.25) = 7.788 of 610 a minute and hour.
    random = np.random.default_rng(7)
    truth = 10 * math.exp(-0.25) / 610

    def history(hours: int) -> RateTrace:
        rows = np.full((hours, 60), 10.0)
        rows[:, 30] += random.exponential(10, hours)
        return rates(rows.ravel())

    hits = 0
    for _ in range(60):
        point = advise(history(100), OrderingRule(60), attainment=0.9, grid=[0.8]).points[0]
        hits += point.over_low <= truth <= point.over_high
    # 90 % of 60 is 54; three standard deviations below is 47.
    assert hits >= 47


@given(
    st.lists(st.floats(0, 50), min_size=30, max_size=120).filter(lambda rps: max(rps) > 1),
    st.floats(0, 500),
    st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_a_higher_threshold_is_cheaper_and_breaches_more(rps, lead, seed):
    advice = advise(rates(rps), OrderingRule(lead), attainment=0.99, seed=seed, grid=[0.2, 0.4, 0.6, 0.8, 1.0])
    costs = [point.cost for point in advice.points]
    over = [point.over for point in advice.points]
    assert costs == sorted(costs, reverse=True)
    assert over == sorted(over)
    assert all(0 <= point.over_low <= point.over_high <= 1 + 1e-12 for point in advice.points)
    if advice.recommended and advice.plain:
        assert advice.recommended.threshold <= advice.plain.threshold or advice.recommended.over_high <= advice.target


def ask(demand, *, lead_seconds, unit_rps=0.0, **more):
    return advise(demand, OrderingRule(lead_seconds, unit_rps=unit_rps), **more)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attainment": 1.0}, "attainment: must be between 0 and 1"),
        ({"lead_seconds": -1}, "lead_seconds: must not be negative"),
        ({"lead_seconds": 400}, "tells nothing about a lead time of 400 s"),
        ({"grid": [0.5, 0.4]}, "grid: thresholds must rise"),
        ({"grid": []}, "grid: thresholds must rise"),
        ({"unit_rps": -2}, "unit_rps: must not be negative"),
    ],
)
def test_invalid_arguments_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        ask(rates([1.0] * 10), **({"attainment": 0.99, "lead_seconds": 60} | change))


def test_a_history_without_requests_has_no_threshold():
    with pytest.raises(ValueError, match="has no requests"):
        advise(rates([0.0] * 10), OrderingRule(60), attainment=0.99)
