"""Target health, and an instance's phase as it follows from its group and its target."""

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
    """Return the health of every registered target, by instance id. Raises botocore's errors. The API has no pages."""
    targets: dict[str, Target] = {}
    for described in elbv2.describe_target_health(TargetGroupArn=target_group_arn)["TargetHealthDescriptions"]:
        health = described.get("TargetHealth", {})
        targets[described.get("Target", {})["Id"]] = Target(health.get("State", ""), health.get("Reason", ""))
    return targets


def phase(member: Member, target: Target | None, *, behind_load_balancer: bool) -> Phase | None:
    """Return the phase of an instance; None for one outside the fleet (stand-by, detached, warm pool).

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
    return _phase_of_target(target)


def _phase_of_target(target: Target | None) -> Phase:
    match target:
        case None:
            return Phase.STARTING
        # `unavailable`: health checks are off, so the load balancer treats the target as healthy.
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
