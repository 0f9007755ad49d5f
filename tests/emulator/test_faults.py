from __future__ import annotations

import datetime as dt
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ReadTimeoutError

from gpu_fleet.emulator import faults

SERVICES = [
    ("autoscaling", "DescribePolicies", lambda c: c.describe_policies()),
    ("elbv2", "DescribeTargetGroups", lambda c: c.describe_target_groups()),
    ("ec2", "DescribeInstances", lambda c: c.describe_instances()),
    ("dynamodb", "ListTables", lambda c: c.list_tables()),
    ("ssm", "DescribeParameters", lambda c: c.describe_parameters()),
    ("sqs", "ListQueues", lambda c: c.list_queues()),
    ("cloudwatch", "DescribeAlarms", lambda c: c.describe_alarms()),
    ("service-quotas", "ListAWSDefaultServiceQuotas", lambda c: c.list_aws_default_service_quotas(ServiceCode="vpc")),
]  # fmt: skip


@pytest.mark.parametrize(("service", "operation", "call"), SERVICES, ids=[s[0] for s in SERVICES])
def test_a_call_fails_in_the_services_own_error_format(desk: Any, service: str, operation: str, call: Any) -> None:
    desk.make_group()
    client = boto3.client(service, region_name="us-east-1", config=Config(retries={"total_max_attempts": 1}))
    with faults.api_call_will_fail(service, operation, "AccessDeniedException", message="no") as fault:
        with pytest.raises(ClientError) as caught:
            call(client)
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"
        assert caught.value.response["Error"]["Message"] == "no"
        call(client)  # once, and no more
    assert fault.fired == 1


def test_botocore_retries_retryable_errors(desk: Any) -> None:
    client = boto3.client("ec2", config=Config(retries={"mode": "standard", "total_max_attempts": 2}))
    with faults.api_call_will_fail("ec2", "DescribeInstances", "RequestLimitExceeded", status=503) as fault:
        client.describe_instances()
    assert fault.fired == 1
    with (
        faults.api_call_will_fail("ec2", "DescribeInstances", "RequestLimitExceeded", times=None, status=503) as fault,
        pytest.raises(ClientError, match="RequestLimitExceeded"),
    ):
        client.describe_instances()
    assert fault.fired == 2


def test_an_unanswered_call_times_out(desk: Any) -> None:
    client = boto3.client("ssm", config=Config(retries={"total_max_attempts": 1}))
    with faults.api_call_will_time_out("ssm", "DescribeParameters"), pytest.raises(ReadTimeoutError):
        client.describe_parameters()


def test_a_fault_that_hits_nothing_fails_the_test(desk: Any) -> None:
    with (
        pytest.raises(AssertionError, match="elbv2 ModifyRule was never called"),
        faults.api_call_will_fail("elbv2", "ModifyRule", "Throttling"),
    ):
        pass


def test_a_slow_boot_affects_only_its_group(desk: Any) -> None:
    desk.make_group()
    desk.make_group("other")
    with faults.slow_boot(desk.cloud, 400, group="group"):
        for name in ("group", "other"):
            desk.scale(1, name)
        desk.pass_time(200)
    assert desk.states() == ["Pending:Wait"]
    assert desk.states("other") == ["InService"]
    desk.pass_time(250)
    assert desk.states() == ["InService"]


def test_lost_metrics_are_missing_and_not_zero(desk: Any) -> None:
    def put(name: str) -> None:
        desk.cloudwatch.put_metric_data(Namespace="GpuFleet", MetricData=[{"MetricName": name, "Value": 0}])

    def count(name: str) -> int:
        found = desk.cloudwatch.get_metric_statistics(
            Namespace="GpuFleet",
            MetricName=name,
            StartTime=dt.datetime.fromtimestamp(desk.cloud.now - 60, dt.UTC),
            EndTime=dt.datetime.fromtimestamp(desk.cloud.now + 60, dt.UTC),
            Period=60,
            Statistics=["SampleCount"],
        )["Datapoints"]
        return len(found)

    with faults.metrics_missing(desk.cloud, "GpuFleet", "requests_running"):
        put("requests_running")
        put("requests_waiting")
    assert (count("requests_running"), count("requests_waiting")) == (0, 1)
    put("requests_running")
    assert count("requests_running") == 1


def test_a_shortage_begins_and_ends_at_its_times(desk: Any) -> None:
    desk.make_group()
    now = desk.cloud.now
    with faults.no_capacity(desk.cloud, faults.Shortage(group="group", since=now + 100, until=now + 300)):
        desk.scale(1)
        desk.pass_time(50)
        assert len(desk.instances()) == 1
        desk.pass_time(100)
        desk.scale(2)
        desk.pass_time(100)
        assert len(desk.instances()) == 1
        desk.pass_time(200)
        assert len(desk.instances()) == 2
