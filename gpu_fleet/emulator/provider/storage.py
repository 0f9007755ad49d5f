"""Tables, queues, parameters, buckets, secrets."""

from __future__ import annotations

from typing import Any

from gpu_fleet.emulator.provider.archive import read_asset
from gpu_fleet.emulator.provider.registry import (
    MadeResource,
    MotoAccount,
    Resource,
    json_text,
    makes,
    pascal_case,
    tag_list,
    tag_map,
    tags_argument,
    to_int,
    without_none,
)


@makes("aws:dynamodb/table:Table", longest_name=255)
def table(aws: MotoAccount, r: Resource) -> MadeResource:
    """A table."""
    client, i = aws.client("dynamodb"), r.inputs
    keys = [{"AttributeName": i["hashKey"], "KeyType": "HASH"}]
    if "rangeKey" in i:
        keys.append({"AttributeName": i["rangeKey"], "KeyType": "RANGE"})
    encryption = i.get("serverSideEncryption")
    billing = i.get("billingMode") or "PROVISIONED"
    made = client.create_table(
        TableName=r.physical_name,
        KeySchema=keys,
        AttributeDefinitions=[{"AttributeName": a["name"], "AttributeType": a["type"]} for a in i["attributes"]],
        BillingMode=billing,
        **tags_argument(i),
        **without_none(
            ProvisionedThroughput=(
                {
                    "ReadCapacityUnits": to_int(i.get("readCapacity")) or 1,
                    "WriteCapacityUnits": to_int(i.get("writeCapacity")) or 1,
                }
                if billing == "PROVISIONED"
                else None
            ),
            SSESpecification=(
                without_none(Enabled=encryption.get("enabled"), KMSMasterKeyId=encryption.get("kmsKeyArn"))
                if encryption
                else None
            ),
            DeletionProtectionEnabled=i.get("deletionProtectionEnabled"),
            TableClass=i.get("tableClass"),
            StreamSpecification=(
                {"StreamEnabled": True, "StreamViewType": i["streamViewType"]} if i.get("streamEnabled") else None
            ),
        ),
    )["TableDescription"]
    recovery = i.get("pointInTimeRecovery")
    if recovery and recovery.get("enabled"):
        client.update_continuous_backups(
            TableName=r.physical_name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
        )
    lifetime = i.get("ttl")
    if lifetime and lifetime.get("enabled", True):
        client.update_time_to_live(
            TableName=r.physical_name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": lifetime["attributeName"]},
        )
    return r.physical_name, {"arn": made["TableArn"], "streamArn": made.get("LatestStreamArn")}


_QUEUE_ATTRIBUTES = {
    "visibilityTimeoutSeconds": "VisibilityTimeout",
    "messageRetentionSeconds": "MessageRetentionPeriod",
    "maxMessageSize": "MaximumMessageSize",
    "delaySeconds": "DelaySeconds",
    "receiveWaitTimeSeconds": "ReceiveMessageWaitTimeSeconds",
    "kmsMasterKeyId": "KmsMasterKeyId",
    "kmsDataKeyReusePeriodSeconds": "KmsDataKeyReusePeriodSeconds",
    "sqsManagedSseEnabled": "SqsManagedSseEnabled",
    "fifoQueue": "FifoQueue",
    "contentBasedDeduplication": "ContentBasedDeduplication",
    "redrivePolicy": "RedrivePolicy",
    "redriveAllowPolicy": "RedriveAllowPolicy",
    "policy": "Policy",
}


@makes("aws:sqs/queue:Queue", longest_name=80)
def queue(aws: MotoAccount, r: Resource) -> MadeResource:
    """A queue."""
    client, i = aws.client("sqs"), r.inputs
    attributes = {}
    for key, name in _QUEUE_ATTRIBUTES.items():
        value = i.get(key)
        if value is None or (name == "FifoQueue" and not value):
            continue
        if isinstance(value, bool):
            attributes[name] = str(value).lower()
        else:
            attributes[name] = str(to_int(value)) if isinstance(value, float) else json_text(value)
    made = client.create_queue(QueueName=r.physical_name, Attributes=attributes, tags=tag_map(i))
    return made["QueueUrl"], {"url": made["QueueUrl"], "arn": aws.arn("sqs", r.physical_name)}


