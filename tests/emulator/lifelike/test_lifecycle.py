from __future__ import annotations

from typing import Any

import pytest

from gpu_fleet.emulator import Change, faults


@pytest.fixture
def up(desk: Any) -> Any:
    """Two instances in service and healthy."""
    desk.make_group(DesiredCapacity=2)
    desk.pass_time(200)
    return desk


def test_an_instance_waits_in_its_hook_until_its_model_answers(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    assert desk.states() == []  # SetDesiredCapacity and its kin answer before anything is launched
    desk.pass_time(10)
    assert desk.states() == ["Pending"]
    desk.pass_time(20)
    assert desk.states() == ["Pending:Wait"]
    assert desk.health() == {}
    desk.pass_time(120)
    assert desk.states() == ["InService"]
    assert list(desk.health().values()) == ["healthy"]


def test_without_a_hook_an_instance_is_in_service_before_its_model_answers(desk: Any) -> None:
    desk.make_group(hooks=False, DesiredCapacity=1, HealthCheckGracePeriod=600)
    desk.pass_time(20)
    assert desk.states() == ["InService"]
    assert list(desk.health().values()) == ["initial"]
    desk.pass_time(40)
    assert list(desk.health().values()) == ["unhealthy"]
    desk.pass_time(120)
    assert list(desk.health().values()) == ["healthy"]


def test_an_unhealthy_instance_is_replaced_once_its_grace_period_is_over(up: Any) -> None:
    sick = up.instances()[0]["InstanceId"]
    with faults.engine_down(up.cloud, sick):
        up.pass_time(5)
        assert up.health()[sick] == "healthy"  # one failed check is not enough
        up.pass_time(300)
        assert sick not in up.health()
    assert up.states() == ["InService", "InService"]


def test_scale_in_drains_before_it_terminates(up: Any) -> None:
    up.scale(1)
    up.pass_time(5)
    assert sorted(up.health().values()) == ["draining", "healthy"]
    going = next(i for i, state in up.health().items() if state == "draining")
    assert up.states() == ["InService", "Terminating"]
    up.pass_time(60)
    assert up.states() == ["InService"]
    assert list(up.health().values()) == ["healthy"]
    state = up.ec2.describe_instances(InstanceIds=[going])["Reservations"][0]["Instances"][0]["State"]["Name"]
    assert state == "terminated"
    drain, gone = (next(c.at for c in up.changes if c.change is k) for k in (Change.DRAINING, Change.GONE))
    assert gone - drain == 30


def test_a_drain_longer_than_the_deregistration_delay_continues_in_the_terminating_hook(up: Any) -> None:
    up.cloud.world.drain_seconds = lambda _: None
    attribute = {"Key": "deregistration_delay.timeout_seconds", "Value": "60"}
    up.elb.modify_target_group_attributes(TargetGroupArn=up.target_group, Attributes=[attribute])
    up.scale(1)
    up.pass_time(70)
    assert up.states() == ["InService", "Terminating:Wait"]
    up.pass_time(1000)  # far beyond the hook's 300 s: the agent sends heartbeats while it drains
    assert up.states() == ["InService", "Terminating:Wait"]
    going = next(i["InstanceId"] for i in up.instances() if i["LifecycleState"] == "Terminating:Wait")
    up.cloud.finish_drain(going)
    up.pass_time(1)
    assert up.states() == ["InService"]


def test_a_drain_ends_with_the_last_request(up: Any) -> None:
    up.cloud.world.drain_seconds = lambda _: None
    up.scale(1)
    up.pass_time(10)
    going = next(i for i, state in up.health().items() if state == "draining")
    up.cloud.finish_drain(going)
    up.pass_time(1)
    assert up.states() == ["InService"]


def test_an_instance_that_never_answers_is_replaced(desk: Any) -> None:
    desk.make_group()
    with faults.failed_boot(desk.cloud):
        desk.scale(1)
        desk.pass_time(600)
        first = desk.instances()[0]["InstanceId"]
    desk.pass_time(300)
    assert desk.states() == ["InService"]
    assert desk.instances()[0]["InstanceId"] != first
    assert any("abandoned: Heartbeat Timeout" in a.get("StatusMessage", "") for a in desk.activities())


def test_suspended_processes_do_not_run(up: Any) -> None:
    up.asg.suspend_processes(AutoScalingGroupName="group", ScalingProcesses=["Launch", "Terminate"])
    up.scale(4)
    up.pass_time(300)
    assert len(up.instances()) == 2
    up.scale(1)
    up.pass_time(300)
    assert len(up.instances()) == 2
    up.asg.resume_processes(AutoScalingGroupName="group", ScalingProcesses=["Launch", "Terminate"])
    up.scale(1)
    up.pass_time(300)
    assert len(up.instances()) == 1


def test_a_suspended_launch_fails_nothing_and_is_made_up_for_once_it_is_resumed(up: Any) -> None:
    """The order stands, no activity says anything, and an unhealthy instance goes without being replaced."""
    before = len(up.activities())
    up.asg.suspend_processes(AutoScalingGroupName="group", ScalingProcesses=["Launch"])
    assert [p["ProcessName"] for p in up.group()["SuspendedProcesses"]] == ["Launch"]
    up.scale(4)
    up.pass_time(600)
    assert (up.group()["DesiredCapacity"], len(up.instances()), len(up.activities())) == (4, 2, before)
    up.asg.set_instance_health(InstanceId=up.instances()[0]["InstanceId"], HealthStatus="Unhealthy")
    up.pass_time(300)
    assert len(up.instances()) == 1
    up.asg.resume_processes(AutoScalingGroupName="group", ScalingProcesses=["Launch"])
    up.pass_time(10)
    assert len(up.instances()) == 4


def test_terminated_instances_are_forgotten_after_an_hour(up: Any) -> None:
    up.scale(0)
    up.pass_time(100)
    assert len(up.ec2.describe_instances()["Reservations"]) == 2
    up.pass_time(3700)
    assert up.ec2.describe_instances()["Reservations"] == []
