"""What people see, what wakes them, and what still adds instances when the scaler does not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from gpu_fleet.config.settings import ObservabilitySettings
from infra import iam

SCALER_NAMESPACE = f"{iam.METRICS_NAMESPACE}/Scaler"
SILENCE_PERIODS = 3
"""Minutes without a run. CloudWatch looks back further than that before it says that there is no data, by how much it
does not say; its own example has five periods for three:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html"""


@dataclass(frozen=True, slots=True)
class WatchedPool:
    """A pool as its dashboard and its backstop need it."""

    name: str
    group_name: pulumi.Output[str]
    target_group: pulumi.Output[str] | None
    """ARN suffix; None for training."""


@dataclass(frozen=True, slots=True)
class WatchedService:
    """A service as its dashboard and alarms need it."""

    name: str
    pools: Mapping[str, WatchedPool]
    dashboard_name: str


@dataclass(frozen=True, slots=True)
class ObservabilityArgs:
    """What is watched."""

    settings: ObservabilitySettings
    stack: str
    """Dimension `stack` of the scaler's metrics."""
    region: str
    function_name: pulumi.Output[str]
    dead_letters_name: pulumi.Output[str]
    load_balancer: pulumi.Output[str]
    services: Sequence[WatchedService]
    tags: Mapping[str, str]


