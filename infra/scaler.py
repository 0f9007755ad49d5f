"""The scaler: the Lambda function, its triggers, its state and its rights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import ScalerSettings
from infra import iam, scaler_rights
from infra.package import ARCHITECTURE, PYTHON
from infra.scaler_rights import ServiceResources

HANDLER = "lambdas.scaler.handler.handle"
NOTICES = ("EC2 Spot Instance Interruption Warning", "EC2 Instance Rebalance Recommendation")
"""https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html and
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html"""
ALARM_PRINCIPAL = "lambda.alarms.cloudwatch.amazonaws.com"
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions.html#alarms-and-actions-Lambda"""


@dataclass(frozen=True, slots=True)
class BurstSource:
    """A pool whose waiting requests run the scaler at once."""

    name: str
    """Prefix of the alarm's logical name."""
    alarm_name: str
    """In AWS; matches `ScalerArgs.burst_alarms`."""
    group_name: pulumi.Input[str]


@dataclass(frozen=True, slots=True)
class ScalerArgs:
    """The scaler's settings, and the resources that it may change."""

    settings: ScalerSettings
    stack: str
    """Dimension `stack` of the scaler's metrics: two stacks may each have a service of the same name."""
    package: Path
    services_path: str
    services: Sequence[pulumi.Output[ServiceResources]]
    service_batches: Sequence[range]
    """Indices into `services`: each batch shares a managed policy."""
    bursts: Sequence[BurstSource]
    burst_alarms: str
    """Pattern that matches the names of the stack's burst alarms, and of no other stack's."""
    spot: bool
    """Whether a pool has a spot share: only then EC2 sends interruption notices."""
    place: pulumi.Output[iam.Place]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Parts:
    """Resources that the function uses."""

    table: aws.dynamodb.Table
    dead_letters: aws.sqs.Queue
    log_group: aws.cloudwatch.LogGroup


