"""The season of a day and a week, when its history is read, and how an outlook is told."""

from dataclasses import replace

import pytest

from gpu_fleet.scaling import forecast, season
from gpu_fleet.scaling.headroom import Aim
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Forecast
from gpu_fleet.scaling.reasons import demand as reasons
from gpu_fleet.scaling.state import ForecastMemory, Point, Season

START = 1_699_920_000.0  # midnight, UTC
NOW = START + 36_000  # ten in the morning
LEAD = 300.0
FULL = Season(NOW, (10.0,) * 288, (10.0,) * 288, 14.0)


def means(values, end=START, step=300.0):
    """5-minute means, oldest first, the last of which ends at `end`."""
    return [Reading(value, end - step * (len(values) - 1 - i)) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("method", "wanted"), [("auto", True), ("seasonal", True), ("none", False), ("trend", False), ("peak", False)]
)
def test_history_is_asked_for_where_the_method_may_use_a_season_and_only_there(method, wanted):
    assert season.read_season(Forecast(method=method), (), ForecastMemory(), NOW).season_wanted == wanted
    taken = season.read_season(Forecast(method=method), means([5.0] * 576, NOW), ForecastMemory(), NOW)
    assert (taken.season is not None) == wanted
    assert not taken.season_wanted


@pytest.mark.parametrize(
    ("days", "age", "wanted"),
    [
        (14.0, 6 * 3600, True),
        (14.0, 6 * 3600 - 1, False),
        (6.9, 3600, True),
        (6.9, 3599, False),
        (7.0, 3600, False),
    ],
)
def test_a_season_is_read_again_after_six_hours_and_hourly_in_the_first_week(days, age, wanted):
    state = ForecastMemory(season=replace(FULL, read_at=NOW - age, days=days))
    after = season.read_season(Forecast(), (), state, NOW)
    assert after.season_wanted == wanted
    assert after.season == state.season


def test_too_little_history_is_asked_for_again_in_an_hour_and_not_each_minute():
    after = season.read_season(Forecast(), means([5.0] * 144, NOW), ForecastMemory(), NOW)
    assert not after.season_wanted
    assert season.read_season(Forecast(), (), after, NOW + 3600).season_wanted


def both(day):
    return replace(FULL, working=day, weekend=day)


def seasonal(shapes, series=(), now=1.0, at=NOW, horizon=LEAD):
    state = ForecastMemory(season=shapes, series=tuple(Point(at - age, rps) for age, rps in series))
    fixed = Forecast(method="seasonal")
    return forecast.look_ahead(fixed, Aim(0.05, 0.05, 2.0, 120.0, 2.5), state, Point(at, now), horizon, fresh=False)[
        0
    ].rps


def test_the_season_is_scaled_by_how_the_last_half_hour_compared_with_it():
    assert seasonal(FULL, [(60, 20.0), (1799, 30.0)]) == pytest.approx(25.0)
    assert seasonal(FULL, [(60, 20.0), (1800, 1000.0), (1800.5, 1000.0)]) == pytest.approx(20.0)
    tiny = both((0.01,) * 288)
    assert seasonal(tiny, [(60, 0.02)], now=0.0) == pytest.approx(0.02)


def test_a_season_that_knows_nothing_of_the_last_half_hour_is_taken_as_it_is():
    assert seasonal(FULL) == 10.0
    opens = both(tuple(8.0 if n >= 121 else 0.0 for n in range(288)))  # at five past ten
    assert seasonal(opens, [(1200, 3.0)], horizon=1800) == 8.0


def test_between_the_middles_of_two_slots_the_season_is_a_line():
    day = tuple(float(n) for n in range(288))
    ramp = both(day)
    assert season.season_rps(ramp, START + 150) == 0
    assert season.season_rps(ramp, START + 3 * 300 + 300) == pytest.approx(3.5)
    assert season.season_rps(ramp, START + 86400) == pytest.approx(287 / 2)  # from the last slot to the first


def test_a_weekend_has_a_shape_of_its_own():
    week = replace(FULL, weekend=(3.0,) * 288)
    for day in range(14):  # the epoch's first day was a Thursday
        assert season.season_rps(week, day * 86400 + 43200) == (3.0 if day % 7 in (2, 3) else 10.0)


