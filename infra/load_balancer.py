"""The load balancer: one Application Load Balancer for all services of the stack."""

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
    """The load balancer's settings in the stack's YAML, and its network."""

    settings: LoadBalancerSettings
    vpc_id: pulumi.Input[str]
    subnet_ids: Sequence[pulumi.Input[str]]
    ingress_resources: Sequence[pulumi.Resource]
    """What the internet needs to reach it, created before it."""
    place: pulumi.Output[iam.Place]
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _LogBucket:
    """The bucket of access logs."""

    id: pulumi.Output[str]
    policy: aws.s3.BucketPolicy
    """Without it the load balancer may not write."""


class LoadBalancer(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:LoadBalancer`. Load balancer, security group and listener (with a certificate
    HTTPS and a redirect from HTTP, without one HTTP); access logs and web ACL by setting.
    """

    arn_suffix: pulumi.Output[str]
    dns_name: pulumi.Output[str]
    zone_id: pulumi.Output[str]
    listener: aws.lb.Listener
    """The listener that serves: the services' rules belong to it."""
    security_group_id: pulumi.Output[str]
    url: pulumi.Output[str]

    def __init__(self, name: str, args: LoadBalancerArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:LoadBalancer", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        scheme = "http" if args.settings.certificate_arn is None else "https"
        group = self._make_security_group(name, args)
        balancer = self._make_balancer(name, args, group)
        self.listener = self._make_listener(name, balancer.arn, args)
        self._associate_web_acl(name, args, balancer)
        self.arn_suffix = balancer.arn_suffix
        self.dns_name = balancer.dns_name
        self.zone_id = balancer.zone_id
        self.security_group_id = group.id
        self.url = pulumi.Output.concat(f"{scheme}://", balancer.dns_name)
        self.register_outputs({"dns_name": self.dns_name, "listener_arn": self.listener.arn, "url": self.url})

    def _make_security_group(self, name: str, args: LoadBalancerArgs) -> aws.ec2.SecurityGroup:
        group = aws.ec2.SecurityGroup(
            f"{name}-load-balancer",
            vpc_id=args.vpc_id,
            description="Clients of the load balancer",
            tags={**args.tags, "Name": f"{name}-load-balancer"},
            opts=self._child,
        )
        for port in (80,) if args.settings.certificate_arn is None else (80, 443):
            for cidr in args.settings.clients:
                aws.vpc.SecurityGroupIngressRule(
                    f"{name}-load-balancer-{port}-{cidr}",
                    security_group_id=group.id,
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    cidr_ipv4=cidr,
                    tags=args.tags,
                    opts=self._child,
                )
        aws.vpc.SecurityGroupEgressRule(
            f"{name}-load-balancer-out",
            security_group_id=group.id,
            ip_protocol="-1",
            cidr_ipv4="0.0.0.0/0",
            tags=args.tags,
            opts=self._child,
        )
        return group

    def _make_balancer(self, name: str, args: LoadBalancerArgs, group: aws.ec2.SecurityGroup) -> aws.lb.LoadBalancer:
        settings = args.settings
        logs = self._make_log_bucket(name, args) if settings.access_logs else None
        return aws.lb.LoadBalancer(
            naming.fitting(name, naming.MAX_LOAD_BALANCER_NAME),
            load_balancer_type="application",
            internal=settings.internal,
            security_groups=[group.id],
            subnets=args.subnet_ids,
            idle_timeout=settings.idle_timeout_seconds,
            drop_invalid_header_fields=True,
            enable_deletion_protection=settings.deletion_protection,
            access_logs=aws.lb.LoadBalancerAccessLogsArgs(bucket=logs.id, enabled=True) if logs else None,
            tags=args.tags,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args.ingress_resources, *([logs.policy] if logs else [])],
                # AWS moves no load balancer to another VPC.
                replacement_trigger=args.vpc_id,
            ),
        )

    def _associate_web_acl(self, name: str, args: LoadBalancerArgs, balancer: aws.lb.LoadBalancer) -> None:
        if args.settings.waf_acl_arn:
            aws.wafv2.WebAclAssociation(
                f"{name}-waf", resource_arn=balancer.arn, web_acl_arn=args.settings.waf_acl_arn, opts=self._child
            )

    def _make_listener(self, name: str, arn: pulumi.Output[str], args: LoadBalancerArgs) -> aws.lb.Listener:
        """Create the listener that serves, and with a certificate the redirect to it.

        A request that matches no service's rule gets a 404.
        """
        not_found = aws.lb.ListenerDefaultActionArgs(
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
                default_actions=[not_found],
                tags=args.tags,
                opts=self._child,
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
            opts=self._child,
        )
        return aws.lb.Listener(
            f"{name}-https",
            load_balancer_arn=arn,
            port=443,
            protocol="HTTPS",
            ssl_policy=TLS_POLICY,
            certificate_arn=args.settings.certificate_arn,
            default_actions=[not_found],
            tags=args.tags,
            opts=self._child,
        )

    def _make_log_bucket(self, name: str, args: LoadBalancerArgs) -> _LogBucket:
        """Create the bucket of access logs, private and encrypted, whose logs expire.

        SSE-S3 is the only encryption that access logs allow:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html
        """
        bucket = aws.s3.Bucket(
            f"{name}-access-logs", force_destroy=not args.settings.deletion_protection, tags=args.tags, opts=self._child
        )
        aws.s3.BucketPublicAccessBlock(
            f"{name}-access-logs",
            bucket=bucket.id,
            block_public_acls=True,
            block_public_policy=True,
            ignore_public_acls=True,
            restrict_public_buckets=True,
            opts=self._child,
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
            opts=self._child,
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
            opts=self._child,
        )
        policy = aws.s3.BucketPolicy(
            f"{name}-access-logs",
            bucket=bucket.id,
            policy=pulumi.Output.all(args.place, bucket.arn).apply(
                lambda resolved: json.dumps(iam.access_log_bucket_policy(*resolved))
            ),
            opts=self._child,
        )
        return _LogBucket(bucket.id, policy)
