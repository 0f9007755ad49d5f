"""GetMetricData and GetMetricStatistics: windows by period, percentiles, pages."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.cloudwatch import responses
from moto.cloudwatch.exceptions import InvalidParameterCombination, ValidationError
from moto.core.responses import ActionResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches
from gpu_fleet.emulator.lifelike.metric_store import (
    Metrics,
    MetricStores,
    dimensions_of,
    epoch_seconds,
    metric_key,
)
from gpu_fleet.emulator.lifelike.scaling_activities import naive_utc

DIFFERENCE = Difference(
    name="queries of metrics",
    moto=(
        "aligns windows to StartTime, crashes on percentiles, returns nothing for metric math, ignores paging, and "
        "takes time proportional to queries x periods x datapoints"
    ),
    aws="windows are multiples of the period; percentiles; at most 500 queries and 100,800 datapoints a call",
    source=(
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html "
        "https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html"
    ),
)

MAX_QUERIES = 500
MAX_DATAPOINTS = 100_800
_QUERY_ID = re.compile(r"[a-z][a-zA-Z0-9_]*\Z")


@dataclass(frozen=True, slots=True)
class _Result:
    id: str
    label: str
    points: list[tuple[float, float]]
    returned: bool


def patch_moto(stores: MetricStores, patches: Patches) -> None:
    """Answer both operations from the stores."""

    def get_metric_data(_moto: Any, response: Any) -> ActionResult:
        request = response._get_params()
        results = _answer_queries(stores.of_backend(response.cloudwatch_backend), request)
        return ActionResult(_page(results, int(request.get("NextToken") or 0), request.get("MaxDatapoints")))

    def get_metric_statistics(_moto: Any, response: Any) -> ActionResult:
        return ActionResult(_statistics(stores.of_backend(response.cloudwatch_backend), response._get_params()))

    patches.wrap(responses.CloudWatchResponse, "get_metric_data", get_metric_data)
    patches.wrap(responses.CloudWatchResponse, "get_metric_statistics", get_metric_statistics)


def _statistics(metrics: Metrics, request: Mapping[str, Any]) -> dict[str, Any]:
    statistics = request.get("Statistics") or []
    percentiles = request.get("ExtendedStatistics") or []
    if bool(statistics) == bool(percentiles):
        raise InvalidParameterCombination("Must specify either Statistics or ExtendedStatistics")
    key = metric_key(request["Namespace"], request["MetricName"], dimensions_of(request))
    period, unit = int(request["Period"]), request.get("Unit")
    start, end = epoch_seconds(request["StartTime"]), epoch_seconds(request["EndTime"])
    datapoints: dict[float, dict[str, Any]] = {}
    for stat in [*statistics, *percentiles]:
        for at, value in metrics.read(key, stat, period, start, end, unit):
            datapoint = datapoints.setdefault(at, {"Timestamp": naive_utc(at), "Unit": unit or "None"})
            if stat in statistics:
                datapoint[stat] = value
            else:
                datapoint.setdefault("ExtendedStatistics", {})[stat] = value
    return {"Label": request["MetricName"], "Datapoints": list(datapoints.values())}


def _answer_queries(metrics: Metrics, request: Mapping[str, Any]) -> list[_Result]:
    """Return the results that GetMetricData returns, in the order of its queries."""
    queries = request.get("MetricDataQueries") or []
    start, end = epoch_seconds(request["StartTime"]), epoch_seconds(request["EndTime"])
    if start >= end:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    _check_ids(queries)
    newest_first = request.get("ScanBy") != "TimestampAscending"
    results: dict[str, _Result] = {}
    for query in queries:
        if "MetricStat" in query:
            results[query["Id"]] = _answer_metric(metrics, query, start, end, newest_first=newest_first)
    for query in queries:
        if "MetricStat" not in query:
            results[query["Id"]] = _answer_expression(results, query)
    return [results[query["Id"]] for query in queries if results[query["Id"]].returned]


def _check_ids(queries: list[dict[str, Any]]) -> None:
    if len(queries) > MAX_QUERIES:
        raise ValidationError(f"The collection MetricDataQueries must not have a size greater than {MAX_QUERIES}.")
    seen: set[str] = set()
    for query in queries:
        identity = query["Id"]
        if not _QUERY_ID.match(identity):
            raise ValidationError(f"The value {identity} for parameter MetricDataQueries.member.Id is invalid.")
        if identity in seen:
            raise ValidationError(f"The values for parameter id in MetricDataQueries are not unique: {identity}")
        seen.add(identity)


def _answer_metric(
    metrics: Metrics, query: Mapping[str, Any], start: float, end: float, *, newest_first: bool
) -> _Result:
    stat = query["MetricStat"]
    metric = stat["Metric"]
    key = metric_key(metric["Namespace"], metric["MetricName"], dimensions_of(metric))
    points = metrics.read(key, stat["Stat"], _period(stat["Period"]), start, end, stat.get("Unit"))
    return _Result(
        query["Id"],
        query.get("Label") or metric["MetricName"],
        points[::-1] if newest_first else points,
        query.get("ReturnData") is not False,
    )


def _answer_expression(results: Mapping[str, _Result], query: Mapping[str, Any]) -> _Result:
    expression = (query.get("Expression") or "").strip()
    if expression not in results:
        raise ValidationError(
            f"Expression {expression!r}: metric math is not modelled here, except for the id of another query"
        )
    return _Result(
        query["Id"],
        query.get("Label") or query["Id"],
        results[expression].points,
        query.get("ReturnData") is not False,
    )


def _period(value: Any) -> int:
    period = int(value)
    if period not in (1, 5, 10, 20, 30) and (period <= 0 or period % 60):
        raise ValidationError(f"Period {period}: must be 1, 5, 10, 20, 30 or a multiple of 60.")
    return period


def _page(results: Iterable[_Result], offset: int, limit: Any) -> dict[str, Any]:
    """Return one page of at most `limit` datapoints; like AWS's, a page may end within a series."""
    size = min(int(limit or MAX_DATAPOINTS), MAX_DATAPOINTS)
    skip, room, more = offset, size, False
    page = []
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
        complete = len(shown) == len(points)
        page.append(
            {
                "Id": result.id,
                "Label": result.label,
                "Timestamps": [naive_utc(at) for at, _ in shown],
                "Values": [value for _, value in shown],
                "StatusCode": "Complete" if complete else "PartialData",
            }
        )
        if not complete:
            more = True
            break
    return {"MetricDataResults": page, "NextToken": str(offset + size) if more else None}
