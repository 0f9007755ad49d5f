from __future__ import annotations

from typing import Any

import pytest


def test_a_name_beyond_its_models_length_is_refused_in_awss_words(account: Any, refused: Any) -> None:
    with refused("ValidationError", "at 'roleName' failed to satisfy constraint: Member must have length less than"):
        account.role(RoleName="x" * 65)
    account.role(RoleName="x" * 64)


@pytest.mark.parametrize("name", ["two words", "a/b"])
def test_a_name_beyond_its_models_pattern_is_refused(account: Any, refused: Any, name: str) -> None:
    with refused("ValidationError", "regular expression pattern"):
        account.role(RoleName=name)


def test_several_violations_are_reported_together(account: Any, refused: Any) -> None:
    with refused("ValidationError", "2 validation errors detected"):
        account.role(RoleName="x" * 65, Description="x" * 1001)


def test_functions_are_checked_against_their_model(account: Any, refused: Any) -> None:
    for wrong in ({"FunctionName": "two words"}, {"Description": "x" * 257}, {"Handler": "x" * 129}):
        with refused("ValidationException"):
            account.function(**wrong)
    account.function(Timeout=900, Description="x" * 256)


def test_log_groups_are_checked_against_their_model(account: Any, refused: Any) -> None:
    with refused("InvalidParameterException", "logGroupName"):
        account.logs.create_log_group(logGroupName="two words")
    with refused("InvalidParameterException", "tags"):
        account.logs.create_log_group(logGroupName="/one", tags={"key": "semi;colon"})
    account.logs.create_log_group(logGroupName="/one", tags={"key": "a b/c"})


def test_alarms_rules_and_schedules_are_checked_against_their_models(account: Any, refused: Any) -> None:
    watch, events, schedules = (account.cloud.client(name) for name in ("cloudwatch", "events", "scheduler"))

    def alarm(**how: Any) -> None:
        request = {
            "AlarmName": "alarm", "Namespace": "N", "MetricName": "m", "Statistic": "Average", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold", **how,
        }  # fmt: skip
        watch.put_metric_alarm(**request)

    def schedule(name: str) -> None:
        schedules.create_schedule(
            Name=name,
            ScheduleExpression="rate(1 minute)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={
                "Arn": "arn:aws:lambda:us-east-1:123456789012:function:one",
                "RoleArn": "arn:aws:iam::123456789012:role/one",
            },
        )

    with refused("ValidationError"):
        alarm(AlarmName="x" * 256)
    with refused("ValidationError"):
        alarm(AlarmActions=[f"arn:aws:sns:us-east-1:123456789012:topic-{i}" for i in range(6)])
    alarm(AlarmName="x" * 255)
    with refused("ValidationException"):
        events.put_rule(Name="x" * 65, EventPattern='{"source":["aws.ec2"]}')
    events.put_rule(Name="x" * 64, EventPattern='{"source":["aws.ec2"]}')
    with refused("ValidationException"):
        schedule("x" * 65)
    schedule("x" * 64)
    with refused("ConflictException"):
        schedule("x" * 64)


def test_a_listeners_priority_and_a_health_path_are_checked_against_their_models(account: Any, refused: Any) -> None:
    with refused("ValidationError", "healthCheckPath"):
        account.elb.create_target_group(
            Name="one", Protocol="HTTP", Port=80, VpcId=account.vpc(), HealthCheckPath="/" + "x" * 1024
        )
    listener = account.listener(account.balancer(account.two_zones(account.vpc())))
    with refused("ValidationError", "less than or equal to 50000"):
        account.elb.create_rule(
            ListenerArn=listener,
            Priority=50_001,
            Conditions=[{"Field": "path-pattern", "Values": ["/"]}],
            Actions=[{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
        )


def test_a_protected_table_cannot_be_deleted(account: Any, refused: Any) -> None:
    tables = account.cloud.client("dynamodb")
    tables.create_table(
        TableName="state",
        KeySchema=[{"AttributeName": "key", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "key", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        DeletionProtectionEnabled=True,
    )
    with refused("ValidationException"):
        tables.delete_table(TableName="state")
    tables.update_table(TableName="state", DeletionProtectionEnabled=False)
    tables.delete_table(TableName="state")
