"""Predictive scaling: a floor from the same hour of other days, under target tracking."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.backtest.rivals.predictive import HOUR_SECONDS, HourlyMeans, PredictiveScaling
from gpu_fleet.scaling.observation import Observation, Reading

DAY = 24 * HOUR_SECONDS


def history(rate_of: Any, days: float) -> HourlyMeans:
    means = HourlyMeans()
    for i in range(int(days * 24 * 4)):
        at = (i + 1) * HOUR_SECONDS / 4
        means.see(Reading(rate_of(at - 1.0), at))
    return means


def test_no_forecast_before_24_hours_of_data() -> None:
    assert history(lambda _at: 4.0, 23 / 24).forecast(23 * HOUR_SECONDS) == {}
    assert history(lambda _at: 4.0, 1.0).forecast(DAY)[24] == 4.0


def test_a_day_is_forecast_by_the_same_hour_of_the_days_before() -> None:
    # 10 a second from 9 to 10 o'clock on the first day, 20 on the second: 15 on the third; 1 else.
    means = history(lambda at: (10.0 if at < DAY else 20.0) if 9 <= at % DAY / HOUR_SECONDS < 10 else 1.0, 2.0)
    forecast = means.forecast(2 * DAY)
    assert len(forecast) == 48
    assert forecast[48 + 9] == 15.0
    assert forecast[48 + 10] == 1.0
    assert forecast[72 + 9] == 15.0


def test_after_a_week_the_same_hour_of_the_week_counts() -> None:
    means = history(lambda at: 8.0 if at // DAY % 7 == 5 else 1.0, 8.0)  # busy on the sixth day of the week only
    forecast = means.forecast(12 * DAY)
    assert forecast[12 * 24 + 3] == 8.0  # the sixth day again
    assert forecast[13 * 24 + 3] == 1.0  # the seventh; the mean of all days would be 15 / 8


def test_only_the_last_14_days_count() -> None:
    means = history(lambda at: 100.0 if at < DAY else 1.0, 16.0)
    assert max(means.forecast(16 * DAY).values()) == 1.0


def test_the_hours_floor_stands_from_the_buffer_on_and_scale_in_waits_for_the_next_hour(desk: Any) -> None:
    service = desk.service()
    rule = PredictiveScaling(service, "l40s", 1.0)
    # Two readings a minute apart suffice for an hour's mean; a day of 2 a second, but 8 from 9 to 10 o'clock.
    for hour in range(24):
        for minute in (20, 40):
            at = hour * HOUR_SECONDS + 60.0 * minute
            rate = 8.0 if hour == 9 else 2.0
            desk.desired(rule, service, desk.seen(at, ready=2, rate=rate), at)
    nine = DAY + 9 * HOUR_SECONDS
    asked = [
        desk.desired(rule, service, desk.seen(at, ready=2, rate=1.95), at)
        for at in (nine - 360.0, nine - 300.0, nine, nine + 1800.0, nine + HOUR_SECONDS - 60.0)
    ]
    assert asked == [2, 8, 8, 8, 8]  # 300 s before nine; 8 a second at 1 each
    # At ten the floor is 2 again, but it does not scale in: that is target tracking's (0.25 each: low, for 15 minutes).
    ten = nine + HOUR_SECONDS
    for m in range(14):
        assert desk.desired(rule, service, desk.seen(ten + 60.0 * m, ready=8, rate=2.0), ten + 60.0 * m) == 8
    assert desk.desired(rule, service, desk.seen(ten + 840.0, ready=8, rate=2.0), ten + 840.0) == 2


def test_within_the_hour_target_tracking_cannot_go_below_the_floor(desk: Any) -> None:
    service = desk.service()
    rule = PredictiveScaling(service, "l40s", 1.0)
    past = tuple(Reading(4.0, 300.0 * (i + 1)) for i in range(288))

    def after(minutes: int) -> int:
        at = DAY + 60.0 * minutes
        seen = desk.seen(at, ready=6, rate=0.5)
        with_history = Observation(pools=seen.pools, arrivals_rps=seen.arrivals_rps, history_rps=past)
        return int(desk.desired(rule, service, with_history, at))

    decided = [after(minutes) for minutes in range(1, 30)]
    assert decided == [6] * 14 + [4] * 15  # tracking alone would say 1


@pytest.mark.parametrize("buffer", [-1.0, 3600.0])
def test_the_buffer_is_less_than_an_hour(desk: Any, buffer: float) -> None:
    with pytest.raises(ValueError, match="buffer_seconds: must be 0 or more and below 3600"):
        PredictiveScaling(desk.service(), "l40s", 1.0, buffer_seconds=buffer)
