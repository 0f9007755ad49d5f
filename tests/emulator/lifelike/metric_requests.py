"""Shorthands to put metrics and to query them."""

from __future__ import annotations

import datetime as dt
from typing import Any


def put(
    desk: Any, value: float = 1, *, at: float = 0, name: str = "m", namespace: str = "N", dims: Any = (), **how: Any
) -> None:
    """Put a value `at` seconds before now."""
    datum = {
        "MetricName": name,
        "Timestamp": dt.datetime.fromtimestamp(desk.cloud.now - at, dt.UTC),
        "Dimensions": [{"Name": n, "Value": v} for n, v in dims],
        **({} if "Values" in how or "StatisticValues" in how else {"Value": value}),
        **how,
    }
    desk.cloudwatch.put_metric_data(Namespace=namespace, MetricData=[datum])


def query(
    identity: str = "q", stat: str = "Sum", *, name: str = "m", namespace: str = "N", dims: Any = (), period: int = 60
) -> dict[str, Any]:
    metric = {"Namespace": namespace, "MetricName": name, "Dimensions": [{"Name": n, "Value": v} for n, v in dims]}
    return {"Id": identity, "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}}


def get(desk: Any, *queries: dict[str, Any], seconds: float = 600, ahead: float = 60, **how: Any) -> dict[str, Any]:
    return desk.cloudwatch.get_metric_data(
        MetricDataQueries=list(queries),
        StartTime=dt.datetime.fromtimestamp(desk.cloud.now - seconds, dt.UTC),
        EndTime=dt.datetime.fromtimestamp(desk.cloud.now + ahead, dt.UTC),
        **how,
    )


def values(desk: Any, *queries: dict[str, Any], **how: Any) -> list[float]:
    return get(desk, *queries, **how)["MetricDataResults"][0]["Values"]
