"""Demand at the time when an instance ordered now would serve, with the error that such forecasts have made.

Several methods run side by side, each a few lines: the level itself, the highest of the last minutes, the trend, the
season. Each forecast is kept until its time has come and compared with what is seen then; the ratios fill a histogram
per method that forgets with a half-life of a day. Head-room is that histogram's quantile at the policy's confidence,
weighted by demand: at confidence 0.995 the instances ordered in time would have carried all but 0.5 % of the requests
seen lately. So a steady service pays for little head-room and a jumpy one for much, without a constant to tune; and
`auto` takes the method that would have carried that share for the least capacity: the hour's peak for a service with
spikes that come back within the hour, the level for a smooth one.

Sources: quantile forecasts by the empirical error distribution, Hyndman and Athanasopoulos, "Forecasting: Principles
and Practice", 3rd ed., 5.5; damped trend, ibid. 8.2; the highest recommendation of a window, Kubernetes HPA's
downscale stabilisation; day and week profile as in AWS predictive scaling, which also reads up to 14 days
(https://docs.aws.amazon.com/autoscaling/ec2/userguide/predictive-scaling-policy-overview.html).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.policy import Forecast, ForecastMethod
from gpu_fleet.scaling.state import Errors, ForecastMemory, Pending, Point, Season

SERIES_SECONDS = 7200.0
"""How much of the demand's own series is kept: two hours of minutes."""
TREND_SECONDS = 900.0
"""Window over which a trend is fitted: noise does not mislead a quarter of an hour, as it does five minutes."""
TREND_DAMPING = 0.7
"""Share of the fitted trend that is believed; 1 would extrapolate noise (ibid. 8.2 finds 0.8 to 0.98 per step)."""
SLOT_SECONDS = 300.0
DAY_SECONDS = 86400.0
SLOTS = int(DAY_SECONDS / SLOT_SECONDS)
SEASON_REFRESH_SECONDS = 6 * 3600.0
SEASON_MIN_DAYS = 1.0
"""A season is believed from one full day on; AWS requires 24 hours as well."""
SETTLE_SECONDS = 180.0
"""A forecast is judged by a value at most this much later than its time."""
BINS = 128
LOW, HIGH = 0.25, 8.0
"""Range of the histogram of seen / forecast; each bin is 2.7 % wide (ln 32 / 128)."""
HALF_LIFE_SECONDS = DAY_SECONDS
HIGH_SIDE = 0.9
HIGH_SIDE_SIGMAS = NormalDist().inv_cdf(HIGH_SIDE)
WHOLE, BEYOND = 0.999, 0.1
"""The highest ratio is the one that all but a thousandth of the demand stayed below; `BEYOND` is a logarithm."""
PRIOR_MINUTES = 15.0
"""A new method starts as if it had a quarter of an hour of errors behind it,"""
PRIOR_SIGMA = 0.12
"""lognormal with this sigma (of seen / forecast). Minutes of the Azure 2023 conversation trace, five apart: 0.13."""
PRIOR_HIGHEST = NormalDist(0.0, PRIOR_SIGMA).inv_cdf(WHOLE)
ALIKE = 1.1
"""Methods whose misses differ by less than a tenth count as equal."""
PEAKS_SECONDS = (600.0, 3600.0)
"""Windows of the method `peak`."""


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


def read_season(policy: Forecast, history: Sequence[Reading], memory: ForecastMemory, now: float) -> ForecastMemory:
    """Take in history that was read, and request it again when it has aged."""
    wanted = policy.method.value in {"seasonal", "auto"}
    season = memory.season
    if history and wanted:
        first = now - policy.history_days * 86400.0
        # Without a whole day of it yet: try again in a while, not each minute.
        season = season_from([r for r in history if r.at > first], now) or Season(now, (), (), 0.0)
    aged = season is None or now - season.read_at >= SEASON_REFRESH_SECONDS
    young = season is not None and season.days < 7 and now - season.read_at >= 3600.0
    return replace(memory, season=season, season_wanted=wanted and (aged or young))


