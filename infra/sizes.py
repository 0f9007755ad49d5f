"""Sizes: everything that the program derives from the settings must fit AWS's limits.

Placeholders (`infra.placeholders`) stand in for names that AWS gives later, so a preview reports the errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpu_fleet.config import naming
from gpu_fleet.config.document import Path as KeyPath
from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.queue_options import bounded
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.config.validation import until_hole
from gpu_fleet.scaling.service import Service
from infra import iam, placeholders, scaler_rights, service_parameter, user_data

MAX_SERVICE_POLICIES = iam.MAX_MANAGED_POLICIES - 1
"""Managed policies of the scaler's role for its services; one more holds the statements that all services share."""


def problems(project: str, stack: str, settings: StackSettings, models: Sequence[Service]) -> list[PlanProblem]:
    """Return everything that exceeds AWS's limits; an unreadable value stops only its own rule."""
    problems: list[PlanProblem] = []
    for model in models:
        problems += until_hole(_service_problems, project, stack, settings, model)
    return [*problems, *until_hole(_role_problems, project, stack, settings, models)]


def _service_problems(project: str, stack: str, settings: StackSettings, model: Service) -> Iterator[PlanProblem]:
    """Check the boot script, the parameter and the rights of one service."""
    at: KeyPath = ("services", model.name)
    yield from _boot_problems(project, stack, settings, model, at)
    yield from _parameter_problems(project, stack, settings, model, at)
    value, region = settings.services[model.name], settings.region
    instance_policy = iam.characters(placeholders.instance_statements(project, stack, settings, model))
    if instance_policy > iam.MAX_INLINE_CHARACTERS:
        yield PlanProblem(
            (*at, "container", "secrets"),
            f"must make an IAM policy of at most {iam.MAX_INLINE_CHARACTERS} characters for the instances "
            f"(got {instance_policy})",
        )
    resources = placeholders.service_resources(project, stack, value, model, region)
    scaler_policy = iam.characters(scaler_rights.service_statements(placeholders.place(region), [resources]))
    if scaler_policy > iam.MAX_MANAGED_CHARACTERS:
        yield PlanProblem(
            (*at, "pools"),
            f"must make an IAM policy of at most {iam.MAX_MANAGED_CHARACTERS} characters for the scaler; shorten "
            f"ami_parameter or take fewer pools (got {scaler_policy})",
        )


def _boot_problems(
    project: str, stack: str, settings: StackSettings, model: Service, at: KeyPath
) -> Iterator[PlanProblem]:
    value, region = settings.services[model.name], settings.region
    containers = [bounded(value.container, model.policy, pool) for pool in model.pools]
    around = user_data.Surroundings(
        region=region,
        log_group=naming.log_group(project, stack, model.name),
        idle_timeout_seconds=settings.load_balancer.idle_timeout_seconds,
        queue_url=placeholders.queue_url(f"{project}-{stack}-{model.name}", region),
        pulled_image=placeholders.image(project, stack, settings, value).name,
        weights=placeholders.weights_place(project, stack, settings, model.name),
    )
    longest = max(containers, key=lambda container: sum(map(len, container.args)))
    boot = user_data.boot_settings(longest, value.boot, model.policy, around)
    size = len(user_data.render_user_data(boot))
    if size > user_data.MAX_BYTES:
        yield PlanProblem(
            (*at, "container"),
            f"must make a boot script of at most {user_data.MAX_BYTES} bytes, compressed, with its args, environment "
            f"and secrets (got {size})",
        )


def _parameter_problems(
    project: str, stack: str, settings: StackSettings, model: Service, at: KeyPath
) -> Iterator[PlanProblem]:
    text = service_parameter.parameter_value(model, placeholders.bindings(project, stack, model, settings.region))
    if len(text.encode()) > service_parameter.MAX_BYTES:
        yield PlanProblem(
            at,
            f"must fit into a parameter of {service_parameter.MAX_BYTES} bytes with its policy and pools "
            f"(got {len(text.encode())})",
        )
    if "{{" in text:
        # https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_PutParameter.html (Value)
        yield PlanProblem(
            (*at, "policy"),
            f"must be without {{{{ in its texts, which SSM takes for the name of another parameter "
            f"(got {settings.services[model.name].policy})",
        )


def _role_problems(
    project: str, stack: str, settings: StackSettings, models: Sequence[Service]
) -> Iterator[PlanProblem]:
    """Check that the scaler's role can hold its rights to all services."""
    batches = placeholders.service_batches(project, stack, settings, models)
    if len(batches) > MAX_SERVICE_POLICIES:
        max_services = batches[MAX_SERVICE_POLICIES].start
        yield PlanProblem(
            ("services",),
            f"must be at most {max_services} of this kind: the scaler's role takes {iam.MAX_MANAGED_POLICIES} policies "
            f"of {iam.MAX_MANAGED_CHARACTERS} characters; split them over several stacks (got {len(models)})",
        )
