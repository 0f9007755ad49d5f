from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import faults


@pytest.fixture
def waiting(desk: Any) -> Any:
    """One instance in Pending:Wait whose model will never answer."""
    desk.make_group()
    with faults.failed_boot(desk.cloud):
        desk.scale(1)
        desk.pass_time(30)
    assert desk.states() == ["Pending:Wait"]
    return desk


def act(desk: Any, operation: str, **how: Any) -> None:
    request = {
        "AutoScalingGroupName": "group",
        "LifecycleHookName": "up",
        "InstanceId": desk.instances()[0]["InstanceId"],
        **how,
    }
    getattr(desk.asg, operation)(**request)


def test_completing_the_action_puts_the_instance_into_service(waiting: Any) -> None:
    act(waiting, "complete_lifecycle_action", LifecycleActionResult="CONTINUE")
    assert waiting.states() == ["InService"]


def test_abandoning_the_launch_terminates_the_instance(waiting: Any) -> None:
    first = waiting.instances()[0]["InstanceId"]
    act(waiting, "complete_lifecycle_action", LifecycleActionResult="ABANDON")
    waiting.pass_time(200)
    assert [i["InstanceId"] != first for i in waiting.instances()] == [True]


def test_a_heartbeat_restarts_the_timeout(waiting: Any) -> None:
    first = waiting.instances()[0]["InstanceId"]
    waiting.pass_time(500)
    act(waiting, "record_lifecycle_action_heartbeat")
    waiting.pass_time(500)
    assert waiting.instances()[0]["InstanceId"] == first
    waiting.pass_time(150)
    assert first not in {i["InstanceId"] for i in waiting.instances() if i["LifecycleState"].startswith("Pending")}


def test_heartbeats_cannot_extend_a_wait_forever(desk: Any) -> None:
    desk.make_group(hooks=False)
    desk.asg.put_lifecycle_hook(
        AutoScalingGroupName="group",
        LifecycleHookName="up",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
        HeartbeatTimeout=30,
        DefaultResult="CONTINUE",
    )
    with faults.failed_boot(desk.cloud):
        desk.scale(1)
        desk.pass_time(20)
        for _ in range(149):  # 100 timeouts of 30 s are the limit
            desk.pass_time(20)
            act(desk, "record_lifecycle_action_heartbeat")
        desk.pass_time(30)
    assert desk.states() == ["InService"]


def test_an_action_that_is_not_active_is_an_error(waiting: Any) -> None:
    with pytest.raises(ClientError, match="No active Lifecycle Action found with instance ID i-0"):
        act(waiting, "complete_lifecycle_action", InstanceId="i-0", LifecycleActionResult="CONTINUE")
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        act(waiting, "record_lifecycle_action_heartbeat", LifecycleHookName="down")
    act(waiting, "complete_lifecycle_action", LifecycleActionResult="CONTINUE")
    with pytest.raises(ClientError, match="No active Lifecycle Action"):
        act(waiting, "complete_lifecycle_action", LifecycleActionResult="CONTINUE")


def test_a_launch_waits_for_all_its_hooks(desk: Any) -> None:
    desk.make_group()
    desk.asg.put_lifecycle_hook(
        AutoScalingGroupName="group",
        LifecycleHookName="second",
        LifecycleTransition="autoscaling:EC2_INSTANCE_LAUNCHING",
    )
    with faults.failed_boot(desk.cloud):
        desk.scale(1)
        desk.pass_time(30)
    act(desk, "complete_lifecycle_action", LifecycleActionResult="CONTINUE")
    assert desk.states() == ["Pending:Wait"]
    act(desk, "complete_lifecycle_action", LifecycleHookName="second", LifecycleActionResult="CONTINUE")
    assert desk.states() == ["InService"]


def test_a_terminating_hook_times_out(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(200)
    member = desk.cloud.lifelike.lifecycle.members[desk.instances()[0]["InstanceId"]]
    desk.cloud.world.drain_seconds = lambda _: None
    member.answers = False  # a dead engine: its agent sends no heartbeats
    desk.scale(0)
    desk.pass_time(310)
    assert desk.states() == ["Terminating:Wait"]
    desk.pass_time(310)
    assert desk.states() == []


def test_a_hook_is_stored_as_given_and_can_change_in_part(desk: Any) -> None:
    desk.make_group(hooks=False)
    named = {"AutoScalingGroupName": "group", "LifecycleHookName": "h"}
    desk.asg.put_lifecycle_hook(
        **named,
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        NotificationMetadata="why",
        HeartbeatTimeout=120,
    )
    desk.asg.put_lifecycle_hook(**named, DefaultResult="CONTINUE")
    (hook,) = desk.asg.describe_lifecycle_hooks(AutoScalingGroupName="group")["LifecycleHooks"]
    assert (hook["HeartbeatTimeout"], hook["DefaultResult"], hook["NotificationMetadata"]) == (120, "CONTINUE", "why")
    assert hook["GlobalTimeout"] == 12_000
    assert "RoleARN" not in hook
    with pytest.raises(ClientError, match="ValidationError"):
        desk.asg.put_lifecycle_hook(**{**named, "AutoScalingGroupName": "nobody"}, LifecycleTransition="x")
