"""Choose the services that an invocation concerns: all each minute, those behind an alarm at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambdas.scaler.bindings import ServiceParameter


def concerned(event: Any, parameters: Sequence[ServiceParameter]) -> tuple[ServiceParameter, ...]:
    """Return the services that the event concerns.

    An alarm's event, sent to the function directly or by EventBridge, concerns the services whose name, group, target
    group, load balancer or queue is a dimension of the alarm's metrics. `{"service": name}`, for a run by hand,
    concerns that service. Any other event concerns all: the schedule's, and an alarm's that matches no service.
    Formats:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
    """
    if not isinstance(event, Mapping):
        return tuple(parameters)
    if isinstance(event.get("service"), str):
        return tuple(p for p in parameters if p.name == event["service"])
    watched = set(_dimensions_of_alarm(event))
    return tuple(p for p in parameters if watched & _dimensions_of_service(p)) or tuple(parameters)


def _dimensions_of_service(parameter: ServiceParameter) -> set[tuple[str, str]]:
    bindings = parameter.bindings
    dimensions = {("AutoScalingGroupName", pool.group) for pool in bindings.pools.values()}
    dimensions |= {("TargetGroup", pool.target_group) for pool in bindings.pools.values() if pool.target_group_arn}
    dimensions.add(("service", parameter.name))
    if bindings.load_balancer:
        dimensions.add(("LoadBalancer", bindings.load_balancer))
    if bindings.queue_name:
        dimensions.add(("QueueName", bindings.queue_name))
    return dimensions


def _dimensions_of_alarm(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each metric's dimensions. The load balancer, which services share, counts only if it is the only one."""
    for configuration in (_mapping(event, "alarmData", "configuration"), _mapping(event, "detail", "configuration")):
        metrics = configuration.get("metrics")
        for metric in metrics if isinstance(metrics, list) else ():
            dimensions = _mapping(metric, "metricStat", "metric", "dimensions")
            narrowest = {name: value for name, value in dimensions.items() if name != "LoadBalancer"} or dimensions
            yield from ((name, value) for name, value in narrowest.items() if isinstance(value, str))


def _mapping(value: Any, *keys: str) -> Mapping[str, Any]:
    """Return the mapping under these nested keys; empty if the event has none there."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
