"""The way in: one Application Load Balancer for all services of the stack."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import LoadBalancerSettings
from infra import iam

TLS_POLICY = "ELBSecurityPolicy-TLS13-1-2-2021-06"
"""TLS 1.3 and 1.2, AWS's recommendation:
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html"""


@dataclass(frozen=True, slots=True)
class LoadBalancerArgs:
    """Where it stands and what the stack's YAML says of it."""

    settings: LoadBalancerSettings
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    ways_in: Sequence[pulumi.Resource]
    place: pulumi.Output[iam.Place]
    tags: Mapping[str, str]


class LoadBalancer(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:LoadBalancer`. Load balancer, its security group, the listener that serves
    (HTTPS with a certificate, and then a redirect from HTTP; HTTP without), access logs and WAF by setting.
    """

    arn_suffix: pulumi.Output[str]
    dns_name: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    listener: aws.lb.Listener
    """The one that serves: rules hang on it."""
    security_group_id: pulumi.Output[str]
    url: pulumi.Output[str]

    def __init__(self, name: str, args: LoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:LoadBalancer", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        settings = args.settings
        secure = settings.certificate_arn is not None

        group = aws.ec2.SecurityGroup(
            f"{name}-load-balancer",
            vpc_id=args.vpc_id,
            description="Clients of the load balancer",
            tags={**args.tags, "Name": f"{name}-load-balancer"},
            opts=child,
        )
        for port in (80, 443) if secure else (80,):
            for cidr in settings.clients:
                aws.vpc.SecurityGroupIngressRule(
                    f"{name}-load-balancer-{port}-{cidr}",
                    security_group_id=group.id,
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    cidr_ipv4=cidr,
                    tags=args.tags,
                    opts=child,
                )
        aws.vpc.SecurityGroupEgressRule(
            f"{name}-load-balancer-out",
            security_group_id=group.id,
            ip_protocol="-1",
            cidr_ipv4="0.0.0.0/0",
            tags=args.tags,
            opts=child,
        )
        logs, writable = self._make_log_bucket(name, args) if settings.access_logs else (None, [])
        balancer = aws.lb.LoadBalancer(
            naming.fitting(name, naming.MAX_LOAD_BALANCER_NAME),
            load_balancer_type="application",
            internal=settings.internal,
            security_groups=[group.id],
            subnets=args.subnet_ids,
            idle_timeout=settings.idle_timeout_seconds,
            drop_invalid_header_fields=True,
            enable_deletion_protection=settings.deletion_protection,
            access_logs=aws.lb.LoadBalancerAccessLogsArgs(bucket=logs, enabled=True) if logs is not None else None,
            tags=args.tags,
            # AWS takes subnets of another VPC for no load balancer that stands.
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[*args.ways_in, *writable], replacement_trigger=args.vpc_id
            ),
        )
        self.listener = self._make_listeners(name, balancer.arn, args)
        if settings.waf_acl_arn:
            aws.wafv2.WebAclAssociation(
                f"{name}-waf", resource_arn=balancer.arn, web_acl_arn=settings.waf_acl_arn, opts=child
            )
        self.arn_suffix = balancer.arn_suffix
        self.dns_name = balancer.dns_name
        self.zone_id = balancer.zone_id
        self.security_group_id = group.id
        self.url = pulumi.Output.concat("https://" if secure else "http://", balancer.dns_name)
        self.register_outputs({"dns_name": self.dns_name, "listener_arn": self.listener.arn, "url": self.url})

    def _make_listeners(self, name: str, arn: pulumi.Output[str], args: LoadBalancerArgs) -> aws.lb.Listener:
        """The listener that serves. What no service's rule asks for is 404."""
        child = pulumi.ResourceOptions(parent=self)
        unknown = aws.lb.ListenerDefaultActionArgs(
            type="fixed-response",
            fixed_response=aws.lb.ListenerDefaultActionFixedResponseArgs(
                content_type="text/plain", message_body="no such service", status_code="404"
            ),
        )
        if args.settings.certificate_arn is None:
            return aws.lb.Listener(
                f"{name}-http",
                load_balancer_arn=arn,
                port=80,
                protocol="HTTP",
                default_actions=[unknown],
                tags=args.tags,
                opts=child,
            )
        aws.lb.Listener(
            f"{name}-http",
            load_balancer_arn=arn,
            port=80,
            protocol="HTTP",
            default_actions=[
                aws.lb.ListenerDefaultActionArgs(
                    type="redirect",
                    redirect=aws.lb.ListenerDefaultActionRedirectArgs(
                        port="443", protocol="HTTPS", status_code="HTTP_301"
                    ),
                )
            ],
            tags=args.tags,
            opts=child,
        )
        return aws.lb.Listener(
            f"{name}-https",
            load_balancer_arn=arn,
            port=443,
            protocol="HTTPS",
            ssl_policy=TLS_POLICY,
            certificate_arn=args.settings.certificate_arn,
            default_actions=[unknown],
            tags=args.tags,
            opts=child,
        )

    def _make_log_bucket(
        self, name: str, args: LoadBalancerArgs
    ) -> tuple[pulumi.Output[str], Sequence[pulumi.Resource]]:
        """Name of the bucket, and what must stand before the load balancer may write into it.

        SSE-S3 is the only encryption that access logs allow:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
        """
        child = pulumi.ResourceOptions(parent=self)
        bucket = aws.s3.Bucket(
            f"{name}-access-logs", force_destroy=not args.settings.deletion_protection, tags=args.tags, opts=child
        )
        aws.s3.BucketPublicAccessBlock(
            f"{name}-access-logs",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=child,
        )
        aws.s3.BucketServerSideEncryptionConfiguration(
            f"{name}-access-logs",
            bucket=bucket.id,
            rules=[
                aws.s3.BucketServerSideEncryptionConfigurationRuleArgs(
                    apply_server_side_encryption_by_default=aws.s3.BucketServerSideEncryptionConfigurationRuleApplyServerSideEncryptionByDefaultArgs(
                        sse_algorithm="AES256"
                    )
                )
            ],
            opts=child,
        )
        aws.s3.BucketLifecycleConfiguration(
            f"{name}-access-logs",
            bucket=bucket.id,
            rules=[
                aws.s3.BucketLifecycleConfigurationRuleArgs(
                    id="expire",
                    status="Enabled",
                    filter=aws.s3.BucketLifecycleConfigurationRuleFilterArgs(prefix=""),
                    expiration=aws.s3.BucketLifecycleConfigurationRuleExpirationArgs(
                        days=args.settings.access_log_retention_days
                    ),
                    abort_incomplete_multipart_upload=aws.s3.BucketLifecycleConfigurationRuleAbortIncompleteMultipartUploadArgs(
                        days_after_initiation=1
                    ),
                )
            ],
            opts=child,
        )
        policy = aws.s3.BucketPolicy(
            f"{name}-access-logs",
            bucket=bucket.id,
            policy=pulumi.Output.all(args.place, bucket.arn).apply(
                lambda got: json.dumps(iam.access_log_bucket_policy(got[0], got[1]))
            ),
            opts=child,
        )
        return bucket.id, [policy]
