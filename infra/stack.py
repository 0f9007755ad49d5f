"""The whole stack: which components stand, and what each gets of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.scaling.policy import Workload
from gpu_fleet.scaling.service import Service as ServiceModel
from infra import iam, listener_rule, placeholders, standing
from infra.load_balancer import LoadBalancer, LoadBalancerArgs
from infra.network import Network, NetworkArgs
from infra.observability import Observability, ObservabilityArgs, WatchedPool, WatchedService
from infra.scaler import BurstSource, Scaler, ScalerArgs
from infra.service_component import ServiceArgs, ServiceComponent
from infra.standing import NOTHING, Standing


@dataclass(frozen=True, slots=True)
class StackArgs:
    """Everything that the program has read before it makes anything."""

    project: str
    stack: str
    settings: StackSettings
    services: Sequence[ServiceModel]
    package: Path
    """The scaler's zip."""
    standing: Standing = NOTHING
    """What the last update has left."""


def here() -> pulumi.Output[iam.Place]:
    """Partition, region and account that the provider speaks to."""
    return pulumi.Output.all(
        aws.get_partition_output().partition,
        aws.get_region_output().region,
        aws.get_caller_identity_output().account_id,
    ).apply(lambda got: iam.Place(*got))


def protect(name: str, parts: Sequence[pulumi.Resource], tags: Mapping[str, str], *, protected: bool) -> None:
    """Let `pulumi destroy` ask first whether the stack is protected, before anything is gone.

    AWS refuses to delete a protected load balancer or table, but in the order of dependencies their turn comes when the
    groups are gone already. An empty table that is protected with them, and stands on everything else, goes first. It
    costs nothing while nobody reads or writes it: https://aws.amazon.com/dynamodb/pricing/on-demand/
    """
    aws.dynamodb.Table(
        f"{name}-protection",
        billing_mode="PAY_PER_REQUEST",
        hash_key="nothing",
        attributes=[aws.dynamodb.TableAttributeArgs(name="nothing", type="S")],
        deletion_protection_enabled=protected,
        tags=tags,
        opts=pulumi.ResourceOptions(depends_on=parts),
    )


def stands(
    settings: StackSettings, network: Network, services: Mapping[str, ServiceComponent]
) -> Mapping[str, pulumi.Input[object]]:
    """What the next update must know of this one: `infra.standing` reads it."""
    return {
        "region": settings.region,
        "internal": settings.load_balancer.internal,
        "vpc_id": network.vpc_id,
        "vpc_cidr": getattr(settings.network, "cidr", None),
        "subnets": network.own_subnet_ids,
        "services": {
            name: {
                "workload": service.workload,
                "port": settings.services[name].container.port,
                "health_path": settings.services[name].container.health_path,
                "target_groups": {pool: group.arn for pool, group in service.target_groups.items()},
                "rule": service.listener_rule_arn,
            }
            for name, service in services.items()
        },
    }


def build(args: StackArgs) -> Mapping[str, pulumi.Input[object]]:
    """Makes the stack, and returns what it exports."""
    settings = args.settings
    name = f"{args.project}-{args.stack}"
    services_path = f"/{args.project}/{args.stack}/services"
    tags = {**settings.tags, naming.STACK_TAG: name}
    place = here()

    network = Network(name, NetworkArgs(settings.network, settings.region, tags))
    balancer = LoadBalancer(
        name,
        LoadBalancerArgs(
            settings.load_balancer, network.vpc_id, network.public_subnet_ids, network.ways_in, place, tags
        ),
    )
    before = args.standing.services
    priorities = listener_rule.priorities(
        {service: value.priority for service, value in settings.services.items() if value.priority is not None},
        {service: stands.rule.priority for service, stands in before.items() if stands.rule is not None},
    )
    services = {
        model.name: ServiceComponent(
            f"{name}-{model.name}",
            ServiceArgs(
                settings=settings.services[model.name],
                model=model,
                weights=listener_rule.weights(model, before[model.name].weights if model.name in before else {}),
                weights_known=model.name in before and bool(before[model.name].weights),
                priority=priorities.get(model.name),
                parameter_name=f"{services_path}/{model.name}",
                log_group_name=naming.log_group(args.project, args.stack, model.name),
                region=settings.region,
                place=place,
                network=network,
                load_balancer=balancer,
                internal=settings.load_balancer.internal,
                idle_timeout_seconds=settings.load_balancer.idle_timeout_seconds,
                log_retention_days=settings.scaler.log_retention_days,
                tags={**tags, naming.SERVICE_TAG: model.name},
            ),
        )
        for model in args.services
    }
    watched = [
        WatchedService(
            service_name,
            {
                pool_name: WatchedPool(
                    f"{name}-{service_name}-{pool_name}",
                    pool.group_name,
                    service.target_groups[pool_name].arn_suffix if service.target_groups else None,
                )
                for pool_name, pool in service.pools.items()
            },
            dashboard_name=naming.dashboard(args.project, args.stack, service_name),
        )
        for service_name, service in services.items()
    ]
    inference = {model.name for model in args.services if model.policy.workload is Workload.INFERENCE}
    scaler = Scaler(
        naming.scaler_name(args.project, args.stack),
        ScalerArgs(
            settings=settings.scaler,
            stack=name,
            package=args.package,
            services_path=services_path,
            grants=[service.grant for service in services.values()],
            shares=placeholders.shares(args.project, args.stack, settings, args.services),
            bursts=[
                BurstSource(pool.name, f"{args.project}_{args.stack}_{service.name}_{pool_name}_burst", pool.group_name)
                for service in watched
                if service.name in inference
                for pool_name, pool in service.pools.items()
            ],
            burst_alarms=f"{args.project}_{args.stack}_*_burst",
            spot=any(pool.spot_percent for service in settings.services.values() for pool in service.pools.values()),
            place=place,
            tags=tags,
        ),
    )
    observability = Observability(
        name,
        ObservabilityArgs(
            settings=settings.observability,
            stack=name,
            region=settings.region,
            function_name=scaler.function_name,
            dead_letters_name=scaler.dead_letters_name,
            load_balancer=balancer.arn_suffix,
            services=watched,
            tags=tags,
        ),
    )
    protected = settings.load_balancer.deletion_protection or settings.scaler.deletion_protection
    protect(name, [network, balancer, *services.values(), scaler, observability], tags, protected=protected)
    return {
        standing.EXPORT: stands(settings, network, services),
        "url": balancer.url,
        "dns_name": balancer.dns_name,
        "zone_id": balancer.zone_id,
        "scaler": scaler.function_name,
        "state_table": scaler.table_name,
        "services_path": services_path,
        "alarm_topic": observability.topic_arn,
        "groups": {
            service_name: {pool_name: pool.group_name for pool_name, pool in service.pools.items()}
            for service_name, service in services.items()
        },
        "queues": {service_name: s.queue_url for service_name, s in services.items() if s.queue_url is not None},
    }