class Observability(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Observability`. Topic, alarms on the scaler and each service, the backstop
    policies, a dashboard for each service.
    """

    topic_arn: pulumi.Output[str] | None

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Observability", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        self.topic_arn = self._make_topic(name, args)
        self._make_scaler_alarms(name, args)
        for service in args.services:
            self._make_service_alarms(name, service, args)
            if args.settings.backstop:
                for pool in service.pools.values():
                    if pool.target_group is not None:
                        self._make_backstop(pool, args)
            if args.settings.dashboard:
                self._make_dashboard(name, service, args)
        self.register_outputs({"topic_arn": self.topic_arn})

    def _make_topic(self, name: str, args: ObservabilityArgs) -> pulumi.Output[str] | None:
        if args.settings.alarm_topic_arn:
            topic_arn = pulumi.Output.from_input(args.settings.alarm_topic_arn)
        elif args.settings.alarm_email:
            topic_arn = aws.sns.Topic(f"{name}-alarms", tags=args.tags, opts=self._child).arn
        else:
            return None
        if args.settings.alarm_email:
            aws.sns.TopicSubscription(
                f"{name}-alarms",
                topic=topic_arn,
                protocol="email",
                endpoint=args.settings.alarm_email,
                opts=self._child,
            )
        return topic_arn

    def _alarm(
        self, name: str, description: str, args: ObservabilityArgs, *, rings_without_data: bool = False, **what: Any
    ) -> None:
        actions = [self.topic_arn] if self.topic_arn is not None else []
        aws.cloudwatch.MetricAlarm(
            name,
            alarm_description=description,
            alarm_actions=actions,
            ok_actions=actions,
            insufficient_data_actions=actions if rings_without_data else None,
            tags=args.tags,
            opts=self._child,
            **what,
        )

    def _make_scaler_alarms(self, name: str, args: ObservabilityArgs) -> None:
        function = {"FunctionName": args.function_name}
        self._alarm(
            f"{name}-scaler-errors",
            "A run of the scaler fails as a whole: nothing is decided. Its log says why.",
            args,
            namespace="AWS/Lambda",
            metric_name="Errors",
            dimensions=function,
            statistic="Sum",
            period=60,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
        )
        self._alarm(
            f"{name}-scaler-silent",
            "The scaler has not run for some minutes: is its schedule on, the account's concurrency used up?",
            args,
            # Lambda publishes nothing for a minute without a run, so silence is missing data and never a value below
            # the threshold. An alarm begins without data and acts on changes alone: the first deploy does not ring.
            rings_without_data=True,
            treat_missing_data="missing",
            namespace="AWS/Lambda",
            metric_name="Invocations",
            dimensions=function,
            statistic="Sum",
            period=60,
            evaluation_periods=SILENCE_PERIODS,
            threshold=1,
            comparison_operator="LessThanThreshold",
        )
        self._alarm(
            f"{name}-scaler-failed-services",
            "Calls for some service fail: it is not scaled, the other services are. The scaler's log says which.",
            args,
            namespace=SCALER_NAMESPACE,
            metric_name="failed_services",
            dimensions={"stack": args.stack},
            statistic="Maximum",
            period=60,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
        )
        self._alarm(
            f"{name}-scaler-dead-letters",
            "Runs of the scaler could not be made: their events are in the queue of dead letters.",
            args,
            namespace="AWS/SQS",
            metric_name="ApproximateNumberOfMessagesVisible",
            dimensions={"QueueName": args.dead_letters_name},
            statistic="Maximum",
            period=300,
            evaluation_periods=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
        )

    def _make_service_alarms(self, name: str, service: WatchedService, args: ObservabilityArgs) -> None:
        own = {
            "namespace": SCALER_NAMESPACE,
            "dimensions": {"stack": args.stack, "service": service.name},
            "period": 60,
            "treat_missing_data": "notBreaching",
            "comparison_operator": "GreaterThanOrEqualToThreshold",
        }
        self._alarm(
            f"{name}-{service.name}-errors",
            f"Calls for service {service.name} fail: it is not scaled, the other services are.",
            args,
            metric_name="errors",
            statistic="Sum",
            evaluation_periods=5,
            datapoints_to_alarm=3,
            threshold=1,
            **own,
        )
        self._alarm(
            f"{name}-{service.name}-held",
            f"Service {service.name} is held at its size: what the decision needs is missing, for ten minutes.",
            args,
            metric_name="held",
            statistic="Minimum",
            evaluation_periods=10,
            threshold=1,
            **own,
        )

    def _make_backstop(self, pool: WatchedPool, args: ObservabilityArgs) -> None:
        """Adds instances when the GPUs are full and requests wait, minute after minute: the scaler would have acted.

        Full GPUs alone say nothing: an engine that decodes one request shows nearly 100 %. It never takes any away.
        """
        settings = args.settings
        policy = aws.autoscaling.Policy(
            f"{pool.name}-backstop",
            autoscaling_group_name=pool.group_name,
            policy_type="StepScaling",
            adjustment_type="ChangeInCapacity",
            estimated_instance_warmup=300,
            step_adjustments=[
                aws.autoscaling.PolicyStepAdjustmentArgs(
                    metric_interval_lower_bound="0", scaling_adjustment=settings.backstop_step
                )
            ],
            # Whoever switches it off in an emergency finds it off after the next update. The second is no part of a
            # step policy, but some endpoints answer with an empty one.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["enabled", "predictiveScalingConfiguration"]),
        )

        def metric(key: str, name: str) -> aws.cloudwatch.MetricAlarmMetricQueryArgs:
            return aws.cloudwatch.MetricAlarmMetricQueryArgs(
                id=key,
                metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
                    namespace=iam.METRICS_NAMESPACE,
                    metric_name=name,
                    dimensions={"AutoScalingGroupName": pool.group_name},
                    period=60,
                    stat="Average",
                ),
            )

        aws.cloudwatch.MetricAlarm(
            f"{pool.name}-backstop",
            alarm_description="GPUs are full and requests wait: adds instances without the scaler.",
            metric_queries=[
                metric("gpu", "gpu_percent"),
                metric("waiting", "requests_waiting"),
                aws.cloudwatch.MetricAlarmMetricQueryArgs(
                    id="full", expression="IF(waiting >= 1, gpu, 0)", label="GPU where requests wait", return_data=True
                ),
            ],
            evaluation_periods=settings.backstop_minutes,
            threshold=settings.backstop_gpu_percent,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[policy.arn],
            tags=args.tags,
            opts=self._child,
        )

    def _make_dashboard(self, name: str, service: WatchedService, args: ObservabilityArgs) -> None:
        aws.cloudwatch.Dashboard(
            f"{name}-{service.name}",
            dashboard_name=service.dashboard_name,
            dashboard_body=pulumi.Output.all(
                load_balancer=args.load_balancer,
                pools={
                    key: {"group": pool.group_name, "target_group": pool.target_group}
                    for key, pool in service.pools.items()
                },
            ).apply(
                lambda got: json.dumps(
                    dashboard(args.stack, service.name, args.region, got["load_balancer"], got["pools"])
                )
            ),
            opts=self._child,
        )


def dashboard(
    stack: str, service: str, region: str, load_balancer: str, pools: Mapping[str, Mapping[str, str | None]]
) -> dict[str, Any]:
    """A service's dashboard: the model's figures on top, then what stands, then what its users and its GPUs feel.

    Structure: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
    """

    def own(metric: str) -> list[Any]:
        return [SCALER_NAMESPACE, metric, "stack", stack, "service", service]

    def by_pool(metric: str) -> list[list[Any]]:
        return [[*own(metric), "pool", key, {"label": key}] for key in pools]

    def of_instances(metric: str, statistic: str = "Average") -> list[list[Any]]:
        return [
            [iam.METRICS_NAMESPACE, metric, "AutoScalingGroupName", pool["group"], {"label": key, "stat": statistic}]
            for key, pool in pools.items()
        ]

    def of_load_balancer(metric: str, statistic: str) -> list[list[Any]]:
        return [
            ["AWS/ApplicationELB", metric, "TargetGroup", pool["target_group"], "LoadBalancer", load_balancer,
             {"label": key, "stat": statistic}]
            for key, pool in pools.items()
            if pool["target_group"] is not None
        ]  # fmt: skip

    rows: list[list[tuple[str, list[list[Any]]]]] = [
        [
            ("Utilisation U and response time T (instances' worth)", [own("utilization"), own("response_time")]),
            ("Ratio R (above 1: too small)", [own("ratio")]),
            ("Demand, forecast and capacity asked for (requests per second)",
             [own("demand_rps"), own("forecast_rps"), own("required_rps")]),
            ("Cost (USD per hour)", [own("usd_per_hour")]),
        ],
        [
            ("Instances wanted", by_pool("desired")),
            ("Instances ready", by_pool("ready")),
            ("Weights", by_pool("weight")),
            ("Held, and failed calls", [own("held"), own("errors")]),
        ],
        [
            ("Requests a minute", of_load_balancer("RequestCount", "Sum")),
            ("Time to the first header, 95th percentile (s)", of_load_balancer("TargetResponseTime", "p95")),
            ("Time to the first token, 95th percentile (s)", of_instances("ttft_p95_seconds")),
            ("Requests waiting, mean per instance", of_instances("requests_waiting")),
        ],
        [
            ("GPU (%)", of_instances("gpu_percent")),
            ("KV cache (%)", of_instances("kv_cache_percent")),
            ("CPU and memory (%)", of_instances("cpu_percent") + of_instances("memory_percent")),
            ("Jobs running, mean per instance", of_instances("jobs_running")),
        ],
    ]  # fmt: skip
    width, height = 6, 6
    widgets = [
        {
            "type": "metric", "x": column * width, "y": row * height, "width": width, "height": height,
            "properties": {
                "title": title, "region": region, "view": "timeSeries", "stat": "Average", "period": 60,
                "metrics": metrics,
            },
        }
        for row, cells in enumerate(rows)
        for column, (title, metrics) in enumerate(cells)
        if metrics
    ]  # fmt: skip
    return {"widgets": widgets}
