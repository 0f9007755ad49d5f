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
    moto="a target is healthy once registered, gone once deregistered, and stays healthy when the group terminated it",
    aws=(
        "a new target is initial until its first health check passes, unhealthy after the unhealthy "
        "threshold, healthy again "
        "after the healthy threshold; a deregistered one drains until its last request ends, at most "
        "the deregistration delay"
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
    call_off: Callable[[], None] = lambda: None
    drained: list[Callable[[], None]] = field(default_factory=list)


class Targets:
    """The targets of all target groups with their health."""

    def __init__(self, world: CloudWorld) -> None:
        """No target is registered."""
        self._world = world
        self._by_key: dict[tuple[str, str], _Target] = {}
        self.answers: Callable[[str], bool] = lambda _: True
        """Whether the instance would pass a health check now."""
        self.changed: Callable[[str, str], None] = lambda _id, _state: None
        """Told of each target's new state."""

    def register(self, group: Any, target_id: str, port: int) -> None:
        """Register a target; one that is registered already is left as it is."""
        known = self._by_key.get((group.arn, target_id))
        if known is not None and known.state != DRAINING:
            return
        if known is not None:
            known.call_off()
        target = _Target(group, target_id, port, self._world.now)
        self._by_key[group.arn, target_id] = target
        self._await_checks(target)

    def deregister(self, group: Any, target_id: str, drained: Callable[[], None] = lambda: None) -> None:
        """Take no new requests; `drained` is called when the last has ended or the deregistration delay is over."""
        target = self._by_key.get((group.arn, target_id))
        if target is None:
            drained()
            return
        target.drained.append(drained)
        if target.state == DRAINING:
            return
        took_requests = target.state in (HEALTHY, UNHEALTHY)
        self._enter(target, DRAINING)
        delay = float(group.attributes.get("deregistration_delay.timeout_seconds", 300))
        load = self._world.drains_in(target_id) if took_requests else 0.0
        target.call_off = self._world.after(delay if load is None else min(load, delay), lambda: self._gone(target))

    def load_gone(self, target_id: str) -> None:
        """The target's last request has ended: whatever drains of it is done."""
        for target in self.of(target_id):
            if target.state == DRAINING:
                target.call_off()
                self._gone(target)

    def forget(self, target_id: str) -> None:
        """The instance is no more: its targets go with it at once."""
        for target in self.of(target_id):
            target.call_off()
            self._gone(target)

    def reconsider(self, target_id: str) -> None:
        """The instance began or ceased to answer: let the next health checks find out."""
        for target in self.of(target_id):
            if target.state != DRAINING:
                target.call_off()
                self._await_checks(target)

    def of(self, target_id: str) -> list[_Target]:
        """The registrations of one instance."""
        return [t for t in self._by_key.values() if t.id == target_id]

    def state(self, group_arn: str, target_id: str) -> str | None:
        """The target's state; None where it is not registered and does not drain."""
        target = self._by_key.get((group_arn, target_id))
        return target.state if target else None

    def count(self, group_arn: str, state: str | None = None) -> int:
        """How many registered targets the group has (draining ones not counted), or those in one state."""
        return sum(
            t.state == state if state else t.state != DRAINING
            for (arn, _), t in self._by_key.items()
            if arn == group_arn
        )

    def describe(self, group: Any, wanted: list[dict[str, Any]]) -> list[Any]:
        """DescribeTargetHealth: all targets with those that drain, or the ones asked for."""
        ids = [t["Id"] for t in wanted] or [t.id for (arn, _), t in self._by_key.items() if arn == group.arn]
        return [self._status(group, target_id) for target_id in ids]

    def _status(self, group: Any, target_id: str) -> Any:
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

    def _await_checks(self, target: _Target) -> None:
        """Plan the health check that will change the target's state, if any does.

        Checks come each interval, counted from the registration; the first is one interval after it.
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
        target.call_off = self._world.at(at, lambda: self._enter(target, HEALTHY if answers else UNHEALTHY))

    def _enter(self, target: _Target, state: str) -> None:
        target.call_off()
        target.state = state
        self.changed(target.id, state)

    def _gone(self, target: _Target) -> None:
        if self._by_key.get((target.group.arn, target.id)) is target:
            del self._by_key[target.group.arn, target.id]
        for drained in target.drained:
            drained()
        target.drained = []


def mend(targets: Targets, patches: Patches) -> None:
    """Put the targets' own life in place of moto's lists."""
    group = models.FakeTargetGroup

    def register(self: Any, wanted: list[dict[str, Any]]) -> None:
        moto_register(self, wanted)
        for target in wanted:
            targets.register(self, target["Id"], int(target.get("Port") or self.port))

    def deregister(self: Any, wanted: list[dict[str, Any]]) -> None:
        for target in wanted:  # one that is not registered is no error on AWS
            known = self.targets.pop(target["Id"], None)
            if known:
                self.deregistered_targets[target["Id"]] = known
            targets.deregister(self, target["Id"])

    def deregister_terminated_instances(self: Any, instance_ids: list[str]) -> None:
        for instance_id in instance_ids:
            self.targets.pop(instance_id, None)
            targets.forget(instance_id)

    def describe_target_health(self: Any, target_group_arn: str, wanted: list[dict[str, Any]]) -> list[Any]:
        known = self.target_groups.get(target_group_arn)
        if known is None:
            raise TargetGroupNotFoundError
        return targets.describe(known, wanted)

    moto_register = patches.put(group, "register", register)
    patches.put(group, "deregister", deregister)
    patches.put(group, "deregister_terminated_instances", deregister_terminated_instances)
    patches.put(models.ELBv2Backend, "describe_target_health", describe_target_health)
