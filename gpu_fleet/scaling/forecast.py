"""Demand at the time when an instance ordered now would serve, with the head-room that such forecasts have needed.

Several methods run side by side, each a few lines: the level itself, the highest of the last minutes, the trend, the
season. What each would have ordered is kept until its time has come and judged by what is seen then
(`gpu_fleet.scaling.headroom`). `auto` takes the method that would have kept the share of late requests within the
budget for the least capacity: the hour's peak for a service with spikes that come back within the hour, the season for
a step that comes each morning, the level for a smooth service.

Sources: damped trend, Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd ed., 8.2; the highest
recommendation of a window, Kubernetes HPA's downscale stabilisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gpu_fleet.scaling import headroom
from gpu_fleet.scaling.headroom import Aim
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Forecast, ForecastMethod
from gpu_fleet.scaling.season import DAY_SECONDS, MIN_DAYS, season_from, seasonal_rps
from gpu_fleet.scaling.state import ForecastMemory, Hindsight, Pending, Point

SERIES_SECONDS = 7200.0
"""How much of the demand's own series is kept: two hours of minutes."""
TREND_SECONDS = 900.0
"""Window over which a trend is fitted: noise does not mislead a quarter of an hour, as it does five minutes."""
TREND_DAMPING = 0.7
"""Share of the fitted trend that is believed; 1 would extrapolate noise (ibid. 8.2 finds 0.8 to 0.98 per step)."""
SETTLE_SECONDS = 300.0
"""A forecast is judged by a value at most this much later than its time."""
BEYOND = 1.1
"""Highest demand that is met with head-room, over the highest ever seen."""
PEAKS_SECONDS = (600.0, 3600.0)
"""Windows of the method `peak`."""
PRIMED_DAYS = 4.0
"""Days of the history that are walked through, about half a second."""
PRIMED_SECONDS = 6 * 3600.0
"""Time of the service's own minutes that outweighs what was learnt from the history."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The chosen method's forecast."""

    rps: float
    """Demand at the end of the horizon, or now where that is more."""
    upper_rps: float
    """Demand with head-room at the confidence, never less than the demand now."""
    method: str
    """`none`, `seasonal`, and with the seconds of their windows `trend_900`, `peak_600`, `peak_3600`."""
    error_percent: float | None
    """Mean error of the method lately; None before it has any."""

    @property
    def headroom_percent(self) -> float:
        """Head-room over the forecast. Below 0 for a method that has forecast too much."""
        return 100 * (self.upper_rps / self.rps - 1) if self.rps > 0 else 0.0


def look_ahead(
    policy: Forecast, aim: Aim, memory: ForecastMemory, seen: Point, horizon_seconds: float, *, fresh: bool
) -> tuple[Outlook, ForecastMemory]:
    """Forecast demand `horizon_seconds` after `seen`, and learn from what was seen.

    `fresh`: whether `seen` is new since the last evaluation; an evaluation on old data learns nothing.
    """
    if fresh:
        memory = _keep_highest(policy, _learn(memory, seen, aim), seen)
    forecasts = _forecasts(memory, seen, horizon_seconds)
    if fresh:
        memory = _ordered(memory, seen, forecasts, horizon_seconds)
    mean = memory.mean_rps(otherwise=seen.rps)
    late = {name: headroom.late_by_level(memory.hindsight.get(name, Hindsight()), mean, aim) for name in forecasts}
    method = _pick(policy.method, aim, late, memory.hindsight)
    record = memory.hindsight.get(method, Hindsight())
    level = _level(aim, headroom.late_by_level(record, mean, aim, forgiving=True))
    upper = max(seen.rps, min(forecasts[method] * level, _ceiling(memory, seen)))
    error = 100 * record.absolute / record.weight if record.weight > 0 else None
    return Outlook(forecasts[method], upper, method, error), memory


def _ordered(
    memory: ForecastMemory, seen: Point, forecasts: Mapping[str, float], horizon_seconds: float
) -> ForecastMemory:
    """Keep the forecasts until their time has come."""
    order = Pending(seen.at + horizon_seconds, forecasts, seen.at)
    return replace(memory, pending=(*memory.pending, order))


def _keep_highest(policy: Forecast, memory: ForecastMemory, seen: Point) -> ForecastMemory:
    """Keep the highest demand of each day, for as many days as history is read."""
    days = [p for p in memory.highest if p.at > seen.at - policy.history_days * DAY_SECONDS]
    if days and days[-1].at // DAY_SECONDS == seen.at // DAY_SECONDS:
        if days[-1].rps >= seen.rps:
            return memory
        days.pop()
    return replace(memory, highest=(*days, seen))


def _ceiling(memory: ForecastMemory, seen: Point) -> float:
    """A tenth more than the highest demand of more than a day; no head-room goes beyond it.

    A service of rare spikes has errors of several times its calm demand, and at the height of a spike these would order
    several times the highest ever seen: a load balancer's trace (NAB) peaks at 10.6 times its mean, and twice as much
    was bought.
    """
    if not memory.highest or seen.at - memory.highest[0].at < DAY_SECONDS:
        return math.inf
    return max(p.rps for p in memory.highest) * BEYOND


