"""IAM policies as plain data, so that tests can check them without a cloud.

`infra.scaler_rights` and `infra.instance_rights` list the rights of the two roles that run code. Actions, their access
levels and resources are from the Service Authorization Reference:
https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
An action that writes names its resources. The resource `*` appears only with actions that AWS scopes no further, and
with `cloudwatch:PutMetricData`, which a condition bounds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

METRICS_NAMESPACE = "GpuFleet"
"""Where instances publish; the scaler's own metrics are in `GpuFleet/Scaler`, written through its log (EMF)."""

MAX_MANAGED_CHARACTERS, MAX_INLINE_CHARACTERS = 6144, 10240
"""Of one managed policy, and of all inline policies of a role together, white space not counted."""

MAX_MANAGED_POLICIES = 10
"""Per role, unless the account has a higher quota. All three:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One Allow statement."""

    sid: str
    actions: Sequence[str]
    resources: Sequence[str]
    conditions: Mapping[str, Mapping[str, str | Sequence[str]]] = field(default_factory=dict)

    def render(self) -> dict[str, Any]:
        """Return the statement in IAM's grammar."""
        rendered: dict[str, Any] = {
            "Sid": self.sid,
            "Effect": "Allow",
            "Action": sorted(self.actions),
            "Resource": sorted(self.resources),
        }
        if self.conditions:
            rendered["Condition"] = {operator: dict(keys) for operator, keys in self.conditions.items()}
        return rendered


@dataclass(frozen=True, slots=True)
class Place:
    """The partition, region and account of a stack."""

    partition: str
    region: str
    account: str

    def arn(self, service: str, resource: str, *, account: bool = True) -> str:
        """Return `arn:partition:service:region:account:resource`; without the account for a resource that AWS owns."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account if account else ''}:{resource}"

    def group_arn(self, name: str) -> str:
        """Return an Auto Scaling group's ARN by its name, which is unique in account and region.

        Without the group's UUID, twice as many ARNs fit into a policy.
        """
        return self.arn("autoscaling", f"autoScalingGroup:*:autoScalingGroupName/{name}")


def document(statements: Sequence[Statement]) -> dict[str, Any]:
    """Return a policy document."""
    return {"Version": "2012-10-17", "Statement": [s.render() for s in statements]}


def characters(statements: Sequence[Statement]) -> int:
    """Return the size of a policy document as IAM counts it."""
    return len(json.dumps(document(statements), separators=(",", ":")))


def trust(service: str, conditions: Mapping[str, Mapping[str, str]] | None = None) -> dict[str, Any]:
    """Return a trust policy that lets an AWS service assume a role."""
    statement: dict[str, Any] = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if conditions:
        statement["Condition"] = conditions
    return {"Version": "2012-10-17", "Statement": [statement]}


def schedule_statements(function_arn: str, dead_letters_arn: str) -> list[Statement]:
    """Return the schedule's rights: invoke the scaler, and send an event that failed to the dead-letter queue."""
    return [
        Statement("CallTheScaler", ["lambda:InvokeFunction"], [function_arn]),
        Statement("DeadLetters", ["sqs:SendMessage"], [dead_letters_arn]),
    ]


def dead_letters_policy(queue_arn: str, rule_arn: str) -> dict[str, Any]:
    """Return a queue policy that lets an EventBridge rule store the events that it could not deliver.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rule-dlq.html
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "NoticesNotDelivered",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue_arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
            }
        ],
    }


def tls_only_bucket_policy(bucket_arn: str) -> dict[str, Any]:
    """Return a bucket policy that denies every request without TLS."""
    return {"Version": "2012-10-17", "Statement": [_tls_only(bucket_arn)]}


def _tls_only(bucket_arn: str) -> dict[str, Any]:
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [bucket_arn, f"{bucket_arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


def access_log_bucket_policy(place: Place, bucket_arn: str) -> dict[str, Any]:
    """Return a bucket policy that lets the load balancer write its logs and denies every request without TLS.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "LoadBalancerWrites",
                "Effect": "Allow",
                "Principal": {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"},
                "Action": "s3:PutObject",
                "Resource": f"{bucket_arn}/AWSLogs/{place.account}/*",
                "Condition": {"ArnLike": {"aws:SourceArn": place.arn("elasticloadbalancing", "loadbalancer/*")}},
            },
            _tls_only(bucket_arn),
        ],
    }
