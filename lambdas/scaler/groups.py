"""Auto Scaling groups, as AWS describes them, and mixed policies with changes."""

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
"""AWS answers with 50 by default, with up to 100 if MaxRecords says so:
https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html"""

LEAVING = ("Terminating", "Terminated", "Detaching", "Detached", "EnteringStandby", "Standby", "Quarantined")
"""Prefixes of lifecycle states from which an instance does not return by itself. It no longer counts toward the desired
capacity: https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html"""


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
        """Whether it is leaving the group."""
        return self.lifecycle.startswith(LEAVING)

    @property
    def booting(self) -> bool:
        """Whether it waits for its launching hook."""
        return self.lifecycle == "Pending:Wait"

    @property
    def in_service(self) -> bool:
        """Whether the group counts it as in service."""
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
    zones: tuple[str, ...] = ()
    """Availability zones in which it launches."""
    launch_suspended: str | None = None
    """Why its process `Launch` is suspended, in AWS's words; None where it is not.
    https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html"""

    @property
    def on_demand_base(self) -> int | None:
        """The policy's OnDemandBaseCapacity; None without a mixed policy."""
        if self.mixed_policy is None:
            return None
        return int(self.mixed_policy.get("InstancesDistribution", {}).get("OnDemandBaseCapacity", 0))

    @property
    def types(self) -> tuple[str, ...]:
        """Instance types of the mixed policy, the preferred one first."""
        return types_of(self.mixed_policy)

    @property
    def staying(self) -> tuple[Member, ...]:
        """Members that count toward the desired capacity."""
        return tuple(member for member in self.members if not member.leaving)


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups and faults of those that could not be described, both by name."""

    found: Mapping[str, Group]
    faults: Mapping[str, Fault]


def describe(autoscaling: AutoScalingClient, names: Iterable[str]) -> Groups:
    """Describe the groups, 100 names a call. A call that fails affects only its own 100 groups."""
    wanted = sorted(set(names))
    found: dict[str, Group] = {}
    faults: dict[str, Fault] = {}
    paginator = autoscaling.get_paginator("describe_auto_scaling_groups")
    for batch in batches(wanted, NAMES_PER_CALL):
        try:
            for page in paginator.paginate(AutoScalingGroupNames=batch, PaginationConfig={"PageSize": NAMES_PER_CALL}):
                for group in page["AutoScalingGroups"]:
                    found[group["AutoScalingGroupName"]] = _group(group)
        except (ClientError, BotoCoreError) as error:
            faults |= dict.fromkeys(batch, Fault.of(error, "DescribeAutoScalingGroups"))
    for name in wanted:
        if name not in found and name not in faults:
            faults[name] = Fault(ErrorCode.UNKNOWN_GROUP, f"{name}: no such Auto Scaling group")
    return Groups({name: found[name] for name in found if name not in faults}, faults)


def types_of(mixed_policy: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the instance types of a mixed policy's overrides, the preferred one first; none without a policy."""
    overrides = (mixed_policy or {}).get("LaunchTemplate", {}).get("Overrides", [])
    return tuple(override["InstanceType"] for override in overrides if "InstanceType" in override)


def with_base(group: Group, on_demand_base: int) -> dict[str, Any]:
    """Return the group's whole mixed policy with this on-demand base."""
    policy = _sendable_policy(group)
    policy["InstancesDistribution"] = {
        **policy.get("InstancesDistribution", {}),
        "OnDemandBaseCapacity": on_demand_base,
    }
    return policy


def with_types(group: Group, types: Sequence[str]) -> dict[str, Any]:
    """Return the group's whole mixed policy with these instance types."""
    policy = _sendable_policy(group)
    policy["LaunchTemplate"]["Overrides"] = [{"InstanceType": type_} for type_ in types]
    return policy


def _sendable_policy(group: Group) -> dict[str, Any]:
    """Return the policy as AWS accepts it: a described template has both id and name, a call may give only one."""
    if group.mixed_policy is None:
        raise ValueError(f"{group.name}: has no mixed instances policy")
    launch = dict(group.mixed_policy.get("LaunchTemplate", {}))
    launch["LaunchTemplateSpecification"] = _without_name(launch.get("LaunchTemplateSpecification", {}))
    launch["Overrides"] = [
        {**override, "LaunchTemplateSpecification": _without_name(override["LaunchTemplateSpecification"])}
        if "LaunchTemplateSpecification" in override
        else dict(override)
        for override in launch.get("Overrides", [])
    ]
    return {**group.mixed_policy, "LaunchTemplate": launch}


def _without_name(specification: Mapping[str, Any]) -> dict[str, Any]:
    named = dict(specification)
    if "LaunchTemplateId" in named:
        named.pop("LaunchTemplateName", None)
    return named


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
        zones=tuple(described.get("AvailabilityZones", ())),
        launch_suspended=next(
            (
                process.get("SuspensionReason", "")
                for process in described.get("SuspendedProcesses", ())
                if process["ProcessName"] == "Launch"
            ),
            None,
        ),
    )
