"""Which services an invocation is about: all each minute, those behind an alarm at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lambdas.scaler.bindings import ServiceParameter


def concerned(event: Any, parameters: Sequence[ServiceParameter]) -> tuple[ServiceParameter, ...]:
    """The services to serve.

    A schedule's event means all. An alarm's (sent by the alarm itself, by EventBridge or by SNS) means those whose
    group, target group, load balancer or queue stands in the alarm's metrics; if none does, all. `{"service": name}`
    means that one, for a run by hand. Forms:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
    """
    if not isinstance(event, Mapping):
        return tuple(parameters)
    if isinstance(event.get("service"), str):
        return tuple(p for p in parameters if p.name == event["service"])
    watched = set(_dimensions(event))
    return tuple(p for p in parameters if watched & _own(p)) or tuple(parameters)


def _own(parameter: ServiceParameter) -> set[tuple[str, str]]:
    bindings = parameter.bindings
    own = {("AutoScalingGroupName", pool.group) for pool in bindings.pools.values()}
    own |= {("TargetGroup", pool.target_group) for pool in bindings.pools.values() if pool.target_group_arn}
    own |= {("service", parameter.name)}
    if bindings.load_balancer:
        own.add(("LoadBalancer", bindings.load_balancer))
    if bindings.queue_url:
        own.add(("QueueName", bindings.queue_url.rpartition("/")[2]))
    return own


def _dimensions(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The narrowest dimensions of each metric of the alarm: a target group stands beside its load balancer, which
    others share.
    """
    for configuration in (_at(event, "alarmData", "configuration"), _at(event, "detail", "configuration")):
        metrics = configuration.get("metrics")
        for metric in metrics if isinstance(metrics, list) else ():
            dimensions = _at(metric, "metricStat", "metric", "dimensions")
            narrow = {name: value for name, value in dimensions.items() if name != "LoadBalancer"} or dimensions
            yield from ((name, value) for name, value in narrow.items() if isinstance(value, str))


def _at(value: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping under these keys; empty where the event has another form."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}