class Scaler(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Scaler`. Function, role and policies, schedule, burst alarms, state table,
    dead-letter queue, log group; for spot the rule that delivers EC2's notices.
    """

    function_name: pulumi.Output[str]
    table_name: pulumi.Output[str]
    dead_letters_name: pulumi.Output[str]

    def __init__(self, name: str, args: ScalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Scaler", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        parts = _Parts(
            table=self._make_state_table(name, args),
            dead_letters=self._make_dead_letters(name, args),
            log_group=self._make_log_group(name, args),
        )
        function = self._make_function(name, args, parts)
        self._make_invoke_config(name, function, parts.dead_letters)
        self._make_schedule(name, args, function, parts.dead_letters)
        if args.settings.burst_alarm and args.bursts:
            self._make_burst_alarms(name, args, function)
        if args.spot:
            self._make_spot_notices(name, args, function, parts.dead_letters)
        self.function_name = function.name
        self.table_name = parts.table.name
        self.dead_letters_name = parts.dead_letters.name
        self.register_outputs({"function_name": self.function_name, "table_name": self.table_name})

    def _make_state_table(self, name: str, args: ScalerArgs) -> aws.dynamodb.Table:
        return aws.dynamodb.Table(
            f"{name}-state",
            billing_mode="PAY_PER_REQUEST",
            hash_key="service",
            attributes=[aws.dynamodb.TableAttributeArgs(name="service", type="S")],
            point_in_time_recovery=aws.dynamodb.TablePointInTimeRecoveryArgs(enabled=True),
            deletion_protection_enabled=args.settings.deletion_protection,
            tags=args.tags,
            opts=self._child,
        )

    def _make_dead_letters(self, name: str, args: ScalerArgs) -> aws.sqs.Queue:
        return aws.sqs.Queue(
            naming.fitting(f"{name}-dead-letters", naming.MAX_QUEUE_NAME),
            message_retention_seconds=14 * 24 * 3600,
            sqs_managed_sse_enabled=True,
            tags=args.tags,
            opts=self._child,
        )

    def _make_log_group(self, name: str, args: ScalerArgs) -> aws.cloudwatch.LogGroup:
        return aws.cloudwatch.LogGroup(
            name,
            name=f"/aws/lambda/{name}",
            retention_in_days=args.settings.log_retention_days,
            tags=args.tags,
            opts=self._child,
        )

    def _make_function(self, name: str, args: ScalerArgs, parts: _Parts) -> aws.lambda_.Function:
        settings = args.settings
        role, attachments = self._make_role(name, args, parts)
        return aws.lambda_.Function(
            name,
            name=name,
            description="Decides how many instances of which pool stand, and how traffic is shared among them.",
            role=role.arn,
            runtime=f"python{PYTHON}",
            architectures=[ARCHITECTURE],
            handler=HANDLER,
            code=pulumi.FileArchive(str(args.package)),
            memory_size=settings.memory_mb,
            timeout=settings.timeout_seconds,
            # By default nothing is reserved: of two runs at once, the one that writes its state second changes nothing.
            # https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
            reserved_concurrent_executions=settings.reserved_concurrency,
            environment=aws.lambda_.FunctionEnvironmentArgs(
                variables={
                    "SERVICES_PATH": args.services_path,
                    "STATE_TABLE": parts.table.name,
                    "STACK": args.stack,
                }
            ),
            tags=args.tags,
            # Without its log group, the function would create one that keeps logs for ever. Without its rights, a run
            # would fail.
            opts=pulumi.ResourceOptions(parent=self, depends_on=[parts.log_group, *attachments]),
        )

    def _make_invoke_config(self, name: str, function: aws.lambda_.Function, dead_letters: aws.sqs.Queue) -> None:
        """Drop a run that did not start within its minute: the next one sees newer data."""
        aws.lambda_.FunctionEventInvokeConfig(
            name,
            function_name=function.name,
            maximum_event_age_in_seconds=60,
            maximum_retry_attempts=0,
            destination_config=aws.lambda_.FunctionEventInvokeConfigDestinationConfigArgs(
                on_failure=aws.lambda_.FunctionEventInvokeConfigDestinationConfigOnFailureArgs(
                    destination=dead_letters.arn
                )
            ),
            opts=self._child,
        )

    def _make_role(
        self, name: str, args: ScalerArgs, parts: _Parts
    ) -> tuple[aws.iam.Role, Sequence[aws.iam.RolePolicyAttachment]]:
        """Create the role with its managed policies: one for the scaler itself, one for each batch of services."""
        role = aws.iam.Role(
            naming.fitting(f"{name}-role", naming.MAX_ROLE_NAME),
            assume_role_policy=json.dumps(iam.trust("lambda.amazonaws.com")),
            tags=args.tags,
            opts=self._child,
        )
        attachments = []
        for suffix, statements in _statements_by_policy(args, parts).items():
            policy = aws.iam.Policy(
                f"{name}-{suffix}",
                description="What the scaler may do.",
                policy=statements.apply(lambda resolved: json.dumps(iam.document(resolved))),
                tags=args.tags,
                opts=self._child,
            )
            attachments.append(
                aws.iam.RolePolicyAttachment(
                    f"{name}-{suffix}", role=role.name, policy_arn=policy.arn, opts=self._child
                )
            )
        return role, attachments

    def _make_schedule(
        self, name: str, args: ScalerArgs, function: aws.lambda_.Function, dead_letters: aws.sqs.Queue
    ) -> None:
        role = aws.iam.Role(
            naming.fitting(f"{name}-schedule", naming.MAX_ROLE_NAME),
            # Against the confused deputy:
            # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
            assume_role_policy=args.place.apply(
                lambda place: json.dumps(
                    iam.trust("scheduler.amazonaws.com", {"StringEquals": {"aws:SourceAccount": place.account}})
                )
            ),
            tags=args.tags,
            opts=self._child,
        )
        aws.iam.RolePolicy(
            f"{name}-schedule",
            role=role.id,
            policy=pulumi.Output.all(function.arn, dead_letters.arn).apply(
                lambda arns: json.dumps(iam.document(iam.schedule_statements(*arns)))
            ),
            opts=self._child,
        )
        aws.scheduler.Schedule(
            naming.fitting(name, naming.MAX_ROLE_NAME),
            description="Runs the scaler each minute.",
            schedule_expression="rate(1 minute)",
            flexible_time_window=aws.scheduler.ScheduleFlexibleTimeWindowArgs(mode="OFF"),
            target=aws.scheduler.ScheduleTargetArgs(
                arn=function.arn,
                role_arn=role.arn,
                input=json.dumps({"source": "schedule"}),
                dead_letter_config=aws.scheduler.ScheduleTargetDeadLetterConfigArgs(arn=dead_letters.arn),
                retry_policy=aws.scheduler.ScheduleTargetRetryPolicyArgs(
                    maximum_event_age_in_seconds=60, maximum_retry_attempts=1
                ),
            ),
            opts=self._child,
        )

    def _make_spot_notices(
        self, name: str, args: ScalerArgs, function: aws.lambda_.Function, dead_letters: aws.sqs.Queue
    ) -> None:
        """Deliver EC2's notices about spot instances, which it sends for every one in account and region."""
        rule = aws.cloudwatch.EventRule(
            naming.fitting(f"{name}-notices", naming.MAX_RULE_NAME),
            description="Tells the scaler of spot instances that will be interrupted.",
            event_pattern=json.dumps({"source": ["aws.ec2"], "detail-type": list(NOTICES)}),
            tags=args.tags,
            opts=self._child,
        )
        permission = aws.lambda_.Permission(
            f"{name}-notices",
            function=function.name,
            action="lambda:InvokeFunction",
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=self._child,
        )
        # EventBridge assumes no role for this: the queue's policy lets the rule in.
        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
        queue_policy = aws.sqs.QueuePolicy(
            f"{name}-notices",
            queue_url=dead_letters.url,
            policy=pulumi.Output.all(dead_letters.arn, rule.arn).apply(
                lambda arns: json.dumps(iam.dead_letters_policy(*arns))
            ),
            opts=self._child,
        )
        aws.cloudwatch.EventTarget(
            f"{name}-notices",
            rule=rule.name,
            arn=function.arn,
            dead_letter_config=aws.cloudwatch.EventTargetDeadLetterConfigArgs(arn=dead_letters.arn),
            # After one of the two minutes' notice it is too late to act, and soon the group notices by itself.
            retry_policy=aws.cloudwatch.EventTargetRetryPolicyArgs(
                maximum_event_age_in_seconds=60, maximum_retry_attempts=2
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission, queue_policy]),
        )

    def _make_burst_alarms(self, name: str, args: ScalerArgs, function: aws.lambda_.Function) -> None:
        """Create alarms that run the scaler after ten seconds of waiting requests, without waiting for the minute."""
        for source in args.bursts:
            aws.cloudwatch.MetricAlarm(
                f"{source.name}-burst",
                name=source.alarm_name,
                alarm_description="Requests wait for a place: runs the scaler at once.",
                namespace=iam.METRICS_NAMESPACE,
                metric_name="requests_waiting",
                dimensions={"AutoScalingGroupName": source.group_name},
                statistic="Average",
                period=10,
                evaluation_periods=1,
                threshold=args.settings.burst_waiting_requests,
                comparison_operator="GreaterThanOrEqualToThreshold",
                treat_missing_data="notBreaching",
                alarm_actions=[function.arn],
                tags=args.tags,
                opts=self._child,
            )
        # One permission for all alarms: a function's policy holds 20 KB, which one permission per alarm would fill at
        # some 47 pools. Lambda compares the source by StringLike, so a pattern works:
        # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
        # https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
        aws.lambda_.Permission(
            f"{name}-burst",
            function=function.name,
            action="lambda:InvokeFunction",
            principal=ALARM_PRINCIPAL,
            source_account=args.place.apply(lambda place: place.account),
            source_arn=args.place.apply(lambda place: place.arn("cloudwatch", f"alarm:{args.burst_alarms}")),
            opts=self._child,
        )


def _statements_by_policy(args: ScalerArgs, parts: _Parts) -> Mapping[str, pulumi.Output[list[iam.Statement]]]:
    """Return the statements of the scaler's managed policies by the suffix of the policy's name."""
    own = pulumi.Output.all(
        place=args.place, table=parts.table.arn, logs=parts.log_group.arn, dead_letters=parts.dead_letters.arn
    ).apply(
        lambda resolved: scaler_rights.scaler_statements(
            resolved["place"],
            table_arn=resolved["table"],
            log_group_arn=resolved["logs"],
            dead_letters_arn=resolved["dead_letters"],
            services_path=args.services_path,
        )
    )
    by_batch = {
        f"services-{i}": pulumi.Output.all(args.place, *args.services[batch.start : batch.stop]).apply(
            lambda resolved: scaler_rights.service_statements(resolved[0], resolved[1:])
        )
        for i, batch in enumerate(args.service_batches)
    }
    return {"own": own, **by_batch}
