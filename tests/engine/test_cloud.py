"""The cloud under the engine refuses what AWS refuses, and its instances change. No engine runs: seconds each."""

from __future__ import annotations

import time
from typing import Any

import pytest
from botocore.exceptions import ClientError


def two_zones(ec2: Any) -> tuple[str, list[str]]:
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnets = [
        ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"us-east-1{zone}")
        for i, zone in enumerate("ab")
    ]
    return vpc, [made["Subnet"]["SubnetId"] for made in subnets]


def test_it_refuses_what_aws_refuses(ground: Any) -> None:
    cloud = ground.cloud()
    ec2, elb = cloud.client("ec2"), cloud.client("elbv2")
    vpc, subnets = two_zones(ec2)
    elb.create_load_balancer(Name="front", Subnets=subnets, Scheme="internal")
    for call, code in (
        (lambda: elb.create_load_balancer(Name="back", Subnets=subnets[:1], Scheme="internal"), "ValidationError"),
        (lambda: ec2.delete_subnet(SubnetId=subnets[0]), "DependencyViolation"),
        (lambda: ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/25"), "InvalidSubnet.Conflict"),
        (lambda: cloud.client("logs").create_log_group(logGroupName="two words"), "InvalidParameterException"),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["Error"]["Code"] == code


def test_an_instance_drains_until_its_hook_completes(ground: Any) -> None:
    cloud = ground.cloud(pace=100.0, drain_seconds=300.0)
    ec2, asg, elb = (cloud.client(name) for name in ("ec2", "autoscaling", "elbv2"))
    vpc, subnets = two_zones(ec2)
    balancer = elb.create_load_balancer(Name="front", Subnets=subnets, Scheme="internal")["LoadBalancers"][0]
    targets = elb.create_target_group(Name="targets", Protocol="HTTP", Port=80, VpcId=vpc)["TargetGroups"][0]
    elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"],
        Port=80,
        Protocol="HTTP",
        DefaultActions=[{"Type": "forward", "TargetGroupArn": targets["TargetGroupArn"]}],
    )
    ec2.create_launch_template(
        LaunchTemplateName="template", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "g6.xlarge"}
    )
    asg.create_auto_scaling_group(
        AutoScalingGroupName="group",
        MinSize=0,
        MaxSize=1,
        DesiredCapacity=1,
        VPCZoneIdentifier=",".join(subnets),
        LaunchTemplate={"LaunchTemplateName": "template"},
        TargetGroupARNs=[targets["TargetGroupArn"]],
    )
    asg.put_lifecycle_hook(
        AutoScalingGroupName="group",
        LifecycleHookName="drain",
        LifecycleTransition="autoscaling:EC2_INSTANCE_TERMINATING",
        HeartbeatTimeout=3600,
    )

    def await_change(name: str) -> float:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            times = [change["at"] for change in cloud.changes() if change["change"] == name]
            if times:
                return float(times[0])
            time.sleep(0.1)
        pytest.fail(f"no change {name!r} among {cloud.changes()}")

    await_change("healthy")
    asg.set_desired_capacity(AutoScalingGroupName="group", DesiredCapacity=0)
    draining = await_change("draining")
    (instance,) = asg.describe_auto_scaling_instances()["AutoScalingInstances"]
    assert instance["LifecycleState"].startswith("Terminating")
    assert await_change("gone") - draining == pytest.approx(300, abs=5)
