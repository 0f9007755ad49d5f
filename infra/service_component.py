"""One model endpoint: its pools, the listener rule that routes to them, and the parameter that the scaler reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import model_weights, naming
from gpu_fleet.config.image_registry import PulledImage, ecr_registry, pulled_image
from gpu_fleet.config.model_weights import WeightsPlace
from gpu_fleet.config.queue_options import bounded
from gpu_fleet.config.settings import PoolSettings, ServiceSettings
from gpu_fleet.scaling.hashing import DIGITS, digit_weights
from gpu_fleet.scaling.policy import RoutingStrategy, Workload
from gpu_fleet.scaling.service import Service as ServiceModel
from infra import iam, launched_amis, listener_rule
from infra.baked_ami import BakedAmi, BakedAmiArgs
from infra.gpu_pool import GpuPool, GpuPoolArgs
from infra.instance_rights import InstanceResources, ecr_repository_arn, instance_statements
from infra.load_balancer import LoadBalancer
from infra.network import Network
from infra.scaler_rights import ServiceResources, changes_launches
from infra.service_parameter import parameter_value
from infra.target_group import TargetGroupArgs, make_target_group

WEIGHTS = "actions[*].forward.targetGroups[*].weight"
"""The engine's own name, in camelCase; Python's would match nothing."""


@dataclass(frozen=True, slots=True)
class ServiceArgs:
    """What a service needs from the stack."""

    project: str
    stack: str
    settings: ServiceSettings
    model: ServiceModel
    """The same service as the scaling model sees it."""
    weights: Mapping[str, int]
    """By pool, from `infra.listener_rule.weights`."""
    weights_known: bool
    """Whether `weights` start from the rule's current weights. If not, Pulumi ignores changes of the weights."""
    priority: int | None
    """Of the listener rule in AWS, from `infra.listener_rule.priorities`. None for training."""
    hash_priorities: Sequence[int]
    """Of the rules for digits, from `infra.listener_rule.hash_priorities`; empty without `routing.strategy: hash`."""
    sticky_targets: bool
    """Whether clients with a cookie stay with their instance."""
    parameter_name: str
    log_group_name: str
    region: str
    place: pulumi.Output[iam.Place]
    cache_prefixes: Mapping[str, str]
    """Prefixes of the image caches, by the registry's host."""
    cache_rules: Sequence[pulumi.Resource]
    """The rules of the image caches that the stack makes."""
    network: Network
    load_balancer: LoadBalancer
    internal: bool
    """Whether the load balancer is internal."""
    idle_timeout_seconds: int
    """Of the load balancer."""
    log_retention_days: int
    tags: Mapping[str, str]

    @property
    def training(self) -> bool:
        """Whether the service runs jobs instead of serving requests."""
        return self.model.policy.workload is Workload.TRAINING

    def pulled_image(self, place: iam.Place) -> PulledImage:
        """Return the container's image as instances pull it."""
        registry = ecr_registry(place.account, self.region)
        return pulled_image(self.settings.container.image, self.cache_prefixes, registry)

    def weights_place(self, place: iam.Place) -> WeightsPlace | None:
        """Return where the weights are in S3, if they are."""
        return model_weights.place(self.project, self.stack, place.account, self.model.name, self.settings)

    @property
    def ami_parameters(self) -> Mapping[str, str]:
        """Return the parameters that name the pools' AMIs, by pool."""
        return launched_amis.parameters(self.project, self.stack, self.model.name, self.settings)

    def pool_tags(self, pool: str) -> Mapping[str, str]:
        """Return the tags of a pool's resources."""
        return {**self.tags, naming.POOL_TAG: pool}


@dataclass(frozen=True, slots=True)
class _Identity:
    """The role of a service's instances."""

    role: aws.iam.Role
    policy: aws.iam.RolePolicy
    profile: aws.iam.InstanceProfile


@dataclass(frozen=True, slots=True)
class _Shared:
    """Resources that all pools of a service share."""

    log_group: aws.cloudwatch.LogGroup
    queue: aws.sqs.Queue | None
    """For training only."""
    identity: _Identity
    security_group: aws.ec2.SecurityGroup
    target_groups: Mapping[str, aws.lb.TargetGroup]
    """By pool; empty for training."""
    listener_rule: aws.lb.ListenerRule | None
    """None for training."""
    hash_rules: Sequence[aws.lb.ListenerRule]
    """By digit; empty without `routing.strategy: hash`."""


