from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import Change


@pytest.fixture
def up(desk: Any) -> Any:
    """Two instances in service and healthy."""
    desk.make_group(DesiredCapacity=2)
    desk.pass_time(200)
    return desk


def test_terminating_a_chosen_instance_can_shrink_the_group(up: Any) -> None:
    chosen = up.instances()[1]["InstanceId"]
    up.asg.terminate_instance_in_auto_scaling_group(InstanceId=chosen, ShouldDecrementDesiredCapacity=True)
    up.pass_time(100)
    assert up.group()["DesiredCapacity"] == 1
    assert chosen not in {i["InstanceId"] for i in up.instances()}


def test_a_chosen_instance_is_replaced_if_the_group_does_not_shrink(up: Any) -> None:
    chosen = up.instances()[1]["InstanceId"]
    up.asg.terminate_instance_in_auto_scaling_group(InstanceId=chosen, ShouldDecrementDesiredCapacity=False)
    up.pass_time(300)
    assert up.states() == ["InService", "InService"]


def test_a_chosen_termination_respects_the_minimum(desk: Any) -> None:
    desk.make_group(MinSize=1, DesiredCapacity=1)
    desk.pass_time(200)
    only = desk.instances()[0]["InstanceId"]
    with pytest.raises(ClientError, match="violate group's min size constraint"):
        desk.asg.terminate_instance_in_auto_scaling_group(InstanceId=only, ShouldDecrementDesiredCapacity=True)
    with pytest.raises(ClientError, match="No managed instance"):
        desk.asg.terminate_instance_in_auto_scaling_group(InstanceId="i-0", ShouldDecrementDesiredCapacity=True)


def test_an_instance_terminated_behind_the_group_is_lost_and_replaced(up: Any) -> None:
    gone = up.instances()[0]["InstanceId"]
    up.ec2.terminate_instances(InstanceIds=[gone])
    assert gone not in up.health()
    assert [c.instance_id for c in up.changes if c.change is Change.LOST] == [gone]
    up.pass_time(300)
    assert up.states() == ["InService", "InService"]


def test_force_deletes_a_group_with_its_targets(up: Any) -> None:
    with pytest.raises(ClientError, match="ResourceInUse"):
        up.asg.delete_auto_scaling_group(AutoScalingGroupName="group")
    up.asg.delete_auto_scaling_group(AutoScalingGroupName="group", ForceDelete=True)
    assert up.health() == {}
    up.pass_time(100)  # nothing planned for the group does harm


def test_a_second_group_of_one_name_is_refused(up: Any) -> None:
    with pytest.raises(ClientError, match="AlreadyExists"):
        up.make_group()
