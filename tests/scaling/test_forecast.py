"""Forecasts, and the head-room that their own errors ask for."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling import forecast
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Forecast
from gpu_fleet.scaling.state import Errors, ForecastMemory, Point
from tests.scaling.builders import policy

START = 1_699_920_000.0  # midnight, UTC
LEAD = 300.0


def drive(values, policy=None, step=60.0, state=None, start=START, horizon=LEAD, confidence=0.95):
    """Feed one value a minute; the outlooks, and the last state."""
    policy = policy or Forecast()
    state = state or ForecastMemory()
    outlooks = []
    for i, value in enumerate(values):
        outlook, state = forecast.look_ahead(
            policy, confidence, state, Point(start + i * step, value), horizon, fresh=True
        )
        outlooks.append(outlook)
    return outlooks, state


def test_a_first_value_is_taken_as_it_is_with_the_priors_head_room():
    (outlook,), _ = drive([10.0])
    assert outlook.rps == 10.0
    assert outlook.method == "none"
    assert outlook.error_percent is None
    # sigma 0.12 at the 95th percentile: exp(1.645 * 0.12) = 1.218, to a bin of 2.7 %
    assert outlook.upper_rps == pytest.approx(12.18, rel=0.03)


def test_old_data_teaches_nothing():
    _, state = drive([10.0] * 5)
    point = state.series[-1]
    outlook, after = forecast.look_ahead(Forecast(), 0.95, state, point, LEAD, fresh=False)
    assert after == state
    assert outlook.rps == 10.0


def test_a_steady_demand_comes_to_need_almost_no_head_room():
    outlooks, _ = drive([10.0] * 1440)
    assert outlooks[0].headroom_percent > outlooks[-1].headroom_percent
    assert outlooks[-1].headroom_percent < 6


def test_a_jumpy_demand_asks_for_more_head_room_than_a_steady_one():
    jumpy = [10.0 if (i // 7) % 2 else 16.0 for i in range(600)]
    steady, _ = drive([13.0] * 600)
    uneven, _ = drive(jumpy)
    assert uneven[-1].upper_rps / jumpy[-1] > steady[-1].upper_rps / 13 + 0.1


def test_more_confidence_never_asks_for_less():
    values = [10 + 4 * math.sin(i / 9) + (3 if i % 17 == 0 else 0) for i in range(300)]
    _, state = drive(values)
    point = Point(state.series[-1].at, values[-1])
    fixed = Forecast(method="none")
    heads = [
        forecast.look_ahead(fixed, c, state, point, LEAD, fresh=False)[0].upper_rps for c in (0.5, 0.8, 0.9, 0.95, 0.99)
    ]
    assert heads == sorted(heads)
    assert heads[-1] > heads[0]


def test_head_room_is_bounded_by_the_policy():
    values = [1.0 if i % 10 else 40.0 for i in range(600)]
    outlooks, _ = drive(values, Forecast(max_headroom_percent=20), confidence=0.99)
    assert max(o.headroom_percent for o in outlooks) <= 20.0001


def test_a_rise_is_extrapolated_by_the_trend_over_the_lead_time():
    values = [10 + i * 0.5 for i in range(60)]
    outlooks, _ = drive(values, Forecast(method="trend"))
    # half a request per second and minute, 5 minutes ahead, 70 % believed: 39.5 + 0.7 * 2.5
    assert outlooks[-1].rps == pytest.approx(39.5 + 1.75, abs=0.01)


def test_the_trend_of_a_fall_never_goes_below_what_is_there_now():
    values = [50 - i for i in range(45)]
    outlooks, _ = drive(values, Forecast(method="trend"))
    assert outlooks[-1].rps == values[-1]


def test_the_peak_of_the_hour_is_held_for_spikes_that_come_back():
    values = ([10.0] * 27 + [40.0] * 3) * 40
    outlooks, _ = drive(values, confidence=0.99)
    quiet = outlooks[-10]
    assert quiet.method == "peak_3600"
    assert quiet.upper_rps >= 39


def test_peak_alone_chooses_between_its_two_windows():
    outlooks, _ = drive([10.0] * 27 + [40.0] * 3 + [10.0] * 5, Forecast(method="peak"))
    assert outlooks[-1].method.startswith("peak_")
    assert outlooks[-1].rps == 40.0


def day_of(at):
    return 50 + 40 * math.sin(2 * math.pi * at / 86400)


def history(days, end=START):
    first = end - days * 86400
    return [Reading(day_of(first + 300 * (i + 0.5)), first + 300 * (i + 1)) for i in range(int(days * 288))]


def test_history_of_less_than_a_day_is_no_season():
    assert forecast.season_from(history(0.9), START) is None
    assert forecast.season_from((), START) is None


def test_the_season_gives_back_the_day_it_was_made_of():
    season = forecast.season_from(history(7), START)
    assert season is not None
    for hour in range(24):
        at = START + hour * 3600
        assert forecast.season_rps(season, at) == pytest.approx(day_of(at), rel=0.02)


def test_a_quiet_weekend_is_known_after_two_of_them():
    def week(at):
        return day_of(at) * (0.3 if int(at // 86400) % 7 in (2, 3) else 1.0)

    first = START - 14 * 86400
    readings = [Reading(week(first + 300 * (i + 0.5)), first + 300 * (i + 1)) for i in range(14 * 288)]
    season = forecast.season_from(readings, START)
    factors = {int(d): season.weekday[d] for d in range(7)}
    assert factors[2] < 0.5
    assert factors[3] < 0.5
    assert all(factors[d] > 1 for d in (0, 1, 4, 5, 6))


def test_auto_goes_over_to_the_season_once_that_errs_less():
    season = forecast.season_from(history(7), START)
    state = ForecastMemory(season=season)
    values = [day_of(START + 60 * i) for i in range(240)]
    outlooks, _ = drive(values, state=state, horizon=1800.0)
    assert outlooks[-1].method == "seasonal"
    assert outlooks[-1].error_percent < 3


def test_seasonal_without_a_season_falls_back_to_the_level():
    outlooks, _ = drive([10.0] * 10, Forecast(method="seasonal"))
    assert outlooks[-1].method == "none"


def test_a_gap_in_the_data_leaves_the_forecasts_before_it_unjudged():
    _, state = drive([10.0] * 20)
    outlook, after = forecast.look_ahead(Forecast(), 0.95, state, Point(START + 86400, 500.0), LEAD, fresh=True)
    # the newest forecasts were for the time right after the gap's start, a day ago
    judged = after.errors["none"].weight - state.errors["none"].weight
    assert judged <= 0
    assert outlook.rps == 500.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=60), st.floats(0.05, 0.99))
def test_whatever_comes_the_outlook_is_finite_and_never_below_what_is_there(values, confidence):
    outlooks, state = drive(values, confidence=confidence)
    for outlook, value in zip(outlooks, values, strict=True):
        assert outlook.rps >= value
        assert value <= outlook.upper_rps <= 2.5 * outlook.rps
        assert math.isfinite(outlook.upper_rps)
    assert len(state.series) <= 121
    assert all(p.due > START for p in state.pending)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.1, 100), min_size=2, max_size=40), st.floats(1.0, 3.0))
def test_more_demand_now_never_forecasts_less(values, factor):
    _, state = drive(values, Forecast(method="none"))
    at = START + 60 * len(values)
    fixed = Forecast(method="none")
    low, _ = forecast.look_ahead(fixed, 0.95, state, Point(at, values[-1]), LEAD, fresh=False)
    high, _ = forecast.look_ahead(fixed, 0.95, state, Point(at, values[-1] * factor), LEAD, fresh=False)
    assert high.upper_rps >= low.upper_rps


NOW = START + 36_000  # ten in the morning


def looked_at(state: ForecastMemory, rps: float, at: float, days: int = 14) -> tuple[forecast.Outlook, ForecastMemory]:
    pol = policy(forecast={"method": "none", "history_days": days})
    return forecast.look_ahead(pol.forecast, 0.9975, state, Point(at, rps), 300.0, fresh=True)


def test_head_room_ends_a_tenth_over_the_highest_that_was_ever_asked_for():
    bins = tuple(1e6 if n == forecast.BINS - 10 else 0.0 for n in range(forecast.BINS))
    spiky = {"none": Errors(bins, 1.0, 9.0, 9.0)}
    state = ForecastMemory(errors=spiky, highest=(Point(NOW - 2 * 86400, 80.0), Point(NOW - 86400, 100.0)))
    assert looked_at(state, 50.0, NOW)[0].upper_rps == pytest.approx(100 * math.exp(forecast.BEYOND))
    assert looked_at(replace(state, highest=()), 50.0, NOW)[0].upper_rps > 120


def test_what_is_asked_for_now_is_carried_however_high_it_is():
    state = ForecastMemory(highest=(Point(NOW - 2 * 86400, 80.0),))
    assert looked_at(state, 500.0, NOW)[0].upper_rps >= 500


def test_the_highest_of_less_than_a_day_says_nothing():
    state = ForecastMemory(highest=(Point(NOW - 86000, 10.0),))
    assert looked_at(state, 10.0, NOW)[0].upper_rps > 10 * 1.2


def test_the_highest_of_each_day_is_kept_for_as_many_days_as_history_is():
    state, day = ForecastMemory(), 86400.0
    midnight = NOW // day * day
    for n in range(20):
        for hour, rps in ((1, 5.0), (12, 10.0 + n), (20, 7.0)):
            _, state = looked_at(state, rps, midnight + n * day + hour * 3600, days=7)
    assert [p.rps for p in state.highest] == [10.0 + n for n in range(13, 20)]


def test_no_method_is_taken_because_it_carries_less():
    """Spikes of forty times the level every 25 minutes, which 150 % of head-room over the level are far too little for.

    The level alone asks for the least, and its head-room is spent before it carries any spike; the hour's peak carries
    all of them.
    """
    values = [40.0 if i % 25 == 0 else 1.0 for i in range(1500)]
    outlooks, state = drive(values, confidence=0.999)
    chosen = [outlook.method for outlook in outlooks[600:]]
    assert set(chosen) == {"peak_3600"}
    assert min(outlook.upper_rps for outlook in outlooks[600:]) >= 40.0
    assert state.errors["none"].said < state.errors["peak_3600"].said / 5


def test_where_no_method_carries_enough_those_that_miss_alike_are_told_apart_by_cost():
    """Rare jumps to thirty times the level that no window remembers: all miss them, and the level costs least."""
    values = [30.0 if i in (200, 500, 900) else 1.0 for i in range(1000)]
    outlooks, _ = drive(values, confidence=0.9999)
    assert {outlook.method for outlook in outlooks[985:]} == {"none"}


def record(said, minutes=1000.0, **shares):
    """Errors of a method that said so many times what was seen; `shares` of the demand lay at these ratios (r5: 5)."""
    bins = [0.0] * forecast.BINS
    weight = 60.0 * minutes
    for ratio, share in {"r1": 1 - sum(shares.values()), **shares}.items():
        at = math.log(float(ratio[1:]) / forecast.LOW) / math.log(forecast.HIGH / forecast.LOW) * forecast.BINS
        bins[int(at)] += share * weight
    return Errors(tuple(bins), 0.0, weight, said * weight)


def taken(confidence=0.99, **errors):
    """The method that is taken at a level of 1 rps, where these have such records."""
    point = Point(START, 1.0)
    state = ForecastMemory(errors=errors, series=(point,))
    return forecast.look_ahead(Forecast(), confidence, state, point, LEAD, fresh=False)[0].method


def test_methods_that_miss_alike_within_a_tenth_are_told_apart_by_cost():
    assert taken(none=record(1.0, r7=0.0525), peak_600=record(2.0, r7=0.05)) == "none"
    assert taken(none=record(1.0, r7=0.06), peak_600=record(2.0, r7=0.05)) == "peak_600"


def test_head_room_that_cannot_be_had_is_not_reckoned():
    """Both ask for more than 150 %: 7 times 1 and 4 times 1.5. What they get is 2.5 times each."""
    assert taken(none=record(1.0, r7=0.05), peak_600=record(1.5, r4=0.05)) == "none"


def test_a_miss_too_rare_to_be_believed_does_not_rule_a_method_out():
    assert taken(0.9999, none=record(1.0, minutes=90, r3=0.01), peak_600=record(2.0, minutes=90)) == "none"


def test_a_method_without_a_record_is_not_taken_before_one_that_misses():
    assert taken(peak_600=record(2.0, r7=0.05)) == "peak_600"
    assert taken() == "none"
