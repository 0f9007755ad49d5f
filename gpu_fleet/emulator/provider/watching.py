"""Alarms, dashboards, logs and topics."""

from __future__ import annotations

from typing import Any

from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    UnknownResourceError,
    json_text,
    makes,
    tag_map,
    tags_argument,
    to_int,
    without_none,
)


def _dimensions(dimensions: dict[str, Any] | None) -> list[dict[str, str]] | None:
    return [{"Name": k, "Value": str(v)} for k, v in sorted(dimensions.items())] if dimensions else None


def _query(query: dict[str, Any]) -> dict[str, Any]:
    metric = query.get("metric")
    statistic = None
    if metric:
        statistic = without_none(
            Metric=without_none(
                MetricName=metric["metricName"],
                Namespace=metric.get("namespace"),
                Dimensions=_dimensions(metric.get("dimensions")),
            ),
            Period=to_int(metric["period"]),
            Stat=metric["stat"],
            Unit=metric.get("unit"),
        )
    return without_none(
        Id=query["id"],
        Expression=query.get("expression"),
        Label=query.get("label"),
        ReturnData=query.get("returnData", False),
        Period=to_int(query.get("period")),
        AccountId=query.get("accountId"),
        MetricStat=statistic,
    )


@makes("aws:cloudwatch/metricAlarm:MetricAlarm", longest_name=255)
def metric_alarm(aws: MotoAccount, r: Resource) -> MadeResource:
    """An alarm, which moto stores and never evaluates."""
    i = r.inputs
    client = aws.client("cloudwatch")
    client.put_metric_alarm(
        AlarmName=r.physical_name,
        ComparisonOperator=i["comparisonOperator"],
        EvaluationPeriods=to_int(i["evaluationPeriods"]),
        **tags_argument(i),
        **without_none(
            AlarmDescription=i.get("alarmDescription"),
            ActionsEnabled=i.get("actionsEnabled"),
            AlarmActions=i.get("alarmActions"),
            OKActions=i.get("okActions"),
            InsufficientDataActions=i.get("insufficientDataActions"),
            MetricName=i.get("metricName"),
            Namespace=i.get("namespace"),
            Statistic=i.get("statistic"),
            ExtendedStatistic=i.get("extendedStatistic"),
            Dimensions=_dimensions(i.get("dimensions")),
            Period=to_int(i.get("period")),
            Unit=i.get("unit"),
            Threshold=i.get("threshold"),
            ThresholdMetricId=i.get("thresholdMetricId"),
            DatapointsToAlarm=to_int(i.get("datapointsToAlarm")),
            TreatMissingData=i.get("treatMissingData"),
            EvaluateLowSampleCountPercentile=i.get("evaluateLowSampleCountPercentiles"),
            Metrics=[_query(q) for q in i.get("metricQueries") or []] or None,
        ),
    )
    return r.physical_name, {"arn": aws.arn("cloudwatch", f"alarm:{r.physical_name}")}


@makes("aws:cloudwatch/compositeAlarm:CompositeAlarm", named="alarmName")
def composite_alarm(_: MotoAccount, r: Resource) -> MadeResource:
    """A composite alarm, which moto lacks. Raises UnknownResourceError."""
    raise UnknownResourceError(f"{r.name} ({r.type}): moto has no composite alarms; use a metric alarm")


@makes("aws:cloudwatch/dashboard:Dashboard", named="dashboardName")
def dashboard(aws: MotoAccount, r: Resource) -> MadeResource:
    """A dashboard."""
    name = r.inputs["dashboardName"]
    aws.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=json_text(r.inputs["dashboardBody"]))
    return name, {"dashboardArn": aws.arn("cloudwatch", f"dashboard/{name}", region=False)}


@makes("aws:cloudwatch/logGroup:LogGroup", longest_name=512, no_effect=("skipDestroy", "deletionProtectionEnabled"))
def log_group(aws: MotoAccount, r: Resource) -> MadeResource:
    """A log group."""
    logs, i = aws.client("logs"), r.inputs
    logs.create_log_group(
        logGroupName=r.physical_name,
        **without_none(
            kmsKeyId=i.get("kmsKeyId"),
            logGroupClass=i.get("logGroupClass"),
            tags=tag_map(i) or None,
        ),
    )
    if i.get("retentionInDays"):
        logs.put_retention_policy(logGroupName=r.physical_name, retentionInDays=to_int(i["retentionInDays"]))
    return r.physical_name, {"arn": aws.arn("logs", f"log-group:{r.physical_name}")}


@makes("aws:cloudwatch/logMetricFilter:LogMetricFilter")
def log_metric_filter(aws: MotoAccount, r: Resource) -> MadeResource:
    """A metric filter."""
    i = r.inputs
    change = i["metricTransformation"]
    aws.client("logs").put_metric_filter(
        filterName=r.physical_name,
        logGroupName=i["logGroupName"],
        filterPattern=i["pattern"],
        metricTransformations=[
            without_none(
                metricName=change["name"],
                metricNamespace=change["namespace"],
                metricValue=str(change["value"]),
                defaultValue=None if change.get("defaultValue") is None else float(change["defaultValue"]),
                unit=change.get("unit"),
            )
        ],
    )
    return r.physical_name, {}


@makes("aws:cloudwatch/queryDefinition:QueryDefinition")
def query_definition(aws: MotoAccount, r: Resource) -> MadeResource:
    """A saved query of CloudWatch Logs Insights, which moto lacks and nothing reads."""
    identity = f"{r.physical_name}-query"
    return identity, {
        "queryDefinitionId": identity,
        "logGroupNames": r.inputs.get("logGroupNames") or [],
        "queryString": r.inputs["queryString"],
        "arn": aws.arn("logs", f"query-definition:{identity}"),
    }


@makes("aws:sns/topic:Topic", longest_name=256)
def topic(aws: MotoAccount, r: Resource) -> MadeResource:
    """A topic."""
    i = r.inputs
    attributes = without_none(
        KmsMasterKeyId=i.get("kmsMasterKeyId"),
        Policy=json_text(i["policy"]) if "policy" in i else None,
        DisplayName=i.get("displayName"),
    )
    made = aws.client("sns").create_topic(Name=r.physical_name, Attributes=attributes, **tags_argument(i))
    return made["TopicArn"], {"arn": made["TopicArn"], "owner": aws.account}


@makes("aws:sns/topicPolicy:TopicPolicy")
def topic_policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """A topic's policy."""
    aws.client("sns").set_topic_attributes(
        TopicArn=r.inputs["arn"], AttributeName="Policy", AttributeValue=json_text(r.inputs["policy"])
    )
    return r.inputs["arn"], {}


@makes(
    "aws:sns/topicSubscription:TopicSubscription", no_effect=("endpointAutoConfirms", "confirmationTimeoutInMinutes")
)
def topic_subscription(aws: MotoAccount, r: Resource) -> MadeResource:
    """A subscription."""
    i = r.inputs
    made = aws.client("sns").subscribe(
        TopicArn=i["topic"], Protocol=i["protocol"], Endpoint=i["endpoint"], ReturnSubscriptionArn=True
    )
    return made["SubscriptionArn"], {"arn": made["SubscriptionArn"], "ownerId": aws.account}
