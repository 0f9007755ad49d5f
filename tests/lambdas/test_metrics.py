"""Reads of CloudWatch."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.exceptions import ReadTimeoutError

from gpu_fleet.scaling.observation import Reading
from lambdas.scaler.metrics import Answers, Query, fetch

START, END = 1_000_000_020.0, 1_000_000_320.0


def query(name: str, period: int = 60) -> Query:
    return Query("GpuFleet", name, (("AutoScalingGroupName", "g"),), "Average", period)


class CloudWatch:
    """Answers GetMetricData page by page from `values`: (start of the period, value) pairs by metric name."""

    def __init__(self, values=None, status="Complete", page_size=1000, failing=()):
        self.values, self.status, self.page_size, self.failing = values or {}, status, page_size, failing
        self.calls: list[list[str]] = []

    def get_paginator(self, operation):
        assert operation == "get_metric_data"
        return self

    def paginate(self, *, MetricDataQueries, StartTime, EndTime, ScanBy):  # noqa: N803
        names = [q["MetricStat"]["Metric"]["MetricName"] for q in MetricDataQueries]
        assert len({q["Id"] for q in MetricDataQueries}) == len(names) <= 500
        assert (StartTime.timestamp(), EndTime.timestamp()) == (START, END)
        self.calls.append(names)
        if len(self.calls) in self.failing:
            raise ReadTimeoutError(endpoint_url="https://monitoring")
        for q in MetricDataQueries:
            points = self.values.get(q["MetricStat"]["Metric"]["MetricName"], [])
            pages = [points[i : i + self.page_size] for i in range(0, len(points), self.page_size)] or [[]]
            for page in pages:
                yield {
                    "MetricDataResults": [
                        {
                            "Id": q["Id"],
                            "Timestamps": [datetime.fromtimestamp(at, UTC) for at, _ in page],
                            "Values": [value for _, value in page],
                            "StatusCode": self.status,
                        }
                    ]
                }


def test_five_hundred_and_one_queries_take_two_calls():
    cloudwatch = CloudWatch()
    answers = fetch(cloudwatch, [query(f"m{i}") for i in range(501)], START, END)
    assert [len(call) for call in cloudwatch.calls] == [500, 1]
    assert len(answers.series) == 501


def test_five_hundred_queries_take_one_call():
    cloudwatch = CloudWatch()
    fetch(cloudwatch, [query(f"m{i}") for i in range(500)], START, END)
    assert len(cloudwatch.calls) == 1


def test_without_queries_there_is_no_call():
    cloudwatch = CloudWatch()
    assert fetch(cloudwatch, [], START, END) == Answers({}, {})
    assert cloudwatch.calls == []


def test_equal_queries_of_two_services_are_sent_once():
    cloudwatch = CloudWatch()
    fetch(cloudwatch, [query("m"), query("m")], START, END)
    assert cloudwatch.calls == [["m"]]


def test_a_failed_call_affects_only_its_own_queries():
    cloudwatch = CloudWatch(failing={1})
    queries = [query(f"m{i:04d}") for i in range(501)]
    answers = fetch(cloudwatch, queries, START, END)
    assert set(answers.failed) == set(queries[:500])
    assert set(answers.series) == {queries[500]}
    assert answers.failed[queries[0]].code == "Unreachable"


def test_pages_are_joined_oldest_first():
    newest_first = [(END - 60 * i, float(i)) for i in range(1, 6)]
    answers = fetch(CloudWatch({"m": newest_first}, page_size=2), [query("m")], START, END)
    assert [reading.value for reading in answers.of(query("m"))] == [5.0, 4.0, 3.0, 2.0, 1.0]


def test_a_reading_has_the_time_of_its_periods_end():
    answers = fetch(CloudWatch({"m": [(END - 60, 7.0)]}), [query("m")], START, END)
    assert answers.of(query("m")) == (Reading(7.0, END),)


def test_a_period_that_has_not_ended_is_left_out():
    # The sum of a minute that began 50 s ago lacks 10 s.
    answers = fetch(CloudWatch({"m": [(END - 50, 7.0), (END - 110, 9.0)]}), [query("m")], START, END)
    assert answers.of(query("m")) == (Reading(9.0, END - 50),)


@pytest.mark.parametrize("status", ["InternalError", "Forbidden"])
def test_a_query_that_cloudwatch_could_not_answer_is_missing_not_empty(status):
    answers = fetch(CloudWatch({"m": []}, status=status), [query("m")], START, END)
    assert query("m") in answers.failed
    assert query("m") not in answers.series
    assert answers.failed[query("m")].code == "MetricsUnavailable"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_left_out(value):
    answers = fetch(CloudWatch({"m": [(END - 60, value), (END - 120, 3.0)]}), [query("m")], START, END)
    assert answers.of(query("m")) == (Reading(3.0, END - 60),)


def test_without_a_query_the_series_is_empty():
    assert Answers({}, {}).of(None) == ()


def test_a_real_client_reads_a_metric_of_two_dimensions(world):
    q = Query("AWS/ApplicationELB", "RequestCount", (("TargetGroup", "t"), ("LoadBalancer", "l")), "Sum", 60)
    world.publish("RequestCount", 5, START, namespace="AWS/ApplicationELB", TargetGroup="t", LoadBalancer="l")
    world.publish("RequestCount", 7, START, namespace="AWS/ApplicationELB", TargetGroup="t", LoadBalancer="l")
    answers = fetch(world.clients.cloudwatch, [q], START, END)
    assert answers.of(q) == (Reading(12.0, START + 60),)
