"""The AWS clients, made once for each execution environment of the function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from types_boto3_autoscaling import AutoScalingClient
    from types_boto3_cloudwatch import CloudWatchClient
    from types_boto3_dynamodb import DynamoDBClient
    from types_boto3_ec2 import EC2Client
    from types_boto3_elbv2 import ElasticLoadBalancingv2Client
    from types_boto3_sqs import SQSClient
    from types_boto3_ssm import SSMClient

CONFIG = Config(
    # `standard` backs off with jitter and stops when its budget of retries is spent:
    # https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    retries={"mode": "standard", "total_max_attempts": 3},
    # These APIs answer in well under a second. A run has a minute for all services: 3 attempts of 2 + 5 s leave time
    # for the others.
    connect_timeout=2,
    read_timeout=5,
)


@dataclass(frozen=True, slots=True)
class Clients:
    """One client for each service that the scaler calls."""

    autoscaling: AutoScalingClient
    cloudwatch: CloudWatchClient
    dynamodb: DynamoDBClient
    ec2: EC2Client
    elbv2: ElasticLoadBalancingv2Client
    sqs: SQSClient
    ssm: SSMClient

    @classmethod
    def connect(cls) -> Clients:
        """Make clients with the region and credentials of the environment."""
        session = boto3.Session()
        return cls(
            autoscaling=session.client("autoscaling", config=CONFIG),
            cloudwatch=session.client("cloudwatch", config=CONFIG),
            dynamodb=session.client("dynamodb", config=CONFIG),
            ec2=session.client("ec2", config=CONFIG),
            elbv2=session.client("elbv2", config=CONFIG),
            sqs=session.client("sqs", config=CONFIG),
            ssm=session.client("ssm", config=CONFIG),
        )