@makes("aws:sqs/queuePolicy:QueuePolicy")
def queue_policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """A queue's policy."""
    aws.client("sqs").set_queue_attributes(
        QueueUrl=r.inputs["queueUrl"], Attributes={"Policy": json_text(r.inputs["policy"])}
    )
    return r.inputs["queueUrl"], {}


@makes("aws:sqs/redrivePolicy:RedrivePolicy")
def redrive_policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """A queue's redrive policy."""
    aws.client("sqs").set_queue_attributes(
        QueueUrl=r.inputs["queueUrl"], Attributes={"RedrivePolicy": json_text(r.inputs["redrivePolicy"])}
    )
    return r.inputs["queueUrl"], {}


@makes("aws:ssm/parameter:Parameter", longest_name=1011)
def parameter(aws: MotoAccount, r: Resource) -> MadeResource:
    """A parameter."""
    i = r.inputs
    value = i.get("value") or i.get("insecureValue")
    aws.client("ssm").put_parameter(
        Name=r.physical_name,
        Value=value,
        Type=i["type"] if isinstance(i["type"], str) else str(i["type"]),
        Overwrite=bool(i.get("overwrite")),
        **without_none(
            Description=i.get("description"),
            Tier=i.get("tier"),
            DataType=i.get("dataType"),
            AllowedPattern=i.get("allowedPattern"),
            KeyId=i.get("keyId"),
        ),
    )
    if tag_list(i):
        aws.client("ssm").add_tags_to_resource(ResourceType="Parameter", ResourceId=r.physical_name, Tags=tag_list(i))
    return r.physical_name, {"arn": aws.arn("ssm", f"parameter/{r.physical_name.lstrip('/')}"), "version": 1}


@makes("aws:secretsmanager/secret:Secret", no_effect=("recoveryWindowInDays", "forceOverwriteReplicaSecret"))
def secret(aws: MotoAccount, r: Resource) -> MadeResource:
    """A secret without a value."""
    i = r.inputs
    made = aws.client("secretsmanager").create_secret(
        Name=r.physical_name,
        **tags_argument(i),
        **without_none(Description=i.get("description"), KmsKeyId=i.get("kmsKeyId")),
    )
    return made["ARN"], {"arn": made["ARN"]}


