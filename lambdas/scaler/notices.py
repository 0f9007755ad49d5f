"""EC2's notices about spot instances, which EventBridge brings: an instance that goes is replaced through its group.

A notice of interruption comes two minutes before the instance ends. Its group takes it out of the load balancer and
drains it, and launches another without waiting for its own health check to find the instance gone:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html

A rebalance recommendation says that the risk is high, and nothing is certain:
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html
Its replacement boots for minutes, so it is followed only where `sizing.target_utilization` of the instances wanted stay
in service: so many carry, when full, what all were sized for. Recommendations often come for all instances of a type
at once, and to end those together would be the outage itself.

Both come for every instance of account and region, each at least once, and often one after the other. Nothing is
remembered: an instance that is leaving already is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gpu_fleet.scaling.policy import Mode, Workload
from gpu_fleet.scaling.service import Service
from lambdas.scaler import apply as hands
from lambdas.scaler import bindings, groups
from lambdas.scaler.apply import Call
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.clients import Clients
from lambdas.scaler.groups import Group, Member
from lambdas.scaler.result import ErrorCode, Outcome, Result


class Kind(StrEnum):
    """The events' `detail-type`."""

    INTERRUPTION = "EC2 Spot Instance Interruption Warning"
    REBALANCE = "EC2 Instance Rebalance Recommendation"


class NoticeResult(StrEnum):
    """What a notice leads to."""

    REPLACE = "notice.replace"
    LEAVING = "notice.leaving"
    SHADOW = "notice.shadow"
    JOBS = "notice.jobs"
    PROTECTED = "notice.protected"
    NEEDED = "notice.needed"


SENTENCES: Mapping[NoticeResult, str] = {
    NoticeResult.REPLACE: "It drains, and its group launches another.",
    NoticeResult.LEAVING: "It is leaving its group already.",
    NoticeResult.SHADOW: "In shadow mode nothing is touched.",
    NoticeResult.JOBS: "A job is not given up for a risk: it stays until it is interrupted.",
    NoticeResult.PROTECTED: "It is protected from scale-in: it stays until it is interrupted.",
    NoticeResult.NEEDED: "The other instances of its pool could not carry its load: it stays until it is interrupted.",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice."""

    kind: Kind
    instance_id: str


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of a notice that concerns an instance of the stack."""

    notice: Notice
    parameter: ServiceParameter
    pool: str
    answer: NoticeResult
    result: Result


class UnreadableGroupsError(Exception):
    """The groups could not be read, so nobody knows whether the instance is one of the stack's."""


def read(event: Any) -> Notice | None:
    """The notice in a function's event; None for any other event."""
    if not isinstance(event, Mapping) or event.get("source") != "aws.ec2":
        return None
    detail = event.get("detail")
    instance_id = detail.get("instance-id") if isinstance(detail, Mapping) else None
    kind = next((kind for kind in Kind if kind == event.get("detail-type")), None)
    return Notice(kind, instance_id) if kind is not None and isinstance(instance_id, str) else None


def answer(notice: Notice, clients: Clients, services_path: str) -> Answered | None:
    """Answer a notice; None where the instance is in no group of the stack.

    Raises botocore's errors where the services could not be read, and UnreadableGroupsError.
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


def judge(kind: Kind, service: Service, group: Group, member: Member) -> NoticeResult:
    """What to do about a member of a group that this notice is about."""
    policy = service.policy
    if member.leaving:
        return NoticeResult.LEAVING
    if policy.mode is Mode.SHADOW:
        return NoticeResult.SHADOW
    # It ends in two minutes, with its job and in spite of any protection: its worker is told, another one launched.
    if kind is Kind.INTERRUPTION:
        return NoticeResult.REPLACE
    if policy.workload is Workload.TRAINING:
        return NoticeResult.JOBS
    if member.protected:
        return NoticeResult.PROTECTED
    left = sum(m.in_service and m.healthy for m in group.members if m.id != member.id)
    if left < group.desired * policy.sizing.target_utilization:
        return NoticeResult.NEEDED
    return NoticeResult.REPLACE


def _carry_out(
    verdict: NoticeResult, service: str, group: str, instance_id: str, clients: Clients
) -> tuple[NoticeResult, Result]:
    if verdict is NoticeResult.SHADOW:
        return verdict, Result(service, Outcome.SHADOW)
    if verdict is not NoticeResult.REPLACE:
        return verdict, Result(service, Outcome.UNCHANGED)
    arguments = {"InstanceId": instance_id, "ShouldDecrementDesiredCapacity": False}
    call = Call("autoscaling", "TerminateInstanceInAutoScalingGroup", instance_id, arguments)
    made = hands.make([call], clients, may_remove=True)
    if any(write.made for write in made.writes):
        return verdict, Result(service, Outcome.APPLIED, writes=made.writes)
    # Another run may have been quicker, and AWS refuses an instance that is on its way out in several ways
    # (ScalingActivityInProgress, ValidationError): what counts is where the instance stands.
    now_standing = groups.describe(clients.autoscaling, [group])
    member = _member(now_standing.found.get(group), instance_id)
    if not made.faults or (not now_standing.faults and (member is None or member.leaving)):
        return NoticeResult.LEAVING, Result(service, Outcome.UNCHANGED, writes=made.writes)
    return verdict, Result(service, Outcome.FAILED, writes=made.writes, faults=made.faults)


def _member(group: Group | None, instance_id: str) -> Member | None:
    members = group.members if group is not None else ()
    return next((member for member in members if member.id == instance_id), None)
