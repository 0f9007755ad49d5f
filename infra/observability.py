"""Dashboards, alarms, and the backstop that adds instances if the scaler does not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import ObservabilitySettings
from infra import iam
from infra.dashboard import SCALER_NAMESPACE, ServiceDashboard

SILENCE_PERIODS = 3
"""Minutes without a run. CloudWatch looks back further before it reports missing data, but does not say how far; its
own example has five periods for three:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html"""


UNSERVED_MINUTES = 5
"""Beyond the launch timeout. A service that wakes has no instance for as long as a launch takes."""

MISSED_RUNS = 2
"""Minutes of these that may have no metric."""


def unserved_minutes(launch_timeout_seconds: float) -> int:
    """Return after how many minutes without a ready instance an alarm rings: 25 for a launch timeout of 1200 s."""
    return math.ceil(naming.hook_seconds(launch_timeout_seconds) / 60) + UNSERVED_MINUTES


@dataclass(frozen=True, slots=True)
class WatchedPool:
    """A pool as its dashboard and backstop need it."""

    name: str
    """Prefix of its resources' logical names."""
    group_name: pulumi.Output[str]
    target_group: pulumi.Output[str] | None
    """ARN suffix; None for training."""


@dataclass(frozen=True, slots=True)
class WatchedService:
    """A service as its dashboard and alarms need it."""

    name: str
    pools: Mapping[str, WatchedPool]
    dashboard_name: str
    launch_timeout_seconds: float
    """Of its policy."""


