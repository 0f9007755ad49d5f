"""EC2's notices about spot instances, delivered by EventBridge: replace an instance through its group.

An interruption notice comes two minutes before the instance ends. The scaler ends the instance through its group, which
drains it and launches another at once; without that, the group's health check would have to find the instance gone:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html

A rebalance recommendation means a high risk of interruption, not a certain one:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html
The replacement boots for minutes, so the scaler follows it only if `sizing.target_utilization` of the desired count
stays in service: when full, these instances carry the load that all of them were sized for. Recommendations often come
for all instances of a type at once; ending all of them would itself be an outage.

EC2 sends both kinds for every instance of the account and region, each at least once, and often one after the other.
The scaler keeps no record of them: it leaves an instance alone that is leaving already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpu_fleet.scaling.policy import Mode, Workload
from gpu_fleet.scaling.service import Service
from lambdas.scaler import apply, bindings, groups
from lambdas.scaler.apply import Call
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.groups import Group, Member
from lambdas.scaler.result import ErrorCode, Outcome, Result


class NoticeKind(StrEnum):
    """The `detail-type` of the event."""

    INTERRUPTION = "EC2 Spot Instance Interruption Warning"
    REBALANCE = "EC2 Instance Rebalance Recommendation"


class NoticeVerdict(StrEnum):
    """What the scaler does about a notice: the code in the log."""

    REPLACE = "notice.replace"
    LEAVING = "notice.leaving"
    SHADOW = "notice.shadow"
    JOBS = "notice.jobs"
    PROTECTED = "notice.protected"
    NEEDED = "notice.needed"


SENTENCES: Mapping[NoticeVerdict, str] = {
    NoticeVerdict.REPLACE: "The instance drains, and its group launches another.",
    NoticeVerdict.LEAVING: "The instance is leaving its group already.",
    NoticeVerdict.SHADOW: "In shadow mode the scaler changes nothing.",
    NoticeVerdict.JOBS: "A risk is no reason to end a job: the instance stays until it is interrupted.",
    NoticeVerdict.PROTECTED: "The instance is protected from scale-in: it stays until it is interrupted.",
    NoticeVerdict.NEEDED: "Its pool could not do without it: it stays until it is interrupted.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice about an instance, perhaps of another stack."""

    kind: NoticeKind
    instance_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A notice about an instance of the stack, with the verdict and the result."""

    notice: Notice
    parameter: ServiceParameter
    pool: str
    verdict: NoticeVerdict
    result: Result


class UnreadableGroupsError(Exception):
    """The groups could not be read, so it is unknown whether the instance belongs to the stack."""


def read(event: Any) -> Notice | None:
    """Read the notice from the function's event; None for any other event."""
    if not isinstance(event, Mapping) or event.get("source") != "aws.ec2":
        return None
    detail = event.get("detail")
    instance_id = detail.get("instance-id") if isinstance(detail, Mapping) else None
    kind = next((kind for kind in NoticeKind if kind == event.get("detail-type")), None)
    return Notice(kind, instance_id) if kind is not None and isinstance(instance_id, str) else None


def answer(notice: Notice, clients: Clients, services_path: str) -> Answered | None:
    """Answer a notice; None if no group of the stack has the instance.

    Raises botocore's errors if the service parameters could not be read, and UnreadableGroupsError.
    """
    owners = {
        binding.group: (parameter, pool)
        for parameter in bindings.read(clients.ssm, services_path).read
        for pool, binding in parameter.bindings.pools.items()
    }
    described = groups.describe(clients.autoscaling, owners)
    for name, (parameter, pool) in owners.items():
        group = described.found.get(name)
        member = _member(group, notice.instance_id)
        if group is not None and member is not None:
            verdict = judge(notice.kind, parameter.service, group, member)
            verdict, result = _carry_out(verdict, parameter.name, name, notice.instance_id, clients)
            return Answered(notice, parameter, pool, verdict, result)
    for fault in described.faults.values():
        if fault.code is not ErrorCode.UNKNOWN_GROUP:
            raise UnreadableGroupsError(f"{notice.instance_id}: {fault.during}: {fault.message}")
    return None


def judge(kind: NoticeKind, service: Service, group: Group, member: Member) -> NoticeVerdict:
    """Decide what to do about a notice of this kind for a member of a group."""
    policy = service.policy
    if member.leaving:
        return NoticeVerdict.LEAVING
    if policy.mode is Mode.SHADOW:
        return NoticeVerdict.SHADOW
    # In two minutes EC2 ends it, despite any protection and with any job: let its worker save, and launch another.
    if kind is NoticeKind.INTERRUPTION:
        return NoticeVerdict.REPLACE
    if policy.workload is Workload.TRAINING:
        return NoticeVerdict.JOBS
    if member.protected:
        return NoticeVerdict.PROTECTED
    remaining = sum(m.in_service and m.healthy for m in group.members if m.id != member.id)
    if group.launch_suspended is not None or remaining < group.desired * policy.sizing.target_utilization:
        return NoticeVerdict.NEEDED
    return NoticeVerdict.REPLACE


def _carry_out(
    verdict: NoticeVerdict, service: str, group: str, instance_id: str, clients: Clients
) -> tuple[NoticeVerdict, Result]:
    if verdict is NoticeVerdict.SHADOW:
        return verdict, Result(service, Outcome.SHADOW)
    if verdict is not NoticeVerdict.REPLACE:
        return verdict, Result(service, Outcome.UNCHANGED)
    arguments = {"InstanceId": instance_id, "ShouldDecrementDesiredCapacity": False}
    call = Call("autoscaling", "TerminateInstanceInAutoScalingGroup", instance_id, arguments)
    applied = apply.make([call], clients, may_remove=True)
    if any(write.made for write in applied.writes):
        return verdict, Result(service, Outcome.APPLIED, writes=applied.writes)
    # Another run may have been quicker, and AWS refuses to end a leaving instance with different errors
    # (ScalingActivityInProgress, ValidationError), so look at the instance instead.
    latest = groups.describe(clients.autoscaling, [group])
    member = _member(latest.found.get(group), instance_id)
    if not applied.faults or (not latest.faults and (member is None or member.leaving)):
        return NoticeVerdict.LEAVING, Result(service, Outcome.UNCHANGED, writes=applied.writes)
    return verdict, Result(service, Outcome.FAILED, writes=applied.writes, faults=applied.faults)


def _member(group: Group | None, instance_id: str) -> Member | None:
    members = group.members if group is not None else ()
    return next((member for member in members if member.id == instance_id), None)
