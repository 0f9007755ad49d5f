"""An empty account that refuses what AWS refuses, with shorthands to make resources."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.emulator import EmbeddedCloud

Refused = Callable[..., contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _refused(code: str, message: str = "") -> Iterator[None]:
    with pytest.raises(ClientError, match=message or None) as caught:
        yield
    assert caught.value.response["Error"]["Code"] == code


@pytest.fixture
def refused() -> Refused:
    """`with refused("PriorityInUse"):` expects the call inside to be refused with this code (and message)."""
    return _refused


class Account:
    """An account with its clients, and shorthands to make resources."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self.cloud = cloud
        self.ec2, self.elb, self.asg = cloud.client("ec2"), cloud.client("elbv2"), cloud.client("autoscaling")
        self.iam, self.functions, self.ssm = cloud.client("iam"), cloud.client("lambda"), cloud.client("ssm")
        self.logs = cloud.client("logs")
        self._count = 0

    def vpc(self, cidr: str = "10.0.0.0/16", *, gateway: bool = True) -> str:
        vpc = self.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"]
        if gateway:
            self.attach(self.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"], vpc)
        return str(vpc)

    def attach(self, gateway: str, vpc: str) -> None:
        self.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)

    def subnet(self, vpc: str, cidr: str, zone: str = "a") -> str:
        made = self.ec2.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=f"us-east-1{zone}")
        return str(made["Subnet"]["SubnetId"])

    def two_zones(self, vpc: str, beginning: str = "10.0") -> list[str]:
        return [self.subnet(vpc, f"{beginning}.{i}.0/24", zone) for i, zone in enumerate("ab")]

    def security_group(self, vpc: str) -> str:
        made = self.ec2.create_security_group(GroupName=self.name(), Description="of a test", VpcId=vpc)
        return str(made["GroupId"])

    def balancer(self, subnets: list[str], name: str = "", **how: Any) -> str:
        made = self.elb.create_load_balancer(Name=name or self.name(), Subnets=subnets, **how)
        return str(made["LoadBalancers"][0]["LoadBalancerArn"])

    def listener(self, balancer: str, actions: list[dict[str, Any]] | None = None, port: int = 80) -> str:
        nothing = [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}]
        made = self.elb.create_listener(
            LoadBalancerArn=balancer, Port=port, Protocol="HTTP", DefaultActions=actions or nothing
        )
        return str(made["Listeners"][0]["ListenerArn"])

    def target_group(self, vpc: str) -> str:
        made = self.elb.create_target_group(Name=self.name(), Protocol="HTTP", Port=8000, VpcId=vpc)
        return str(made["TargetGroups"][0]["TargetGroupArn"])

    def template(self, **data: Any) -> str:
        data = {"ImageId": "ami-12c6146b", "InstanceType": "g6.xlarge", **data}
        made = self.ec2.create_launch_template(LaunchTemplateName=self.name(), LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def instance(self, subnet: str, *security_groups: str, **how: Any) -> str:
        made = self.ec2.run_instances(
            ImageId="ami-12c6146b", InstanceType="g6.xlarge", MinCount=1, MaxCount=1, SubnetId=subnet,
            SecurityGroupIds=list(security_groups), **how,
        )  # fmt: skip
        return str(made["Instances"][0]["InstanceId"])

    def group(self, subnets: list[str], **how: Any) -> str:
        request = {
            "AutoScalingGroupName": self.name(),
            "MinSize": 0,
            "MaxSize": 2,
            "VPCZoneIdentifier": ",".join(subnets),
            "LaunchTemplate": {"LaunchTemplateId": self.template()},
            **how,
        }
        self.asg.create_auto_scaling_group(**request)
        return str(request["AutoScalingGroupName"])

    def role(self, **how: Any) -> str:
        trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        request = {"RoleName": self.name(), "AssumeRolePolicyDocument": document, **how}
        self.iam.create_role(**request)
        return str(request["RoleName"])

    def function(self, **how: Any) -> str:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as z:
            z.writestr("code.py", "def handler(event, context): ...")
        request = {
            "FunctionName": self.name(),
            "Runtime": "python3.12",
            "Role": f"arn:aws:iam::{self.cloud.account}:role/{self.role()}",
            "Handler": "code.handler",
            "Code": {"ZipFile": packed.getvalue()},
            **how,
        }
        self.functions.create_function(**request)
        return str(request["FunctionName"])

    def name(self) -> str:
        self._count += 1
        return f"test-{self._count}"


@pytest.fixture
def account() -> Iterator[Account]:
    """An empty account."""
    with EmbeddedCloud() as cloud:
        yield Account(cloud)


def _forward(*shares: tuple[str, int]) -> list[dict[str, Any]]:
    groups = [{"TargetGroupArn": arn, "Weight": weight} for arn, weight in shares]
    return [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}]


@pytest.fixture
def forward() -> Callable[..., list[dict[str, Any]]]:
    """Make actions that forward to target groups by weights."""
    return _forward
