"""The load balancer's view of the instances, and the phase that follows from it and from the group's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_fleet.scaling.observation import Phase
from lambdas.scaler.groups import Member

if TYPE_CHECKING:
    from types_boto3_elbv2 import ElasticLoadBalancingv2Client


@dataclass(frozen=True, slots=True)
class Target:
    """Health of one target."""

    state: str
    """initial, healthy, unhealthy, unhealthy.draining, unused, draining or unavailable."""
    reason: str = ""


def describe(elbv2: ElasticLoadBalancingv2Client, target_group_arn: str) -> Mapping[str, Target]:
    """Health of every registered target by instance id (the API has no pages). Raises botocore's errors."""
    targets: dict[str, Target] = {}
    for described in elbv2.describe_target_health(TargetGroupArn=target_group_arn)["TargetHealthDescriptions"]:
        health = described.get("TargetHealth", {})
        targets[described.get("Target", {})["Id"]] = Target(health.get("State", ""), health.get("Reason", ""))
    return targets


def phase(member: Member, target: Target | None, *, behind_load_balancer: bool) -> Phase | None:
    """Where an instance stands; None for one that has left (stand-by, detached, warm pool).

    Target states and reasons: https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
    """
    if member.lifecycle.startswith("Terminating"):
        return Phase.DRAINING
    if member.leaving or member.lifecycle.startswith("Warmed"):
        return None
    if not member.in_service:
        return Phase.STARTING
    if not member.healthy:
        return Phase.UNHEALTHY
    if not behind_load_balancer:
        return Phase.READY
    return _by_target(target)


def _by_target(target: Target | None) -> Phase:
    match target:
        case None:
            return Phase.STARTING
        # `unavailable`: health checks are off, so the load balancer sends it traffic as if healthy.
        case Target(state="healthy" | "unavailable"):
            return Phase.READY
        case Target(state="draining" | "unhealthy.draining"):
            return Phase.DRAINING
        case Target(state="unused", reason="Target.InvalidState" | "Target.IpUnusable"):
            return Phase.UNHEALTHY
        case Target(state="unhealthy"):
            return Phase.UNHEALTHY
        case _:
            return Phase.STARTING
