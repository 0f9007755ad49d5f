"""The whole stack: its components, and what each gets from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.image_registry import cache_prefixes
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.scaling.policy import RoutingStrategy, Workload
from gpu_fleet.scaling.service import Service as ServiceModel
from infra import deployed, iam, listener_rule, placeholders
from infra.deployed import NOT_DEPLOYED, DeployedService, DeployedStack
from infra.image_caches import ImageCaches, ImageCachesArgs
from infra.load_balancer import LoadBalancer, LoadBalancerArgs
from infra.network import Network, NetworkArgs
from infra.observability import Observability, ObservabilityArgs, WatchedPool, WatchedService
from infra.scaler import BurstSource, Scaler, ScalerArgs
from infra.service_component import ServiceArgs, ServiceComponent
from infra.weights_bucket import WeightsBucket, WeightsBucketArgs

Services = Mapping[str, ServiceComponent]


@dataclass(frozen=True, slots=True)
class StackArgs:
    """Everything that the program reads before it creates a resource."""

    project: str
    stack: str
    settings: StackSettings
    services: Sequence[ServiceModel]
    package: Path
    """The scaler's zip."""
    deployed: DeployedStack = NOT_DEPLOYED
    """The stack as the last update left it."""

    @property
    def name(self) -> str:
        """Prefix of the resources' names, and value of their tag `gpu-fleet:stack`."""
        return f"{self.project}-{self.stack}"

    @property
    def services_path(self) -> str:
        """Path of the services' parameters."""
        return f"/{self.project}/{self.stack}/services"

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags of all resources."""
        return {**self.settings.tags, naming.STACK_TAG: self.name}


@dataclass(frozen=True, slots=True)
class Shared:
    """What all services of the stack share."""

    place: pulumi.Output[iam.Place]
    network: Network
    load_balancer: LoadBalancer
    image_caches: ImageCaches
    weights_bucket: WeightsBucket | None

    @property
    def components(self) -> Sequence[pulumi.Resource]:
        """All of them."""
        bucket = [self.weights_bucket] if self.weights_bucket else []
        return [self.network, self.load_balancer, self.image_caches, *bucket]


def make_stack(args: StackArgs) -> Mapping[str, pulumi.Input[object]]:
    """Create the stack and return its outputs."""
    shared = make_shared(args)
    services = make_services(args, shared)
    watched = watched_services(args, services)
    scaler = make_scaler(args, shared, services, watched)
    observability = make_observability(args, shared, scaler, watched)
    make_destroy_guard(args, [*shared.components, *services.values(), scaler, observability])
    return {
        deployed.EXPORT: outputs_for_next_update(args.settings, shared.network, services),
        "url": shared.load_balancer.url,
        "dns_name": shared.load_balancer.dns_name,
        "zone_id": shared.load_balancer.zone_id,
        "scaler": scaler.function_name,
        "state_table": scaler.table_name,
        "services_path": args.services_path,
        "weights_bucket": shared.weights_bucket.bucket_name if shared.weights_bucket else None,
        "alarm_topic": observability.topic_arn,
        "groups": {
            service_name: {pool_name: pool.group_name for pool_name, pool in service.pools.items()}
            for service_name, service in services.items()
        },
        "baked_ami_pipelines": {
            service_name: service.baked_ami.pipeline_arn
            for service_name, service in services.items()
            if service.baked_ami is not None
        },
        "queues": {
            service_name: service.queue_url
            for service_name, service in services.items()
            if service.queue_url is not None
        },
    }


def make_shared(args: StackArgs) -> Shared:
    """Create the network, the load balancer and the image caches."""
    place = provider_place()
    network = Network(args.name, NetworkArgs(args.settings.network, args.settings.region, args.tags))
    load_balancer = LoadBalancer(
        args.name,
        LoadBalancerArgs(
            settings=args.settings.load_balancer,
            vpc_id=network.vpc_id,
            subnet_ids=network.public_subnet_ids,
            ingress_resources=network.ingress_resources,
            place=place,
            tags=args.tags,
        ),
    )
    image_caches = ImageCaches(args.name, ImageCachesArgs(args.settings.image_caches))
    return Shared(place, network, load_balancer, image_caches, make_weights_bucket(args, place))


def make_weights_bucket(args: StackArgs, place: pulumi.Output[iam.Place]) -> WeightsBucket | None:
    """Create the bucket of weights, if a service has its weights in the stack's own bucket."""
    given = [service.boot.weights for service in args.settings.services.values()]
    if not any(weights is not None and weights.bucket is None for weights in given):
        return None
    bucket_name = place.apply(lambda where: naming.weights_bucket(args.project, args.stack, where.account))
    return WeightsBucket(args.name, WeightsBucketArgs(bucket_name, args.tags))


