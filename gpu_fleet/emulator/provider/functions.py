"""Lambda functions and their triggers."""

from __future__ import annotations

from typing import Any

from gpu_fleet.emulator.provider.archive import zip_archive
from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    json_text,
    makes,
    pascal_case,
    tag_map,
    tags_argument,
    to_int,
    without_none,
)


@makes(
    "aws:lambda/function:Function",
    longest_name=64,
    no_effect=("sourceCodeHash", "skipDestroy", "snapStart", "codeSha256", "replaceSecurityGroupsOnDestroy"),
)
def function(aws: MotoAccount, r: Resource) -> MadeResource:
    """A Lambda function with its package. Nothing runs it: tests and the replay call the handler themselves."""
    client, i = aws.client("lambda"), r.inputs
    code: dict[str, Any] = (
        {"ZipFile": zip_archive(i["code"])}
        if "code" in i
        else without_none(S3Bucket=i.get("s3Bucket"), S3Key=i.get("s3Key"), ImageUri=i.get("imageUri"))
    )
    made = client.create_function(
        FunctionName=r.physical_name,
        Role=i["role"],
        Code=code,
        Tags=tag_map(i),
        **without_none(
            Runtime=i.get("runtime"),
            Handler=i.get("handler"),
            Description=i.get("description"),
            Architectures=i.get("architectures"),
            PackageType=i.get("packageType"),
            MemorySize=to_int(i.get("memorySize")),
            Timeout=to_int(i.get("timeout")),
            Publish=i.get("publish"),
            Layers=i.get("layers"),
            KMSKeyArn=i.get("kmsKeyArn"),
            Environment=_environment(i.get("environment")),
            DeadLetterConfig=pascal_case(i.get("deadLetterConfig")),
            TracingConfig=pascal_case(i.get("tracingConfig")),
            LoggingConfig=pascal_case(i.get("loggingConfig")),
            EphemeralStorage={"Size": to_int(i["ephemeralStorage"]["size"])} if "ephemeralStorage" in i else None,
            VpcConfig=pascal_case(i.get("vpcConfig")),
        ),
    )
    reserved = to_int(i.get("reservedConcurrentExecutions"))
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


def _environment(environment: dict[str, Any] | None) -> dict[str, Any] | None:
    if not environment:
        return None
    return {"Variables": {k: str(v) for k, v in (environment.get("variables") or {}).items()}}


@makes("aws:lambda/permission:Permission", named="statementId")
def permission(aws: MotoAccount, r: Resource) -> MadeResource:
    """A permission to invoke a function."""
    i = r.inputs
    aws.client("lambda").add_permission(
        FunctionName=i["function"],
        StatementId=r.physical_name,
        Action=i["action"],
        Principal=i["principal"],
        **without_none(
            SourceArn=i.get("sourceArn"), SourceAccount=i.get("sourceAccount"), Qualifier=i.get("qualifier")
        ),
    )
    return r.physical_name, {}


@makes("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig")
def event_invoke_config(aws: MotoAccount, r: Resource) -> MadeResource:
    """A function's retries and destinations of asynchronous calls."""
    i = r.inputs
    destinations = i.get("destinationConfig") or {}
    config = {
        key: {"Destination": destinations[name]["destination"]}
        for key, name in (("OnFailure", "onFailure"), ("OnSuccess", "onSuccess"))
        if destinations.get(name)
    }
    aws.client("lambda").put_function_event_invoke_config(
        FunctionName=i["functionName"],
        **without_none(
            MaximumRetryAttempts=to_int(i.get("maximumRetryAttempts")),
            MaximumEventAgeInSeconds=to_int(i.get("maximumEventAgeInSeconds")),
            DestinationConfig=config or None,
            Qualifier=i.get("qualifier"),
        ),
    )
    return i["functionName"], {}


@makes("aws:lambda/alias:Alias")
def function_alias(aws: MotoAccount, r: Resource) -> MadeResource:
    """An alias of a function."""
    i = r.inputs
    made = aws.client("lambda").create_alias(
        FunctionName=i["functionName"], Name=r.physical_name, FunctionVersion=i["functionVersion"]
    )
    return made["AliasArn"], {"arn": made["AliasArn"], "invokeArn": made["AliasArn"]}


@makes("aws:scheduler/scheduleGroup:ScheduleGroup")
def schedule_group(aws: MotoAccount, r: Resource) -> MadeResource:
    """A group of schedules."""
    made = aws.client("scheduler").create_schedule_group(Name=r.physical_name, **tags_argument(r.inputs))
    return r.physical_name, {"arn": made["ScheduleGroupArn"], "state": "ACTIVE"}


@makes("aws:scheduler/schedule:Schedule", longest_name=64)
def schedule(aws: MotoAccount, r: Resource) -> MadeResource:
    """A schedule."""
    i = r.inputs
    target = i["target"]
    window = i["flexibleTimeWindow"]
    made = aws.client("scheduler").create_schedule(
        Name=r.physical_name,
        ScheduleExpression=i["scheduleExpression"],
        FlexibleTimeWindow=without_none(
            Mode=window["mode"], MaximumWindowInMinutes=to_int(window.get("maximumWindowInMinutes"))
        ),
        Target=without_none(
            Arn=target["arn"],
            RoleArn=target["roleArn"],
            Input=target.get("input"),
            DeadLetterConfig=pascal_case(target.get("deadLetterConfig")) or None,
            RetryPolicy=_retry_policy(target.get("retryPolicy")),
        ),
        **without_none(
            GroupName=i.get("groupName"),
            Description=i.get("description"),
            State=i.get("state"),
            ScheduleExpressionTimezone=i.get("scheduleExpressionTimezone"),
            KmsKeyArn=i.get("kmsKeyArn"),
        ),
    )
    return f"{i.get('groupName') or 'default'}/{r.physical_name}", {"arn": made["ScheduleArn"], "state": "ENABLED"}


def _retry_policy(policy: dict[str, Any] | None) -> dict[str, Any] | None:
    policy = policy or {}
    settings = without_none(
        MaximumRetryAttempts=to_int(policy.get("maximumRetryAttempts")),
        MaximumEventAgeInSeconds=to_int(policy.get("maximumEventAgeInSeconds")),
    )
    return settings or None


@makes("aws:cloudwatch/eventRule:EventRule", longest_name=64, no_effect=("forceDestroy", "isEnabled"))
def event_rule(aws: MotoAccount, r: Resource) -> MadeResource:
    """An EventBridge rule."""
    i = r.inputs
    made = aws.client("events").put_rule(
        Name=r.physical_name,
        **without_none(
            ScheduleExpression=i.get("scheduleExpression"),
            EventPattern=json_text(i["eventPattern"]) if "eventPattern" in i else None,
            Description=i.get("description"),
            State=i.get("state"),
            EventBusName=i.get("eventBusName"),
        ),
    )
    return r.physical_name, {"arn": made["RuleArn"]}


@makes("aws:cloudwatch/eventTarget:EventTarget", named="targetId")
def event_target(aws: MotoAccount, r: Resource) -> MadeResource:
    """A target of an EventBridge rule."""
    i = r.inputs
    aws.client("events").put_targets(
        Rule=i["rule"],
        Targets=[
            without_none(
                Id=r.physical_name,
                Arn=i["arn"],
                RoleArn=i.get("roleArn"),
                Input=i.get("input"),
                DeadLetterConfig=pascal_case(i.get("deadLetterConfig")),
                RetryPolicy=_retry_policy(i.get("retryPolicy")),
            )
        ],
    )
    return f"{i['rule']}-{r.physical_name}", {}
