"""The services that an event concerns."""

from __future__ import annotations

import pytest

from lambdas.scaler.events import concerned


@pytest.fixture
def two(world):
    return world.stand("chat"), world.stand("code", queue_url="https://sqs.us-east-1.amazonaws.com/1/jobs")


def alarm(**dimensions):
    metrics = [{"id": "m1", "metricStat": {"metric": {"namespace": "N", "name": "M", "dimensions": dimensions}}}]
    return {"source": "aws.cloudwatch", "alarmData": {"alarmName": "a", "configuration": {"metrics": metrics}}}


def names(event, parameters):
    return [parameter.name for parameter in concerned(event, parameters)]


@pytest.mark.parametrize(
    "event",
    [
        {},
        None,
        [],
        "x",
        {"source": "aws.scheduler"},
        {"alarmData": None},
        {"alarmData": {"configuration": {"metrics": [None, {}, {"expression": "m1*2"}]}}},
    ],
)
def test_an_event_without_dimensions_concerns_all(two, event):
    assert names(event, two) == ["chat", "code"]


@pytest.mark.parametrize(
    "dimensions",
    [{"AutoScalingGroupName": "code-l4"}, {"QueueName": "jobs"}, {"service": "code"}],
)
def test_an_alarm_concerns_the_service_of_its_metric(two, dimensions):
    assert names(alarm(**dimensions), two) == ["code"]


def test_an_alarm_on_a_target_group_does_not_concern_all_services_of_its_load_balancer(two):
    chat, _ = two
    dimensions = {"TargetGroup": chat.bindings.pools["l4"].target_group, "LoadBalancer": chat.bindings.load_balancer}
    assert names(alarm(**dimensions), two) == ["chat"]


def test_an_alarm_on_a_load_balancer_concerns_all_its_services(two):
    assert names(alarm(LoadBalancer=two[0].bindings.load_balancer), two) == ["chat", "code"]


def test_an_alarm_that_matches_no_service_concerns_all(two):
    assert names(alarm(AutoScalingGroupName="stranger"), two) == ["chat", "code"]


def test_an_alarm_delivered_by_eventbridge_is_read(two):
    event = {
        "detail-type": "CloudWatch Alarm State Change",
        "detail": alarm(AutoScalingGroupName="code-l4")["alarmData"],
    }
    assert names(event, two) == ["code"]


def test_a_run_by_hand_names_its_service(two):
    assert names({"service": "code"}, two) == ["code"]
    assert names({"service": "nobody"}, two) == []