def provider_place() -> pulumi.Output[iam.Place]:
    """Return the partition, region and account of the AWS provider."""
    return pulumi.Output.all(
        aws.get_partition_output().partition,
        aws.get_region_output().region,
        aws.get_caller_identity_output().account_id,
    ).apply(lambda resolved: iam.Place(*resolved))


def make_services(args: StackArgs, shared: Shared) -> Services:
    """Create the services, by name."""
    priorities = listener_rule.priorities(
        {name: service.priority for name, service in args.settings.services.items() if service.priority is not None},
        {name: service.rule.priority for name, service in args.deployed.services.items() if service.rule is not None},
        [priority for service in args.deployed.services.values() for priority in service.hash_priorities],
    )
    hash_priorities = listener_rule.hash_priorities(
        {
            model.name: priority
            for model in args.services
            if model.policy.routing.strategy is RoutingStrategy.HASH
            and (priority := args.settings.services[model.name].priority) is not None
        },
        {name: service.hash_priorities for name, service in args.deployed.services.items()},
        [service.rule.priority for service in args.deployed.services.values() if service.rule is not None],
    )
    return {
        model.name: ServiceComponent(
            f"{args.name}-{model.name}",
            service_args(
                args, shared, model, Priorities(priorities.get(model.name), hash_priorities.get(model.name, ()))
            ),
        )
        for model in args.services
    }


@dataclass(frozen=True, slots=True)
class Priorities:
    """AWS priorities of a service's listener rules."""

    own: int | None
    by_digit: Sequence[int]


def sticky_targets(model: ServiceModel, deployed_service: DeployedService | None) -> bool:
    """Return whether the service's target groups keep clients with a cookie at their instance.

    AWS refuses that while a rule that forwards to them does not keep clients at their target group, and an update
    changes target groups before the rules that name them. So an update that makes a deployed rule sticky leaves the
    target groups to the next one: https://github.com/kubernetes-sigs/aws-load-balancer-controller/issues/2734
    """
    if model.policy.routing.strategy is not RoutingStrategy.STICKY:
        return False
    rule = deployed_service.rule if deployed_service else None
    if rule is None or rule.sticky:
        return True
    pulumi.log.warn(f"{model.name}: clients now stay with their pool; run pulumi up again to keep them at an instance")
    return False


def service_args(args: StackArgs, shared: Shared, model: ServiceModel, priorities: Priorities) -> ServiceArgs:
    """Return the arguments of one service."""
    settings = args.settings
    deployed_service = args.deployed.services.get(model.name)
    deployed_weights = deployed_service.weights if deployed_service else {}
    return ServiceArgs(
        project=args.project,
        stack=args.stack,
        settings=settings.services[model.name],
        model=model,
        weights=listener_rule.weights(model, deployed_weights),
        weights_known=bool(deployed_weights),
        priority=priorities.own,
        hash_priorities=priorities.by_digit,
        sticky_targets=sticky_targets(model, deployed_service),
        parameter_name=f"{args.services_path}/{model.name}",
        log_group_name=naming.log_group(args.project, args.stack, model.name),
        region=settings.region,
        place=shared.place,
        cache_prefixes=cache_prefixes(settings, args.name),
        cache_rules=shared.image_caches.rules,
        network=shared.network,
        load_balancer=shared.load_balancer,
        internal=settings.load_balancer.internal,
        idle_timeout_seconds=settings.load_balancer.idle_timeout_seconds,
        log_retention_days=settings.scaler.log_retention_days,
        tags={**args.tags, naming.SERVICE_TAG: model.name},
    )


