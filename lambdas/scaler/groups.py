"""The Auto Scaling groups as they stand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from lambdas.scaler.batches import batches
from lambdas.scaler.result import ErrorCode, Fault

if TYPE_CHECKING:
    from types_boto3_autoscaling import AutoScalingClient

NAMES_PER_CALL = 100
"""50 by default, up to 100 with MaxRecords:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html"""

LEAVING = ("Terminating", "Terminated", "Detaching", "Detached", "EnteringStandby", "Standby", "Quarantined")
"""Beginnings of the lifecycle states that an instance does not come back from by itself, so that it no longer counts
against the desired capacity: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html"""


@dataclass(frozen=True, slots=True)
class Member:
    """One instance of a group."""

    id: str
    type: str
    zone: str
    lifecycle: str
    """Pending, Pending:Wait, InService, Terminating:Wait, ..."""
    healthy: bool = True
    protected: bool = False
    """From scale-in."""

    @property
    def leaving(self) -> bool:
        """Whether it is on its way out of the group."""
        return self.lifecycle.startswith(LEAVING)

    @property
    def in_service(self) -> bool:
        """Whether the group takes it as serving."""
        return self.lifecycle == "InService"


@dataclass(frozen=True, slots=True)
class Group:
    """One Auto Scaling group."""

    name: str
    desired: int
    min_size: int
    max_size: int
    members: tuple[Member, ...] = ()
    mixed_policy: Mapping[str, Any] | None = None
    """MixedInstancesPolicy as described; None for a group with a plain launch template."""

    @property
    def on_demand_base(self) -> int | None:
        """The policy's OnDemandBaseCapacity; None without a mixed policy."""
        if self.mixed_policy is None:
            return None
        return int(self.mixed_policy.get("InstancesDistribution", {}).get("OnDemandBaseCapacity", 0))

    @property
    def types(self) -> tuple[str, ...]:
        """Instance types of the mixed policy, the first preferred."""
        return types_of(self.mixed_policy)

    @property
    def staying(self) -> tuple[Member, ...]:
        """Members that count against the desired capacity."""
        return tuple(member for member in self.members if not member.leaving)


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups by name, and why some are not there."""

    found: Mapping[str, Group]
    faults: Mapping[str, Fault]


def describe(autoscaling: AutoScalingClient, names: Iterable[str]) -> Groups:
    """Describe the groups, 100 names a call. A call that fails costs its own hundred only."""
    todo = sorted(set(names))
    found: dict[str, Group] = {}
    faults: dict[str, Fault] = {}
    paginator = autoscaling.get_paginator("describe_auto_scaling_groups")
    for part in batches(todo, NAMES_PER_CALL):
        try:
            for page in paginator.paginate(AutoScalingGroupNames=part, PaginationConfig={"PageSize": NAMES_PER_CALL}):
                for group in page["AutoScalingGroups"]:
                    found[group["AutoScalingGroupName"]] = _group(group)
        except (ClientError, BotoCoreError) as error:
            faults |= dict.fromkeys(part, Fault.of(error, "DescribeAutoScalingGroups"))
    for name in todo:
        if name not in found and name not in faults:
            faults[name] = Fault(ErrorCode.UNKNOWN_GROUP, f"{name}: no such Auto Scaling group")
    return Groups({name: found[name] for name in found if name not in faults}, faults)


def types_of(mixed_policy: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Instance types of a mixed policy's overrides, the first preferred; none without a policy."""
    overrides = (mixed_policy or {}).get("LaunchTemplate", {}).get("Overrides", [])
    return tuple(override["InstanceType"] for override in overrides if "InstanceType" in override)


def with_base(group: Group, on_demand_base: int) -> dict[str, Any]:
    """The group's whole mixed policy with another on-demand base."""
    policy = _complete(group)
    policy["InstancesDistribution"] = {
        **policy.get("InstancesDistribution", {}),
        "OnDemandBaseCapacity": on_demand_base,
    }
    return policy


def with_types(group: Group, types: Sequence[str]) -> dict[str, Any]:
    """The group's whole mixed policy with other instance types."""
    policy = _complete(group)
    policy["LaunchTemplate"]["Overrides"] = [{"InstanceType": type_} for type_ in types]
    return policy


def _complete(group: Group) -> dict[str, Any]:
    """The policy as it can be sent again: described with id and name of a template, accepted with one of them only."""
    if group.mixed_policy is None:
        raise ValueError(f"{group.name}: has no mixed instances policy")
    launch = dict(group.mixed_policy.get("LaunchTemplate", {}))
    launch["LaunchTemplateSpecification"] = _one_name(launch.get("LaunchTemplateSpecification", {}))
    launch["Overrides"] = [
        {**override, "LaunchTemplateSpecification": _one_name(override["LaunchTemplateSpecification"])}
        if "LaunchTemplateSpecification" in override
        else dict(override)
        for override in launch.get("Overrides", [])
    ]
    return {**group.mixed_policy, "LaunchTemplate": launch}


def _one_name(specification: Mapping[str, Any]) -> dict[str, Any]:
    kept = dict(specification)
    if "LaunchTemplateId" in kept:
        kept.pop("LaunchTemplateName", None)
    return kept


def _group(described: Any) -> Group:
    return Group(
        name=described["AutoScalingGroupName"],
        desired=described["DesiredCapacity"],
        min_size=described["MinSize"],
        max_size=described["MaxSize"],
        members=tuple(
            Member(
                id=member["InstanceId"],
                type=member.get("InstanceType", ""),
                zone=member["AvailabilityZone"],
                lifecycle=member["LifecycleState"],
                healthy=member["HealthStatus"].lower() == "healthy",
                protected=member["ProtectedFromScaleIn"],
            )
            for member in described.get("Instances", [])
        ),
        mixed_policy=described.get("MixedInstancesPolicy"),
    )
