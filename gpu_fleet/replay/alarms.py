"""The alarms that wake the scaler between its minutes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gpu_fleet.emulator import EmbeddedCloud
from gpu_fleet.emulator.invocation import may_invoke
from gpu_fleet.emulator.lifelike.metric_store import MetricKey

PRINCIPAL = "lambda.alarms.cloudwatch.amazonaws.com"
NEWEST_SECONDS = 60.0
"""How far back a high-resolution alarm looks for its newest data point. Without one it does not breach
(`treat_missing_data="notBreaching"`)."""

_COMPARE = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}


@dataclass(slots=True)
class _Alarm:
    described: Mapping[str, Any]
    key: MetricKey
    breaching: bool = False


class Alarms:
    """The stack's alarms whose action is this function, evaluated at each call of `fired`.

    An alarm acts when its state changes, and not again while the state stays:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/AlarmThatSendsEmail.html
    """

    def __init__(self, cloud: EmbeddedCloud, function_arn: str) -> None:
        """Read the alarms as they are now, those that the function's policy admits."""
        self._cloud = cloud
        pages = cloud.client("cloudwatch").get_paginator("describe_alarms").paginate()
        described = [alarm for page in pages for alarm in page["MetricAlarms"]]
        self._alarms = [
            _Alarm(alarm, _key(alarm))
            for alarm in described
            if function_arn in alarm["AlarmActions"] and alarm["ActionsEnabled"] and "MetricName" in alarm
            if may_invoke(cloud.client("lambda"), function_arn, PRINCIPAL, alarm["AlarmArn"])
        ]

    def fired(self, now: float) -> list[dict[str, Any]]:
        """Return the events of the alarms that began to breach since the last call."""
        events: list[dict[str, Any]] = []
        for alarm in self._alarms:
            breaching = self._breaches(alarm, now)
            if breaching and not alarm.breaching:
                events.append(_event(alarm.described, now))
            alarm.breaching = breaching
        return events

    def _breaches(self, alarm: _Alarm, now: float) -> bool:
        period = int(alarm.described["Period"])
        points = self._cloud.metrics.read(
            alarm.key, alarm.described["Statistic"], period, now - max(NEWEST_SECONDS, period), now
        )
        whole = [value for at, value in points if at + period <= now]
        if not whole:
            return False
        compare = _COMPARE[alarm.described["ComparisonOperator"]]
        periods = int(alarm.described["EvaluationPeriods"])
        newest = whole[-periods:]
        return len(newest) == periods and all(compare(value, alarm.described["Threshold"]) for value in newest)


def _key(alarm: Mapping[str, Any]) -> MetricKey:
    dimensions = tuple(sorted((d["Name"], d["Value"]) for d in alarm.get("Dimensions", ())))
    return (alarm.get("Namespace", ""), alarm.get("MetricName", ""), dimensions)


def _event(alarm: Mapping[str, Any], now: float) -> dict[str, Any]:
    """Return the event that CloudWatch sends to a function.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
    """
    return {
        "source": "aws.cloudwatch",
        "alarmArn": alarm["AlarmArn"],
        "time": datetime.fromtimestamp(now, UTC).isoformat(),
        "alarmData": {
            "alarmName": alarm["AlarmName"],
            "state": {"value": "ALARM"},
            "previousState": {"value": "OK"},
            "configuration": {
                "metrics": [
                    {
                        "id": "m1",
                        "returnData": True,
                        "metricStat": {
                            "metric": {
                                "namespace": alarm["Namespace"],
                                "name": alarm["MetricName"],
                                "dimensions": {d["Name"]: d["Value"] for d in alarm.get("Dimensions", ())},
                            },
                            "period": alarm["Period"],
                            "stat": alarm["Statistic"],
                        },
                    }
                ]
            },
        },
    }
