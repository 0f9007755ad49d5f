"""Lambda functions and what calls them."""

from __future__ import annotations

from typing import Any

from gpu_fleet.emulator.provider.archive import zipped
from gpu_fleet.emulator.provider.identity import document
from gpu_fleet.emulator.provider.registry import (
    Made,
    MotoAccount,
    Resource,
    given,
    makes,
    pascal,
    tag_list,
    tagged,
    whole,
)


@makes(
    "aws:lambda/function:Function",
    longest_name=64,
    no_effect=("sourceCodeHash", "skipDestroy", "snapStart", "codeSha256", "replaceSecurityGroupsOnDestroy"),
)
def function(aws: MotoAccount, r: Resource) -> Made:
    """A Lambda function with its package. Nothing here runs it: tests and the replay call the handler themselves."""
    client, i = aws.client("lambda"), r.inputs
    code: dict[str, Any] = (
        {"ZipFile": zipped(i["code"])}
        if "code" in i
        else given(S3Bucket=i.get("s3Bucket"), S3Key=i.get("s3Key"), ImageUri=i.get("imageUri"))
    )
    made = client.create_function(
        FunctionName=r.physical_name,
        Role=i["role"],
        Code=code,
        Tags={t["Key"]: t["Value"] for t in tag_list(i)},
        **given(
            Runtime=i.get("runtime"),
            Handler=i.get("handler"),
            Description=i.get("description"),
            Architectures=i.get("architectures"),
            PackageType=i.get("packageType"),
            MemorySize=whole(i.get("memorySize")),
            Timeout=whole(i.get("timeout")),
            Publish=i.get("publish"),
            Layers=i.get("layers"),
            KMSKeyArn=i.get("kmsKeyArn"),
            Environment=pascal_environment(i.get("environment")),
            DeadLetterConfig=pascal(i["deadLetterConfig"]) if "deadLetterConfig" in i else None,
            TracingConfig=pascal(i["tracingConfig"]) if "tracingConfig" in i else None,
            LoggingConfig=pascal(i["loggingConfig"]) if "loggingConfig" in i else None,
            EphemeralStorage={"Size": whole(i["ephemeralStorage"]["size"])} if "ephemeralStorage" in i else None,
            VpcConfig=pascal(i["vpcConfig"]) if "vpcConfig" in i else None,
        ),
    )
    reserved = whole(i.get("reservedConcurrentExecutions"))
    if reserved is not None and reserved >= 0:
        client.put_function_concurrency(FunctionName=r.physical_name, ReservedConcurrentExecutions=reserved)
    arn = made["FunctionArn"]
    gateway = f"arn:{aws.partition}:apigateway:{aws.region}:lambda:path/2015-03-31/functions/{arn}/invocations"
    return r.physical_name, {
        "arn": arn,
        "invokeArn": gateway,
        "qualifiedArn": f"{arn}:{made['Version']}",
        "version": made["Version"],
        "lastModified": made["LastModified"],
        "codeSha256": made["CodeSha256"],
        "sourceCodeSize": made["CodeSize"],
        "code": None,
    }


def pascal_environment(environment: dict[str, Any] | None) -> dict[str, Any] | None:
    """The variables, whose names stay as they are."""
    if not environment:
        return None
    return {"Variables": {k: str(v) for k, v in (environment.get("variables") or {}).items()}}


@makes("aws:lambda/permission:Permission", named="statementId")
def permission(aws: MotoAccount, r: Resource) -> Made:
    """Who may invoke a function."""
    i = r.inputs
    aws.client("lambda").add_permission(
        FunctionName=i["function"],
        StatementId=r.physical_name,
        Action=i["action"],
        Principal=i["principal"],
        **given(SourceArn=i.get("sourceArn"), SourceAccount=i.get("sourceAccount"), Qualifier=i.get("qualifier")),
    )
    return r.physical_name, {}


@makes("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig")
def event_invoke_config(aws: MotoAccount, r: Resource) -> Made:
    """What becomes of failed asynchronous calls."""
    i = r.inputs
    destinations = i.get("destinationConfig") or {}
    config = {
        key: {"Destination": destinations[name]["destination"]}
        for key, name in (("OnFailure", "onFailure"), ("OnSuccess", "onSuccess"))
        if destinations.get(name)
    }
    aws.client("lambda").put_function_event_invoke_config(
        FunctionName=i["functionName"],
        **given(
            MaximumRetryAttempts=whole(i.get("maximumRetryAttempts")),
            MaximumEventAgeInSeconds=whole(i.get("maximumEventAgeInSeconds")),
            DestinationConfig=config or None,
            Qualifier=i.get("qualifier"),
        ),
    )
    return i["functionName"], {}


