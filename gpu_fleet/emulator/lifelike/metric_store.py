"""CloudWatch metrics: series apart by namespace and dimensions, windows by period, percentiles, retention."""

from __future__ import annotations

import bisect
import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.cloudwatch import models, responses
from moto.cloudwatch.exceptions import InvalidParameterCombination, InvalidParameterValue, ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="metrics",
    moto=(
        "matches dimensions by order, mixes namespaces, aligns windows to StartTime, crashes on "
        "percentiles, answers metric math "
        "with nothing, ignores paging, keeps everything, and takes time of queries x periods x datapoints"
    ),
    aws=(
        "a series is its namespace, name and set of dimensions; windows are multiples of the period; "
        "percentiles; 500 queries and "
        "100,800 datapoints a call; data under a minute is kept 3 hours, minutes 15 days; periods under a minute "
        "are of high-resolution metrics alone"
    ),
    source=(
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html "
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html"
    ),
)

FINE_SECONDS = 3 * 3600
"""Data points of less than a minute are kept for 3 hours."""
MINUTES_SECONDS = 15 * 86_400
"""Data points of a minute are kept for 15 days."""
MAX_QUERIES = 500
MAX_DATAPOINTS = 100_800
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*\Z")
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)\Z")
_STATISTICS = ("Sum", "Average", "Minimum", "Maximum", "SampleCount")

Dimensions = Sequence[tuple[str, str]]
Key = tuple[str, str, tuple[tuple[str, str], ...]]
"""Namespace, name, dimensions by name."""


