"""The scaler: the Lambda, when it runs, what it remembers, what it may do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import ScalerSettings
from infra import iam
from infra.package import ARCHITECTURE, PYTHON

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
    """Of the resource."""
    alarm_name: str
    """At AWS; `ScalerArgs.burst_alarms` matches it."""
    group_name: pulumi.Input[str]


@dataclass(frozen=True, slots=True)
class ScalerArgs:
    """What the scaler is told and may touch."""

    settings: ScalerSettings
    stack: str
    """Dimension `stack` of the scaler's metrics: two stacks may each have a service of one name."""
    package: Path
    services_path: str
    grants: Sequence[pulumi.Output[iam.ServiceGrant]]
    shares: Sequence[range]
    """Which of them share a managed policy."""
    bursts: Sequence[BurstSource]
    burst_alarms: str
    """Matches the names of the stack's burst alarms and of no other stack's."""
    spot: bool
    """Whether a pool has a spot share: only then notices of interruption come."""
    place: pulumi.Output[iam.Place]
    tags: Mapping[str, str]


class Scaler(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Scaler`. Function, role and policies, schedule, burst alarms, state table, dead
    letters, log group; for spot the rule that brings EC2's notices.
    """

    function_name: pulumi.Output[str]
    table_name: pulumi.Output[str]
    dead_letters_name: pulumi.Output[str]

    def __init__(self, name: str, args: ScalerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Scaler", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings

        table = aws.dynamodb.Table(
            f"{name}-state",
            billing_mode="PAY_PER_REQUEST",
            hash_key="service",
            attributes=[aws.dynamodb.TableAttributeArgs(name="service", type="S")],
            point_in_time_recovery=aws.dynamodb.TablePointInTimeRecoveryArgs(enabled=True),
            deletion_protection_enabled=settings.deletion_protection,
            tags=args.tags,
            opts=child,
        )
        dead_letters = aws.sqs.Queue(
            naming.fitting(f"{name}-dead-letters", naming.MAX_QUEUE_NAME),
            message_retention_seconds=14 * 24 * 3600,
            sqs_managed_sse_enabled=True,
            tags=args.tags,
            opts=child,
        )
        # The group stands before the function, or the function would make its own, which never forgets.
        logs = aws.cloudwatch.LogGroup(
            name,
            name=f"/aws/lambda/{name}",
            retention_in_days=settings.log_retention_days,
            tags=args.tags,
            opts=child,
        )
        role, allowed = self._make_role(name, args, table, logs, dead_letters)
        function = aws.lambda_.Function(
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
            # Of two runs at once the one that writes its state second changes nothing, so none need be reserved:
            # https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
            reserved_concurrent_executions=settings.reserved_concurrency,
            environment=aws.lambda_.FunctionEnvironmentArgs(
                variables={
                    "SERVICES_PATH": args.services_path,
                    "STATE_TABLE": table.name,
                    "STACK": args.stack,
                }
            ),
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, depends_on=[logs, *allowed]),
        )
        # A run that could not be made within its minute is worth nothing: the next one sees newer data.
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
            opts=child,
        )
        self._make_schedule(name, args, function, dead_letters)
        if settings.burst_alarm and args.bursts:
            self._make_burst_alarms(name, args, function)
        if args.spot:
            self._make_notices(name, args, function, dead_letters)
        self.function_name = function.name
        self.table_name = table.name
        self.dead_letters_name = dead_letters.name
        self.register_outputs({"function_name": self.function_name, "table_name": self.table_name})

    def _make_role(
        self,
        name: str,
        args: ScalerArgs,
        table: aws.dynamodb.Table,
        logs: aws.cloudwatch.LogGroup,
        dead_letters: aws.sqs.Queue,
    ) -> tuple[aws.iam.Role, Sequence[pulumi.Resource]]:
        """The role, and the attachments without which a run would fail."""
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            naming.fitting(f"{name}-role", naming.MAX_ROLE_NAME),
            assume_role_policy=json.dumps(iam.trust("lambda.amazonaws.com")),
            tags=args.tags,
            opts=child,
        )
        documents = {
            "own": pulumi.Output.all(
                place=args.place, table=table.arn, logs=logs.arn, dead_letters=dead_letters.arn
            ).apply(
                lambda got: iam.scaler_statements(
                    got["place"],
                    table_arn=got["table"],
                    log_group_arn=got["logs"],
                    dead_letters_arn=got["dead_letters"],
                    services_path=args.services_path,
                )
            )
        }
        for i, share in enumerate(args.shares):
            documents[f"services-{i}"] = pulumi.Output.all(args.place, *args.grants[share.start : share.stop]).apply(
                lambda got: iam.service_statements(got[0], got[1:])
            )
        attachments = []
        for part, statements in documents.items():
            policy = aws.iam.Policy(
                f"{name}-{part}",
                description="What the scaler may do.",
                policy=statements.apply(lambda got: json.dumps(iam.document(got))),
                tags=args.tags,
                opts=child,
            )
            attachments.append(
                aws.iam.RolePolicyAttachment(f"{name}-{part}", role=role.name, policy_arn=policy.arn, opts=child)
            )
        return role, attachments

    def _make_schedule(
        self, name: str, args: ScalerArgs, function: aws.lambda_.Function, dead_letters: aws.sqs.Queue
    ) -> None:
        child = pulumi.ResourceOptions(parent=self)
        role = aws.iam.Role(
            naming.fitting(f"{name}-schedule", naming.MAX_ROLE_NAME),
            # The confused deputy is kept out:
            # https://docs.aws.amazon.com/scheduler/latest/UserGuide/cross-service-confused-deputy-prevention.html
            assume_role_policy=args.place.apply(
                lambda place: json.dumps(
                    iam.trust("scheduler.amazonaws.com", {"StringEquals": {"aws:SourceAccount": place.account}})
                )
            ),
            tags=args.tags,
            opts=child,
        )
        aws.iam.RolePolicy(
            f"{name}-schedule",
            role=role.id,
            policy=pulumi.Output.all(function.arn, dead_letters.arn).apply(
                lambda got: json.dumps(iam.document(iam.schedule_statements(got[0], got[1])))
            ),
            opts=child,
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
            opts=child,
        )

    def _make_notices(
        self, name: str, args: ScalerArgs, function: aws.lambda_.Function, dead_letters: aws.sqs.Queue
    ) -> None:
        """EC2's notices about spot instances, which come for every one of account and region."""
        child = pulumi.ResourceOptions(parent=self)
        rule = aws.cloudwatch.EventRule(
            naming.fitting(f"{name}-notices", naming.MAX_RULE_NAME),
            description="Tells the scaler of spot instances that will be interrupted.",
            event_pattern=json.dumps({"source": ["aws.ec2"], "detail-type": list(NOTICES)}),
            tags=args.tags,
            opts=child,
        )
        permission = aws.lambda_.Permission(
            f"{name}-notices",
            function=function.name,
            action="lambda:InvokeFunction",
            principal="events.amazonaws.com",
            source_arn=rule.arn,
            opts=child,
        )
        # EventBridge has no role here: the queue lets its rule in.
        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
        letters = aws.sqs.QueuePolicy(
            f"{name}-notices",
            queue_url=dead_letters.url,
            policy=pulumi.Output.all(dead_letters.arn, rule.arn).apply(
                lambda got: json.dumps(iam.dead_letters_policy(got[0], got[1]))
            ),
            opts=child,
        )
        aws.cloudwatch.EventTarget(
            f"{name}-notices",
            rule=rule.name,
            arn=function.arn,
            dead_letter_config=aws.cloudwatch.EventTargetDeadLetterConfigArgs(arn=dead_letters.arn),
            # After a minute the better half of the two is over, and the group finds out by itself soon after.
            retry_policy=aws.cloudwatch.EventTargetRetryPolicyArgs(
                maximum_event_age_in_seconds=60, maximum_retry_attempts=2
            ),
            opts=pulumi.ResourceOptions(parent=self, depends_on=[permission, letters]),
        )

    def _make_burst_alarms(self, name: str, args: ScalerArgs, function: aws.lambda_.Function) -> None:
        """Ten seconds of requests that wait run the scaler without waiting for the minute."""
        child = pulumi.ResourceOptions(parent=self)
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
                opts=child,
            )
        # One permission for all of them: a function's policy holds 20 KB, which one for each alarm would fill at some
        # 47 pools. Lambda compares the source with StringLike, so a pattern does:
        # https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
        # https://docs.aws.amazon.com/lambda/latest/api/API_AddPermission.html
        aws.lambda_.Permission(
            f"{name}-burst",
            function=function.name,
            action="lambda:InvokeFunction",
            principal=ALARM_PRINCIPAL,
            source_account=args.place.apply(lambda place: place.account),
            source_arn=args.place.apply(lambda place: place.arn("cloudwatch", f"alarm:{args.burst_alarms}")),
            opts=child,
        )
