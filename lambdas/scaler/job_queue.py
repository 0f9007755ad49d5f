"""The job queue of a training service."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient


def waiting_jobs(sqs: SQSClient, queue_url: str) -> int:
    """Number of messages that wait, approximately. Raises botocore's errors."""
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])