@makes("aws:lambda/alias:Alias")
def function_alias(aws: MotoAccount, r: Resource) -> Made:
    """A function's alias."""
    i = r.inputs
    made = aws.client("lambda").create_alias(
        FunctionName=i["functionName"], Name=r.physical_name, FunctionVersion=i["functionVersion"]
    )
    return made["AliasArn"], {"arn": made["AliasArn"], "invokeArn": made["AliasArn"]}


@makes("aws:scheduler/scheduleGroup:ScheduleGroup")
def schedule_group(aws: MotoAccount, r: Resource) -> Made:
    """A group of schedules."""
    made = aws.client("scheduler").create_schedule_group(Name=r.physical_name, **tagged(r.inputs))
    return r.physical_name, {"arn": made["ScheduleGroupArn"], "state": "ACTIVE"}


@makes("aws:scheduler/schedule:Schedule", longest_name=64)
def schedule(aws: MotoAccount, r: Resource) -> Made:
    """A schedule."""
    i = r.inputs
    target = i["target"]
    retry = target.get("retryPolicy") or {}
    window = i["flexibleTimeWindow"]
    made = aws.client("scheduler").create_schedule(
        Name=r.physical_name,
        ScheduleExpression=i["scheduleExpression"],
        FlexibleTimeWindow=given(
            Mode=window["mode"], MaximumWindowInMinutes=whole(window.get("maximumWindowInMinutes"))
        ),
        Target=given(
            Arn=target["arn"],
            RoleArn=target["roleArn"],
            Input=target.get("input"),
            DeadLetterConfig=pascal(target["deadLetterConfig"]) if target.get("deadLetterConfig") else None,
            RetryPolicy=given(
                MaximumRetryAttempts=whole(retry.get("maximumRetryAttempts")),
                MaximumEventAgeInSeconds=whole(retry.get("maximumEventAgeInSeconds")),
            )
            or None,
        ),
        **given(
            GroupName=i.get("groupName"),
            Description=i.get("description"),
            State=i.get("state"),
            ScheduleExpressionTimezone=i.get("scheduleExpressionTimezone"),
            KmsKeyArn=i.get("kmsKeyArn"),
        ),
    )
    return f"{i.get('groupName') or 'default'}/{r.physical_name}", {"arn": made["ScheduleArn"], "state": "ENABLED"}


@makes("aws:cloudwatch/eventRule:EventRule", longest_name=64, no_effect=("forceDestroy", "isEnabled"))
def event_rule(aws: MotoAccount, r: Resource) -> Made:
    """An EventBridge rule."""
    i = r.inputs
    made = aws.client("events").put_rule(
        Name=r.physical_name,
        **given(
            ScheduleExpression=i.get("scheduleExpression"),
            EventPattern=document(i["eventPattern"]) if "eventPattern" in i else None,
            Description=i.get("description"),
            State=i.get("state"),
            EventBusName=i.get("eventBusName"),
        ),
    )
    return r.physical_name, {"arn": made["RuleArn"]}


@makes("aws:cloudwatch/eventTarget:EventTarget", named="targetId")
def event_target(aws: MotoAccount, r: Resource) -> Made:
    """A rule's target."""
    i = r.inputs
    retry = i.get("retryPolicy") or {}
    aws.client("events").put_targets(
        Rule=i["rule"],
        Targets=[
            given(
                Id=r.physical_name,
                Arn=i["arn"],
                RoleArn=i.get("roleArn"),
                Input=i.get("input"),
                DeadLetterConfig=pascal(i["deadLetterConfig"]) if "deadLetterConfig" in i else None,
                RetryPolicy=given(
                    MaximumRetryAttempts=whole(retry.get("maximumRetryAttempts")),
                    MaximumEventAgeInSeconds=whole(retry.get("maximumEventAgeInSeconds")),
                )
                or None,
            )
        ],
    )
    return f"{i['rule']}-{r.physical_name}", {}
