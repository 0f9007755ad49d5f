from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.emulator.lifelike.metric_store import DataPoint


def put(
    desk: Any, value: float = 1, *, at: float = 0, name: str = "m", namespace: str = "N", dims: Any = (), **how: Any
) -> None:
    """At `at` seconds before now."""
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


def test_dimensions_match_in_any_order_and_only_all_of_them(desk: Any) -> None:
    put(desk, 5, dims=[("a", "1"), ("b", "2")])
    assert values(desk, query(dims=[("b", "2"), ("a", "1")])) == [5]
    assert values(desk, query(dims=[("a", "1")])) == []
    assert values(desk, query()) == []


def test_namespaces_do_not_mix(desk: Any) -> None:
    put(desk, 5, dims=[("a", "1")])
    put(desk, 7, dims=[("a", "1")], namespace="Other")
    assert values(desk, query(dims=[("a", "1")])) == [5]


def test_windows_are_multiples_of_the_period(desk: Any) -> None:
    for at in (1, 59, 61, 119):
        put(desk, 1, at=at)
    result = get(desk, query(), seconds=125, ahead=0)["MetricDataResults"][0]
    assert result["Values"] == [2, 2]
    assert [t.timestamp() % 60 for t in result["Timestamps"]] == [0, 0]
    assert result["Timestamps"][0] > result["Timestamps"][1]  # the newest first, by default
    # A start within a window takes in the window, as CloudWatch rounds the start down.
    assert values(desk, query(), seconds=100, ahead=0) == [2, 2]


def test_high_resolution_is_needed_for_windows_under_a_minute(desk: Any) -> None:
    put(desk, 3, at=15, name="fine", StorageResolution=1)
    put(desk, 3, at=15, name="coarse")
    assert values(desk, query(name="fine", period=10)) == [3]
    assert values(desk, query(name="coarse", period=10)) == []
    assert values(desk, query(name="fine")) == values(desk, query(name="coarse")) == [3]


@pytest.mark.parametrize(
    ("stat", "expected"),
    [("Sum", 10), ("Average", 2.5), ("Minimum", 1), ("Maximum", 4), ("SampleCount", 4), ("p50", 2.5), ("p100", 4)],
)
def test_statistics_of_values_with_counts(desk: Any, stat: str, expected: float) -> None:
    put(desk, Values=[1, 2, 4], Counts=[1, 1, 1])
    put(desk, 3)
    assert values(desk, query(stat=stat)) == [expected]


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=40), st.integers(0, 100))
def test_percentiles_are_linear_between_ranks(numbers: list[int], percent: int) -> None:
    point = DataPoint()
    for number in numbers:
        point.add(float(number))
    assert point.statistic(f"p{percent}") == pytest.approx(np.percentile(numbers, percent))


def test_a_statistic_that_is_not_modelled_is_an_error_and_no_wrong_answer(desk: Any) -> None:
    put(desk)
    with pytest.raises(ClientError, match="tm99"):
        values(desk, query(stat="tm99"))
    with pytest.raises(ClientError, match="metric math is not modelled"):
        get(desk, query(), {"Id": "e", "Expression": "q * 2"})
    assert get(desk, query(), {"Id": "e", "Expression": "q"})["MetricDataResults"][1]["Values"] == [1]


def test_statistics_sets_merge_and_know_no_percentile(desk: Any) -> None:
    put(desk, StatisticValues={"SampleCount": 4, "Sum": 20, "Minimum": 1, "Maximum": 9})
    put(desk, 30)
    assert values(desk, query(stat="Average")) == [10]
    assert values(desk, query(stat="Maximum")) == [30]
    assert values(desk, query(stat="p50")) == []


def test_data_under_a_minute_is_kept_for_three_hours_and_then_as_minutes(desk: Any) -> None:
    put(desk, 2, StorageResolution=1, at=1)
    put(desk, 4, StorageResolution=1, at=2)
    desk.pass_time(4 * 3600)
    put(desk, 9, StorageResolution=1)
    assert values(desk, query(period=1), seconds=5 * 3600) == [9]
    assert values(desk, query(stat="Average"), seconds=5 * 3600) == [9, 3]
    desk.pass_time(17 * 86_400)
    put(desk, 9)
    assert len(values(desk, query(stat="Average"), seconds=20 * 86_400)) <= 2


def test_pages_hold_no_more_datapoints_than_asked_and_lose_none(desk: Any) -> None:
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


def test_bad_questions_are_errors(desk: Any) -> None:
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


def test_the_older_operation_says_the_same(desk: Any) -> None:
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


def test_metrics_are_listed_once_each(desk: Any) -> None:
    put(desk, dims=[("a", "1")])
    put(desk, dims=[("a", "1")])
    put(desk, name="other")
    found = desk.cloudwatch.list_metrics(Namespace="N")["Metrics"]
    assert sorted(m["MetricName"] for m in found) == ["m", "other"]