@makes("aws:s3/bucket:Bucket", "aws:s3/bucketV2:BucketV2", named="bucket", longest_name=63, no_effect=("forceDestroy",))
def bucket(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket."""
    s3 = aws.client("s3")
    where = {} if aws.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": aws.region}}
    s3.create_bucket(
        Bucket=r.physical_name, **where, **without_none(ObjectLockEnabledForBucket=r.inputs.get("objectLockEnabled"))
    )
    if tag_list(r.inputs):
        s3.put_bucket_tagging(Bucket=r.physical_name, Tagging={"TagSet": tag_list(r.inputs)})
    domain = f"{r.physical_name}.s3.amazonaws.com"
    return r.physical_name, {
        "arn": f"arn:{aws.partition}:s3:::{r.physical_name}",
        "bucketDomainName": domain,
        "bucketRegionalDomainName": f"{r.physical_name}.s3.{aws.region}.amazonaws.com",
    }


@makes("aws:s3/bucketPolicy:BucketPolicy", named="bucket")
def bucket_policy(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket's policy."""
    aws.client("s3").put_bucket_policy(Bucket=r.inputs["bucket"], Policy=json_text(r.inputs["policy"]))
    return r.inputs["bucket"], {}


@makes("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", named="bucket", no_effect=("skipDestroy",))
def public_access_block(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket's block of public access."""
    i = r.inputs
    aws.client("s3").put_public_access_block(
        Bucket=i["bucket"],
        PublicAccessBlockConfiguration=without_none(
            BlockPublicAcls=i.get("blockPublicAcls"),
            BlockPublicPolicy=i.get("blockPublicPolicy"),
            IgnorePublicAcls=i.get("ignorePublicAcls"),
            RestrictPublicBuckets=i.get("restrictPublicBuckets"),
        ),
    )
    return i["bucket"], {}


@makes(
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration",
    "aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
    named="bucket",
)
def bucket_encryption(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket's encryption."""
    rules = []
    for rule in r.inputs["rules"]:
        default = rule.get("applyServerSideEncryptionByDefault") or {}
        rules.append(
            without_none(
                ApplyServerSideEncryptionByDefault=without_none(
                    SSEAlgorithm=default.get("sseAlgorithm"), KMSMasterKeyID=default.get("kmsMasterKeyId")
                ),
                BucketKeyEnabled=rule.get("bucketKeyEnabled"),
            )
        )
    aws.client("s3").put_bucket_encryption(
        Bucket=r.inputs["bucket"], ServerSideEncryptionConfiguration={"Rules": rules}
    )
    return r.inputs["bucket"], {}


@makes(
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration",
    "aws:s3/bucketLifecycleConfigurationV2:BucketLifecycleConfigurationV2",
    named="bucket",
)
def bucket_lifecycle(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket's lifecycle rules."""
    aws.client("s3").put_bucket_lifecycle_configuration(
        Bucket=r.inputs["bucket"], LifecycleConfiguration={"Rules": [_lifecycle_rule(x) for x in r.inputs["rules"]]}
    )
    return r.inputs["bucket"], {}


def _lifecycle_rule(rule: dict[str, Any]) -> dict[str, Any]:
    abort, expiration = rule.get("abortIncompleteMultipartUpload"), rule.get("expiration")
    old = rule.get("noncurrentVersionExpiration")
    return without_none(
        ID=rule["id"],
        Status=rule["status"],
        Filter=pascal_case(rule.get("filter") or {"prefix": ""}),
        Expiration={k: int(v) if k == "Days" else v for k, v in pascal_case(expiration).items()}
        if expiration
        else None,
        NoncurrentVersionExpiration={k: int(v) for k, v in pascal_case(old).items()} if old else None,
        AbortIncompleteMultipartUpload={k: int(v) for k, v in pascal_case(abort).items()} if abort else None,
    )


@makes("aws:s3/bucketVersioning:BucketVersioning", "aws:s3/bucketVersioningV2:BucketVersioningV2", named="bucket")
def bucket_versioning(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket's versioning."""
    aws.client("s3").put_bucket_versioning(
        Bucket=r.inputs["bucket"],
        VersioningConfiguration={"Status": r.inputs["versioningConfiguration"]["status"]},
    )
    return r.inputs["bucket"], {}


@makes("aws:s3/bucketOwnershipControls:BucketOwnershipControls", named="bucket")
def bucket_ownership(aws: MotoAccount, r: Resource) -> MadeResource:
    """A bucket's ownership controls."""
    aws.client("s3").put_bucket_ownership_controls(
        Bucket=r.inputs["bucket"],
        OwnershipControls={"Rules": [{"ObjectOwnership": r.inputs["rule"]["objectOwnership"]}]},
    )
    return r.inputs["bucket"], {}


@makes(
    "aws:s3/bucketObject:BucketObject", "aws:s3/bucketObjectv2:BucketObjectv2", named="key",
    no_effect=("sourceHash", "etag", "forceDestroy"),
)  # fmt: skip
def bucket_object(aws: MotoAccount, r: Resource) -> MadeResource:
    """An object in a bucket."""
    i = r.inputs
    body = read_asset(i["source"]) if "source" in i else str(i.get("content") or "").encode()
    made = aws.client("s3").put_object(
        Bucket=i["bucket"], Key=r.physical_name, Body=body, **without_none(ContentType=i.get("contentType"))
    )
    return r.physical_name, {
        "etag": made["ETag"].strip('"'),
        "arn": f"arn:{aws.partition}:s3:::{i['bucket']}/{r.physical_name}",
    }
