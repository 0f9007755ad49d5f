"""The whole stack: which components stand, and what each gets of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pulumi
import pulumi_aws as aws

from infra import iam, naming, placeholders
from infra.load_balancer import LoadBalancer, LoadBalancerArgs
from infra.network import Network, NetworkArgs
from infra.observability import Observability, ObservabilityArgs, WatchedPool, WatchedService
from infra.scaler import BurstSource, Scaler, ScalerArgs
from infra.service import Service, ServiceArgs
from infra.settings import StackSettings
from scaling.policy import Workload
from scaling.service import Service as ServiceModel


@dataclass(frozen=True, slots=True)
class StackArgs:
    """Everything that the program has read before it makes anything."""

    project: str
    stack: str
    settings: StackSettings
    services: Sequence[ServiceModel]
    package: Path
    """The scaler's zip."""


def here() -> pulumi.Output[iam.Place]:
    """Partition, region and account that the provider speaks to."""
    return pulumi.Output.all(
        aws.get_partition_output().partition,
        aws.get_region_output().region,
        aws.get_caller_identity_output().account_id,
    ).apply(lambda got: iam.Place(*got))


def build(args: StackArgs) -> Mapping[str, pulumi.Input[object]]:
    """Makes the stack, and returns what it exports."""
    settings = args.settings
    name = f"{args.project}-{args.stack}"
    services_path = f"/{args.project}/{args.stack}/services"
    tags = {**settings.tags, naming.STACK_TAG: name}
    place = here()

    network = Network(name, NetworkArgs(settings.network, settings.region, tags))
    balancer = LoadBalancer(
        name, LoadBalancerArgs(settings.load_balancer, network.vpc_id, network.public_subnet_ids, place, tags)
    )
    services = {
        model.name: Service(
            f"{name}-{model.name}",
            ServiceArgs(
                settings=settings.services[model.name],
                model=model,
                parameter_name=f"{services_path}/{model.name}",
                region=settings.region,
                place=place,
                vpc_id=network.vpc_id,
                subnet_ids=network.private_subnet_ids,
                load_balancer=balancer,
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
                    f"{name}-{service_name}-{pool_name}", pool.group_name, pool.target_group_arn_suffix
                )
                for pool_name, pool in service.pools.items()
            },
        )
        for service_name, service in services.items()
    ]
    inference = {model.name for model in args.services if model.policy.workload is Workload.INFERENCE}
    scaler = Scaler(
        naming.scaler_name(args.project, args.stack),
        ScalerArgs(
            settings=settings.scaler,
            package=args.package,
            services_path=services_path,
            grants=[service.grant for service in services.values()],
            shares=placeholders.shares(args.project, args.stack, settings, args.services),
            bursts=[
                BurstSource(pool.name, pool.group_name)
                for service in watched
                if service.name in inference
                for pool in service.pools.values()
            ],
            place=place,
            tags=tags,
        ),
    )
    observability = Observability(
        name,
        ObservabilityArgs(
            settings=settings.observability,
            region=settings.region,
            function_name=scaler.function_name,
            dead_letters_name=scaler.dead_letters_name,
            load_balancer=balancer.arn_suffix,
            services=watched,
            tags=tags,
        ),
    )
    return {
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
