"""A small stack in an embedded cloud: a network over two zones, a load balancer, one group."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpu_fleet.emulator import CloudOptions, EmbeddedCloud, InstanceChange

LAUNCHING = "autoscaling:EC2_INSTANCE_LAUNCHING"
TERMINATING = "autoscaling:EC2_INSTANCE_TERMINATING"


class Desk:
    """The cloud, with shorthands for what many tests do."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.cloud = cloud
        self.changes: list[InstanceChange] = []
        cloud.watch(self.changes.append)
        self.ec2, self.asg = cloud.client("ec2"), cloud.client("autoscaling")
        self.elb, self.cloudwatch = cloud.client("elbv2"), cloud.client("cloudwatch")
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.vpc = vpc
        self.subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"us-east-1{letter}")[
                "Subnet"
            ]["SubnetId"]
            for i, letter in enumerate("ab")
        ]
        gateway = self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
        balancer = self.elb.create_load_balancer(Name="balancer", Subnets=self.subnets)["LoadBalancers"][0]
        self.balancer = balancer["LoadBalancerArn"].split("loadbalancer/", 1)[1]
        self.target_group = self.elb.create_target_group(
            Name="targets",
            Protocol="HTTP",
            Port=8000,
            VpcId=vpc,
            HealthCheckIntervalSeconds=10,
            HealthyThresholdCount=3,
            UnhealthyThresholdCount=2,
        )["TargetGroups"][0]["TargetGroupArn"]
        self.elb.create_listener(
            LoadBalancerArn=balancer["LoadBalancerArn"],
            Port=80,
            Protocol="HTTP",
            DefaultActions=[{"Type": "forward", "TargetGroupArn": self.target_group}],
        )
        self.template = self.make_template("template")

    def make_template(self, name: str, **data: Any) -> str:
        data = {"ImageId": "ami-12c6146b", "InstanceType": "g6.xlarge", "UserData": "aGk=", **data}
        made = self.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def make_group(self, name: str = "group", *, hooks: bool = True, **settings: Any) -> str:
        distribution = settings.pop("distribution", {})
        request: dict[str, Any] = {
            "MinSize": 0,
            "MaxSize": 10,
            "VPCZoneIdentifier": ",".join(self.subnets),
            "MixedInstancesPolicy": {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {"LaunchTemplateId": self.template, "Version": "$Latest"},
                    "Overrides": [{"InstanceType": t} for t in ("g6.xlarge", "g6.2xlarge")],
                },
                "InstancesDistribution": distribution,
            },
            "HealthCheckType": "ELB",
            "HealthCheckGracePeriod": 60,
            "TargetGroupARNs": [self.target_group],
        }
        if hooks:
            request["LifecycleHookSpecificationList"] = [
                {"LifecycleHookName": "up", "LifecycleTransition": LAUNCHING, "HeartbeatTimeout": 600,
                 "DefaultResult": "ABANDON"},
                {"LifecycleHookName": "down", "LifecycleTransition": TERMINATING, "HeartbeatTimeout": 300,
                 "DefaultResult": "CONTINUE"},
            ]  # fmt: skip
        self.asg.create_auto_scaling_group(AutoScalingGroupName=name, **{**request, **settings})
        return name

    def scale(self, desired: int, group: str = "group") -> None:
        self.asg.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=desired)

    def pass_time(self, seconds: float) -> None:
        self.cloud.advance(self.cloud.now + seconds)

    def group(self, name: str = "group") -> dict[str, Any]:
        return self.asg.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]

    def instances(self, name: str = "group") -> list[dict[str, Any]]:
        return list(self.group(name)["Instances"])

    def states(self, name: str = "group") -> list[str]:
        return sorted(i["LifecycleState"] for i in self.instances(name))

    def health(self) -> dict[str, str]:
        targets = self.elb.describe_target_health(TargetGroupArn=self.target_group)["TargetHealthDescriptions"]
        return {t["Target"]["Id"]: t["TargetHealth"]["State"] for t in targets}

    def activities(self, group: str = "group") -> list[dict[str, Any]]:
        return list(self.asg.describe_scaling_activities(AutoScalingGroupName=group)["Activities"])

    def is_spot(self, instance_id: str) -> bool:
        instance = self.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
        return instance.get("InstanceLifecycle") == "spot"


@pytest.fixture
def make_desk() -> Iterator[Callable[..., Desk]]:
    """By default boots take 120 s and drains 30 s."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Desk:
            options = {"boot_seconds": 120, "drain_seconds": 30, **options}
            return Desk(stack.enter_context(EmbeddedCloud(options=CloudOptions(**options))))

        yield make


@pytest.fixture
def desk(make_desk: Callable[..., Desk]) -> Desk:
    """A desk whose boots take 120 s and drains 30 s."""
    return make_desk()


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Path]:
    """Write a Pulumi project with this program, and a stack `local` with this configuration."""

    def make(program: str, config: str = "") -> Path:
        (tmp_path / "Pulumi.yaml").write_text("name: small\nruntime: python\nmain: infra/\n")
        text = "config:\n  aws:region: us-east-1\n" + textwrap.indent(textwrap.dedent(config), "  ")
        (tmp_path / "Pulumi.local.yaml").write_text(text)
        (tmp_path / "infra").mkdir(exist_ok=True)
        (tmp_path / "infra" / "__main__.py").write_text(textwrap.dedent(program))
        return tmp_path

    return make
