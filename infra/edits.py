"""Edits of a stack's YAML that no update can apply without interrupting a serving stack."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gpu_fleet.config.fit import PlanProblem
from gpu_fleet.config.settings import ExistingNetwork, StackSettings
from gpu_fleet.scaling.service import Service as ServiceModel
from infra.deployed import DeployedService, DeployedStack

_USE_ANOTHER_STACK = "bring up a second stack with it, send the traffic there, and destroy this one"
_USE_ANOTHER_SERVICE = "add a second service with it, wait until it is ready, and remove this one"


def refused_edits(
    deployed: DeployedStack, settings: StackSettings, models: Sequence[ServiceModel]
) -> list[PlanProblem]:
    """Return the edits that would interrupt service, each with a way to get there without; paths as in `StackSettings`.

    With `allow_disruption: true`, only edits that AWS itself would refuse half-way are left.
    """
    occupied_zones = [
        PlanProblem(
            ("network", "zones"),
            f"must keep {zone} while it has instances (got {count} of them): give the pools zones without it, "
            "update, and roll their groups; then remove it",
        )
        for zone, count in deployed.left_behind.items()
        if count
    ]
    if settings.allow_disruption:
        return occupied_zones
    edits = [*_stack_edits(deployed, settings)]
    for model in models:
        if service := deployed.services.get(model.name):
            edits += _service_edits(service, model, settings)
    return occupied_zones + [
        PlanProblem(
            edit.path,
            f"must stay {edit.deployed} while this stack serves (got {edit.edited}): {edit.alternative}; "
            "or set allow_disruption: true",
        )
        for edit in edits
        if edit.deployed is not None and edit.deployed != edit.edited
    ]


@dataclass(frozen=True, slots=True)
class _Edit:
    path: tuple[str | int, ...]
    deployed: object
    """None if nothing is deployed yet."""
    edited: object
    alternative: str
    """How to get there without an interruption."""


def _stack_edits(deployed: DeployedStack, settings: StackSettings) -> Iterator[_Edit]:
    yield _Edit(("region",), deployed.region, settings.region, _USE_ANOTHER_STACK)
    match settings.network:
        case ExistingNetwork() as existing:
            yield _Edit(("network", "vpc_id"), deployed.vpc_id, existing.vpc_id, _USE_ANOTHER_STACK)
        case new if deployed.vpc_cidr is None and deployed.vpc_id is not None:
            yield _Edit(("network",), f"in {deployed.vpc_id}", f"a VPC of its own, {new.cidr}", _USE_ANOTHER_STACK)
        case new:
            yield _Edit(("network", "cidr"), deployed.vpc_cidr, new.cidr, _USE_ANOTHER_STACK)
    # AWS would replace the load balancer, and so change its DNS name.
    internal = settings.load_balancer.internal
    yield _Edit(("load_balancer", "internal"), _yaml(deployed.internal), _yaml(internal), _USE_ANOTHER_STACK)


def _service_edits(deployed: DeployedService, model: ServiceModel, settings: StackSettings) -> Iterator[_Edit]:
    path = ("services", model.name)
    container = settings.services[model.name].container
    workload = model.policy.workload
    yield _Edit(
        (*path, "policy"), f"a policy for {deployed.workload}", f"a policy for {workload}", _USE_ANOTHER_SERVICE
    )
    # Running engines keep the port and path with which they started.
    yield _Edit((*path, "container", "port"), deployed.port, container.port, _USE_ANOTHER_SERVICE)
    yield _Edit((*path, "container", "health_path"), deployed.health_path, container.health_path, _USE_ANOTHER_SERVICE)


def _yaml(value: bool | None) -> str | None:  # noqa: FBT001 - the value itself
    """Write a boolean as YAML does."""
    return None if value is None else str(value).lower()