def _learn(memory: ForecastMemory, seen: Point, aim: Aim) -> ForecastMemory:
    """Append to the series, and judge what was ordered for now."""
    series = (*(p for p in memory.series if p.at > seen.at - SERIES_SECONDS), seen)
    elapsed = min(seen.at - memory.series[-1].at, SETTLE_SECONDS) if memory.series else 60.0
    orders = memory.pending
    due = [p for p in orders if p.due <= seen.at]
    hindsight: dict[str, Hindsight] = dict(memory.hindsight)
    if due:
        # After a gap in the data, orders stay unjudged.
        if seen.at - due[-1].due <= SETTLE_SECONDS:
            standing = headroom.stood(orders, aim, seen.at)
            for name, rps in standing.items():
                record = hindsight.get(name, Hindsight())
                hindsight[name] = headroom.judge(record, rps, standing["none"], seen.rps, aim, elapsed)
        orders = tuple(p for p in orders if p.made_at >= due[-1].made_at - aim.hold_seconds)
    return replace(memory, series=series, pending=orders, hindsight=hindsight)


def _forecasts(memory: ForecastMemory, seen: Point, horizon_seconds: float) -> Mapping[str, float]:
    """Each method's forecast, none less than the demand now: capacity must carry that as well."""
    trend = _trend(memory.series, seen, horizon_seconds)
    forecasts = {"none": seen.rps, f"trend_{TREND_SECONDS:.0f}": max(seen.rps, trend)}
    for window in PEAKS_SECONDS:
        forecasts[f"peak_{window:.0f}"] = max([seen.rps, *(p.rps for p in memory.series if p.at > seen.at - window)])
    if memory.season is not None and memory.season.days >= MIN_DAYS:
        forecasts["seasonal"] = max(seen.rps, seasonal_rps(memory.season, memory.series, seen, horizon_seconds))
    return forecasts


def _trend(series: Sequence[Point], seen: Point, horizon_seconds: float) -> float:
    """Extend the rise that both halves of the window show, damped, from the level seen.

    A jump shows in one half alone. Fitted to the whole window, it would go on: from 4 to 45 rps, a line through a
    quarter of an hour forecasts 130 more.
    """
    points = [p for p in series if p.at >= seen.at - TREND_SECONDS]
    middle = len(points) // 2
    if middle < 2:
        return seen.rps
    slope = min(_slope(points[: middle + 1]), _slope(points[middle:]))
    return max(0.0, seen.rps + TREND_DAMPING * slope * horizon_seconds)


def _slope(points: Sequence[Point]) -> float:
    """Slope of the line of least squares, rps per second."""
    mean_t = sum(p.at for p in points) / len(points)
    mean_y = sum(p.rps for p in points) / len(points)
    spread = sum((p.at - mean_t) ** 2 for p in points)
    return sum((p.at - mean_t) * (p.rps - mean_y) for p in points) / spread if spread > 0 else 0.0


def _pick(
    wanted: ForecastMethod, aim: Aim, late: Mapping[str, Sequence[float]], hindsight: Mapping[str, Hindsight]
) -> str:
    """Choose the policy's method.

    `auto` chooses among all methods, `peak` between its windows: the one that orders the least for the policy's own
    budget. What feedback lets on top lowers the head-room and never the method: a step that the season foresees each
    morning is no place to spend it. A method without a record is taken only where none has one.
    """
    prefix = "" if wanted is ForecastMethod.AUTO else wanted.value
    names = [name for name in late if name.startswith(prefix)] or ["none"]
    judged = [name for name in names if name in hindsight and hindsight[name].weight > 0] or names[:1]
    unavoidable = min(headroom.share_at(late[name], aim.most) for name in judged)

    def cost(name: str) -> tuple[float, float]:
        level = headroom.lowest_level(late[name], headroom.allowed(aim.budget, unavoidable), aim.most)
        record = hindsight.get(name, Hindsight())
        if level is None:
            return math.inf, headroom.share_at(late[name], aim.most)
        return level * record.said / max(record.weight, 1e-9), 0.0

    return min(judged, key=cost)


def _level(aim: Aim, late: Sequence[float]) -> float:
    """The least head-room that keeps within what may be late."""
    least = headroom.share_at(late, aim.most)
    level = headroom.lowest_level(late, headroom.allowed(aim.may_be_late, least), aim.most)
    return aim.most if level is None else level


def prime(
    policy: Forecast, aim: Aim, memory: ForecastMemory, history: Sequence[Reading], horizon_seconds: float
) -> ForecastMemory:
    """Learn from the last days of the history what each method would have needed, where nothing is known yet.

    Each day is judged with the season of the days before it. Means of five minutes are smoother than minutes are, so
    all of it weighs no more than a few hours of the service's own minutes.
    """
    known = memory.hindsight.get("none", Hindsight())
    mean = sum(r.value for r in history) / len(history) if history else 0.0
    if mean <= 0 or known.weight > PRIMED_SECONDS * mean:
        return memory
    first = history[-1].at - PRIMED_DAYS * DAY_SECONDS
    walk, day = ForecastMemory(), None
    for i, reading in enumerate(history):
        if reading.at < first:
            continue
        if reading.at // DAY_SECONDS != day:
            day = reading.at // DAY_SECONDS
            walk = replace(walk, season=season_from(history[:i], reading.at))
        seen = Point(reading.at, reading.value)
        walk = _learn(walk, seen, aim)
        walk = _ordered(walk, seen, _forecasts(walk, seen, horizon_seconds), horizon_seconds)
    weight = max((record.weight for record in walk.hindsight.values()), default=0.0)
    part = min(1.0, PRIMED_SECONDS * mean / weight) if weight > 0 else 1.0
    return replace(memory, hindsight={name: headroom.scaled(record, part) for name, record in walk.hindsight.items()})