def test_a_step_is_foreseen_a_slot_before_its_middle():
    """8 rps from five past ten on: the means put its foot at 10:05, and a line between their middles at 10:02:30."""
    opens = both(tuple(8.0 if n >= 121 else 0.0 for n in range(288)))
    at_ten = NOW + 0.0
    assert seasonal(opens, at=at_ten - 150, now=0.0, horizon=300) == 8.0
    assert seasonal(opens, at=at_ten - 451, now=0.0, horizon=300) == 0.0


def test_one_full_day_is_a_season():
    found = season.season_from(means([float(n % 7) for n in range(288)]), START)
    assert found is not None
    assert found.days == pytest.approx(287 / 288)
    assert found.read_at == START
    assert found.weekend == found.working


def test_many_readings_of_less_than_a_day_are_none():
    assert season.season_from(means([1.0] * 300, step=280.0), START) is None


def test_a_slot_is_its_own_mean_and_not_its_neighbours():
    found = season.season_from(means([30.0 if n == 100 else 0.0 for n in range(288)]), START)
    assert {n: rps for n, rps in enumerate(found.working) if rps} == {100: 30.0}


def test_a_slot_that_was_never_seen_is_the_mean():
    whole = [Reading(r.value, r.at) for r in means([12.0, 6.0] * 288)]
    holes = [r for r in whole if int(((r.at - 150) % 86400) / 300) not in (100, 101, 102)]
    found = season.season_from(holes, START)
    mean = sum(r.value for r in holes) / len(holes)
    assert found.working[101] == pytest.approx(mean, abs=1e-3)


def test_a_week_ago_counts_half():
    found = season.season_from(means([10.0] * 7 * 288 + [20.0] * 7 * 288), START)
    assert found.working[50] == pytest.approx((10 + 2 * 20) / 3, abs=1e-3)


def weekend(days, rps=0.02):
    """Whole days, with three tenths on Saturdays and Sundays."""
    first = START - days * 86400
    return means([rps * (0.3 if int((first + 300 * n) // 86400) % 7 in (2, 3) else 1.0) for n in range(days * 288)])


def test_days_of_a_kind_count_by_thirds_until_three_were_seen():
    """In one week two weekend days were seen: two thirds of their own 0.3, one of the mean over all days, 0.8."""
    twice = season.season_from(weekend(14, 1.0), START)
    assert (twice.working[100], twice.weekend[100]) == pytest.approx((1.0, 0.3))
    once = season.season_from(weekend(7, 1.0), START)
    assert (once.working[100], once.weekend[100]) == pytest.approx((1.0, (2 * 0.3 + once_mean()) / 3), abs=1e-3)
    less = season.season_from(weekend(6, 1.0), START)
    assert less.weekend == less.working


def once_mean():
    """Of slot 100 over the week, newer days counting more."""
    past = [(START - 86400 * k + 100 * 300 + 300, k) for k in range(1, 8)]
    weights = [0.5 ** ((START - at) / (7 * 86400)) for at, _ in past]
    values = [0.3 if int((at - 150) // 86400) % 7 in (2, 3) else 1.0 for at, _ in past]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def test_history_of_nothing_is_a_season_of_nothing():
    found = season.season_from(means([0.0] * 14 * 288), START)
    assert set(found.working) == set(found.weekend) == {0.0}


@pytest.mark.parametrize(("idle", "code"), [(False, "demand.peak_600"), (True, "demand.idle")])
def test_the_outlook_is_told_with_its_numbers(idle, code):
    outlook = forecast.Outlook(10.0, 12.0, "peak_600", 7.4)
    reason = (reasons.idle if idle else reasons.method)(outlook, 9.0, 300.0)
    assert reason.code == code
    assert reason.numbers == {
        "demand_rps": 9.0,
        "forecast_rps": 10.0,
        "headroom_percent": pytest.approx(20.0),
        "horizon_seconds": 300.0,
    }
    assert "error 7 %" in reason.sentence
    assert "error" not in reasons.method(replace(outlook, error_percent=None), 9.0, 300.0).sentence