def look_ahead(
    policy: Forecast, confidence: float, memory: ForecastMemory, seen: Point, horizon_seconds: float, *, fresh: bool
) -> tuple[Outlook, ForecastMemory]:
    """Forecast demand `horizon_seconds` after `seen`, and learn from what was seen.

    `fresh`: whether `seen` is new since the last evaluation; an evaluation on old data learns nothing.
    """
    if fresh:
        memory = _keep_highest(policy, _learn(memory, seen), seen)
    forecasts = _forecasts(memory, seen, horizon_seconds)
    if fresh:
        memory = replace(memory, pending=(*memory.pending, Pending(seen.at + horizon_seconds, forecasts)))
    mean = memory.mean_rps(otherwise=seen.rps)
    quantiles = {name: _quantile(memory.errors.get(name, Errors()), confidence, mean) for name in forecasts}
    most = 1 + policy.max_headroom_percent / 100
    method = _pick(policy.method, 1 - confidence, most, forecasts, memory.errors, quantiles)
    errors = memory.errors.get(method, Errors())
    # A method that has forecast too much may be cut, but not by more than half.
    factor = min(max(0.5, quantiles[method]), most)
    upper = max(seen.rps, min(forecasts[method] * factor, _ceiling(memory, seen)))
    error = 100 * errors.absolute / errors.weight if errors.weight > 0 else None
    return Outlook(forecasts[method], upper, method, error), memory


def _keep_highest(policy: Forecast, memory: ForecastMemory, seen: Point) -> ForecastMemory:
    """Keep the highest demand of each day, for as many days as history is read."""
    days = [p for p in memory.highest if p.at > seen.at - policy.history_days * DAY_SECONDS]
    if days and days[-1].at // DAY_SECONDS == seen.at // DAY_SECONDS:
        if days[-1].rps >= seen.rps:
            return memory
        days.pop()
    return replace(memory, highest=(*days, seen))


def is_young(memory: ForecastMemory, at: float) -> bool:
    """Whether less than a day of demand is known."""
    return not memory.highest or at - memory.highest[0].at < DAY_SECONDS


def _ceiling(memory: ForecastMemory, seen: Point) -> float:
    """A tenth more than the highest demand of more than a day; no head-room goes beyond it.

    A service of rare spikes has errors of several times its calm demand, and at the height of a spike these would order
    several times the highest ever seen: a load balancer's trace (NAB) peaks at 10.6 times its mean, and twice as much
    was bought.
    """
    if is_young(memory, seen.at):
        return math.inf
    return max(p.rps for p in memory.highest) * math.exp(BEYOND)


def _learn(memory: ForecastMemory, seen: Point) -> ForecastMemory:
    """Append to the series, and settle the forecasts whose time has come."""
    series = (*(p for p in memory.series if p.at > seen.at - SERIES_SECONDS), seen)
    elapsed = min(seen.at - memory.series[-1].at, SETTLE_SECONDS) if memory.series else 60.0
    due = [p for p in memory.pending if p.due <= seen.at]
    errors: dict[str, Errors] = dict(memory.errors)
    # The first value at or after its time settles a forecast; after a gap in the data it is dropped unjudged.
    for pending in due:
        if seen.at - pending.due <= SETTLE_SECONDS:
            for name, rps in pending.rps.items():
                errors[name] = _judge(errors.get(name, Errors()), rps, seen.rps, elapsed)
    waiting = tuple(p for p in memory.pending if p.due > seen.at)
    return replace(memory, series=series, pending=waiting, errors=errors)


def _forecasts(memory: ForecastMemory, seen: Point, horizon_seconds: float) -> Mapping[str, float]:
    """Each method's forecast, none less than the demand now: capacity must carry that as well."""
    trend = _trend(memory.series, seen, horizon_seconds)
    forecasts = {"none": seen.rps, f"trend_{TREND_SECONDS:.0f}": max(seen.rps, trend)}
    for window in PEAKS_SECONDS:
        forecasts[f"peak_{window:.0f}"] = max([seen.rps, *(p.rps for p in memory.series if p.at > seen.at - window)])
    if memory.season is not None and memory.season.days >= SEASON_MIN_DAYS:
        forecasts["seasonal"] = max(seen.rps, _seasonal(memory.season, memory.series, seen, horizon_seconds))
    return forecasts


