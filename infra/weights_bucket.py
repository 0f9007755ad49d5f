"""The stack's bucket of model weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from infra import iam


@dataclass(frozen=True, slots=True)
class WeightsBucketArgs:
    """What the bucket needs from its stack."""

    bucket_name: pulumi.Input[str]
    """Fixed, so that `gpu-fleet weights` finds it."""
    tags: Mapping[str, str]


class WeightsBucket(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:WeightsBucket`. A private, encrypted bucket that takes requests by TLS only.

    A stack that is destroyed deletes its weights: they came from a folder or a hub, which still has them.
    """

    bucket_name: pulumi.Output[str]

    def __init__(self, name: str, args: WeightsBucketArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:WeightsBucket", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        part = f"{name}-weights"
        bucket = aws.s3.Bucket(part, bucket=args.bucket_name, force_destroy=True, tags=args.tags, opts=child)
        aws.s3.BucketPublicAccessBlock(
            part,
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        aws.s3.BucketLifecycleConfiguration(
            part,
            bucket=bucket.id,
            rules=[
                aws.s3.BucketLifecycleConfigurationRuleArgs(
                    id="uploads-that-broke-off",
                    status="Enabled",
                    filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
                    abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                        days_after_initiation=1
                    ),
                )
            ],
            opts=child,
        )
        aws.s3.BucketPolicy(
            part,
            bucket=bucket.id,
            policy=bucket.arn.apply(lambda arn: json.dumps(iam.tls_only_bucket_policy(arn))),
            opts=child,
        )
        self.bucket_name = bucket.bucket
        self.register_outputs({"bucket_name": self.bucket_name})