@dataclass(frozen=True, slots=True)
class _Route:
    """What tells a listener rule of a service from the others."""

    priority: int | None
    weights: Mapping[str, int]
    """By pool."""
    digit: str = ""
    """The digit that the request's header ends in; empty: any request."""


class ServiceComponent(pulumi.ComponentResource):
    """**Pulumi type** `gpu-fleet:index:Service`. One to five pools with their role, security group and logs; a listener
    rule with weighted target groups for inference, or a job queue for training; the scaler's parameter.
    """

    workload: Workload
    pools: Mapping[str, GpuPool]
    target_groups: Mapping[str, aws.lb.TargetGroup]
    """By pool; empty for training."""
    listener_rule_arn: pulumi.Output[str] | None
    hash_rules: Sequence[aws.lb.ListenerRule]
    """Rules by the digit that the header ends in; empty without `routing.strategy: hash`."""
    queue_url: pulumi.Output[str] | None
    baked_ami: BakedAmi | None
    scaler_resources: pulumi.Output[ServiceResources]
    """The resources that the scaler reads or changes."""

    def __init__(self, name: str, args: ServiceArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gpu-fleet:index:Service", name, None, opts)
        self._child = pulumi.ResourceOptions(parent=self)
        shared = self._make_shared(name, args)
        self.workload = args.model.policy.workload
        self.launch_timeout_seconds = args.model.policy.horizontal.launch_timeout_seconds
        self.target_groups = shared.target_groups
        self.listener_rule_arn = shared.listener_rule.arn if shared.listener_rule else None
        self.hash_rules = shared.hash_rules
        self.queue_url = shared.queue.url if shared.queue else None
        self.baked_ami = self._make_baked_ami(name, args, shared) if args.settings.boot.baked_ami else None
        self.pools = {
            pool: self._make_pool(name, args, shared, pool, settings) for pool, settings in args.settings.pools.items()
        }
        self._make_parameter(name, args)
        self.scaler_resources = self._scaler_resources(args, shared)
        self.register_outputs(
            {
                "groups": {pool_name: pool.group_name for pool_name, pool in self.pools.items()},
                "listener_rule_arn": self.listener_rule_arn,
                "queue_url": self.queue_url,
            }
        )

    def _make_shared(self, name: str, args: ServiceArgs) -> _Shared:
        log_group = aws.cloudwatch.LogGroup(
            name, name=args.log_group_name, retention_in_days=args.log_retention_days, tags=args.tags, opts=self._child
        )
        queue = self._make_queue(name, args) if args.training else None
        target_groups = {} if args.training else self._make_target_groups(name, args)
        return _Shared(
            log_group=log_group,
            queue=queue,
            identity=self._make_identity(name, args, log_group, queue),
            security_group=self._make_security_group(name, args),
            target_groups=target_groups,
            listener_rule=None if args.training else self._make_listener_rule(name, args, target_groups),
            hash_rules=self._make_hash_rules(name, args, target_groups) if args.hash_priorities else [],
        )

    def _make_pool(self, name: str, args: ServiceArgs, shared: _Shared, pool: str, settings: PoolSettings) -> GpuPool:
        rules = [shared.listener_rule, *shared.hash_rules] if shared.listener_rule else []
        (model,) = (one for one in args.model.pools if one.name == pool)
        return GpuPool(
            f"{name}-{pool}",
            GpuPoolArgs(
                settings=settings,
                policy=args.model.policy,
                container=bounded(args.settings.container, args.model.policy, model),
                boot=args.settings.boot,
                weights=args.place.apply(args.weights_place),
                ami_parameter=self.baked_ami.parameter_name if self.baked_ami else settings.ami_parameter,
                pulled_image=args.place.apply(lambda place: args.pulled_image(place).name),
                region=args.region,
                vpc_id=args.network.vpc_id,
                target_group=shared.target_groups.get(pool),
                needed_to_drain=[*args.network.egress_resources, *args.cache_rules, shared.identity.policy, *rules],
                subnet_ids=args.network.private_subnet_ids(settings.zones),
                security_group_id=shared.security_group.id,
                instance_profile_arn=shared.identity.profile.arn,
                log_group=shared.log_group.name,
                queue_url=shared.queue.url if shared.queue else None,
                idle_timeout_seconds=args.idle_timeout_seconds,
                tags=args.pool_tags(pool),
            ),
            self._child,
        )

    def _make_baked_ami(self, name: str, args: ServiceArgs, shared: _Shared) -> BakedAmi:
        pools = list(args.settings.pools.values())
        return BakedAmi(
            f"{name}-baked",
            BakedAmiArgs(
                parameter_name=naming.baked_ami_parameter(args.project, args.stack, args.model.name),
                base_ami_parameter=pools[0].ami_parameter,
                instance_type=pools[0].types[0],
                # EC2 refuses a volume that is smaller than its AMI's.
                volume_gib=min(pool.volume_gib for pool in pools),
                image=args.place.apply(args.pulled_image),
                region=args.region,
                place=args.place,
                subnet_id=args.network.private_subnet_ids(pools[0].zones)[0],
                security_group_id=shared.security_group.id,
                needed_to_build=[*args.network.egress_resources, *args.cache_rules],
                tags=args.tags,
            ),
            self._child,
        )

    def _make_target_groups(self, name: str, args: ServiceArgs) -> Mapping[str, aws.lb.TargetGroup]:
        return {
            pool: make_target_group(
                TargetGroupArgs(
                    service=args.model.name,
                    pool=pool,
                    policy=args.model.policy,
                    container=args.settings.container,
                    algorithm=args.settings.algorithm,
                    sticky=args.sticky_targets,
                    vpc_id=args.network.vpc_id,
                    internal=args.internal,
                    tags={**args.pool_tags(pool), "Name": f"{name}-{pool}"},
                ),
                self._child,
            )
            for pool in args.settings.pools
        }

    def _make_parameter(self, name: str, args: ServiceArgs) -> None:
        bindings = pulumi.Output.all(
            load_balancer=args.load_balancer.arn_suffix,
            listener_rule_arn=self.listener_rule_arn,
            **({"hash_rule_arns": [rule.arn for rule in self.hash_rules]} if self.hash_rules else {}),
            queue_url=self.queue_url,
            pools={
                pool_name: {
                    "group": pool.group_name,
                    "target_group_arn": self.target_groups[pool_name].arn if self.target_groups else None,
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
            value=bindings.apply(lambda resolved: parameter_value(args.model, resolved)),
            tags=args.tags,
            opts=self._child,
        )

    def _scaler_resources(self, args: ServiceArgs, shared: _Shared) -> pulumi.Output[ServiceResources]:
        launches = changes_launches(args.model)
        return pulumi.Output.all(
            groups=[pool.group_name for pool in self.pools.values()],
            rule=self.listener_rule_arn,
            hash_rules=[rule.arn for rule in self.hash_rules],
            queue=shared.queue.arn if shared.queue else None,
            templates=[pool.launch_template_arn for pool in self.pools.values()] if launches else [],
            role=shared.identity.role.arn,
        ).apply(
            lambda resolved: ServiceResources(
                group_names=resolved["groups"],
                listener_rule_arn=resolved["rule"],
                hash_rule_arns=resolved["hash_rules"],
                queue_arn=resolved["queue"],
                launch_template_arns=resolved["templates"],
                instance_role_arn=resolved["role"],
                ami_parameters=list(args.ami_parameters.values()),
            )
        )

    def _make_queue(self, name: str, args: ServiceArgs) -> aws.sqs.Queue:
        """Create the job queue. A job whose worker dies returns after the visibility timeout, which a running worker
        prolongs; after three deaths it moves to the queue of failed jobs.
        """
        failed = aws.sqs.Queue(
            naming.fitting(f"{name}-failed-jobs", naming.MAX_QUEUE_NAME),
            message_retention_seconds=14 * 24 * 3600,
            sqs_managed_sse_enabled=True,
            tags=args.tags,
            opts=self._child,
        )
        return aws.sqs.Queue(
            naming.fitting(f"{name}-jobs", naming.MAX_QUEUE_NAME),
            message_retention_seconds=14 * 24 * 3600,
            visibility_timeout_seconds=600,
            sqs_managed_sse_enabled=True,
            redrive_policy=failed.arn.apply(lambda arn: json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})),
            tags=args.tags,
            opts=self._child,
        )

    def _make_identity(
        self, name: str, args: ServiceArgs, log_group: aws.cloudwatch.LogGroup, queue: aws.sqs.Queue | None
    ) -> _Identity:
        role_name = naming.fitting(f"{name}-instance", naming.MAX_ROLE_NAME)
        role = aws.iam.Role(
            role_name,
            assume_role_policy=json.dumps(iam.trust("ec2.amazonaws.com")),
            tags=args.tags,
            opts=self._child,
        )
        policy = aws.iam.RolePolicy(
            f"{name}-instance",
            role=role.id,
            policy=pulumi.Output.all(args.place, log_group.arn, queue.arn if queue else None).apply(
                lambda resolved: _instance_policy(args, *resolved)
            ),
            opts=self._child,
        )
        profile = aws.iam.InstanceProfile(role_name, role=role.name, tags=args.tags, opts=self._child)
        return _Identity(role, policy, profile)

    def _make_security_group(self, name: str, args: ServiceArgs) -> aws.ec2.SecurityGroup:
        """Create the instances' security group: in from the load balancer on the container's port only, out to
        everywhere (image, model, AWS).

        The rules are part of the group. A rule that is a resource of its own and names a group reads back as
        `account/group` if the provider does not know the account, and every update would send it again.
        """
        port = args.settings.container.port
        from_balancer = aws.ec2.SecurityGroupIngressArgs(
            protocol="tcp", from_port=port, to_port=port, security_groups=[args.load_balancer.security_group_id]
        )
        return aws.ec2.SecurityGroup(
            f"{name}-instance",
            vpc_id=args.network.vpc_id,
            description=f"Instances of service {args.model.name}",
            ingress=[] if args.training else [from_balancer],
            egress=[aws.ec2.SecurityGroupEgressArgs(protocol="-1", from_port=0, to_port=0, cidr_blocks=["0.0.0.0/0"])],
            tags={**args.tags, "Name": f"{name}-instance"},
            opts=self._child,
        )

    def _make_listener_rule(
        self, name: str, args: ServiceArgs, target_groups: Mapping[str, aws.lb.TargetGroup]
    ) -> aws.lb.ListenerRule:
        return self._make_rule(name, args, target_groups, _Route(args.priority, args.weights))

    def _make_hash_rules(
        self, name: str, args: ServiceArgs, target_groups: Mapping[str, aws.lb.TargetGroup]
    ) -> list[aws.lb.ListenerRule]:
        """Create a rule for each digit that a client's header may end in, with the weights that hashing gives it."""
        return [
            self._make_rule(f"{name}-hash-{digit}", args, target_groups, _Route(priority, weights, digit))
            for digit, priority, weights in zip(DIGITS, args.hash_priorities, digit_weights(args.weights), strict=True)
        ]

    def _make_rule(
        self, name: str, args: ServiceArgs, target_groups: Mapping[str, aws.lb.TargetGroup], route: _Route
    ) -> aws.lb.ListenerRule:
        routing = args.model.policy.routing
        return aws.lb.ListenerRule(
            name,
            listener_arn=args.load_balancer.listener.arn,
            priority=route.priority,
            conditions=listener_rule.conditions(args.settings, routing.hash_header, route.digit),
            actions=[
                aws.lb.ListenerRuleActionArgs(
                    type="forward",
                    forward=aws.lb.ListenerRuleActionForwardArgs(
                        target_groups=[
                            aws.lb.ListenerRuleActionForwardTargetGroupArgs(arn=group.arn, weight=route.weights[pool])
                            for pool, group in target_groups.items()
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


def _instance_policy(args: ServiceArgs, place: iam.Place, log_group_arn: str, queue_arn: str | None) -> str:
    """Return the policy document of the instances' role."""
    container, image = args.settings.container, args.pulled_image(place)
    resources = InstanceResources(
        group_tags={key: args.tags[key] for key in (naming.STACK_TAG, naming.SERVICE_TAG)},
        log_group_arn=log_group_arn,
        queue_arn=queue_arn,
        ecr_repository_arn=ecr_repository_arn(image.name, place.partition),
        image_is_cached=image.cached,
        weights=args.weights_place(place),
        secret_arns=tuple(container.secrets.values()),
        kms_key_arn=container.kms_key_arn,
    )
    return json.dumps(iam.document(instance_statements(place, resources)))
