"""Sizes: what the program makes out of the settings must fit into what AWS takes.

They are worked out with placeholders (`infra.placeholders`) for what AWS has not named yet, so a preview tells them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gpu_fleet.config import naming
from gpu_fleet.config.document import asked
from gpu_fleet.config.library import PlanProblem
from gpu_fleet.config.settings import StackSettings
from gpu_fleet.scaling.service import Service
from infra import iam, placeholders, scaler_rights, service_parameter, user_data

At = tuple[str | int, ...]

SHARES = iam.MAX_MANAGED_POLICIES - 1
"""Managed policies of the scaler's role for its services; one is for what all of them share."""


def problems(project: str, stack: str, settings: StackSettings, models: Sequence[Service]) -> list[PlanProblem]:
    """Everything that AWS would find too large; a value that could not be read stops its own rule alone."""
    found: list[PlanProblem] = []
    for model in models:
        found += asked(service_problems, project, stack, settings, model)
    return [*found, *asked(stack_problems, project, stack, settings, models)]


def service_problems(project: str, stack: str, settings: StackSettings, model: Service) -> Iterator[PlanProblem]:
    """Boot script, parameter and rights of one service."""
    value, at, region = settings.services[model.name], ("services", model.name), settings.region
    boot = user_data.boot_settings(
        value.container,
        model.policy,
        region=region,
        idle_timeout_seconds=settings.load_balancer.idle_timeout_seconds,
        log_group=naming.log_group(project, stack, model.name),
        queue_url=placeholders.queue_url(f"{project}-{stack}-{model.name}", region),
    )
    size = len(user_data.render_user_data(boot).encode())
    if size > user_data.MAX_BYTES:
        yield PlanProblem(
            (*at, "container"),
            f"must make a boot script of at most {user_data.MAX_BYTES} bytes with its args, environment and secrets "
            f"(got {size})",
        )
    text = service_parameter.parameter_value(model, placeholders.bindings(project, stack, model, region))
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
            f"(got {value.policy})",
        )
    rights = iam.characters(placeholders.instance_statements(project, stack, value, model, region))
    if rights > iam.MAX_INLINE_CHARACTERS:
        yield PlanProblem(
            (*at, "container", "secrets"),
            f"must make an IAM policy of at most {iam.MAX_INLINE_CHARACTERS} characters for the instances "
            f"(got {rights})",
        )
    grant = placeholders.service_resources(project, stack, value, model, region)
    moved = iam.characters(scaler_rights.service_statements(placeholders.place(region), [grant]))
    if moved > iam.MAX_MANAGED_CHARACTERS:
        yield PlanProblem(
            (*at, "pools"),
            f"must make an IAM policy of at most {iam.MAX_MANAGED_CHARACTERS} characters for the scaler; shorten "
            f"ami_parameter or take fewer pools (got {moved})",
        )


def stack_problems(
    project: str, stack: str, settings: StackSettings, models: Sequence[Service]
) -> Iterator[PlanProblem]:
    """The rights of the scaler to all services."""
    shares = placeholders.service_batches(project, stack, settings, models)
    if len(shares) > SHARES:
        fits = shares[SHARES].start
        yield PlanProblem(
            ("services",),
            f"must be at most {fits} of this kind: the scaler's role takes {iam.MAX_MANAGED_POLICIES} policies of "
            f"{iam.MAX_MANAGED_CHARACTERS} characters; share them out over stacks (got {len(models)})",
        )
