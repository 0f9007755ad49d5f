"""Lifecycle hooks: waiting, completing, heartbeats and timeouts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult, EmptyResult

from gpu_fleet.emulator.lifelike.difference import Difference, Patches

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="lifecycle hooks",
    moto=(
        "stores hooks with a made-up role and target and never waits; CompleteLifecycleAction and the "
        "heartbeat are missing"
    ),
    aws=(
        "an instance waits in Pending:Wait or Terminating:Wait until each hook is completed or its "
        "heartbeat timeout has passed, "
        "when the hook's default result holds; a heartbeat starts the timeout anew, up to 100 "
        "timeouts or 48 hours in all"
    ),
    source=(
        "https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks-overview.html "
        "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_PutLifecycleHook.html"
    ),
)

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"
CONTINUE = "CONTINUE"
ABANDON = "ABANDON"
GLOBAL_TIMEOUT_SECONDS = 172_800
"""48 hours: https://docs.aws.amazon.com/autoscaling/ec2/userguide/lifecycle-hooks.html"""


@dataclass(slots=True)
class _Wait:
    hook: str
    token: str
    timeout_seconds: float
    default: str
    ends_at_latest: float
    call_off: Callable[[], None]


@dataclass(slots=True)
class _Transition:
    group: str
    instance_id: str
    waits: list[_Wait]
    done: Callable[[str | None], None]


class Hooks:
    """The lifecycle actions under way."""

    def __init__(self, world: CloudWorld) -> None:
        """No action is under way."""
        self._world = world
        self._under_way: dict[str, _Transition] = {}

    def begin(self, group: Any, instance_id: str, transition: str, done: Callable[[str | None], None]) -> bool:
        """Start waiting for all of the group's hooks of this transition.

        `done` is called once it is over, with the reason where it was abandoned. Returns False, and never calls, where
        the group has no such hook.
        """
        hooks = [
            hook
            for hook in group.autoscaling_backend.lifecycle_hooks.values()
            if hook.auto_scaling_group_name == group.name and hook.lifecycle_transition == transition
        ]
        if not hooks:
            return False
        under_way = _Transition(group.name, instance_id, [], done)
        self._under_way[instance_id] = under_way
        for hook in hooks:
            seconds = float(hook.heartbeat_timeout)
            wait = _Wait(
                hook=hook.name,
                token=str(uuid.UUID(int=self._world.random.getrandbits(128), version=4)),
                timeout_seconds=seconds,
                default=hook.default_result,
                ends_at_latest=self._world.now + min(GLOBAL_TIMEOUT_SECONDS, 100 * seconds),
                call_off=lambda: None,
            )
            under_way.waits.append(wait)
            self._restart(under_way, wait)
        return True

    def complete_all(self, instance_id: str, result: str) -> None:
        """Complete whatever this instance waits for, as its own agent would."""
        under_way = self._under_way.get(instance_id)
        if under_way is None:
            return
        for wait in list(under_way.waits):
            if self._under_way.get(instance_id) is under_way:
                self._complete(under_way, wait, result, "")

    def beat_all(self, instance_id: str) -> None:
        """Record a heartbeat for whatever this instance waits for, as its own agent would."""
        under_way = self._under_way.get(instance_id)
        if under_way is None:
            return
        for wait in under_way.waits:
            self._restart(under_way, wait)

    def drop(self, instance_id: str) -> None:
        """Forget an instance that is no more."""
        under_way = self._under_way.pop(instance_id, None)
        for wait in under_way.waits if under_way else []:
            wait.call_off()

    def complete(self, group: str, hook: str, instance_id: str | None, token: str | None, result: str) -> None:
        """CompleteLifecycleAction. Raises ValidationError as AWS does for an action that is not active."""
        if result not in (CONTINUE, ABANDON):
            raise ValidationError(f"Lifecycle action result must be CONTINUE or ABANDON (got {result})")
        under_way, wait = self._find(group, hook, instance_id, token)
        self._complete(under_way, wait, result, "")

    def heartbeat(self, group: str, hook: str, instance_id: str | None, token: str | None) -> None:
        """RecordLifecycleActionHeartbeat. Raises ValidationError as `complete` does."""
        self._restart(*self._find(group, hook, instance_id, token))

    def _find(self, group: str, hook: str, instance_id: str | None, token: str | None) -> tuple[_Transition, _Wait]:
        for under_way in self._under_way.values():
            for wait in under_way.waits:
                if (
                    under_way.group == group
                    and wait.hook == hook
                    and (instance_id is None or under_way.instance_id == instance_id)
                    and (token is None or wait.token == token)
                    and not (instance_id is None and token is None)
                ):
                    return under_way, wait
        what = f"token {token}" if token else f"instance ID {instance_id}"
        raise ValidationError(f"No active Lifecycle Action found with {what}")

    def _restart(self, under_way: _Transition, wait: _Wait) -> None:
        wait.call_off()
        at = min(self._world.now + wait.timeout_seconds, wait.ends_at_latest)
        wait.call_off = self._world.at(at, lambda: self._complete(under_way, wait, wait.default, "Heartbeat Timeout"))

    def _complete(self, under_way: _Transition, wait: _Wait, result: str, why: str) -> None:
        wait.call_off()
        under_way.waits.remove(wait)
        if result == ABANDON:  # stops the remaining actions
            why = why or "Lifecycle Action Completed with ABANDON Result"
            self.drop(under_way.instance_id)
            under_way.done(f"Lifecycle Action with token {wait.token} was abandoned: {why}")
        elif not under_way.waits:
            del self._under_way[under_way.instance_id]
            under_way.done(None)


