"""The scaler's own metrics in the embedded metric format: log lines, which need no API call and no permission.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.observation import Observation
from lambdas.scaler.result import Outcome, Result

NAMESPACE = "GpuFleet/Scaler"


def publish(result: Result, observation: Observation | None, stack: str) -> None:
    """Publish the metrics of one service's turn, by `stack` and `service`; counts, weights and boots also by `pool`.

    A boot is published once, in the turn that saw its end: a metric is billed for the hours in which it has values.

    An unknown value is left out, never published as zero.
    """
    metrics = _service_metrics(stack, result.service)
    _add(metrics, "errors", MetricUnit.Count, len(result.faults) if result.failed else 0)
    _add(metrics, "superseded", MetricUnit.Count, int(result.outcome is Outcome.SUPERSEDED))
    decision = result.decision
    if decision is not None:
        signals = decision.signals
        _add(metrics, "held", MetricUnit.Count, int(decision.held))
        _add(metrics, "utilization", MetricUnit.NoUnit, signals.utilization)
        _add(metrics, "response_time", MetricUnit.NoUnit, signals.response_time)
        _add(metrics, "ratio", MetricUnit.NoUnit, signals.ratio)
        _add(metrics, "demand_rps", MetricUnit.CountPerSecond, signals.demand_rps)
        _add(metrics, "forecast_rps", MetricUnit.CountPerSecond, signals.forecast_rps)
        _add(metrics, "required_rps", MetricUnit.CountPerSecond, signals.required_rps)
        _add(metrics, "usd_per_hour", MetricUnit.NoUnit, signals.usd_per_hour)
    if decision is not None and observation is not None:
        _add(metrics, "unserved", MetricUnit.Count, int(_unserved(decision, observation)))
    metrics.flush_metrics()
    if decision is None or observation is None:
        return
    for name, target in decision.targets.items():
        metrics = _service_metrics(stack, result.service)
        metrics.add_dimension("pool", name)
        _add(metrics, "desired", MetricUnit.Count, target.desired)
        _add(metrics, "weight", MetricUnit.NoUnit, target.weight)
        if name in observation.pools:
            _add(metrics, "ready", MetricUnit.Count, observation.pools[name].ready_count)
        boot = decision.state.pool(name).boot
        if boot is not None and boot.at == decision.state.at:
            _add(metrics, "boot_seconds", MetricUnit.Seconds, boot.seconds)
        metrics.flush_metrics()


def _unserved(decision: Decision, observation: Observation) -> bool:
    """Whether instances are wanted and none is ready. What is wanted may not be ordered: a pool that cannot launch gets
    no orders.
    """
    wanted = any(target.desired > 0 for target in decision.targets.values()) or (decision.signals.required_rps or 0) > 0
    return wanted and not any(pool.ready_count for pool in observation.pools.values())


def publish_run(results: Sequence[Result], stack: str) -> None:
    """Publish how many services failed in a run, by `stack` alone.

    This also counts a service that the stack's alarms do not know, such as one of a leftover parameter.
    """
    metrics = EphemeralMetrics(namespace=NAMESPACE)
    metrics.add_dimension("stack", stack)
    _add(metrics, "failed_services", MetricUnit.Count, sum(result.failed for result in results))
    metrics.flush_metrics()


def _service_metrics(stack: str, service: str) -> EphemeralMetrics:
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=service)
    metrics.add_dimension("stack", stack)
    return metrics


def _add(metrics: EphemeralMetrics, name: str, unit: MetricUnit, value: float | None) -> None:
    if value is not None and math.isfinite(value):
        metrics.add_metric(name, unit, value)
