"""Target health: initial, healthy, unhealthy, draining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moto.elbv2 import models
from moto.elbv2.exceptions import TargetGroupNotFoundError
from moto.elbv2.models import FakeHealthStatus

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="target health",
    moto="a target is healthy once registered, gone once deregistered, and stays healthy after its instance ended",
    aws=(
        "a new target is initial until its first health check passes, unhealthy after the unhealthy threshold, healthy "
        "again after the healthy threshold; a deregistered one drains until its last request ends, at most the "
        "deregistration delay"
    ),
    source=(
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html "
        "https://docs.aws.amazon.com/elasticloadbalancing/latest/application/edit-target-group-attributes.html"
    ),
)

INITIAL, HEALTHY, UNHEALTHY, DRAINING = "initial", "healthy", "unhealthy", "draining"

_REASONS = {
    INITIAL: ("Elb.InitialHealthChecking", "Initial health checks in progress"),
    HEALTHY: (None, None),
    UNHEALTHY: ("Target.FailedHealthChecks", "Health checks failed"),
    DRAINING: ("Target.DeregistrationInProgress", "Target deregistration is in progress"),
}


@dataclass(slots=True)
class _Target:
    group: Any
    id: str
    port: int
    since: float
    state: str = INITIAL
    cancel: Callable[[], None] = lambda: None
    """Cancels the planned change of state."""
    on_drained: list[Callable[[], None]] = field(default_factory=list)


class Targets:
    """The targets of all target groups with their health."""

    def __init__(self, world: CloudWorld) -> None:
        """Start with no target."""
        self._world = world
        self._by_key: dict[tuple[str, str], _Target] = {}
        self.answers: Callable[[str], bool] = lambda _: True
        """Returns whether an instance would pass a health check now."""
        self.changed: Callable[[str, str], None] = lambda _id, _state: None
        """Called with an instance's id and its target's new state."""

    def register(self, group: Any, target_id: str, port: int) -> None:
        """Register a target; a registered one stays as it is."""
        old = self._by_key.get((group.arn, target_id))
        if old is not None and old.state != DRAINING:
            return
        if old is not None:
            old.cancel()
        target = _Target(group, target_id, port, self._world.now)
        self._by_key[group.arn, target_id] = target
        self._plan_health_check(target)

    def deregister(self, group: Any, target_id: str, on_drained: Callable[[], None] = lambda: None) -> None:
        """Stop new requests; `on_drained` is called when the last one has ended or the deregistration delay is over."""
        target = self._by_key.get((group.arn, target_id))
        if target is None:
            on_drained()
            return
        target.on_drained.append(on_drained)
        if target.state == DRAINING:
            return
        took_requests = target.state in (HEALTHY, UNHEALTHY)
        self._enter(target, DRAINING)
        delay = float(group.attributes.get("deregistration_delay.timeout_seconds", 300))
        drain = self._world.drain_seconds_of(target_id) if took_requests else 0.0
        seconds = delay if drain is None else min(drain, delay)
        target.cancel = self._world.call_later(seconds, lambda: self._remove(target))

    def finish_drain(self, target_id: str) -> None:
        """End the drains of an instance whose last request has ended."""
        for target in self.of(target_id):
            if target.state == DRAINING:
                target.cancel()
                self._remove(target)

    def forget(self, target_id: str) -> None:
        """Remove the targets of an instance that has ended."""
        for target in self.of(target_id):
            target.cancel()
            self._remove(target)

    def reconsider(self, target_id: str) -> None:
        """Plan the next health checks again, because the instance began or ceased to answer."""
        for target in self.of(target_id):
            if target.state != DRAINING:
                target.cancel()
                self._plan_health_check(target)

    def of(self, target_id: str) -> list[_Target]:
        """Return the registrations of one instance."""
        return [t for t in self._by_key.values() if t.id == target_id]

    def state(self, group_arn: str, target_id: str) -> str | None:
        """Return the target's state; None if it is neither registered nor draining."""
        target = self._by_key.get((group_arn, target_id))
        return target.state if target else None

    def count(self, group_arn: str, state: str | None = None) -> int:
        """Return the number of the group's targets in this state, by default of all that do not drain."""
        return sum(
            t.state == state if state else t.state != DRAINING
            for (arn, _), t in self._by_key.items()
            if arn == group_arn
        )

    def describe(self, group: Any, targets: list[dict[str, Any]]) -> list[Any]:
        """Return the health of these targets, by default of all targets of the group."""
        ids = [t["Id"] for t in targets] or [t.id for (arn, _), t in self._by_key.items() if arn == group.arn]
        return [self._health(group, target_id) for target_id in ids]

    def _health(self, group: Any, target_id: str) -> Any:
        target = self._by_key.get((group.arn, target_id))
        if target is None:
            return FakeHealthStatus(
                target_id,
                group.port,
                group.health_check_port,
                "unused",
                "Target.NotRegistered",
                "Target is not registered to the target group",
            )
        if not group.load_balancer_arns:
            return FakeHealthStatus(
                target.id,
                target.port,
                group.health_check_port,
                "unused",
                "Target.NotInUse",
                "Target group is not configured to receive traffic from the load balancer",
            )
        reason, description = _REASONS[target.state]
        return FakeHealthStatus(target.id, target.port, group.health_check_port, target.state, reason, description)

    def _plan_health_check(self, target: _Target) -> None:
        """Plan the health check that will change the target's state, if any does.

        Checks come at each interval, counted from the registration; the first is one interval after it.
        """
        interval = float(target.group.health_check_interval_seconds)
        answers = self.answers(target.id)
        if answers == (target.state == HEALTHY) and target.state != INITIAL:
            return
        if answers:
            needed = 1 if target.state == INITIAL else int(target.group.healthy_threshold_count)
        else:
            needed = int(target.group.unhealthy_threshold_count)
        checks_so_far = int((self._world.now - target.since) // interval)
        at = target.since + (checks_so_far + needed) * interval
        target.cancel = self._world.call_at(at, lambda: self._enter(target, HEALTHY if answers else UNHEALTHY))

    def _enter(self, target: _Target, state: str) -> None:
        target.cancel()
        target.state = state
        self.changed(target.id, state)

    def _remove(self, target: _Target) -> None:
        if self._by_key.get((target.group.arn, target.id)) is target:
            del self._by_key[target.group.arn, target.id]
        for on_drained in target.on_drained:
            on_drained()
        target.on_drained = []


def patch_moto(targets: Targets, patches: Patches) -> None:
    """Replace moto's lists of targets."""

    def register(moto: Any, group: Any, descriptions: list[dict[str, Any]]) -> None:
        moto(group, descriptions)
        for target in descriptions:
            targets.register(group, target["Id"], int(target.get("Port") or group.port))

    def deregister(_moto: Any, group: Any, descriptions: list[dict[str, Any]]) -> None:
        for target in descriptions:  # AWS accepts a target that is not registered
            registered = group.targets.pop(target["Id"], None)
            if registered:
                group.deregistered_targets[target["Id"]] = registered
            targets.deregister(group, target["Id"])

    def deregister_terminated_instances(_moto: Any, group: Any, instance_ids: list[str]) -> None:
        for instance_id in instance_ids:
            group.targets.pop(instance_id, None)
            targets.forget(instance_id)

    def describe_target_health(
        _moto: Any, backend: Any, target_group_arn: str, descriptions: list[dict[str, Any]]
    ) -> list[Any]:
        group = backend.target_groups.get(target_group_arn)
        if group is None:
            raise TargetGroupNotFoundError
        return targets.describe(group, descriptions)

    group = models.FakeTargetGroup
    patches.wrap(group, "register", register)
    patches.wrap(group, "deregister", deregister)
    patches.wrap(group, "deregister_terminated_instances", deregister_terminated_instances)
    patches.wrap(models.ELBv2Backend, "describe_target_health", describe_target_health)
