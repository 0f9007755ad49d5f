"""Lifecycle hooks: waiting, completing, heartbeats and timeouts."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moto.autoscaling import models, responses
from moto.autoscaling.exceptions import ValidationError
from moto.core.responses import ActionResult, EmptyResult

from gpu_fleet.emulator.lifelike.desired_capacity import group_of_request
from gpu_fleet.emulator.lifelike.difference import Difference, Patches

if TYPE_CHECKING:
    from gpu_fleet.emulator.cloud_world import CloudWorld

DIFFERENCE = Difference(
    name="lifecycle hooks",
    moto=(
        "stores hooks with a made-up role and target and never waits; CompleteLifecycleAction and "
        "RecordLifecycleActionHeartbeat are missing"
    ),
    aws=(
        "an instance waits in Pending:Wait or Terminating:Wait until each hook is completed or its heartbeat timeout "
        "has passed, when the hook's default result applies; a heartbeat restarts the timeout, up to 100 timeouts or "
        "48 hours in all"
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

_SETTINGS = {
    "lifecycle_transition": "LifecycleTransition",
    "default_result": "DefaultResult",
    "role_arn": "RoleARN",
    "notification_target_arn": "NotificationTargetARN",
    "notification_metadata": "NotificationMetadata",
}
"""Attribute of moto's hook -> parameter of PutLifecycleHook."""


@dataclass(slots=True)
class _Action:
    """An instance's wait for one hook."""

    hook: str
    token: str
    timeout_seconds: float
    default_result: str
    latest_end: float
    cancel_timeout: Callable[[], None]


@dataclass(slots=True)
class _Transition:
    """An instance's wait for all hooks of its launch or termination."""

    group: str
    instance_id: str
    actions: list[_Action]
    done: Callable[[str | None], None]


@dataclass(frozen=True, slots=True)
class ActionName:
    """How a request names a lifecycle action: by its instance, its token or both."""

    group: str
    hook: str
    instance_id: str | None
    token: str | None

    def matches(self, transition: _Transition, action: _Action) -> bool:
        """Return whether this names the action."""
        return (
            transition.group == self.group
            and action.hook == self.hook
            and self.instance_id in (None, transition.instance_id)
            and self.token in (None, action.token)
            and (self.instance_id is not None or self.token is not None)
        )

    def __str__(self) -> str:
        """The name in AWS's error message."""
        return f"token {self.token}" if self.token else f"instance ID {self.instance_id}"


