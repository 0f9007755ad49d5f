"""The traffic of a live stack, from CloudWatch: so that a user's own history can be replayed.

The services and their target groups come from the parameters that the stack writes (/<project>/<stack>/services/...).
Requests are the sum of RequestCount over a service's target groups. A load balancer publishes RequestCount only when
it is not zero, so a step without it is a zero where a sign of life stands beside it (HealthyHostCount of any of the
target groups, or ConsumedLCUs of the load balancer, which is always reported), and is left out, as a gap, where none
does. Source of the reporting criteria:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from gpu_fleet.config.project_file import PROJECT
from gpu_fleet.traffic.errors import TraceError
from gpu_fleet.traffic.steps import Gaps, as_rates
from gpu_fleet.traffic.trace import RateTrace

if TYPE_CHECKING:
    from types_boto3_cloudwatch.client import CloudWatchClient
    from types_boto3_ssm.client import SSMClient

DAY_SECONDS = 86_400
RETENTION_DAYS = ((15, 60), (63, 300), (455, 3600))
"""Days for which CloudWatch keeps data, and the shortest period (seconds) that far back:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html (metrics retention)."""
MOST_QUERIES = 500
"""Metrics of one GetMetricData call:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service's requests are counted."""

    service: str
    load_balancer: str
    """The dimension: app/<name>/<id>."""
    target_groups: tuple[str, ...]
    """The dimensions: targetgroup/<name>/<id>."""


def endpoints(ssm: SSMClient, stack: str, project: str = PROJECT) -> tuple[Endpoint, ...]:
    """The stack's services that have a load balancer, by name; `project` is the name in Pulumi.yaml.

    Raises TraceError where the stack has no service, or a parameter is not what the stack writes.
    """
    path = f"/{project}/{stack}/services"
    found: list[Endpoint] = []
    for answer in ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True):
        for parameter in answer["Parameters"]:
            name = parameter.get("Name", "")
            found.append(_endpoint(name.rpartition("/")[2], name, parameter.get("Value", "")))
    if not found:
        raise TraceError("", f"no services under {path}: is the stack up, and the region and account right?")
    return tuple(sorted(found, key=lambda endpoint: endpoint.service))


def _endpoint(service: str, name: str, text: str) -> Endpoint:
    try:
        bindings = json.loads(text)["bindings"]
        groups = tuple(str(pool["target_group_arn"]).rpartition(":")[2] for pool in bindings["pools"].values())
        return Endpoint(service, str(bindings["load_balancer"]), groups)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TraceError("", f"is not a service's parameter as the stack writes it ({error!r})", name) from None


def period_seconds(days: float) -> int:
    """The shortest period that CloudWatch still has for all of these days. Raises TraceError beyond 455 days."""
    for most, period in RETENTION_DAYS:
        if days <= most:
            return period
    raise TraceError("--days", f"CloudWatch keeps 455 days (got {days:g})")


def export(
    cloudwatch: CloudWatchClient,
    endpoint: Endpoint,
    *,
    days: float,
    until: datetime,
    progress: Callable[[float], None] = lambda _: None,
) -> RateTrace:
    """The requests of the `days` before `until` (which bears a zone), at the shortest period that is kept.

    `progress` is told the share that is done, after each day. Raises TraceError where there is no request at all;
    errors of AWS (botocore's ClientError) pass through.
    """
    period = period_seconds(days)
    # Periods begin at multiples of themselves; the newest one may still be counting.
    end = math.floor(until.timestamp() / period) * period
    first = end - math.ceil(days * DAY_SECONDS / period) * period
    counts: dict[float, float] = {}
    alive: set[float] = set()
    for start, stop in _stretches(first, end, period):
        for moment, value, is_count in _points(cloudwatch, endpoint, period, start, stop):
            if is_count:
                counts[moment] = counts.get(moment, 0.0) + value
            else:
                alive.add(moment)
        progress((stop - first) / (end - first))
    if not counts:
        raise TraceError("", f"{endpoint.service}: CloudWatch has no request of the last {days:g} days")
    points = dict.fromkeys(alive, 0.0) | counts
    times = np.array(sorted(points))
    silent = len(points) - len(counts)

    def fail(row: int, text: str) -> Any:
        raise TraceError("", f"{endpoint.service}: {datetime.fromtimestamp(times[row], UTC).isoformat()}: {text}")

    return as_rates(
        endpoint.service,
        times - times[0],
        np.array([points[at] for at in times]),
        per_seconds=None,
        gaps=Gaps.LINEAR,
        fail=fail,
        step_seconds=float(period),
        starts_at=float(times[0]),
        notes=(f"{silent} steps without a request",) if silent else (),
    )


def _stretches(first: int, end: int, period: int) -> Iterator[tuple[int, int]]:
    """A day each at a minute's period, longer ones at longer periods: about 1440 points a metric and call."""
    size = 1440 * period
    for start in range(first, end, size):
        yield start, min(start + size, end)


def _points(
    cloudwatch: CloudWatchClient, endpoint: Endpoint, period: int, start: int, stop: int
) -> Iterator[tuple[float, float, bool]]:
    """Time, value, and whether it counts requests or is a sign of life."""
    queries = _queries(endpoint, period)
    for offset in range(0, len(queries), MOST_QUERIES):
        pages = cloudwatch.get_paginator("get_metric_data").paginate(
            MetricDataQueries=queries[offset : offset + MOST_QUERIES],
            StartTime=datetime.fromtimestamp(start, UTC),
            EndTime=datetime.fromtimestamp(stop, UTC),
            ScanBy="TimestampAscending",
        )
        for page in pages:
            for result in page["MetricDataResults"]:
                is_count = result.get("Id", "").startswith("count")
                for moment, value in zip(result.get("Timestamps", []), result.get("Values", []), strict=True):
                    yield moment.timestamp(), value, is_count


def _queries(endpoint: Endpoint, period: int) -> Sequence[Any]:
    balancer = {"Name": "LoadBalancer", "Value": endpoint.load_balancer}

    def query(key: str, metric: str, statistic: str, dimensions: list[dict[str, str]]) -> dict[str, Any]:
        named = {"Namespace": "AWS/ApplicationELB", "MetricName": metric, "Dimensions": dimensions}
        return {"Id": key, "MetricStat": {"Metric": named, "Period": period, "Stat": statistic}}

    queries = [query("alive", "ConsumedLCUs", "Sum", [balancer])]
    for i, group in enumerate(endpoint.target_groups):
        dimensions = [{"Name": "TargetGroup", "Value": group}, balancer]
        queries.append(query(f"count{i}", "RequestCount", "Sum", dimensions))
        queries.append(query(f"alive{i}", "HealthyHostCount", "Maximum", dimensions))
    return queries


def now() -> datetime:
    """The end of an export that names none: two minutes ago, since the newest minutes are still being counted."""
    return datetime.now(UTC) - timedelta(minutes=2)
