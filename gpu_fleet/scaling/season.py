"""The season: the shape of a working day and of a weekend day, from up to 14 days of 5-minute means.

AWS predictive scaling reads as much
(https://docs.aws.amazon.com/autoscaling/ec2/userguide/predictive-scaling-policy-overview.html). Slots are not smoothed
over time: a step that comes each day at nine must stand in the season at nine, not as a ramp around it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Forecast
from gpu_fleet.scaling.state import ForecastMemory, Point, Season

SLOT_SECONDS = 300.0
DAY_SECONDS = 86400.0
SLOTS = int(DAY_SECONDS / SLOT_SECONDS)
REFRESH_SECONDS = 6 * 3600.0
YOUNG_REFRESH_SECONDS = 3600.0
MIN_DAYS = 1.0
"""A season is believed from one full day on; AWS requires 24 hours as well."""
WEEK_DAYS = 6.9
"""From so many days on, weekends are told from working days."""
KNOWN_DAYS = 3.0
"""Days of a kind after which its own shape alone counts: what has come three times comes again."""
WEEKEND = (2, 3)
"""Days since the epoch, a Thursday, modulo 7."""
RECENT_SECONDS = 1800.0
"""The season is scaled by how the last half hour compared with it."""


def read_season(policy: Forecast, history: Sequence[Reading], memory: ForecastMemory, now: float) -> ForecastMemory:
    """Take in history that was read, and request it again when it has aged."""
    wanted = policy.method.value in {"seasonal", "auto"}
    season = memory.season
    if history and wanted:
        first = now - policy.history_days * DAY_SECONDS
        # Without a whole day of it yet: try again in a while, not each minute.
        season = season_from([r for r in history if r.at > first], now) or Season(now, (), (), 0.0)
    aged = season is None or now - season.read_at >= REFRESH_SECONDS
    young = season is not None and season.days < 7 and now - season.read_at >= YOUNG_REFRESH_SECONDS
    return replace(memory, season=season, season_wanted=wanted and (aged or young))


def season_from(history: Sequence[Reading], read_at: float) -> Season | None:
    """Find the shapes in 5-minute means, oldest first; None without a full day.

    Each slot is the mean over the days of its kind, newer days counting more (a week ago half as much). While fewer
    than three days of a kind were seen, the mean over all days stands in for the rest.
    """
    if len(history) < SLOTS:
        return None
    days = (history[-1].at - history[0].at) / DAY_SECONDS
    if days < MIN_DAYS * 0.99:
        return None
    every = _shape(history, history[-1].at)
    working = weekend = every
    if days >= WEEK_DAYS:
        kinds: tuple[list[Reading], list[Reading]] = ([], [])
        for reading in history:
            kinds[_is_weekend(reading.at - SLOT_SECONDS / 2)].append(reading)
        working, weekend = (_blended(_shape(kind, history[-1].at), every, len(kind) / SLOTS) for kind in kinds)
    return Season(read_at, working, weekend, days)


def season_rps(season: Season, at: float) -> float:
    """The season's value at a time, interpolated between the centres of its 5-minute slots."""
    position = at / SLOT_SECONDS - 0.5
    left = math.floor(position)
    part = position - left
    return _slot(season, left) * (1 - part) + _slot(season, left + 1) * part


def seasonal_rps(season: Season, series: Sequence[Point], seen: Point, horizon_seconds: float) -> float:
    """The most that the season has within a slot from the end of the horizon on, scaled by the last half hour.

    A slot further, because a step in means of five minutes looks like a slope of as long: at nine its half is there.
    """
    recent = [p for p in series if p.at > seen.at - RECENT_SECONDS]
    expected = sum(season_rps(season, p.at) for p in recent)
    level = sum(p.rps for p in recent) / expected if expected > 0 else 1.0
    due = seen.at + horizon_seconds
    return level * max(season_rps(season, due), season_rps(season, due + SLOT_SECONDS))


def _slot(season: Season, number: int) -> float:
    shape = season.weekend if _is_weekend(number * SLOT_SECONDS) else season.working
    return shape[number % SLOTS]


def _is_weekend(at: float) -> bool:
    return int(at // DAY_SECONDS) % 7 in WEEKEND


def _shape(history: Sequence[Reading], newest_at: float) -> tuple[float, ...]:
    """The weighted mean of each slot of the day; a slot that was never seen gets the mean of all."""
    if not history:
        return (0.0,) * SLOTS
    sums, weights = [0.0] * SLOTS, [0.0] * SLOTS
    for reading in history:
        slot = int(((reading.at - SLOT_SECONDS / 2) % DAY_SECONDS) / SLOT_SECONDS)
        weight = 0.5 ** ((newest_at - reading.at) / (7 * DAY_SECONDS))
        sums[slot] += weight * reading.value
        weights[slot] += weight
    mean = sum(sums) / sum(weights)
    return tuple(round(s / w, 4) if w > 0 else mean for s, w in zip(sums, weights, strict=True))


def _blended(own: Sequence[float], every: Sequence[float], days: float) -> tuple[float, ...]:
    trust = min(1.0, days / KNOWN_DAYS)
    return tuple(round(trust * o + (1 - trust) * e, 4) for o, e in zip(own, every, strict=True))