def watched_services(args: StackArgs, services: Services) -> list[WatchedService]:
    """Return the services as dashboards and alarms need them."""
    return [
        WatchedService(
            service_name,
            {
                pool_name: WatchedPool(
                    f"{args.name}-{service_name}-{pool_name}",
                    pool.group_name,
                    service.target_groups[pool_name].arn_suffix if service.target_groups else None,
                )
                for pool_name, pool in service.pools.items()
            },
            dashboard_name=naming.dashboard(args.project, args.stack, service_name),
            launch_timeout_seconds=service.launch_timeout_seconds,
        )
        for service_name, service in services.items()
    ]


def make_scaler(args: StackArgs, shared: Shared, services: Services, watched: Sequence[WatchedService]) -> Scaler:
    """Create the scaler, with a burst alarm for each pool that serves inference."""
    prefix = f"{args.project}_{args.stack}"
    pools = [pool for service in args.settings.services.values() for pool in service.pools.values()]
    return Scaler(
        naming.scaler_name(args.project, args.stack),
        ScalerArgs(
            settings=args.settings.scaler,
            stack=args.name,
            package=args.package,
            services_path=args.services_path,
            services=[service.scaler_resources for service in services.values()],
            service_batches=placeholders.service_batches(args.project, args.stack, args.settings, args.services),
            bursts=[
                BurstSource(pool.name, f"{prefix}_{service.name}_{pool_name}_burst", pool.group_name)
                for service in watched
                if services[service.name].workload is Workload.INFERENCE
                for pool_name, pool in service.pools.items()
            ],
            burst_alarms=f"{prefix}_*_burst",
            spot=any(pool.spot_percent for pool in pools),
            place=shared.place,
            tags=args.tags,
        ),
    )


def make_observability(
    args: StackArgs, shared: Shared, scaler: Scaler, watched: Sequence[WatchedService]
) -> Observability:
    """Create the alarms, backstops and dashboards."""
    return Observability(
        args.name,
        ObservabilityArgs(
            settings=args.settings.observability,
            stack=args.name,
            region=args.settings.region,
            function_name=scaler.function_name,
            dead_letters_name=scaler.dead_letters_name,
            load_balancer=shared.load_balancer.arn_suffix,
            services=watched,
            tags=args.tags,
        ),
    )


def make_destroy_guard(args: StackArgs, components: Sequence[pulumi.Resource]) -> None:
    """Create the resource that `pulumi destroy` deletes first, and that AWS refuses to delete in a protected stack.

    AWS refuses to delete a protected load balancer or table, but by the order of dependencies their turn comes after
    the groups are gone. An empty table that depends on everything else and is protected with it goes first. It costs
    nothing while nobody reads or writes it: https://aws.amazon.com/dynamodb/pricing/on-demand/
    """
    settings = args.settings
    aws.dynamodb.Table(
        f"{args.name}-protection",
        billing_mode="PAY_PER_REQUEST",
        hash_key="nothing",
        attributes=[aws.dynamodb.TableAttributeArgs(name="nothing", type="S")],
        deletion_protection_enabled=settings.load_balancer.deletion_protection or settings.scaler.deletion_protection,
        tags=args.tags,
        opts=pulumi.ResourceOptions(depends_on=components),
    )


def outputs_for_next_update(
    settings: StackSettings, network: Network, services: Services
) -> Mapping[str, pulumi.Input[object]]:
    """Return what `infra.deployed` reads at the next update."""
    return {
        "region": settings.region,
        "internal": settings.load_balancer.internal,
        "vpc_id": network.vpc_id,
        "vpc_cidr": getattr(settings.network, "cidr", None),
        "subnets": network.created_subnet_ids,
        "services": {
            name: {
                "workload": service.workload,
                "port": settings.services[name].container.port,
                "health_path": settings.services[name].container.health_path,
                "target_groups": {pool: group.arn for pool, group in service.target_groups.items()},
                "rule": service.listener_rule_arn,
                "hash_priorities": [rule.priority for rule in service.hash_rules],
            }
            for name, service in services.items()
        },
    }
