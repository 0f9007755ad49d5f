"""The requests that IAM checks for each call of the scaler, from the call and the deployed stack.

https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gpu_fleet.emulator import EmbeddedCloud
from tests.permissions.evaluator import Request, request

SERVICE = {"elbv2": "elasticloadbalancing"}
"""IAM's names for services that boto3 names otherwise."""
CREATED, USED = ("instance", "volume", "network-interface"), ("subnet", "security-group")


class Calls:
    """Turns calls into requests; reads names and ARNs from the embedded cloud."""

    def __init__(self, cloud: EmbeddedCloud) -> None:
        self._cloud = cloud

    def requests(self, client: str, operation: str, arguments: Mapping[str, Any]) -> list[Request]:
        """Return all requests that IAM checks for a call."""
        action = f"{SERVICE.get(client, client)}:{operation}"
        resource = _RESOURCES.get(action)
        own = request(action, resource(self, arguments) if resource else "*")
        policy = arguments.get("MixedInstancesPolicy") or arguments.get("DesiredConfiguration", {}).get(
            "MixedInstancesPolicy"
        )
        return [own, *(self._launch(policy) if policy else ())]

    def group(self, arguments: Mapping[str, Any]) -> str:
        groups = self._cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        name, instance = arguments.get("AutoScalingGroupName"), arguments.get("InstanceId")
        return next(
            group["AutoScalingGroupARN"]
            for group in groups
            if group["AutoScalingGroupName"] == name or any(i["InstanceId"] == instance for i in group["Instances"])
        )

    def table(self, arguments: Mapping[str, Any]) -> str:
        return self._cloud.client("dynamodb").describe_table(TableName=arguments["TableName"])["Table"]["TableArn"]

    def queue(self, arguments: Mapping[str, Any]) -> str:
        attributes = self._cloud.client("sqs").get_queue_attributes(
            QueueUrl=arguments["QueueUrl"], AttributeNames=["QueueArn"]
        )["Attributes"]
        return attributes["QueueArn"]

    def parameter(self, arguments: Mapping[str, Any]) -> str:
        return f"arn:aws:ssm:{self._cloud.region}:{self._cloud.account}:parameter{arguments['Path']}"

    def _launch(self, policy: Mapping[str, Any]) -> Iterator[Request]:
        """Yield the launch's requests: an update with a launch template needs the right to launch from it.

        https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-launch-template-permissions.html
        """
        ec2 = self._cloud.client("ec2")
        specification = policy["LaunchTemplate"]["LaunchTemplateSpecification"]
        (version,) = ec2.describe_launch_template_versions(
            LaunchTemplateId=specification["LaunchTemplateId"], Versions=[specification["Version"]]
        )["LaunchTemplateVersions"]
        data = version["LaunchTemplateData"]
        arn = f"arn:aws:ec2:{self._cloud.region}:{self._cloud.account}"
        template = {"ec2:LaunchTemplate": f"{arn}:launch-template/{specification['LaunchTemplateId']}"}
        yield request("ec2:RunInstances", template["ec2:LaunchTemplate"], template)
        yield request("ec2:RunInstances", f"arn:aws:ec2:{self._cloud.region}::image/ami-0123456789abcdef0", template)
        for resource_type in (*CREATED, *USED):
            yield request("ec2:RunInstances", f"{arn}:{resource_type}/x-0123456789abcdef0", template)
        for tags in data["TagSpecifications"]:
            yield request(
                "ec2:CreateTags",
                f"{arn}:{tags['ResourceType']}/x-0123456789abcdef0",
                {"ec2:CreateAction": "RunInstances"},
            )
        profile = data["IamInstanceProfile"]["Arn"].rpartition("/")[2]
        roles = self._cloud.client("iam").get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        yield request("iam:PassRole", roles[0]["Arn"], {"iam:PassedToService": "ec2.amazonaws.com"})
        image = data["ImageId"].removeprefix("resolve:ssm:")
        # AWS's public parameters belong to no account.
        owner = "" if image.startswith("/aws/") else self._cloud.account
        yield request("ssm:GetParameters", f"arn:aws:ssm:{self._cloud.region}:{owner}:parameter{image}")


_RESOURCES: Mapping[str, Callable[[Calls, Mapping[str, Any]], str]] = {
    "autoscaling:SetDesiredCapacity": Calls.group,
    "autoscaling:SetInstanceProtection": Calls.group,
    "autoscaling:StartInstanceRefresh": Calls.group,
    "autoscaling:TerminateInstanceInAutoScalingGroup": Calls.group,
    "autoscaling:UpdateAutoScalingGroup": Calls.group,
    "dynamodb:GetItem": Calls.table,
    "dynamodb:PutItem": Calls.table,
    "elasticloadbalancing:ModifyRule": lambda _, arguments: arguments["RuleArn"],
    "sqs:GetQueueAttributes": Calls.queue,
    "ssm:GetParametersByPath": Calls.parameter,
}
"""Returns the resource of an action; `request` refuses an action with a resource that is missing here."""
