from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.lifelike.metric_requests import get, put, query, values


def test_windows_are_multiples_of_the_period(desk: Any) -> None:
    for at in (1, 59, 61, 119):
        put(desk, 1, at=at)
    result = get(desk, query(), seconds=125, ahead=0)["MetricDataResults"][0]
    assert result["Values"] == [2, 2]
    assert [t.timestamp() % 60 for t in result["Timestamps"]] == [0, 0]
    assert result["Timestamps"][0] > result["Timestamps"][1]  # the newest first, by default
    # A start within a window takes in the window, as CloudWatch rounds the start down.
    assert values(desk, query(), seconds=100, ahead=0) == [2, 2]


def test_a_statistic_that_is_not_modelled_is_an_error(desk: Any) -> None:
    put(desk)
    with pytest.raises(ClientError, match="tm99"):
        values(desk, query(stat="tm99"))
    with pytest.raises(ClientError, match="metric math is not modelled"):
        get(desk, query(), {"Id": "e", "Expression": "q * 2"})
    assert get(desk, query(), {"Id": "e", "Expression": "q"})["MetricDataResults"][1]["Values"] == [1]


def test_pages_respect_the_limit_and_lose_no_datapoint(desk: Any) -> None:
    for at in (60, 120, 180):
        put(desk, at, at=at)
        put(desk, at + 1, at=at, name="other")
    queries = [query("a"), query("b", name="other"), query("c", name="none")]
    found: dict[str, list[float]] = {"a": [], "b": [], "c": []}
    token, pages = None, 0
    while True:
        page = get(desk, *queries, MaxDatapoints=2, **({"NextToken": token} if token else {}))
        assert sum(len(r["Values"]) for r in page["MetricDataResults"]) <= 2
        for result in page["MetricDataResults"]:
            found[result["Id"]] += result["Values"]
        pages += 1
        token = page.get("NextToken")
        if token is None:
            break
    assert found == {"a": [60, 120, 180], "b": [61, 121, 181], "c": []}
    assert pages == 3


def test_invalid_queries_are_errors(desk: Any) -> None:
    with pytest.raises(ClientError, match="500"):
        get(desk, *(query(f"q{i}") for i in range(501)))
    with pytest.raises(ClientError, match="not unique"):
        get(desk, query(), query())
    with pytest.raises(ClientError, match="Period 7"):
        get(desk, query(period=7))
    with pytest.raises(ClientError, match="invalid"):
        get(desk, query("Q"))
    with pytest.raises(ClientError, match="StartTime"):
        get(desk, query(), seconds=-120)


def test_the_older_operation_returns_the_same(desk: Any) -> None:
    put(desk, 1, at=70)
    put(desk, 3, at=80)
    now = desk.cloud.now
    request = {
        "Namespace": "N",
        "MetricName": "m",
        "StartTime": dt.datetime.fromtimestamp(now - 600, dt.UTC),
        "EndTime": dt.datetime.fromtimestamp(now, dt.UTC),
        "Period": 60,
    }
    (found,) = desk.cloudwatch.get_metric_statistics(**request, Statistics=["Average", "Sum"])["Datapoints"]
    assert (found["Average"], found["Sum"]) == (2, 4)
    (found,) = desk.cloudwatch.get_metric_statistics(**request, ExtendedStatistics=["p50"])["Datapoints"]
    assert found["ExtendedStatistics"] == {"p50": 2}
