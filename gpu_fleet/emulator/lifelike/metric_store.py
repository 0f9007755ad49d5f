"""CloudWatch's store: one series for each namespace, name and set of dimensions, with AWS's retention."""

from __future__ import annotations

import bisect
import datetime as dt
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.cloudwatch import models
from moto.cloudwatch.exceptions import InvalidParameterValue, ValidationError

from gpu_fleet.emulator.cloud_world import Location
from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.scaling_activities import naive_utc

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="metrics",
    moto="matches dimensions by order, mixes namespaces, and keeps everything",
    aws=(
        "a series is its namespace, name and set of dimensions; data under a minute is kept 3 hours, minutes 15 days; "
        "only high-resolution metrics have data under a minute"
    ),
    source=(
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html "
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html"
    ),
)

FINE_KEPT_SECONDS = 3 * 3600
"""Data points of less than a minute are kept for 3 hours."""
MINUTES_KEPT_SECONDS = 15 * 86_400
"""Data points of a minute are kept for 15 days."""
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)\Z")
_STATISTICS = ("Sum", "Average", "Minimum", "Maximum", "SampleCount")

Dimensions = Sequence[tuple[str, str]]
MetricKey = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name, dimensions by name."""


@dataclass(slots=True)
class DataPoint:
    """The data of one moment of a series."""

    count: float = 0.0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    values: list[tuple[float, float]] | None = field(default_factory=list)
    """Each value with its weight; None if only the statistics are known."""
    unit: str | None = None

    def add(self, value: float, weight: float = 1.0) -> None:
        """Add a value, `weight` times."""
        self.merge(DataPoint(weight, value * weight, value, value, [(value, weight)]))

    def merge(self, other: DataPoint) -> None:
        """Add the data of another point."""
        self.count += other.count
        self.total += other.total
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        if self.values is None or other.values is None:
            self.values = None
        else:
            self.values.extend(other.values)
        self.unit = self.unit or other.unit

    def statistic(self, stat: str) -> float | None:
        """Return the statistic; None if it is unknown. Raises ValidationError for one that is not modelled."""
        match stat:
            case "Sum":
                return self.total
            case "Average":
                return self.total / self.count if self.count else None
            case "Minimum":
                return self.low
            case "Maximum":
                return self.high
            case "SampleCount":
                return self.count
        match = _PERCENTILE.match(stat)
        if match is None:
            raise ValidationError(f"Stat {stat}: only {', '.join(_STATISTICS)} and percentiles are modelled here")
        return self._percentile(float(match[1]))

    def _percentile(self, percent: float) -> float | None:
        """Interpolate linearly between the two nearest ranks.

        From statistics alone AWS knows a percentile only if all values are equal.
        """
        if self.values is None:
            return self.low if self.low == self.high else None
        ranked = sorted(self.values)
        last = sum(weight for _, weight in ranked) - 1
        rank = max(last, 0.0) * percent / 100
        before: tuple[float, float] | None = None  # the last rank of the previous value, and that value
        seen = 0.0
        for value, weight in ranked:
            first, final = seen, seen + weight - 1
            if rank < first and before is not None:
                at, low = before
                return low + (value - low) * (rank - at) / (first - at)
            if rank <= final:
                return value
            before, seen = (final, value), seen + weight
        return ranked[-1][0]


class MetricSeries:
    """The points of one metric: minutes, and finer points for as long as AWS keeps them."""

    __slots__ = ("_fine", "_fine_at", "_minutes", "_minutes_at")

    def __init__(self) -> None:
        """Create an empty series."""
        self._fine: list[DataPoint] = []
        self._fine_at: list[float] = []
        self._minutes: list[DataPoint] = []
        self._minutes_at: list[float] = []

    def put(self, at: float, point: DataPoint, *, high_resolution: bool) -> None:
        """Add a point, at its second or (standard resolution) at its minute."""
        if high_resolution:
            _insert(self._fine_at, self._fine, math.floor(at), point)
        else:
            _insert(self._minutes_at, self._minutes, 60 * (at // 60), point)

    def forget(self, now: float) -> None:
        """Roll fine points older than 3 hours up into minutes, and drop minutes older than 15 days."""
        # In steps of ten minutes, so that most calls have nothing to do.
        if self._fine_at and self._fine_at[0] < now - FINE_KEPT_SECONDS - 600:
            end = bisect.bisect_left(self._fine_at, 60 * ((now - FINE_KEPT_SECONDS) // 60))
            for at, point in zip(self._fine_at[:end], self._fine[:end], strict=True):
                minute = DataPoint(point.count, point.total, point.low, point.high, None, point.unit)
                _insert(self._minutes_at, self._minutes, 60 * (at // 60), minute)
            del self._fine_at[:end], self._fine[:end]
        if self._minutes_at and self._minutes_at[0] < now - MINUTES_KEPT_SECONDS - 86_400:
            end = bisect.bisect_left(self._minutes_at, now - MINUTES_KEPT_SECONDS)
            del self._minutes_at[:end], self._minutes[:end]

    def windows(self, period: int, start: float, end: float, unit: str | None = None) -> dict[float, DataPoint]:
        """Return the points by window, oldest first; windows are multiples of the period."""
        windows: dict[float, DataPoint] = {}
        sources = [(self._fine_at, self._fine)]
        if period >= 60:
            sources.insert(0, (self._minutes_at, self._minutes))
        for times, points in sources:
            for i in range(bisect.bisect_left(times, start), bisect.bisect_left(times, end)):
                point = points[i]
                if unit is not None and point.unit != unit:
                    continue
                window = period * (times[i] // period)
                merged = windows.get(window)
                if merged is None:
                    values = None if point.values is None else list(point.values)
                    windows[window] = DataPoint(point.count, point.total, point.low, point.high, values, point.unit)
                else:
                    merged.merge(point)
        return dict(sorted(windows.items()))


def _insert(times: list[float], points: list[DataPoint], at: float, point: DataPoint) -> None:
    if not times or at > times[-1]:
        times.append(at)
        points.append(point)
        return
    i = bisect.bisect_left(times, at)
    if i < len(times) and times[i] == at:
        points[i].merge(point)
    else:
        times.insert(i, at)
        points.insert(i, point)


class Metrics:
    """All series of one region."""

    def __init__(self, world: CloudWorld) -> None:
        """Start with no series."""
        self._world = world
        self.series: dict[MetricKey, MetricSeries] = {}
        self.lost: list[Callable[[MetricKey], bool]] = []
        """Arriving data of a series that one of these matches is lost (see `gpu_fleet.emulator.faults`)."""

    def put(
        self,
        namespace: str,
        name: str,
        dimensions: Dimensions,
        at: float,
        point: DataPoint,
        *,
        high_resolution: bool = False,
    ) -> None:
        """Add a point to its series."""
        key = metric_key(namespace, name, dimensions)
        if any(lost(key) for lost in self.lost):
            return
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = MetricSeries()
        series.put(at, point, high_resolution=high_resolution)
        series.forget(self._world.now)

    def read(
        self, key: MetricKey, stat: str, period: int, start: float, end: float, unit: str | None = None
    ) -> list[tuple[float, float]]:
        """Return window starts and values, oldest first, without the windows that have no data.

        A period under a minute reaches back only as far as fine data is kept.
        """
        series = self.series.get(key)
        if series is None:
            return []
        windows = series.windows(period, period * (start // period), end, unit)
        values = ((at, point.statistic(stat)) for at, point in windows.items())
        return [(at, value) for at, value in values if value is not None]


def metric_key(namespace: str, name: str, dimensions: Dimensions) -> MetricKey:
    """Return the key of a series, whatever the order of its dimensions."""
    return namespace, name, tuple(sorted(dimensions))


class MetricStores:
    """The metrics of each account and region."""

    def __init__(self, world: CloudWorld) -> None:
        """Start with no metrics."""
        self.world = world
        self._by_location: dict[Location, Metrics] = {}

    def of(self, location: Location) -> Metrics:
        """Return the metrics of a location."""
        return self._by_location.setdefault(location, Metrics(self.world))

    def of_backend(self, backend: Any) -> Metrics:
        """Return the metrics of one of moto's backends."""
        return self.of(Location(backend.account_id, backend.region_name))


