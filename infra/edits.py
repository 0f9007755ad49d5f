"""Edits of a stack's YAML that no update can make without interrupting what serves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import ExistingNetwork, StackSettings
from gpu_fleet.scaling.service import Service as ServiceModel
from infra.standing import Standing, StandingService

_OTHER_STACK = "bring up a second stack with it, send the traffic there, and destroy this one"
_OTHER_SERVICE = "add a second service with it, wait until it is ready, and take this one away"


def refused(standing: Standing, settings: StackSettings, models: Sequence[ServiceModel]) -> list[PlanProblem]:
    """What the update would interrupt, and how to get there without; paths as in `StackSettings`.

    With `allow_disruption: true` only what AWS itself would refuse half-way is left.
    """
    occupied = [
        PlanProblem(
            ("network", "zones"),
            f"must keep {zone} while instances stand there (got {count} of them): give the pools zones without it, "
            "update, and roll their groups; then take it away",
        )
        for zone, count in standing.left_behind.items()
        if count
    ]
    if settings.allow_disruption:
        return occupied
    changes = [*_of_the_stack(standing, settings)]
    for model in models:
        if before := standing.services.get(model.name):
            changes += _of_a_service(before, model, settings)
    return occupied + [
        PlanProblem(
            change.path,
            f"must stay {change.stands} while this stack serves (got {change.wanted}): {change.instead}; "
            "or set allow_disruption: true",
        )
        for change in changes
        if change.stands is not None and change.stands != change.wanted
    ]


@dataclass(frozen=True, slots=True)
class _Change:
    path: tuple[str | int, ...]
    stands: object
    """None where nothing stands yet."""
    wanted: object
    instead: str
    """How to get there without an interruption."""


def _of_the_stack(standing: Standing, settings: StackSettings) -> Iterator[_Change]:
    yield _Change(("region",), standing.region, settings.region, _OTHER_STACK)
    match settings.network:
        case ExistingNetwork() as there:
            yield _Change(("network", "vpc_id"), standing.vpc_id, there.vpc_id, _OTHER_STACK)
        case new if standing.vpc_cidr is None and standing.vpc_id is not None:
            yield _Change(("network",), f"in {standing.vpc_id}", f"a VPC of its own, {new.cidr}", _OTHER_STACK)
        case new:
            yield _Change(("network", "cidr"), standing.vpc_cidr, new.cidr, _OTHER_STACK)
    # The load balancer is another one then, and so is its DNS name.
    yield _Change(
        ("load_balancer", "internal"), _yaml(standing.internal), _yaml(settings.load_balancer.internal), _OTHER_STACK
    )


def _of_a_service(before: StandingService, model: ServiceModel, settings: StackSettings) -> Iterator[_Change]:
    at = ("services", model.name)
    container = settings.services[model.name].container
    workload = model.policy.workload
    yield _Change((*at, "policy"), f"a policy for {before.workload}", f"a policy for {workload}", _OTHER_SERVICE)
    # Engines that run keep the port and the path that they were started with.
    yield _Change((*at, "container", "port"), before.port, container.port, _OTHER_SERVICE)
    yield _Change((*at, "container", "health_path"), before.health_path, container.health_path, _OTHER_SERVICE)


def _yaml(value: bool | None) -> str | None:  # noqa: FBT001 - the value itself
    return None if value is None else str(value).lower()