def mend(hooks: Hooks, patches: Patches) -> None:
    """Answer the hook operations, and store hooks as they were given."""
    response = responses.AutoScalingResponse

    def complete_lifecycle_action(self: Any) -> ActionResult:
        hooks.complete(
            self._get_param("AutoScalingGroupName"),
            self._get_param("LifecycleHookName"),
            self._get_param("InstanceId"),
            self._get_param("LifecycleActionToken"),
            self._get_param("LifecycleActionResult"),
        )
        return EmptyResult()

    def record_lifecycle_action_heartbeat(self: Any) -> ActionResult:
        hooks.heartbeat(
            self._get_param("AutoScalingGroupName"),
            self._get_param("LifecycleHookName"),
            self._get_param("InstanceId"),
            self._get_param("LifecycleActionToken"),
        )
        return EmptyResult()

    def put_lifecycle_hook(self: Any) -> ActionResult:
        group, name = self._get_param("AutoScalingGroupName"), self._get_param("LifecycleHookName")
        backend = self.autoscaling_backend
        if group not in backend.autoscaling_groups:
            raise ValidationError("AutoScalingGroup name not found - null")
        key = f"{group}_{name}"
        stored: Any = backend.lifecycle_hooks.get(key)
        if stored is None:
            if self._get_param("LifecycleTransition") not in (LAUNCHING, TERMINATING):
                raise ValidationError(
                    "Lifecycle transition must be one of EC2_INSTANCE_LAUNCHING, EC2_INSTANCE_TERMINATING"
                )
            stored = models.LifecycleHook(name, group, self._get_param("LifecycleTransition"), None, None)
            stored.role_arn = stored.notification_target_arn = None
            backend.lifecycle_hooks[key] = stored
        for attribute, parameter in (
            ("lifecycle_transition", "LifecycleTransition"),
            ("default_result", "DefaultResult"),
            ("role_arn", "RoleARN"),
            ("notification_target_arn", "NotificationTargetARN"),
            ("notification_metadata", "NotificationMetadata"),
        ):
            value = self._get_param(parameter)
            if value is not None:
                setattr(stored, attribute, value)
        seconds = self._get_int_param("HeartbeatTimeout")
        if seconds is not None:
            stored.heartbeat_timeout = seconds
        stored.global_timeout = min(GLOBAL_TIMEOUT_SECONDS, 100 * stored.heartbeat_timeout)
        return EmptyResult()

    patches.put(response, "complete_lifecycle_action", complete_lifecycle_action)
    patches.put(response, "record_lifecycle_action_heartbeat", record_lifecycle_action_heartbeat)
    patches.put(response, "put_lifecycle_hook", put_lifecycle_hook)