def patch_moto(stores: MetricStores, patches: Patches) -> None:
    """Replace moto's list of data."""

    def put_metric_data(_moto: Any, backend: Any, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        for i, datum in enumerate(metric_data):
            backend._validate_parameters_put_metric_data(datum, i + 1)
        for datum in metric_data:
            resolution = int(datum.get("StorageResolution") or 60)
            if resolution not in (1, 60):
                raise InvalidParameterValue("The parameter StorageResolution must be 1 or 60.")
            timestamp = datum.get("Timestamp")
            stores.of_backend(backend).put(
                namespace,
                datum["MetricName"],
                dimensions_of(datum),
                stores.world.now if timestamp is None else epoch_seconds(timestamp),
                _data_point(datum),
                high_resolution=resolution == 1,
            )

    def get_all_metrics(_moto: Any, backend: Any) -> list[Any]:
        return [
            models.MetricDatum(namespace, name, 0.0, [{"Name": n, "Value": v} for n, v in dimensions], naive_utc(0))
            for namespace, name, dimensions in stores.of_backend(backend).series
        ]

    patches.wrap(models.CloudWatchBackend, "put_metric_data", put_metric_data)
    patches.wrap(models.CloudWatchBackend, "get_all_metrics", get_all_metrics)


def dimensions_of(metric: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the dimensions of a request's metric."""
    return [(d["Name"], d["Value"]) for d in metric.get("Dimensions") or []]


def epoch_seconds(moment: dt.datetime | float) -> float:
    """Return the seconds since the epoch of a time from moto's parser; a naive one is UTC."""
    if isinstance(moment, int | float):
        return float(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _data_point(datum: Mapping[str, Any]) -> DataPoint:
    unit = datum.get("Unit")
    if datum.get("StatisticValues"):
        s = datum["StatisticValues"]
        return DataPoint(float(s["SampleCount"]), float(s["Sum"]), float(s["Minimum"]), float(s["Maximum"]), None, unit)
    point = DataPoint(unit=unit)
    if datum.get("Values"):
        counts = datum.get("Counts") or [1.0] * len(datum["Values"])
        for value, count in zip(datum["Values"], counts, strict=True):
            point.add(float(value), float(count))
    else:
        point.add(float(datum.get("Value", 0.0)))
    return point
