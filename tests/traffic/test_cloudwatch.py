"""Every format of CloudWatch exports."""

from __future__ import annotations

import json

import pytest

from gpu_fleet.traffic import TraceError, read

MINUTES = [f"2024-05-01T12:0{i}:00+00:00" for i in range(10)]


def metric_data(*results: dict) -> str:
    return json.dumps({"MetricDataResults": list(results), "Messages": []}, indent=2)


def result(label: str, minutes: list[int], values: list[float], **more) -> dict:
    return {
        "Id": more.pop("id", "m1"),
        "Label": label,
        "Timestamps": [MINUTES[i] for i in minutes],
        "Values": values,
    } | more


@pytest.fixture
def write(tmp_path):
    def _write(text: str):
        path = tmp_path / "export"
        path.write_text(text)
        return path

    return _write


def test_metric_data_is_sorted_by_time(write):
    trace = read(write(metric_data(result("RequestCount", [3, 2, 1, 0], [240, 180, 120, 60], StatusCode="Complete"))))
    assert trace.rps.tolist() == [1, 2, 3, 4]
    assert trace.step_seconds == 60
    assert trace.starts_at == 1714564800


def test_pages_of_one_metric_are_joined_and_target_groups_added_up(write):
    trace = read(
        write(
            metric_data(
                result("tg/a RequestCount", [0, 1], [60, 60], id="a"),
                result("tg/b RequestCount", [0, 1, 2], [6, 6, 6], id="b"),
                result("tg/a RequestCount", [2], [60], id="a"),
            )
        )
    )
    assert trace.rps == pytest.approx([1.1, 1.1, 1.1])
    assert "sum of 2 metrics" in trace.notes


def test_a_minute_without_request_count_is_no_request(write):
    trace = read(write(metric_data(result("RequestCount", [0, 1, 4], [60, 60, 60]))))
    assert trace.rps.tolist() == [1, 1, 0, 0, 1]
    assert "taken as no requests" in trace.notes[0]


def test_with_a_heartbeat_a_silent_minute_is_zero_and_without_one_it_is_missing(write):
    trace = read(
        write(
            metric_data(
                result("RequestCount", [0, 1, 5], [60, 60, 120], id="a"),
                result("HealthyHostCount", [0, 1, 2, 3, 5], [2, 2, 2, 2, 2], id="b"),
            )
        )
    )
    # Minutes 2 and 3 lived without requests; minute 4 is unknown, and half way from 0 to 2.
    assert trace.rps.tolist() == [1, 1, 0, 0, 1, 2]
    assert trace.measured.tolist() == [True, True, True, True, False, True]


def test_metrics_that_do_not_count_requests_are_skipped_and_noted(write):
    series = [result("RequestCount", [0, 1], [60, 60], id="a"), result("TargetResponseTime", [0, 1], [0.2, 9], id="b")]
    trace = read(write(metric_data(*series)))
    assert trace.rps.tolist() == [1, 1]
    assert "metrics not read: TargetResponseTime" in trace.notes


def test_metric_statistics_are_read_in_any_order(write):
    points = [{"Timestamp": MINUTES[i], "Sum": 60.0 * i, "Unit": "Count"} for i in (2, 1, 3)]
    trace = read(write(json.dumps({"Label": "RequestCount", "Datapoints": points})))
    assert trace.rps.tolist() == [1, 2, 3]


CONSOLE = """Label,RequestCount
Statistic,Sum
Period,5 minutes
Region,us-east-1
,
2024/05/01 12:00:00,300
2024/05/01 12:05:00,600
2024/05/01 12:15:00,900
"""


def test_the_consoles_csv_is_read_by_its_preamble(write):
    trace = read(write(CONSOLE))
    assert trace.rps.tolist() == [1, 2, 0, 3]
    assert trace.step_seconds == 300


def test_request_count_columns_of_the_consoles_csv_are_added_up(write):
    labels = "Label,a RequestCount,b RequestCount,TargetResponseTime"
    text = f"{labels}\n2024-05-01 12:00:00,60,30,1\n2024-05-01 12:01:00,,90,1\n"
    trace = read(write(text))
    assert trace.rps.tolist() == [1.5, 1.5]


ONE = result("a", [0, 1], [1, 1], id="a")
OTHER = result("b", [0], [1], id="b")


def counts(minutes: list[int], values: list[float]) -> str:
    return metric_data(result("RequestCount", minutes, values))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"MetricDataResults": [}', ":1:24: not JSON"),
        ('{"Metrics": []}', ":1:1: JSON in an unknown format"),
        ("[1, 2]", ":1:1: JSON in an unknown format"),
        (metric_data(), "must be a list with at least one result"),
        (counts([], []), "RequestCount has no point"),
        (counts([0, 1], [60]), "MetricDataResults[0].Values: must be as many as Timestamps (2)"),
        (counts([0, 1], [60, -1]), "MetricDataResults[0].Values[1]: must be a number, not negative (got -1)"),
        (counts([0, 0], [60, 1]), "MetricDataResults[0].Timestamps[1]: the same time twice"),
        (metric_data(result("x", [0], [1], StatusCode="Forbidden")), "CloudWatch did not return this metric"),
        (metric_data({"Id": "a", "Timestamps": ["noon"], "Values": [1]}), "must be a time like"),
        (metric_data({"Id": "a", "Timestamps": 5, "Values": [1]}), "Timestamps: must be a list"),
        (metric_data(ONE, OTHER), "several metrics, none named RequestCount (a, b)"),
        ('{"Datapoints": [{"Timestamp": "2024-05-01T12:00:00Z", "Average": 1}]}', "has no Sum"),
        (CONSOLE.replace("600", "many"), ":7:21: value: must be a number, not negative (got many)"),
        (CONSOLE.replace("5 minutes", "often"), ":3:1: Period: must be a time like 300 or 5 minutes (got often)"),
        ("Label,RequestCount\nPeriod,60\n", "no row with a time and a value"),
    ],
)
def test_a_broken_export_is_refused_with_its_place(write, text, words):
    with pytest.raises(TraceError) as caught:
        read(write(text))
    assert words in str(caught.value)


def test_an_error_in_json_has_its_line(write):
    text = metric_data(result("RequestCount", [0, 1], [60, -1]))
    line = next(i for i, line in enumerate(text.splitlines(), start=1) if "-1" in line)
    with pytest.raises(TraceError, match=rf":{line}:9: MetricDataResults"):
        read(write(text))