def _trend(series: Sequence[Point], seen: Point, horizon_seconds: float) -> float:
    """Fit a line by least squares over the window, and extend it, damped, from the level seen."""
    points = [p for p in series if p.at >= seen.at - TREND_SECONDS]
    if len(points) < 5:
        return seen.rps
    n = len(points)
    mean_t = sum(p.at for p in points) / n
    mean_y = sum(p.rps for p in points) / n
    spread = sum((p.at - mean_t) ** 2 for p in points)
    if spread == 0:
        return seen.rps
    slope = sum((p.at - mean_t) * (p.rps - mean_y) for p in points) / spread
    return max(0.0, seen.rps + TREND_DAMPING * slope * horizon_seconds)


def _seasonal(season: Season, series: Sequence[Point], seen: Point, horizon_seconds: float) -> float:
    """The season's value at the end of the horizon, scaled by how the last half hour compared with it."""
    recent = [p for p in series if p.at > seen.at - 1800]
    expected = sum(season_rps(season, p.at) for p in recent)
    level = sum(p.rps for p in recent) / expected if expected > 0 else 1.0
    return level * season_rps(season, seen.at + horizon_seconds)


def season_rps(season: Season, at: float) -> float:
    """The season's value at a time, interpolated between the centres of its 5-minute slots."""
    position = (at % DAY_SECONDS) / SLOT_SECONDS - 0.5
    left = math.floor(position)
    part = position - left
    rps = season.day[left % SLOTS] * (1 - part) + season.day[(left + 1) % SLOTS] * part
    return rps * season.weekday[int(at // DAY_SECONDS) % 7]


def season_from(history: Sequence[Reading], read_at: float) -> Season | None:
    """Find the shape of a day and a week in 5-minute means, oldest first; None without a full day.

    Each slot of the day is the mean over the days, newer days counting more (a week ago half as much), then smoothed
    over a quarter of an hour; a weekday's factor is its mean over the mean of all, halfway to 1 while only one such
    day was seen.
    """
    if len(history) < SLOTS:
        return None
    days = (history[-1].at - history[0].at) / DAY_SECONDS
    if days < SEASON_MIN_DAYS * 0.99:
        return None
    sums, weights = [0.0] * SLOTS, [0.0] * SLOTS
    by_weekday = [[0.0, 0] for _ in range(7)]
    for reading in history:
        middle = reading.at - SLOT_SECONDS / 2
        slot = int((middle % DAY_SECONDS) / SLOT_SECONDS)
        weight = 0.5 ** ((history[-1].at - reading.at) / (7 * DAY_SECONDS))
        sums[slot] += weight * reading.value
        weights[slot] += weight
        day = by_weekday[int(middle // DAY_SECONDS) % 7]
        day[0] += reading.value
        day[1] += 1
    mean = sum(r.value for r in history) / len(history)
    raw = [s / w if w > 0 else mean for s, w in zip(sums, weights, strict=True)]
    smooth = tuple(round((raw[i - 1] + raw[i] + raw[(i + 1) % SLOTS]) / 3, 4) for i in range(SLOTS))
    factors = []
    for total, count in by_weekday:
        seen_days = count / SLOTS
        if mean <= 0 or seen_days < 0.9 or days < 6.9:
            factors.append(1.0)
        else:
            trust = min(1.0, seen_days / 2)
            factors.append(round(1 + trust * (total / count / mean - 1), 4))
    return Season(read_at, smooth, tuple(factors), days)


def _pick(
    wanted: ForecastMethod,
    allowed: float,
    most: float,
    forecasts: Mapping[str, float],
    errors: Mapping[str, Errors],
    quantiles: Mapping[str, float],
) -> str:
    """Choose the policy's method; for `auto`, and between the windows of `peak`, the one that carries it for the least.

    The cost is the capacity that the method would have ordered lately, up to `most` times its forecast, over the
    demand seen. Where `most` is less than the quantile a method is cheap because it carries less: of spikes ten times
    the level, `none` at 2.5 times carries two thirds of the demand for half of what the hour's peak costs, which
    carries all of it. So methods compete only if they miss no more than `allowed`, or within a tenth of the least.
    A method without a record is taken only where none has one.
    """
    prefix = "" if wanted is ForecastMethod.AUTO else wanted.value
    names = [name for name in forecasts if name.startswith(prefix)] or ["none"]
    judged = {name: errors[name] for name in names if name in errors and errors[name].weight > 0}
    if not judged:
        return names[0]
    missed = {
        name: allowed if quantiles[name] <= most else max(allowed, _beyond(record.bins, most))
        for name, record in judged.items()
    }
    bar = ALIKE * min(missed.values())

    def cost(name: str) -> float:
        return min(quantiles[name], most) * judged[name].said / judged[name].weight

    return min((name for name in judged if missed[name] <= bar), key=cost)


def _judge(errors: Errors, forecast: float, seen: float, elapsed: float) -> Errors:
    """Add one forecast to the record. A demand of zero judges nobody; a forecast of zero is off the scale."""
    keep = 0.5 ** (elapsed / HALF_LIFE_SECONDS)
    bins = [b * keep for b in errors.bins] if errors.bins else [0.0] * BINS
    if seen > 0:
        bins[_bin(seen / forecast if forecast > 0 else HIGH)] += seen * elapsed
    return Errors(
        tuple(round(b, 3) if b else b for b in bins),  # most are empty
        errors.absolute * keep + abs(seen - forecast) * elapsed,
        errors.weight * keep + seen * elapsed,
        errors.said * keep + forecast * elapsed,
    )


def _bin(ratio: float) -> int:
    position = math.log(min(HIGH, max(ratio, LOW)) / LOW) / math.log(HIGH / LOW) * BINS
    return min(BINS - 1, int(position))


def _quantile(errors: Errors, confidence: float, mean_rps: float) -> float:
    """Ratio below which the share `confidence` of the demand lay.

    A tail that has not been seen cannot be counted: of forty minutes the highest is the 97.5th percentile, and to use
    it as the 99.75th would let one odd minute rule the day. So the counted quantile weighs as much as values beyond it
    were expected, n*(1-confidence) of them, and the rest comes from a lognormal through the median and the ninth
    decile seen (Hyndman and Athanasopoulos, 5.5, for normal residuals; two quantiles and not the variance, which one
    odd minute rules as well), at most a tenth beyond the highest: a rise that is over is not the middle of worse to
    come. The lognormal starts from the prior, which counts for a quarter of an hour: n minutes of a calm service leave
    sqrt(15 / (15 + n)) of its sigma.
    """
    z = NormalDist().inv_cdf(confidence)
    minutes = sum(errors.bins) / (60 * mean_rps) if mean_rps > 0 else 0.0
    if minutes == 0:
        return math.exp(z * PRIOR_SIGMA)
    middle, high = math.log(_counted(errors.bins, 0.5)), math.log(_counted(errors.bins, HIGH_SIDE))
    seen_sigma = (high - middle) / HIGH_SIDE_SIGMAS
    prior = PRIOR_MINUTES / (PRIOR_MINUTES + minutes)
    sigma = math.sqrt(prior * PRIOR_SIGMA**2 + (1 - prior) * seen_sigma**2)
    most = max(math.log(_counted(errors.bins, WHOLE)), PRIOR_HIGHEST) + BEYOND
    fitted = min(most, (1 - prior) * middle + z * sigma)
    beyond = minutes * (1 - confidence)
    trust = beyond / (1 + beyond)
    return math.exp(trust * math.log(_counted(errors.bins, confidence)) + (1 - trust) * fitted)


def _counted(bins: Sequence[float], confidence: float) -> float:
    left = confidence * sum(bins)
    for i, weight in enumerate(bins):
        if weight > 0 and left <= weight:
            return _edge(i + left / weight)
        left -= weight
    return HIGH


def _beyond(bins: Sequence[float], ratio: float) -> float:
    """The share of the demand whose ratio lay in a bin above that of `ratio`; 0 before anything was seen."""
    return sum(bins[_bin(ratio) + 1 :]) / max(sum(bins), 1e-9)


def _edge(i: float) -> float:
    """Lower edge of a bin, or a place inside it."""
    return LOW * (HIGH / LOW) ** (i / BINS)