@dataclass(frozen=True, slots=True)
class ObservabilityArgs:
    """What the dashboards and alarms watch."""

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
    """**Pulumi type** `gpu-fleet:index:Observability`. Topic, alarms on the scaler and on each service, backstops, a
    dashboard for each service.
    """

    topic_arn: pulumi.Output[str] | None

    def __init__(self, name: str, args: ObservabilityArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Observability", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        self.topic_arn = self._make_topic(name, args)
        self._make_errors_alarm(name, args)
        self._make_silence_alarm(name, args)
        self._make_failed_services_alarm(name, args)
        self._make_dead_letters_alarm(name, args)
        for service in args.services:
            self._make_service_alarms(name, service, args)
            if args.settings.backstop:
                self._make_backstops(service, args)
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

    def _make_alarm(
        self, name: str, description: str, args: ObservabilityArgs, *, rings_without_data: bool = False, **rule: Any
    ) -> None:
        """Create an alarm that notifies the topic; `rule` is its metric, threshold and periods."""
        actions = [self.topic_arn] if self.topic_arn is not None else []
        aws.cloudwatch.MetricAlarm(
            name,
            alarm_description=description,
            alarm_actions=actions,
            ok_actions=actions,
            insufficient_data_actions=actions if rings_without_data else None,
            tags=args.tags,
            opts=self._child,
            **rule,
        )

    def _make_errors_alarm(self, name: str, args: ObservabilityArgs) -> None:
        self._make_alarm(
            f"{name}-scaler-errors",
            "A run of the scaler fails as a whole: nothing is decided. Its log says why.",
            args,
            namespace="AWS/Lambda",
            metric_name="Errors",
            dimensions={"FunctionName": args.function_name},
            statistic="Sum",
            period=60,
            evaluation_periods=3,
            datapoints_to_alarm=2,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
        )

    def _make_silence_alarm(self, name: str, args: ObservabilityArgs) -> None:
        self._make_alarm(
            f"{name}-scaler-silent",
            "The scaler has not run for some minutes: is its schedule on, the account's concurrency used up?",
            args,
            # For a minute without a run Lambda publishes nothing, so silence is missing data and never a value below
            # the threshold. An alarm starts without data and acts only on changes: the first deploy does not ring.
            rings_without_data=True,
            treat_missing_data="missing",
            namespace="AWS/Lambda",
            metric_name="Invocations",
            dimensions={"FunctionName": args.function_name},
            statistic="Sum",
            period=60,
            evaluation_periods=SILENCE_PERIODS,
            threshold=1,
            comparison_operator="LessThanThreshold",
        )

    def _make_failed_services_alarm(self, name: str, args: ObservabilityArgs) -> None:
        self._make_alarm(
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

    def _make_dead_letters_alarm(self, name: str, args: ObservabilityArgs) -> None:
        self._make_alarm(
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
        common = {
            "namespace": SCALER_NAMESPACE,
            "dimensions": {"stack": args.stack, "service": service.name},
            "period": 60,
            "treat_missing_data": "notBreaching",
            "comparison_operator": "GreaterThanOrEqualToThreshold",
        }
        self._make_alarm(
            f"{name}-{service.name}-errors",
            f"Calls for service {service.name} fail: it is not scaled, the other services are.",
            args,
            metric_name="errors",
            statistic="Sum",
            evaluation_periods=5,
            datapoints_to_alarm=3,
            threshold=1,
            **common,
        )
        self._make_alarm(
            f"{name}-{service.name}-held",
            f"Service {service.name} is held at its size: what the decision needs is missing, for ten minutes.",
            args,
            metric_name="held",
            statistic="Minimum",
            evaluation_periods=10,
            threshold=1,
            **common,
        )

        minutes = unserved_minutes(service.launch_timeout_seconds)
        self._make_alarm(
            f"{name}-{service.name}-unserved",
            f"Service {service.name} wants instances and has had none ready for longer than a launch may take.",
            args,
            metric_name="unserved",
            statistic="Minimum",
            evaluation_periods=minutes,
            datapoints_to_alarm=minutes - MISSED_RUNS,
            threshold=1,
            **common,
        )

    def _make_backstops(self, service: WatchedService, args: ObservabilityArgs) -> None:
        for pool in service.pools.values():
            if pool.target_group is not None:
                policy = self._make_backstop_policy(pool, args)
                self._make_backstop_alarm(pool, args, policy)

    def _make_backstop_policy(self, pool: WatchedPool, args: ObservabilityArgs) -> aws.autoscaling.Policy:
        """Create the policy by which the backstop adds instances; it never removes any."""
        return aws.autoscaling.Policy(
            f"{pool.name}-backstop",
            autoscaling_group_name=pool.group_name,
            policy_type="StepScaling",
            adjustment_type="ChangeInCapacity",
            estimated_instance_warmup=300,
            step_adjustments=[
                aws.autoscaling.PolicyStepAdjustmentArgs(
                    metric_interval_lower_bound="0", scaling_adjustment=args.settings.backstop_step
                )
            ],
            # Operators who disable it in an emergency find it disabled after the next update. A step policy has no
            # predictive configuration, but some endpoints return an empty one.
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["enabled", "predictiveScalingConfiguration"]),
        )

    def _make_backstop_alarm(self, pool: WatchedPool, args: ObservabilityArgs, policy: aws.autoscaling.Policy) -> None:
        """Create the alarm that acts when GPUs are full and requests wait for minutes: the scaler should have acted.

        Full GPUs alone mean nothing: an engine that decodes one request shows nearly 100 %.
        """
        aws.cloudwatch.MetricAlarm(
            f"{pool.name}-backstop",
            alarm_description="GPUs are full and requests wait: adds instances without the scaler.",
            metric_queries=[
                _group_metric("gpu", "gpu_percent", pool.group_name),
                _group_metric("waiting", "requests_waiting", pool.group_name),
                aws.cloudwatch.MetricAlarmMetricQueryArgs(
                    id="full", expression="IF(waiting >= 1, gpu, 0)", label="GPU where requests wait", return_data=True
                ),
            ],
            evaluation_periods=args.settings.backstop_minutes,
            threshold=args.settings.backstop_gpu_percent,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[policy.arn],
            tags=args.tags,
            opts=self._child,
        )

    def _make_dashboard(self, name: str, service: WatchedService, args: ObservabilityArgs) -> None:
        body = pulumi.Output.all(
            load_balancer=args.load_balancer,
            groups={key: pool.group_name for key, pool in service.pools.items()},
            target_groups={
                key: pool.target_group for key, pool in service.pools.items() if pool.target_group is not None
            },
        ).apply(
            lambda resolved: json.dumps(
                ServiceDashboard(stack=args.stack, service=service.name, region=args.region, **resolved).body()
            )
        )
        aws.cloudwatch.Dashboard(
            f"{name}-{service.name}", dashboard_name=service.dashboard_name, dashboard_body=body, opts=self._child
        )


def _group_metric(
    key: str, metric_name: str, group_name: pulumi.Input[str]
) -> aws.cloudwatch.MetricAlarmMetricQueryArgs:
    """Return a query, under the id `key`, for the mean of a metric over a group's instances, per minute."""
    return aws.cloudwatch.MetricAlarmMetricQueryArgs(
        id=key,
        metric=aws.cloudwatch.MetricAlarmMetricQueryMetricArgs(
            namespace=iam.METRICS_NAMESPACE,
            metric_name=metric_name,
            dimensions={"AutoScalingGroupName": group_name},
            period=60,
            stat="Average",
        ),
    )