@dataclass(slots=True)
class DataPoint:
    """What was put for one moment of a series."""

    count: float = 0.0
    total: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    values: list[tuple[float, float]] | None = field(default_factory=list)
    """Value and its weight; None once only the statistics are known."""
    unit: str | None = None

    def add(self, value: float, weight: float = 1.0) -> None:
        """One more value, `weight` times."""
        self.merge(DataPoint(weight, value * weight, value, value, [(value, weight)]))

    def merge(self, other: DataPoint) -> None:
        """Take in what another point holds."""
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
        """The statistic; None where it cannot be told. Raises ValidationError for one that is not modelled."""
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
        """Linear between the two nearest ranks.

        Of statistics alone AWS knows a percentile only where all values are one.
        """
        if self.values is None:
            return self.low if self.low == self.high else None
        ranked = sorted(self.values)
        last = sum(weight for _, weight in ranked) - 1
        rank = max(last, 0.0) * percent / 100
        before: tuple[float, float] | None = None  # the last rank of the value before
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
    """The points of one metric: minutes, and what is finer for as long as it is kept."""

    __slots__ = ("_fine", "_fine_at", "_minutes", "_minutes_at")

    def __init__(self) -> None:
        """An empty series."""
        self._fine: list[DataPoint] = []
        self._fine_at: list[float] = []
        self._minutes: list[DataPoint] = []
        self._minutes_at: list[float] = []

    def put(self, at: float, point: DataPoint, *, high_resolution: bool) -> None:
        """Add a point; of a standard metric it belongs to its minute."""
        if high_resolution:
            _insert(self._fine_at, self._fine, math.floor(at), point)
        else:
            _insert(self._minutes_at, self._minutes, 60 * (at // 60), point)

    def forget(self, now: float) -> None:
        """Roll up what is too old to be kept as fine as it is, and drop what is too old for anything."""
        # In steps of ten minutes, so that most calls have nothing to do.
        if self._fine_at and self._fine_at[0] < now - FINE_SECONDS - 600:
            end = bisect.bisect_left(self._fine_at, 60 * ((now - FINE_SECONDS) // 60))
            for at, point in zip(self._fine_at[:end], self._fine[:end], strict=True):
                rolled = DataPoint(point.count, point.total, point.low, point.high, None, point.unit)
                _insert(self._minutes_at, self._minutes, 60 * (at // 60), rolled)
            del self._fine_at[:end], self._fine[:end]
        if self._minutes_at and self._minutes_at[0] < now - MINUTES_SECONDS - 86_400:
            end = bisect.bisect_left(self._minutes_at, now - MINUTES_SECONDS)
            del self._minutes_at[:end], self._minutes[:end]

    def windows(self, period: int, start: float, end: float, unit: str | None = None) -> dict[float, DataPoint]:
        """Points by window, the windows being multiples of the period; oldest first."""
        found: dict[float, DataPoint] = {}
        sources = [(self._fine_at, self._fine)]
        if period >= 60:
            sources.insert(0, (self._minutes_at, self._minutes))
        for times, points in sources:
            for i in range(bisect.bisect_left(times, start), bisect.bisect_left(times, end)):
                point = points[i]
                if unit is not None and point.unit != unit:
                    continue
                window = period * (times[i] // period)
                known = found.get(window)
                if known is None:
                    values = None if point.values is None else list(point.values)
                    found[window] = DataPoint(point.count, point.total, point.low, point.high, values, point.unit)
                else:
                    known.merge(point)
        return dict(sorted(found.items()))


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
        """No series yet."""
        self._world = world
        self.series: dict[Key, MetricSeries] = {}
        self.lost: list[Callable[[Key], bool]] = []
        """Data of these series is lost on the way (see `gpu_fleet.emulator.faults`)."""

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
        key: Key = (namespace, name, tuple(sorted(dimensions)))
        if any(lost(key) for lost in self.lost):
            return
        series = self.series.get(key)
        if series is None:
            series = self.series[key] = MetricSeries()
        series.put(at, point, high_resolution=high_resolution)
        series.forget(self._world.now)

    def read(
        self, key: Key, stat: str, period: int, start: float, end: float, unit: str | None = None
    ) -> list[tuple[float, float]]:
        """Window starts and values, oldest first; what is missing is not there.

        A period under a minute reaches back only as far as such data is kept.
        """
        series = self.series.get(key)
        if series is None:
            return []
        first = period * (start // period)
        windows = series.windows(period, first, end, unit)
        values = ((at, point.statistic(stat)) for at, point in windows.items())
        return [(at, value) for at, value in values if value is not None]


def mend(world: CloudWorld, patches: Patches) -> Callable[[str, str], Metrics]:
    """Put the store in place of moto's list. Returns the store of an account and region."""
    stores: dict[tuple[str, str], Metrics] = {}

    def store(account: str, region: str) -> Metrics:
        return stores.setdefault((account, region), Metrics(world))

    def of(backend: Any) -> Metrics:
        return store(backend.account_id, backend.region_name)

    def put_metric_data(self: Any, namespace: str, metric_data: list[dict[str, Any]]) -> None:
        for i, datum in enumerate(metric_data):
            self._validate_parameters_put_metric_data(datum, i + 1)
        for datum in metric_data:
            resolution = int(datum.get("StorageResolution") or 60)
            if resolution not in (1, 60):
                raise InvalidParameterValue("The parameter StorageResolution must be 1 or 60.")
            given = datum.get("Timestamp")
            of(self).put(
                namespace,
                datum["MetricName"],
                [(d["Name"], d["Value"]) for d in datum.get("Dimensions") or []],
                world.now if given is None else seconds(given),
                _point(datum),
                high_resolution=resolution == 1,
            )

    def get_metric_data(self: Any) -> ActionResult:
        request = self._get_params()
        results = _results(of(self.cloudwatch_backend), request)
        return ActionResult(_page(results, int(request.get("NextToken") or 0), request.get("MaxDatapoints")))

    def get_metric_statistics(self: Any) -> ActionResult:
        statistics = self._get_param("Statistics", []) or []
        percentiles = self._get_param("ExtendedStatistics", []) or []
        if bool(statistics) == bool(percentiles):
            raise InvalidParameterCombination("Must specify either Statistics or ExtendedStatistics")
        dimensions = tuple(sorted((d["Name"], d["Value"]) for d in self._get_param("Dimensions", []) or []))
        key: Key = (self._get_param("Namespace"), self._get_param("MetricName"), dimensions)
        period, unit = int(self._get_int_param("Period")), self._get_param("Unit")
        start, end = seconds(self._get_param("StartTime")), seconds(self._get_param("EndTime"))
        datapoints: dict[float, dict[str, Any]] = {}
        for stat in [*statistics, *percentiles]:
            for at, value in of(self.cloudwatch_backend).read(key, stat, period, start, end, unit):
                datapoint = datapoints.setdefault(at, {"Timestamp": _stamp(at), "Unit": unit or "None"})
                if stat in statistics:
                    datapoint[stat] = value
                else:
                    datapoint.setdefault("ExtendedStatistics", {})[stat] = value
        return ActionResult({"Label": key[1], "Datapoints": list(datapoints.values())})

    def get_all_metrics(self: Any) -> list[Any]:
        return [
            models.MetricDatum(namespace, name, 0.0, [{"Name": n, "Value": v} for n, v in dimensions], _stamp(0))
            for namespace, name, dimensions in of(self).series
        ]

    patches.put(models.CloudWatchBackend, "put_metric_data", put_metric_data)
    patches.put(models.CloudWatchBackend, "get_all_metrics", get_all_metrics)
    patches.put(responses.CloudWatchResponse, "get_metric_data", get_metric_data)
    patches.put(responses.CloudWatchResponse, "get_metric_statistics", get_metric_statistics)
    return store


def seconds(moment: dt.datetime | float) -> float:
    """Seconds since the epoch of what moto's parser hands over."""
    if isinstance(moment, int | float):
        return float(moment)
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _stamp(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC).replace(tzinfo=None)


def _point(datum: Mapping[str, Any]) -> DataPoint:
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


@dataclass(slots=True)
class _Result:
    id: str
    label: str
    points: list[tuple[float, float]]
    shown: bool


def _results(store: Metrics, request: Mapping[str, Any]) -> list[_Result]:
    queries = request.get("MetricDataQueries") or []
    start, end = seconds(request["StartTime"]), seconds(request["EndTime"])
    if len(queries) > MAX_QUERIES:
        raise ValidationError(f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}.")
    if start >= end:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    descending = request.get("ScanBy") != "TimestampAscending"
    by_id: dict[str, _Result] = {}
    for query in queries:
        identity = query["Id"]
        if not _ID.match(identity):
            raise ValidationError(f"The value {identity} for parameter MetricDataQueries.member.Id is invalid.")
        if identity in by_id:
            raise ValidationError(f"The values for parameter id in MetricDataQueries are not unique: {identity}")
        if "MetricStat" not in query:
            continue
        stat = query["MetricStat"]
        metric = stat["Metric"]
        dimensions = tuple(sorted((d["Name"], d["Value"]) for d in metric.get("Dimensions") or []))
        key: Key = (metric["Namespace"], metric["MetricName"], dimensions)
        points = store.read(key, stat["Stat"], _period(stat["Period"]), start, end, stat.get("Unit"))
        by_id[identity] = _Result(
            identity,
            query.get("Label") or metric["MetricName"],
            points[::-1] if descending else points,
            query.get("ReturnData") is not False,
        )
    for query in queries:
        if "MetricStat" in query:
            continue
        expression = (query.get("Expression") or "").strip()
        if expression not in by_id:
            raise ValidationError(
                f"Expression {expression!r}: metric math is not modelled here, but for the id of another query"
            )
        points = by_id[expression].points
        shown = query.get("ReturnData") is not False
        by_id[query["Id"]] = _Result(query["Id"], query.get("Label") or query["Id"], points, shown)
    return [by_id[q["Id"]] for q in queries if by_id[q["Id"]].shown]


def _period(value: Any) -> int:
    period = int(value)
    if period not in (1, 5, 10, 20, 30) and (period <= 0 or period % 60):
        raise ValidationError(f"Period {period}: must be 1, 5, 10, 20, 30 or a multiple of 60.")
    return period


def _page(results: Iterable[_Result], offset: int, limit: Any) -> dict[str, Any]:
    """One page of at most `limit` datapoints, as AWS cuts: a series may go on in the next page."""
    size = min(int(limit or MAX_DATAPOINTS), MAX_DATAPOINTS)
    skip, room, more = offset, size, False
    out = []
    for result in results:
        points = result.points[skip:]
        skip = max(0, skip - len(result.points))
        if not points and result.points:
            continue  # all of it was on an earlier page
        if room == 0 and points:
            more = True
            break
        shown = points[:room]
        room -= len(shown)
        whole = len(shown) == len(points)
        out.append(
            {
                "Id": result.id,
                "Label": result.label,
                "Timestamps": [_stamp(at) for at, _ in shown],
                "Values": [value for _, value in shown],
                "StatusCode": "Complete" if whole else "PartialData",
            }
        )
        if not whole:
            more = True
            break
    return {"MetricDataResults": out, "NextToken": str(offset + size) if more else None}
