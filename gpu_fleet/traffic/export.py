"""The traffic of a live stack, read from CloudWatch, so that users can replay their own history.

The services and their target groups come from the parameters that the stack writes (/<project>/<stack>/services/...).
Requests are the sum of RequestCount over a service's target groups. A load balancer publishes RequestCount only when
it is not zero. A step without it is zero if another metric shows the load balancer alive (HealthyHostCount of any of
the target groups, or ConsumedLCUs of the load balancer, which is always reported), and otherwise a gap. Source of the
reporting criteria:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gpu_fleet.config.project_file import PROJECT
from gpu_fleet.traffic.errors import TraceError
from gpu_fleet.traffic.steps import Gaps, RateRows, as_rates
from gpu_fleet.traffic.trace import RateTrace

if TYPE_CHECKING:
    from types_boto3_cloudwatch.client import CloudWatchClient
    from types_boto3_ssm.client import SSMClient

DAY_SECONDS = 86_400
RETENTION_DAYS = ((15, 60), (63, 300), (455, 3600))
"""Age in days up to which CloudWatch keeps data at a period (seconds):
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html (metrics retention)."""
MOST_QUERIES = 500
"""Most metrics in one GetMetricData call:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The load balancer and target groups that count a service's requests."""

    service: str
    load_balancer: str
    """Dimension of its metrics: app/<name>/<id>."""
    target_groups: tuple[str, ...]
    """Dimensions of their metrics: targetgroup/<name>/<id>."""


def endpoints(ssm: SSMClient, stack: str, project: str = PROJECT) -> tuple[Endpoint, ...]:
    """Return the endpoints of the stack's services, sorted by name; `project` is the name in Pulumi.yaml.

    Raises TraceError for a stack without services and for a parameter that the stack did not write.
    """
    path = f"/{project}/{stack}/services"
    endpoints_found: list[Endpoint] = []
    for answer in ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True):
        for parameter in answer["Parameters"]:
            name = parameter.get("Name", "")
            endpoints_found.append(_endpoint(name.rpartition("/")[2], name, parameter.get("Value", "")))
    if not endpoints_found:
        raise TraceError("", f"no services under {path}: is the stack up, and the region and account right?")
    return tuple(sorted(endpoints_found, key=lambda endpoint: endpoint.service))


def _endpoint(service: str, name: str, text: str) -> Endpoint:
    try:
        bindings = json.loads(text)["bindings"]
        groups = tuple(str(pool["target_group_arn"]).rpartition(":")[2] for pool in bindings["pools"].values())
        return Endpoint(service, str(bindings["load_balancer"]), groups)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TraceError("", f"is not a service's parameter as the stack writes it ({error!r})", name) from None


def period_seconds(days: float) -> int:
    """Return the shortest period that CloudWatch keeps for that many days. Raises TraceError beyond 455 days."""
    for kept_days, period in RETENTION_DAYS:
        if days <= kept_days:
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
    """Return the requests of the `days` before `until` (zone-aware), at the shortest period that CloudWatch keeps.

    `progress` is called after each chunk with the share done. Raises TraceError if there was no request; errors of AWS
    (botocore's ClientError) pass through.
    """
    period = period_seconds(days)
    # Periods begin at multiples of themselves; the newest one may still be counting.
    end = math.floor(until.timestamp() / period) * period
    first = end - math.ceil(days * DAY_SECONDS / period) * period
    counts: dict[float, float] = {}
    alive: set[float] = set()
    for start, stop in _chunks(first, end, period):
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
    silent_steps = len(points) - len(counts)

    def fail(row: int, text: str) -> NoReturn:
        raise TraceError("", f"{endpoint.service}: {datetime.fromtimestamp(times[row], UTC).isoformat()}: {text}")

    rows = RateRows(
        name=endpoint.service,
        seconds=times - times[0],
        loads=np.array([points[at] for at in times]),
        step_seconds=float(period),
        starts_at=float(times[0]),
        notes=(f"{silent_steps} steps without a request",) if silent_steps else (),
    )
    return as_rates(rows, Gaps.LINEAR, fail)


def _chunks(first: int, end: int, period: int) -> Iterator[tuple[int, int]]:
    """Yield starts and ends of 1440 periods each: a day at a period of a minute, longer at longer periods."""
    size = 1440 * period
    for start in range(first, end, size):
        yield start, min(start + size, end)


def _points(
    cloudwatch: CloudWatchClient, endpoint: Endpoint, period: int, start: int, stop: int
) -> Iterator[tuple[float, float, bool]]:
    """Yield each point's time, its value, and whether it counts requests (else it only shows life)."""
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
        metric_id = {"Namespace": "AWS/ApplicationELB", "MetricName": metric, "Dimensions": dimensions}
        return {"Id": key, "MetricStat": {"Metric": metric_id, "Period": period, "Stat": statistic}}

    queries = [query("alive", "ConsumedLCUs", "Sum", [balancer])]
    for i, group in enumerate(endpoint.target_groups):
        dimensions = [{"Name": "TargetGroup", "Value": group}, balancer]
        queries.append(query(f"count{i}", "RequestCount", "Sum", dimensions))
        queries.append(query(f"alive{i}", "HealthyHostCount", "Maximum", dimensions))
    return queries


def default_end() -> datetime:
    """Return the default end of an export: two minutes ago, since CloudWatch still counts the newest minutes."""
    return datetime.now(UTC) - timedelta(minutes=2)
