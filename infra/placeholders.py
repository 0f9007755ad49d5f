"""Full-length placeholders for names and ARNs that AWS has not chosen yet, so that sizes can be checked in advance."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_fleet.config import model_weights, naming
from gpu_fleet.config.image_registry import PulledImage, cache_prefixes, ecr_registry, pulled_image
from gpu_fleet.config.model_weights import WeightsPlace
from gpu_fleet.config.rules.regions import partition
from gpu_fleet.config.settings import ServiceSettings, StackSettings
from gpu_fleet.scaling.hashing import DIGITS
from gpu_fleet.scaling.policy import RoutingStrategy, Workload
from gpu_fleet.scaling.service import Service
from infra import instance_rights, launched_amis, scaler_rights
from infra.iam import Place, Statement
from infra.instance_rights import InstanceResources
from infra.scaler_rights import ServiceResources

SUFFIX, HEX_16, HEX_17 = "-" + "0" * (naming.RANDOM_SUFFIX - 1), "0" * 16, "0" * 17


def place(region: str) -> Place:
    """Return the stack's place with a placeholder for the account, twelve digits."""
    return Place(partition(region), region, "0" * 12)


def queue_url(name: str, region: str) -> str:
    """Return the URL of a service's job queue; `name` is `PROJECT-STACK-SERVICE`."""
    dns = "amazonaws.com.cn" if partition(region) == "aws-cn" else "amazonaws.com"
    return f"https://sqs.{region}.{dns}/{'0' * 12}/{_queue(name)}"


def bindings(project: str, stack: str, model: Service, region: str) -> dict[str, object]:
    """Return the AWS names in the service's parameter."""
    stack_place, name = place(region), f"{project}-{stack}-{model.name}"
    training = model.policy.workload is Workload.TRAINING
    balancer = f"app/{naming.fitting(f'{project}-{stack}', naming.MAX_LOAD_BALANCER_NAME)}{SUFFIX}/{HEX_16}"
    return {
        "load_balancer": balancer,
        "listener_rule_arn": None if training else _rule_arn(stack_place, balancer),
        **({"hash_rule_arns": rules} if (rules := _hash_rule_arns(stack_place, balancer, model)) else {}),
        "queue_url": queue_url(name, region) if training else None,
        "pools": {
            pool.name: {
                "group": f"{name}-{pool.name}{SUFFIX}",
                "target_group_arn": None if training else _target_group_arn(stack_place),
            }
            for pool in model.pools
        },
    }


def service_resources(
    project: str, stack: str, settings: ServiceSettings, model: Service, region: str
) -> ServiceResources:
    """Return the resources of the service that the scaler reads or changes."""
    stack_place, name = place(region), f"{project}-{stack}-{model.name}"
    training = model.policy.workload is Workload.TRAINING
    balancer = f"app/{'x' * naming.MAX_LOAD_BALANCER_NAME}/{HEX_16}"
    template = stack_place.arn("ec2", f"launch-template/lt-{HEX_17}")
    role = naming.fitting(f"{name}-instance", naming.MAX_ROLE_NAME)
    return ServiceResources(
        group_names=[f"{name}-{pool}{SUFFIX}" for pool in settings.pools],
        listener_rule_arn=None if training else _rule_arn(stack_place, balancer),
        hash_rule_arns=_hash_rule_arns(stack_place, balancer, model),
        queue_arn=stack_place.arn("sqs", _queue(name)) if training else None,
        launch_template_arns=[template] * len(settings.pools) if scaler_rights.changes_launches(model) else [],
        instance_role_arn=f"arn:{stack_place.partition}:iam::{stack_place.account}:role/{role}{SUFFIX}",
        ami_parameters=list(launched_amis.parameters(project, stack, model.name, settings).values()),
    )


def service_batches(project: str, stack: str, settings: StackSettings, models: Sequence[Service]) -> list[range]:
    """Split the services into batches, one managed policy of the scaler's role each."""
    services = [service_resources(project, stack, settings.services[m.name], m, settings.region) for m in models]
    return scaler_rights.service_batches(place(settings.region), services)


def image(project: str, stack: str, settings: StackSettings, service: ServiceSettings) -> PulledImage:
    """Return the image of a service as its instances pull it."""
    registry = ecr_registry("0" * 12, settings.region)
    return pulled_image(service.container.image, cache_prefixes(settings, f"{project}-{stack}"), registry)


def weights_place(project: str, stack: str, settings: StackSettings, service: str) -> WeightsPlace | None:
    """Return where the weights of a service are."""
    return model_weights.place(project, stack, "0" * 12, service, settings.services[service])


def instance_statements(project: str, stack: str, settings: StackSettings, model: Service) -> list[Statement]:
    """Return the rights of the service's instances."""
    service = settings.services[model.name]
    stack_place, name = place(settings.region), f"{project}-{stack}-{model.name}"
    pulled = image(project, stack, settings, service)
    training = model.policy.workload is Workload.TRAINING
    resources = InstanceResources(
        group_tags={naming.STACK_TAG: f"{project}-{stack}", naming.SERVICE_TAG: model.name},
        log_group_arn=stack_place.arn("logs", f"log-group:{naming.log_group(project, stack, model.name)}"),
        queue_arn=stack_place.arn("sqs", _queue(name)) if training else None,
        ecr_repository_arn=instance_rights.ecr_repository_arn(pulled.name, stack_place.partition),
        image_is_cached=pulled.cached,
        weights=weights_place(project, stack, settings, model.name),
        secret_arns=tuple(service.container.secrets.values()),
        kms_key_arn=service.container.kms_key_arn,
    )
    return instance_rights.instance_statements(stack_place, resources)


def _queue(name: str) -> str:
    return naming.fitting(f"{name}-jobs", naming.MAX_QUEUE_NAME) + SUFFIX


def _rule_arn(stack_place: Place, balancer: str) -> str:
    return stack_place.arn("elasticloadbalancing", f"listener-rule/{balancer}/{HEX_16}/{HEX_16}")


def _hash_rule_arns(stack_place: Place, balancer: str, model: Service) -> list[str]:
    hashes = model.policy.routing.strategy is RoutingStrategy.HASH
    return [_rule_arn(stack_place, balancer)] * len(DIGITS) if hashes else []


def _target_group_arn(stack_place: Place) -> str:
    return stack_place.arn("elasticloadbalancing", f"targetgroup/{'x' * naming.MAX_TARGET_GROUP_NAME}/{HEX_16}")
