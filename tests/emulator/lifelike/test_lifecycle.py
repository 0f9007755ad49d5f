from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

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


def test_a_drain_that_outlasts_the_deregistration_delay_goes_on_in_the_terminating_hook(up: Any) -> None:
    up.cloud.world.drain_seconds = lambda _: None
    attribute = {"Key": "deregistration_delay.timeout_seconds", "Value": "60"}
    up.elb.modify_target_group_attributes(TargetGroupArn=up.target_group, Attributes=[attribute])
    up.scale(1)
    up.pass_time(70)
    assert up.states() == ["InService", "Terminating:Wait"]
    up.pass_time(1000)  # far beyond the hook's 300 s: the agent sends heartbeats while it drains
    assert up.states() == ["InService", "Terminating:Wait"]
    going = next(i["InstanceId"] for i in up.instances() if i["LifecycleState"] == "Terminating:Wait")
    up.cloud.load_gone(going)
    up.pass_time(1)
    assert up.states() == ["InService"]


def test_a_drain_ends_the_moment_the_load_is_gone(up: Any) -> None:
    up.cloud.world.drain_seconds = lambda _: None
    up.scale(1)
    up.pass_time(10)
    going = next(i for i, state in up.health().items() if state == "draining")
    up.cloud.load_gone(going)
    up.pass_time(1)
    assert up.states() == ["InService"]


def test_an_instance_that_never_answers_is_given_up_and_made_anew(desk: Any) -> None:
    desk.make_group()
    with faults.failed_boot(desk.cloud):
        desk.scale(1)
        desk.pass_time(600)
        first = desk.instances()[0]["InstanceId"]
    desk.pass_time(300)
    assert desk.states() == ["InService"]
    assert desk.instances()[0]["InstanceId"] != first
    assert any("abandoned: Heartbeat Timeout" in a.get("StatusMessage", "") for a in desk.activities())


def test_a_chosen_instance_goes_and_the_group_shrinks_with_it(up: Any) -> None:
    chosen = up.instances()[1]["InstanceId"]
    up.asg.terminate_instance_in_auto_scaling_group(InstanceId=chosen, ShouldDecrementDesiredCapacity=True)
    up.pass_time(100)
    assert up.group()["DesiredCapacity"] == 1
    assert chosen not in {i["InstanceId"] for i in up.instances()}


def test_a_chosen_instance_is_made_up_where_the_group_does_not_shrink(up: Any) -> None:
    chosen = up.instances()[1]["InstanceId"]
    up.asg.terminate_instance_in_auto_scaling_group(InstanceId=chosen, ShouldDecrementDesiredCapacity=False)
    up.pass_time(300)
    assert up.states() == ["InService", "InService"]


def test_the_minimum_is_not_undercut_by_choosing(desk: Any) -> None:
    desk.make_group(MinSize=1, DesiredCapacity=1)
    desk.pass_time(200)
    only = desk.instances()[0]["InstanceId"]
    with pytest.raises(ClientError, match="violate group's min size constraint"):
        desk.asg.terminate_instance_in_auto_scaling_group(InstanceId=only, ShouldDecrementDesiredCapacity=True)
    with pytest.raises(ClientError, match="No managed instance"):
        desk.asg.terminate_instance_in_auto_scaling_group(InstanceId="i-0", ShouldDecrementDesiredCapacity=True)


def test_an_instance_terminated_behind_the_group_is_lost_and_made_up(up: Any) -> None:
    gone = up.instances()[0]["InstanceId"]
    up.ec2.terminate_instances(InstanceIds=[gone])
    assert gone not in up.health()
    assert [c.instance_id for c in up.changes if c.change is Change.LOST] == [gone]
    up.pass_time(300)
    assert up.states() == ["InService", "InService"]


def test_an_instance_has_what_its_launch_template_says(desk: Any) -> None:
    groups = [desk.ec2.create_security_group(GroupName="g", Description="g", VpcId=desk.vpc)["GroupId"]]
    template = desk.make_template(
        "full",
        ImageId="resolve:ssm:/aws/service/deeplearning/ami/x86_64/base/latest/ami-id",
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        NetworkInterfaces=[{"DeviceIndex": 0, "AssociatePublicIpAddress": False, "Groups": groups}],
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3", "Encrypted": True}}
        ],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "of", "Value": "template"}]}],
    )
    desk.make_group(
        "plain",
        MixedInstancesPolicy={
            "LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"}}
        },
        DesiredCapacity=1,
    )
    desk.pass_time(200)
    instance_id = desk.instances("plain")[0]["InstanceId"]
    found = desk.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    assert found["ImageId"].startswith("ami-")
    assert found["InstanceType"] == "g6.xlarge"
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert found["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    assert [g["GroupId"] for g in found["SecurityGroups"]] == groups
    assert "PublicIpAddress" not in found
    tags = {t["Key"]: t["Value"] for t in found["Tags"]}
    assert tags["of"] == "template"
    assert tags["aws:autoscaling:groupName"] == "plain"
    volumes = desk.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}])[
        "Volumes"
    ]
    assert [(v["Size"], v["VolumeType"], v["Encrypted"]) for v in volumes] == [(200, "gp3", True)]


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


def test_a_group_that_has_instances_is_deleted_by_force_alone(up: Any) -> None:
    with pytest.raises(ClientError, match="ResourceInUse"):
        up.asg.delete_auto_scaling_group(AutoScalingGroupName="group")
    up.asg.delete_auto_scaling_group(AutoScalingGroupName="group", ForceDelete=True)
    assert up.health() == {}
    up.pass_time(100)  # nothing planned for the group does harm


def test_a_group_is_not_silently_replaced_by_one_of_the_same_name(up: Any) -> None:
    with pytest.raises(ClientError, match="AlreadyExists"):
        up.make_group()


def test_terminated_instances_are_forgotten_after_an_hour(up: Any) -> None:
    up.scale(0)
    up.pass_time(100)
    assert len(up.ec2.describe_instances()["Reservations"]) == 2
    up.pass_time(3700)
    assert up.ec2.describe_instances()["Reservations"] == []
