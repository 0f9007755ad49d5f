"""Forecasts, and the head-room that their own errors ask for."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling import forecast
from gpu_fleet.scaling.headroom import LEVELS, Aim
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Forecast
from gpu_fleet.scaling.season import season_from, season_rps
from gpu_fleet.scaling.state import ForecastMemory, Hindsight, Point
from tests.scaling.builders import policy

START = 1_699_920_000.0  # midnight, UTC
LEAD = 300.0


def aim(confidence=0.95, policy=None):
    """What head-room must reach at this confidence; a request may wait 2 s."""
    most = 1 + (policy or Forecast()).max_headroom_percent / 100
    return Aim(1 - confidence, 1 - confidence, 2.0, 120.0, most)


def drive(values, policy=None, step=60.0, state=None, start=START, horizon=LEAD, confidence=0.95):
    """Feed one value a minute; the outlooks, and the last state."""
    policy = policy or Forecast()
    state = state or ForecastMemory()
    outlooks = []
    for i, value in enumerate(values):
        outlook, state = forecast.look_ahead(
            policy, aim(confidence, policy), state, Point(start + i * step, value), horizon, fresh=True
        )
        outlooks.append(outlook)
    return outlooks, state


def test_a_first_value_is_taken_as_it_is_with_the_priors_head_room():
    (outlook,), _ = drive([10.0])
    assert outlook.rps == 10.0
    assert outlook.method == "none"
    assert outlook.error_percent is None
    # Lognormal errors with a sigma of 0.15 pass 1.21 * 1.033 for 7 % of the demand, most of which then waits too long.
    assert outlook.upper_rps == pytest.approx(12.1, abs=0.1)


def test_the_priors_head_room_grows_with_the_lead_time():
    point, upper = Point(START, 10.0), []
    for seconds in (60, 120, 300, 600):
        slow = replace(aim(0.995), lead_seconds=float(seconds))
        outlook, _ = forecast.look_ahead(Forecast(), slow, ForecastMemory(), point, LEAD, fresh=True)
        upper.append(outlook.upper_rps)
    assert upper == pytest.approx([11.2, 12.0, 13.7, 15.9], abs=0.1)


def test_old_data_teaches_nothing():
    _, state = drive([10.0] * 5)
    point = state.series[-1]
    outlook, after = forecast.look_ahead(Forecast(), aim(), state, point, LEAD, fresh=False)
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
        forecast.look_ahead(fixed, aim(c), state, point, LEAD, fresh=False)[0].upper_rps for c in (0.5, 0.8, 0.95, 0.99)
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
    assert quiet.upper_rps >= 38


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
    assert season_from(history(0.9), START) is None
    assert season_from((), START) is None


def test_the_season_gives_back_the_day_it_was_made_of():
    season = season_from(history(7), START)
    assert season is not None
    for hour in range(24):
        at = START + hour * 3600
        assert season_rps(season, at) == pytest.approx(day_of(at), rel=0.02)


def test_auto_goes_over_to_the_season_once_that_errs_less():
    season = season_from(history(7), START)
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
    outlook, after = forecast.look_ahead(Forecast(), aim(), state, Point(START + 86400, 500.0), LEAD, fresh=True)
    # the newest forecasts were for the time right after the gap's start, a day ago
    judged = after.hindsight["none"].weight - state.hindsight["none"].weight
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
    low, _ = forecast.look_ahead(fixed, aim(), state, Point(at, values[-1]), LEAD, fresh=False)
    high, _ = forecast.look_ahead(fixed, aim(), state, Point(at, values[-1] * factor), LEAD, fresh=False)
    assert high.upper_rps >= low.upper_rps


NOW = START + 36_000  # ten in the morning


def looked_at(state: ForecastMemory, rps: float, at: float, days: int = 14) -> tuple[forecast.Outlook, ForecastMemory]:
    pol = policy(forecast={"method": "none", "history_days": days})
    return forecast.look_ahead(pol.forecast, aim(0.9975), state, Point(at, rps), 300.0, fresh=True)


def test_head_room_ends_a_tenth_over_the_highest_that_was_ever_asked_for():
    spiky = {"none": record(1.0, minutes=1e5, late_below=2.3)}  # of 150 % at most
    state = ForecastMemory(hindsight=spiky, highest=(Point(NOW - 2 * 86400, 80.0), Point(NOW - 86400, 100.0)))
    assert looked_at(state, 50.0, NOW)[0].upper_rps == pytest.approx(110.0)
    assert looked_at(replace(state, highest=()), 50.0, NOW)[0].upper_rps > 111


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
    assert state.hindsight["none"].said < state.hindsight["peak_3600"].said / 5


def test_where_no_method_carries_enough_those_that_miss_alike_are_told_apart_by_cost():
    """Rare jumps to thirty times the level that no window remembers: all miss them, and the level costs least."""
    values = [30.0 if i in (200, 500, 900) else 1.0 for i in range(1000)]
    outlooks, _ = drive(values, confidence=0.9999)
    assert {outlook.method for outlook in outlooks[985:]} == {"none"}


def record(said, minutes=1000.0, late_below=1.0, share=0.05):
    """A method that said so many times what was seen; below this level of head-room, `share` would have been late."""
    weight = 60.0 * minutes
    late = tuple(share * weight if level < late_below else 0.0 for level in LEVELS)
    return Hindsight(late, weight=weight, said=said * weight)


def taken(confidence=0.99, **hindsight):
    """The method that is taken at a level of 1 rps, where these have such hindsight."""
    point = Point(START, 1.0)
    state = ForecastMemory(hindsight=hindsight, series=(point,))
    return forecast.look_ahead(Forecast(), aim(confidence), state, point, LEAD, fresh=False)[0].method


def test_the_method_that_orders_the_least_is_taken():
    assert taken(none=record(1.0, late_below=1.5), peak_600=record(1.2)) == "peak_600"
    assert taken(none=record(1.0, late_below=1.1), peak_600=record(1.2)) == "none"


def test_a_method_is_not_cheap_because_its_head_room_ends_before_it_carries_the_demand():
    assert taken(none=record(1.0, late_below=8), peak_600=record(2.0)) == "peak_600"


def test_jumps_that_no_head_room_carries_are_no_reason_for_any():
    """Seven times the level: 150 % would have been as late as none. What can be kept is kept for the least."""
    point = Point(START, 1.0)
    state = ForecastMemory(hindsight={"none": record(1.0, late_below=7)}, series=(point,))
    outlook, _ = forecast.look_ahead(Forecast(method="none"), aim(0.99), state, point, LEAD, fresh=False)
    assert outlook.headroom_percent < 10


def test_after_a_jump_head_room_does_not_climb_under_a_constant_load():
    """4 rps, then 45: half an hour later less than a third is kept above it, and never was there twice as much."""
    outlooks, _ = drive([4.0] * 20 + [45.0] * 60, confidence=0.9975)
    after = [o.upper_rps for o in outlooks[20:]]
    assert max(after) < 45 * 1.6
    assert after[-1] < 45 * 1.3


def test_a_jump_is_no_trend():
    outlooks, _ = drive([4.0] * 20 + [45.0] * 20, Forecast(method="trend"))
    assert {round(o.rps, 6) for o in outlooks[20:]} == {45.0}


def test_a_method_without_a_record_is_not_taken_before_one_that_misses():
    assert taken(peak_600=record(2.0, late_below=7)) == "peak_600"
    assert taken() == "none"


def nine(at):
    """30 rps from nine to five on working days, else 10."""
    return 30.0 if 9 * 3600 <= at % 86400 < 17 * 3600 and int(at // 86400) % 7 not in (2, 3) else 10.0


def test_a_step_that_comes_each_working_day_is_met_before_it_comes():
    """Primed with nine days of history, at a boot of ten minutes: what is ordered by 8:49 stands at nine."""
    monday = START - START % 604800 + 4 * 86400  # the epoch began on a Thursday
    past = [Reading(nine(at - 150), at) for at in [monday - 300.0 * n for n in range(9 * 288, 0, -1)]]
    strict = aim(0.9975)
    memory = ForecastMemory(season=season_from(past, monday))
    memory = forecast.prime(Forecast(), strict, memory, past, 660.0)
    for minute in range(9 * 60 + 30):
        at = monday + 60.0 * minute
        outlook, memory = forecast.look_ahead(Forecast(), strict, memory, Point(at, nine(at - 30)), 660.0, fresh=True)
        if minute == 8 * 60 + 30:
            assert outlook.upper_rps < 14
        if minute >= 8 * 60 + 49:
            assert outlook.upper_rps >= 30
            assert outlook.upper_rps < 40


def test_what_was_learnt_from_the_history_is_outweighed_by_a_few_hours_of_minutes():
    past = [Reading(10.0, START - 300.0 * n) for n in range(5 * 288, 0, -1)]
    primed = forecast.prime(Forecast(), aim(), ForecastMemory(), past, 360.0)
    assert primed.hindsight["none"].weight == pytest.approx(10 * forecast.PRIMED_SECONDS)
    assert forecast.prime(Forecast(), aim(), primed, past, 360.0).hindsight.keys() >= {"none", "seasonal"}
    known = ForecastMemory(hindsight={"none": Hindsight(weight=10 * forecast.PRIMED_SECONDS + 1)})
    assert forecast.prime(Forecast(), aim(), known, past, 360.0) == known
