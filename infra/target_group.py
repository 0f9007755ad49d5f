"""The target group of a pool: how the load balancer picks an instance, and how it knows that one serves."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from gpu_fleet.config import naming
from gpu_fleet.config.settings import Container
from gpu_fleet.scaling.policy import Policy, RoutingStrategy

ALGORITHM = "least_outstanding_requests"
"""Requests of a model differ by orders of magnitude in length; who has fewest in hand gets the next. It rules out the
target group's slow start: a new pool's share is raised by the scaler, through its weight."""


def deregistration_seconds(policy: Policy) -> int:
    """How long the load balancer lets the requests of an instance that leaves finish."""
    return min(naming.MAX_DEREGISTRATION_DELAY_SECONDS, int(policy.horizontal.busy_max_drain_seconds))


def target_group(
    service: str,
    pool: str,
    *,
    policy: Policy,
    container: Container,
    vpc_id: pulumi.Input[str],
    internal: bool,
    tags: Mapping[str, str],
    opts: pulumi.ResourceOptions,
) -> aws.lb.TargetGroup:
    """The target group of one pool.

    A target group belongs to one load balancer, and a change of `internal` makes a new one while the old one stands. So
    the name tells which of the two it is for:
    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
    """
    name = f"{service}-{pool}-internal" if internal else f"{service}-{pool}"
    slow_start_seconds = 0
    naming.check_slow_start(ALGORITHM, slow_start_seconds)
    return aws.lb.TargetGroup(
        naming.fitting(name, naming.MAX_TARGET_GROUP_NAME),
        port=container.port,
        protocol="HTTP",
        target_type="instance",
        vpc_id=vpc_id,
        deregistration_delay=deregistration_seconds(policy),
        load_balancing_algorithm_type=ALGORITHM,
        slow_start=slow_start_seconds,
        stickiness=aws.lb.TargetGroupStickinessArgs(
            type="lb_cookie",
            enabled=policy.routing.strategy is RoutingStrategy.STICKY,
            cookie_duration=policy.routing.stickiness_seconds,
        ),
        health_check=aws.lb.TargetGroupHealthCheckArgs(
            path=container.health_path,
            protocol="HTTP",
            matcher="200",
            interval=10,
            timeout=5,
            healthy_threshold=2,
            # 30 s of silence: an engine that reads a very long prompt answers late, and is not dead.
            unhealthy_threshold=3,
        ),
        tags=tags,
        opts=opts,
    )
