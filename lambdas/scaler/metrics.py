"""Read CloudWatch: any number of queries, 500 a call, each answered by a series of readings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.series import Series
from lambdas.scaler.batches import batches
from lambdas.scaler.result import ErrorCode, Fault

if TYPE_CHECKING:
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_cloudwatch.type_defs import MetricDataQueryTypeDef

QUERIES_PER_CALL = 500
"""MetricDataQueries: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""


@dataclass(frozen=True, slots=True, order=True)
class Query:
    """One statistic of one metric. Equal queries of several services are sent once."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """In the order of publication."""
    statistic: str
    period_seconds: int


@dataclass(frozen=True, slots=True)
class Answers:
    """CloudWatch's answers."""

    series: Mapping[Query, Series]
    failed: Mapping[Query, Fault]
    """Queries without an answer. A missing series is not an empty one."""

    def of(self, query: Query | None) -> Series:
        """Return the series; empty without data, answer or query."""
        return self.series.get(query, ()) if query is not None else ()


def fetch(cloudwatch: CloudWatchClient, queries: Iterable[Query], start: float, end: float) -> Answers:
    """Read all queries over [start, end), seconds since the epoch: one call and its pages per 500 queries.

    `start` should be a multiple of the longest period, or CloudWatch rounds it. A period that ends after `end` is left
    out, because its sum still grows. A call that fails affects only its own 500 queries.
    """
    # Sorted, so that equal runs make equal calls.
    wanted = sorted(set(queries))
    series: dict[Query, Series] = {}
    failed: dict[Query, Fault] = {}
    for batch in batches(wanted, QUERIES_PER_CALL):
        try:
            answered = _call(cloudwatch, batch, start, end)
        except (ClientError, BotoCoreError) as error:
            failed |= dict.fromkeys(batch, Fault.of(error, "GetMetricData"))
            continue
        for query in batch:
            if query in answered:
                series[query] = answered[query]
            else:
                failed[query] = Fault(ErrorCode.METRICS_UNAVAILABLE, f"no answer for {query.name}", "GetMetricData")
    return Answers(series, failed)


def _call(cloudwatch: CloudWatchClient, queries: list[Query], start: float, end: float) -> dict[Query, Series]:
    by_id = {f"q{i}": query for i, query in enumerate(queries)}
    values: dict[str, dict[float, float]] = {id_: {} for id_ in by_id}
    refused: set[str] = set()
    pages = cloudwatch.get_paginator("get_metric_data").paginate(
        MetricDataQueries=[_request(id_, query) for id_, query in by_id.items()],
        StartTime=datetime.fromtimestamp(start, UTC),
        EndTime=datetime.fromtimestamp(end, UTC),
        ScanBy="TimestampDescending",
    )
    for page in pages:
        for result in page["MetricDataResults"]:
            id_ = result.get("Id", "")
            if result.get("StatusCode") in ("InternalError", "Forbidden"):
                refused.add(id_)
            for timestamp, value in zip(result.get("Timestamps", []), result.get("Values", []), strict=True):
                at = timestamp.timestamp() + by_id[id_].period_seconds
                if at <= end and math.isfinite(value):
                    values[id_][at] = value
    return {
        query: tuple(Reading(values[id_][at], at) for at in sorted(values[id_]))
        for id_, query in by_id.items()
        if id_ not in refused
    }


def _request(id_: str, query: Query) -> MetricDataQueryTypeDef:
    return {
        "Id": id_,
        "MetricStat": {
            "Metric": {
                "Namespace": query.namespace,
                "MetricName": query.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions],
            },
            "Period": query.period_seconds,
            "Stat": query.statistic,
        },
        "ReturnData": True,
    }
