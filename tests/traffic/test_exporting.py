"""Traffic of a live stack from CloudWatch, against moto."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import boto3
import numpy as np
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.traffic import TraceError, read
from gpu_fleet.traffic.export import Endpoint, endpoints, export, period_seconds

UNTIL = datetime(2026, 5, 4, 12, 0, 30, tzinfo=UTC)
START = datetime(2026, 5, 2, 12, 0, tzinfo=UTC)
BALANCER = "app/prod/50dc6c495c0c9188"
GROUPS = ("targetgroup/chat-l4/73e2d6bc24d8a067", "targetgroup/chat-l40s/943f017f100becff")
ENDPOINT = Endpoint("chat", BALANCER, GROUPS)


@pytest.fixture
def cloud(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    with mock_aws():
        yield


def put_metric(metric: str, points: dict[datetime, float], group: str | None) -> None:
    cloudwatch = boto3.client("cloudwatch")
    dimensions = [{"Name": "TargetGroup", "Value": group}] if group else []
    dimensions.append({"Name": "LoadBalancer", "Value": BALANCER})
    data = [
        {"MetricName": metric, "Dimensions": dimensions, "Timestamp": at, "Value": value}
        for at, value in points.items()
    ]
    for i in range(0, len(data), 500):
        cloudwatch.put_metric_data(Namespace="AWS/ApplicationELB", MetricData=data[i : i + 500])


def minute(i: int) -> datetime:
    return START + timedelta(minutes=i)


def parameter(stack: str, service: str, groups=GROUPS) -> None:
    arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:"
    pools = {f"p{i}": {"group": f"asg-{i}", "target_group_arn": arn + group} for i, group in enumerate(groups)}
    value = {
        "service": {},
        "bindings": {"load_balancer": BALANCER, "listener_rule_arn": "x", "queue_url": None, "pools": pools},
    }
    boto3.client("ssm").put_parameter(
        Name=f"/gpu-fleet/{stack}/services/{service}", Value=json.dumps(value), Type="String"
    )


def exported(days: float = 2):
    return export(boto3.client("cloudwatch"), ENDPOINT, days=days, until=UNTIL)


def test_the_requests_of_all_pools_are_added_up_over_days(cloud):
    put_metric("RequestCount", {minute(i): 60.0 for i in range(0, 2880, 2)}, GROUPS[0])
    put_metric("RequestCount", {minute(i): 120.0 for i in range(2880)}, GROUPS[1])
    trace = exported()
    assert len(trace) == 2880
    assert trace.starts_at == START.timestamp()
    assert trace.rps[:4].tolist() == [3, 2, 3, 2]
    assert trace.rps[-2:].tolist() == [3, 2]
    assert trace.measured is None


def test_silence_under_a_heartbeat_is_zero_and_without_one_it_is_a_gap(cloud):
    put_metric("RequestCount", {minute(i): 60.0 for i in (0, 1, 9)}, GROUPS[0])
    put_metric("HealthyHostCount", {minute(i): 2.0 for i in (0, 1, 2, 3, 9)}, GROUPS[1])
    put_metric("ConsumedLCUs", {minute(4): 0.01}, None)
    trace = exported()
    assert trace.measured.tolist() == [True] * 5 + [False] * 4 + [True]
    assert trace.rps[:5].tolist() == [1, 1, 0, 0, 0]
    assert trace.rps[5:] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert any("4 missing steps" in note for note in trace.notes)


def test_longer_spans_use_the_period_that_cloudwatch_still_keeps():
    assert [period_seconds(days) for days in (1, 15, 16, 63, 64, 455)] == [60, 60, 300, 300, 3600, 3600]
    with pytest.raises(TraceError, match="CloudWatch keeps 455 days"):
        period_seconds(456)


def test_a_service_without_requests_is_an_error(cloud):
    put_metric("HealthyHostCount", {minute(5): 2.0}, GROUPS[0])
    with pytest.raises(TraceError, match="chat: CloudWatch has no request of the last 2 days"):
        exported()


def test_progress_is_reported_after_each_day(cloud):
    put_metric("RequestCount", {minute(i): 60.0 for i in range(10)}, GROUPS[0])
    shares_done: list[float] = []
    export(boto3.client("cloudwatch"), ENDPOINT, days=2, until=UNTIL, progress=shares_done.append)
    assert shares_done == [0.5, 1.0]


class Pages:
    """A CloudWatch that answers each call in pages of two points, as the real one may."""

    def __init__(self, points: int) -> None:
        self.points = points
        self.calls: list[dict] = []

    def get_paginator(self, name: str) -> Pages:
        assert name == "get_metric_data"
        return self

    def paginate(self, **call):
        self.calls.append(call)
        start = call["StartTime"]
        for i in range(0, self.points, 2):
            times = [start + timedelta(minutes=j) for j in range(i, min(i + 2, self.points))]
            yield {
                "MetricDataResults": [
                    {"Id": "count0", "Timestamps": times, "Values": [60.0 * (j + 1) for j in range(len(times))]}
                ]
            }


def test_every_page_of_a_call_is_read():
    pages = Pages(5)
    trace = export(pages, ENDPOINT, days=1, until=UNTIL)
    assert trace.rps.tolist() == [1, 2, 1, 2, 1]
    (call,) = pages.calls
    assert len(call["MetricDataQueries"]) == 5
    assert call["EndTime"] == datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
    dimensions = [dimension["Name"] for dimension in call["MetricDataQueries"][1]["MetricStat"]["Metric"]["Dimensions"]]
    assert dimensions == ["TargetGroup", "LoadBalancer"]


def test_services_are_found_by_their_parameters(cloud):
    parameter("prod", "chat")
    parameter("prod", "batch", GROUPS[:1])
    parameter("dev", "other")
    assert endpoints(boto3.client("ssm"), "prod") == (Endpoint("batch", BALANCER, GROUPS[:1]), ENDPOINT)


def test_an_unknown_stack_is_an_error(cloud):
    with pytest.raises(TraceError, match="no services under /gpu-fleet/nope/services"):
        endpoints(boto3.client("ssm"), "nope")


def test_a_parameter_that_the_stack_did_not_write_is_an_error(cloud):
    boto3.client("ssm").put_parameter(Name="/gpu-fleet/prod/services/x", Value="{}", Type="String")
    with pytest.raises(TraceError, match=r"/gpu-fleet/prod/services/x: is not a service's parameter"):
        endpoints(boto3.client("ssm"), "prod")


def test_the_command_writes_files_that_can_be_read_back(cloud, tmp_path):
    parameter("prod", "chat")
    parameter("prod", "batch", GROUPS[:1])
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    put_metric("RequestCount", {now - timedelta(minutes=i): 60.0 for i in range(5, 65)}, GROUPS[0])
    outcome = CliRunner().invoke(app, ["trace", "export", "--stack", "prod", "--days", "1", "-o", str(tmp_path)])
    assert outcome.exit_code == 0, outcome.output
    for service in ("chat", "batch"):
        trace = read(tmp_path / f"prod-{service}.csv")
        assert np.allclose(trace.rps, 1.0)
        assert len(trace) == 60


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--stack", "prod", "-o", "one.csv"], "one file cannot take several services (batch, chat)"),
        (["--stack", "prod", "--service", "chap"], "the stack prod has batch, chat (got chap)"),
        (["--stack", "nope"], "no services under /gpu-fleet/nope/services"),
        (["--stack", "prod", "--days", "999"], "CloudWatch keeps 455 days (got 999)"),
    ],
)
def test_an_invalid_export_is_refused_with_a_sentence(cloud, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    parameter("prod", "chat")
    parameter("prod", "batch")
    outcome = CliRunner().invoke(app, ["trace", "export", *options])
    assert outcome.exit_code == 1
    assert words in outcome.output
    assert list(tmp_path.iterdir()) == []