class LifecycleActions:
    """The lifecycle actions in progress."""

    def __init__(self, world: CloudWorld) -> None:
        """Start with no action."""
        self._world = world
        self._transitions: dict[str, _Transition] = {}

    def begin(self, group: Any, instance_id: str, transition: str, done: Callable[[str | None], None]) -> bool:
        """Start to wait for all of the group's hooks of this transition.

        Calls `done` at the end, with the reason if the transition was abandoned. Returns False, and never calls `done`,
        if the group has no such hook.
        """
        hooks = [
            hook
            for hook in group.autoscaling_backend.lifecycle_hooks.values()
            if hook.auto_scaling_group_name == group.name and hook.lifecycle_transition == transition
        ]
        if not hooks:
            return False
        waiting = _Transition(group.name, instance_id, [], done)
        self._transitions[instance_id] = waiting
        for hook in hooks:
            seconds = float(hook.heartbeat_timeout)
            action = _Action(
                hook=hook.name,
                token=str(uuid.UUID(int=self._world.random.getrandbits(128), version=4)),
                timeout_seconds=seconds,
                default_result=hook.default_result,
                latest_end=self._world.now + min(GLOBAL_TIMEOUT_SECONDS, 100 * seconds),
                cancel_timeout=lambda: None,
            )
            waiting.actions.append(action)
            self._restart_timeout(waiting, action)
        return True

    def complete_all(self, instance_id: str, result: str) -> None:
        """Complete all actions of this instance, as its own agent would."""
        transition = self._transitions.get(instance_id)
        if transition is None:
            return
        for action in list(transition.actions):
            if self._transitions.get(instance_id) is transition:
                self._complete(transition, action, result, "")

    def heartbeat_all(self, instance_id: str) -> None:
        """Record a heartbeat for all actions of this instance, as its own agent would."""
        transition = self._transitions.get(instance_id)
        if transition is None:
            return
        for action in transition.actions:
            self._restart_timeout(transition, action)

    def forget(self, instance_id: str) -> None:
        """Drop the actions of an instance that has ended."""
        transition = self._transitions.pop(instance_id, None)
        for action in transition.actions if transition else []:
            action.cancel_timeout()

    def complete(self, name: ActionName, result: str) -> None:
        """Complete an action. Raises AWS's ValidationError for an action that is not active."""
        if result not in (CONTINUE, ABANDON):
            raise ValidationError(f"Lifecycle action result must be CONTINUE or ABANDON (got {result})")
        transition, action = self._find(name)
        self._complete(transition, action, result, "")

    def heartbeat(self, name: ActionName) -> None:
        """Restart an action's timeout. Raises AWS's ValidationError for an action that is not active."""
        self._restart_timeout(*self._find(name))

    def _find(self, name: ActionName) -> tuple[_Transition, _Action]:
        for transition in self._transitions.values():
            for action in transition.actions:
                if name.matches(transition, action):
                    return transition, action
        raise ValidationError(f"No active Lifecycle Action found with {name}")

    def _restart_timeout(self, transition: _Transition, action: _Action) -> None:
        def time_out() -> None:
            self._complete(transition, action, action.default_result, "Heartbeat Timeout")

        action.cancel_timeout()
        end = min(self._world.now + action.timeout_seconds, action.latest_end)
        action.cancel_timeout = self._world.call_at(end, time_out)

    def _complete(self, transition: _Transition, action: _Action, result: str, why: str) -> None:
        action.cancel_timeout()
        transition.actions.remove(action)
        if result == ABANDON:  # cancels the remaining actions
            why = why or "Lifecycle Action Completed with ABANDON Result"
            self.forget(transition.instance_id)
            transition.done(f"Lifecycle Action with token {action.token} was abandoned: {why}")
        elif not transition.actions:
            del self._transitions[transition.instance_id]
            transition.done(None)


def patch_moto(actions: LifecycleActions, patches: Patches) -> None:
    """Add the missing operations on hooks, and store hooks as given."""

    def complete_lifecycle_action(_moto: Any, response: Any) -> ActionResult:
        actions.complete(_action_name(response), response._get_param("LifecycleActionResult"))
        return EmptyResult()

    def record_lifecycle_action_heartbeat(_moto: Any, response: Any) -> ActionResult:
        actions.heartbeat(_action_name(response))
        return EmptyResult()

    response = responses.AutoScalingResponse
    patches.wrap(response, "complete_lifecycle_action", complete_lifecycle_action)
    patches.wrap(response, "record_lifecycle_action_heartbeat", record_lifecycle_action_heartbeat)
    patches.wrap(response, "put_lifecycle_hook", put_lifecycle_hook)


def _action_name(response: Any) -> ActionName:
    return ActionName(
        response._get_param("AutoScalingGroupName"),
        response._get_param("LifecycleHookName"),
        response._get_param("InstanceId"),
        response._get_param("LifecycleActionToken"),
    )


def put_lifecycle_hook(_moto: Any, response: Any) -> ActionResult:
    """PutLifecycleHook: store a hook as given, or change the given settings of an existing one."""
    group, name = group_of_request(response).name, response._get_param("LifecycleHookName")
    hooks = response.autoscaling_backend.lifecycle_hooks
    hook: Any = hooks.get(f"{group}_{name}")
    if hook is None:
        transition = response._get_param("LifecycleTransition")
        if transition not in (LAUNCHING, TERMINATING):
            raise ValidationError(
                "Lifecycle transition must be one of EC2_INSTANCE_LAUNCHING, EC2_INSTANCE_TERMINATING"
            )
        hook = models.LifecycleHook(name, group, transition, None, None)
        hook.role_arn = hook.notification_target_arn = None
        hooks[f"{group}_{name}"] = hook
    for attribute, parameter in _SETTINGS.items():
        value = response._get_param(parameter)
        if value is not None:
            setattr(hook, attribute, value)
    seconds = response._get_int_param("HeartbeatTimeout")
    if seconds is not None:
        hook.heartbeat_timeout = seconds
    hook.global_timeout = min(GLOBAL_TIMEOUT_SECONDS, 100 * hook.heartbeat_timeout)
    return EmptyResult()
