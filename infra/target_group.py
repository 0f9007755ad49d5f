"""A pool's target group: how the load balancer chooses an instance and checks its health."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import Algorithm, Container
from gpu_fleet.scaling.policy import Policy


@dataclass(frozen=True, slots=True)
class TargetGroupArgs:
    """What a target group needs from its pool and its service."""

    service: str
    pool: str
    policy: Policy
    container: Container
    algorithm: Algorithm
    sticky: bool
    """Whether clients with a cookie stay with their instance."""
    vpc_id: pulumi.Input[str]
    internal: bool
    """Whether the load balancer is internal."""
    tags: Mapping[str, str]


def deregistration_seconds(policy: Policy) -> int:
    """Return how long the load balancer lets a leaving instance finish its requests."""
    return min(naming.MAX_DEREGISTRATION_DELAY_SECONDS, int(policy.horizontal.busy_max_drain_seconds))


def make_target_group(args: TargetGroupArgs, opts: pulumi.ResourceOptions) -> aws.lb.TargetGroup:
    """Create the target group of one pool, without slow start: only `round_robin` could have it, and the scaler raises
    a new pool's share through its weight.

    A target group belongs to one load balancer, and a change of `internal` creates a second load balancer before the
    first is deleted. So the name shows which of the two it belongs to:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
    """
    name = f"{args.service}-{args.pool}-internal" if args.internal else f"{args.service}-{args.pool}"
    return aws.lb.TargetGroup(
        naming.fitting(name, naming.MAX_TARGET_GROUP_NAME),
        port=args.container.port,
        protocol="HTTP",
        target_type="instance",
        vpc_id=args.vpc_id,
        deregistration_delay=deregistration_seconds(args.policy),
        load_balancing_algorithm_type=args.algorithm,
        # Without it, weighted random is a worse round robin; with another algorithm AWS refuses it.
        load_balancing_anomaly_mitigation="on" if args.algorithm is Algorithm.WEIGHTED_RANDOM else "off",
        stickiness=aws.lb.TargetGroupStickinessArgs(
            type="lb_cookie",
            enabled=args.sticky,
            cookie_duration=args.policy.routing.stickiness_seconds,
        ),
        health_check=aws.lb.TargetGroupHealthCheckArgs(
            path=args.container.health_path,
            protocol="HTTP",
            matcher="200",
            interval=10,
            timeout=5,
            healthy_threshold=2,
            # 30 s of silence: an engine that reads a very long prompt answers late, and is not dead.
            unhealthy_threshold=3,
        ),
        tags=args.tags,
        opts=opts,
    )
