"""One model endpoint: its pools, the rule that gives them traffic, and the parameter that tells the scaler of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import ServiceSettings
from gpu_fleet.scaling.policy import RoutingStrategy, Workload
from gpu_fleet.scaling.service import Service as ServiceModel
from infra import iam, placeholders
from infra.gpu_pool import GpuPool, GpuPoolArgs
from infra.load_balancer import LoadBalancer
from infra.network import Network
from infra.parameter import parameter
from infra.target_group import target_group

WEIGHTS = "actions[*].forward.targetGroups[*].weight"
"""In the engine's own camelCase, which Python's names would not match."""


@dataclass(frozen=True, slots=True)
class ServiceArgs:
    """What a service needs of the stack."""

    settings: ServiceSettings
    model: ServiceModel
    """The same service as the scaling model sees it."""
    weights: Mapping[str, int]
    """By pool: `traffic.weights`."""
    weights_known: bool
    """Whether `weights` are those that the rule has now. Where not, Pulumi leaves those of a rule that stands alone."""
    priority: int | None
    """Of the listener rule in AWS: `traffic.priorities`. None for training."""
    parameter_name: str
    log_group_name: str
    region: str
    place: pulumi.Output[iam.Place]
    network: Network
    load_balancer: LoadBalancer
    internal: bool
    """Of the load balancer."""
    idle_timeout_seconds: int
    log_retention_days: int
    tags: Mapping[str, str]


class ServiceComponent(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Service`. One to five pools with their role, network and logs; for inference the
    listener rule with its weighted forward, for training the job queue; the parameter of both.
    """

    workload: Workload
    pools: Mapping[str, GpuPool]
    target_groups: Mapping[str, aws.lb.TargetGroup]
    """By pool; empty for training."""
    listener_rule_arn: pulumi.Output[str] | None
    queue_url: pulumi.Output[str] | None
    grant: pulumi.Output[iam.ServiceGrant]

    def __init__(self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Service", name, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.workload = args.model.policy.workload
        training = self.workload is Workload.TRAINING

        pools = args.settings.pools
        pool_tags = {pool: {**args.tags, naming.POOL_TAG: pool} for pool in pools}

        logs = aws.cloudwatch.LogGroup(
            name, name=args.log_group_name, retention_in_days=args.log_retention_days, tags=args.tags, opts=child
        )
        queue = self._make_queue(name, args) if training else None
        role, rights, profile = self._make_role(name, args, logs, queue)
        group = self._make_security_group(name, args, training=training)
        self.target_groups = {
            pool: target_group(
                args.model.name,
                pool,
                policy=args.model.policy,
                container=args.settings.container,
                vpc_id=args.network.vpc_id,
                internal=args.internal,
                tags={**pool_tags[pool], "Name": f"{name}-{pool}"},
                opts=child,
            )
            for pool in ([] if training else pools)
        }
        rule = None if training else self._make_rule(name, args)
        self.pools = {
            pool_name: GpuPool(
                f"{name}-{pool_name}",
                GpuPoolArgs(
                    settings=pool,
                    policy=args.model.policy,
                    container=args.settings.container,
                    region=args.region,
                    vpc_id=args.network.vpc_id,
                    target_group=self.target_groups.get(pool_name),
                    needed_to_drain=[*args.network.ways_out, rights, *([rule] if rule else [])],
                    subnet_ids=args.network.private_subnet_ids(pool.zones),
                    security_group_id=group.id,
                    instance_profile_arn=profile.arn,
                    log_group=logs.name,
                    queue_url=queue.url if queue else None,
                    idle_timeout_seconds=args.idle_timeout_seconds,
                    tags=pool_tags[pool_name],
                ),
                pulumi.ResourceOptions(parent=self),
            )
            for pool_name, pool in pools.items()
        }
        self.queue_url = queue.url if queue else None
        self.listener_rule_arn = rule.arn if rule else None
        bindings = pulumi.Output.all(
            load_balancer=args.load_balancer.arn_suffix,
            listener_rule_arn=self.listener_rule_arn,
            queue_url=self.queue_url,
            pools={
                pool_name: {
                    "group": pool.group_name,
                    "target_group_arn": None if training else self.target_groups[pool_name].arn,
                }
                for pool_name, pool in self.pools.items()
            },
        )
        aws.ssm.Parameter(
            name,
            name=args.parameter_name,
            type="String",
            tier="Intelligent-Tiering",
            description=f"Service {args.model.name}: its policy, and what AWS calls its parts. Written by Pulumi.",
            value=bindings.apply(lambda got: parameter(args.model, got)),
            tags=args.tags,
            opts=child,
        )
        mixed = placeholders.launches(args.model)
        self.grant = pulumi.Output.all(
            groups=[pool.group_name for pool in self.pools.values()],
            rule=self.listener_rule_arn,
            queue=queue.arn if queue else None,
            templates=[pool.launch_template_arn for pool in self.pools.values()] if mixed else [],
            role=role.arn,
        ).apply(
            lambda got: iam.ServiceGrant(
                group_names=got["groups"],
                listener_rule_arn=got["rule"],
                queue_arn=got["queue"],
                launch_template_arns=got["templates"],
                instance_role_arn=got["role"],
                ami_parameters=[pool.ami_parameter for pool in args.settings.pools.values()],
            )
        )
        self.register_outputs(
            {
                "groups": {pool_name: pool.group_name for pool_name, pool in self.pools.items()},
                "listener_rule_arn": self.listener_rule_arn,
                "queue_url": self.queue_url,
            }
        )

    def _make_queue(self, name: str, args: ServiceArgs) -> aws.sqs.Queue:
        """The job queue. A job whose worker dies comes back after the visibility timeout, which the worker prolongs
        while it runs; after three deaths it is set aside.
        """
        child = pulumi.ResourceOptions(parent=self)
        failed = aws.sqs.Queue(
            naming.fitting(f"{name}-failed-jobs", naming.MAX_QUEUE_NAME),
            message_retention_seconds=14 * 24 * 3600,
            sqs_managed_sse_enabled=True,
            tags=args.tags,
            opts=child,
        )
        return aws.sqs.Queue(
            naming.fitting(f"{name}-jobs", naming.MAX_QUEUE_NAME),
            message_retention_seconds=14 * 24 * 3600,
            visibility_timeout_seconds=600,
            sqs_managed_sse_enabled=True,
            redrive_policy=failed.arn.apply(lambda arn: json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})),
            tags=args.tags,
            opts=child,
        )

    def _make_role(
        self, name: str, args: ServiceArgs, logs: aws.cloudwatch.LogGroup, queue: aws.sqs.Queue | None
    ) -> tuple[aws.iam.Role, aws.iam.RolePolicy, aws.iam.InstanceProfile]:
        child = pulumi.ResourceOptions(parent=self)
        container = args.settings.container

        def policy(got: Mapping[str, object]) -> str:
            place: iam.Place = got["place"]  # type: ignore[assignment]
            statements = iam.instance_statements(
                place,
                tags={key: args.tags[key] for key in (naming.STACK_TAG, naming.SERVICE_TAG)},
                log_group_arn=str(got["logs"]),
                queue_arn=got["queue"],  # type: ignore[arg-type]
                ecr_repository_arn=iam.ecr_repository_arn(container.image, place.partition),
                secret_arns=tuple(container.secrets.values()),
                kms_key_arn=container.kms_key_arn,
            )
            return json.dumps(iam.document(statements))

        role = aws.iam.Role(
            naming.fitting(f"{name}-instance", naming.MAX_ROLE_NAME),
            assume_role_policy=json.dumps(iam.trust("ec2.amazonaws.com")),
            tags=args.tags,
            opts=child,
        )
        rights = aws.iam.RolePolicy(
            f"{name}-instance",
            role=role.id,
            policy=pulumi.Output.all(place=args.place, logs=logs.arn, queue=queue.arn if queue else None).apply(policy),
            opts=child,
        )
        profile = aws.iam.InstanceProfile(
            naming.fitting(f"{name}-instance", naming.MAX_ROLE_NAME), role=role.name, tags=args.tags, opts=child
        )
        return role, rights, profile

    def _make_security_group(self, name: str, args: ServiceArgs, *, training: bool) -> aws.ec2.SecurityGroup:
        """Instances: in from the load balancer on the container's port alone, out to everywhere (image, model, AWS).

        The rules stand in the group: as resources of their own, those that name a group read back as
        `account/group` where the provider was not told the account, and every update would send them anew.
        """
        port = args.settings.container.port
        from_balancer = aws.ec2.SecurityGroupIngressArgs(
            protocol="tcp", from_port=port, to_port=port, security_groups=[args.load_balancer.security_group_id]
        )
        return aws.ec2.SecurityGroup(
            f"{name}-instance",
            vpc_id=args.network.vpc_id,
            description=f"Instances of service {args.model.name}",
            ingress=[] if training else [from_balancer],
            egress=[aws.ec2.SecurityGroupEgressArgs(protocol="-1", from_port=0, to_port=0, cidr_blocks=["0.0.0.0/0"])],
            tags={**args.tags, "Name": f"{name}-instance"},
            opts=pulumi.ResourceOptions(parent=self),
        )

    def _make_rule(self, name: str, args: ServiceArgs) -> aws.lb.ListenerRule:
        routing = args.model.policy.routing
        conditions = []
        if args.settings.paths:
            conditions.append(
                aws.lb.ListenerRuleConditionArgs(
                    path_pattern=aws.lb.ListenerRuleConditionPathPatternArgs(values=args.settings.paths)
                )
            )
        if args.settings.hosts:
            conditions.append(
                aws.lb.ListenerRuleConditionArgs(
                    host_header=aws.lb.ListenerRuleConditionHostHeaderArgs(values=args.settings.hosts)
                )
            )
        return aws.lb.ListenerRule(
            name,
            listener_arn=args.load_balancer.listener.arn,
            priority=args.priority,
            conditions=conditions,
            actions=[
                aws.lb.ListenerRuleActionArgs(
                    type="forward",
                    forward=aws.lb.ListenerRuleActionForwardArgs(
                        target_groups=[
                            aws.lb.ListenerRuleActionForwardTargetGroupArgs(arn=group.arn, weight=args.weights[pool])
                            for pool, group in self.target_groups.items()
                        ],
                        stickiness=aws.lb.ListenerRuleActionForwardStickinessArgs(
                            enabled=routing.strategy is RoutingStrategy.STICKY, duration=routing.stickiness_seconds
                        ),
                    ),
                )
            ],
            tags=args.tags,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=[] if args.weights_known else [WEIGHTS]),
        )
