"""What AWS will call the stack's parts, at full length, before it has named them: so that sizes are known in time."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_fleet.config import naming
from gpu_fleet.config.rules.regions import partition
from gpu_fleet.config.settings import ServiceSettings, StackSettings
from gpu_fleet.scaling.policy import VerticalMethod, Workload
from gpu_fleet.scaling.service import Service
from infra import iam

SUFFIX, HEX_16, HEX_17 = "-" + "0" * (naming.RANDOM_SUFFIX - 1), "0" * 16, "0" * 17


def place(region: str) -> iam.Place:
    """The stack's place, the account a number of twelve digits."""
    return iam.Place(partition(region), region, "0" * 12)


def queue_url(name: str, region: str) -> str:
    """URL of a service's job queue; `name` is that of stack and service."""
    dns = "amazonaws.com.cn" if partition(region) == "aws-cn" else "amazonaws.com"
    return f"https://sqs.{region}.{dns}/{'0' * 12}/{_queue(name)}"


def bindings(project: str, stack: str, model: Service, region: str) -> dict[str, object]:
    """What the service's parameter says of AWS's names."""
    here, name = place(region), f"{project}-{stack}-{model.name}"
    training = model.policy.workload is Workload.TRAINING
    balancer = f"app/{naming.fitting(f'{project}-{stack}', naming.MAX_LOAD_BALANCER_NAME)}{SUFFIX}/{HEX_16}"
    return {
        "load_balancer": balancer,
        "listener_rule_arn": None if training else _rule_arn(here, balancer),
        "queue_url": queue_url(name, region) if training else None,
        "pools": {
            pool.name: {
                "group": f"{name}-{pool.name}{SUFFIX}",
                "target_group_arn": None if training else _target_group_arn(here),
            }
            for pool in model.pools
        },
    }


def grant(project: str, stack: str, settings: ServiceSettings, model: Service, region: str) -> iam.ServiceGrant:
    """What the scaler is granted of the service."""
    here, name = place(region), f"{project}-{stack}-{model.name}"
    training = model.policy.workload is Workload.TRAINING
    balancer = f"app/{'x' * naming.MAX_LOAD_BALANCER_NAME}/{HEX_16}"
    mixed = launches(model)
    role = naming.fitting(f"{name}-instance", naming.MAX_ROLE_NAME)
    return iam.ServiceGrant(
        group_names=[f"{name}-{pool}{SUFFIX}" for pool in settings.pools],
        listener_rule_arn=None if training else _rule_arn(here, balancer),
        queue_arn=here.arn("sqs", _queue(name)) if training else None,
        launch_template_arns=[here.arn("ec2", f"launch-template/lt-{HEX_17}")] * len(settings.pools) if mixed else [],
        instance_role_arn=f"arn:{here.partition}:iam::{here.account}:role/{role}{SUFFIX}",
        ami_parameters=[pool.ami_parameter for pool in settings.pools.values()],
    )


def launches(model: Service) -> bool:
    """Whether the scaler changes what a group of this service launches: its types, or its on-demand base."""
    return model.policy.vertical.method is VerticalMethod.IN_PLACE or any(pool.spot_percent for pool in model.pools)


def shares(project: str, stack: str, settings: StackSettings, models: Sequence[Service]) -> list[range]:
    """Which services share a managed policy of the scaler's role."""
    grants = [grant(project, stack, settings.services[m.name], m, settings.region) for m in models]
    return iam.shares(place(settings.region), grants)


def instance_statements(
    project: str, stack: str, settings: ServiceSettings, model: Service, region: str
) -> list[iam.Statement]:
    """What the service's instances may do."""
    here, name = place(region), f"{project}-{stack}-{model.name}"
    training = model.policy.workload is Workload.TRAINING
    return iam.instance_statements(
        here,
        tags={naming.STACK_TAG: f"{project}-{stack}", naming.SERVICE_TAG: model.name},
        log_group_arn=here.arn("logs", f"log-group:{naming.log_group(project, stack, model.name)}"),
        queue_arn=here.arn("sqs", _queue(name)) if training else None,
        ecr_repository_arn=iam.ecr_repository_arn(settings.container.image, here.partition),
        secret_arns=tuple(settings.container.secrets.values()),
        kms_key_arn=settings.container.kms_key_arn,
    )


def _queue(name: str) -> str:
    return naming.fitting(f"{name}-jobs", naming.MAX_QUEUE_NAME) + SUFFIX


def _rule_arn(here: iam.Place, balancer: str) -> str:
    return here.arn("elasticloadbalancing", f"listener-rule/{balancer}/{HEX_16}/{HEX_16}")


def _target_group_arn(here: iam.Place) -> str:
    return here.arn("elasticloadbalancing", f"targetgroup/{'x' * naming.MAX_TARGET_GROUP_NAME}/{HEX_16}")
