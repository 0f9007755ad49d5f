"""The metrics that the load balancer and the instances publish to CloudWatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from moto.elbv2.models import elbv2_backends

from gpu_fleet.emulator.cloud_world import Change, CloudWorld, InstanceChange, Location
from gpu_fleet.emulator.lifelike import Lifelike
from gpu_fleet.emulator.lifelike.metric_store import DataPoint
from gpu_fleet.emulator.lifelike.target_health import HEALTHY, UNHEALTHY
from gpu_fleet.scaling.boot import NODE_PHASES

BALANCER = "AWS/ApplicationELB"
ENGINE = "GpuFleet"
HEALTH_SAMPLE_SECONDS = 15.0
"""Interval of the host counts within the minute that the load balancer reports."""

_Dimensions = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Traffic:
    """The load balancer's view of one target group in one window."""

    requests: int
    refused: int = 0
    """Those of them that a target answered with 503."""
    response_seconds: float | None = None
    """Sum over the requests of the time to the response's first header; None if no request was answered."""
    slowest_seconds: float | None = None
    """The longest of these times; the mean by default."""
    fastest_seconds: float | None = None
    """The shortest of these times; the mean by default."""


@dataclass(frozen=True, slots=True)
class PublishingDelays:
    """How long CloudWatch takes until data can be read."""

    balancer_seconds: float = 0.0
    """From the end of the load balancer's minute."""
    engine_seconds: float = 0.0
    """From the engine's sample."""


class Publisher:
    """Puts metrics into the region's store as AWS reports them: per minute from the balancer, per 10 s from engines."""

    def __init__(self, world: CloudWorld, lifelike: Lifelike, location: Location, delays: PublishingDelays) -> None:
        """Create a publisher; `start` begins to count hosts and to publish boots."""
        self._world, self._location, self._delays = world, location, delays
        self._metrics, self._targets = lifelike.metrics, lifelike.targets
        self._lifecycle, self._group_of = lifelike.lifecycle, lifelike.lifecycle.group_of

    def start(self) -> None:
        """Count hosts and publish boots from now on, for as long as time moves."""
        self._world.watchers.append(self._publish_boot)
        step = HEALTH_SAMPLE_SECONDS
        self._world.call_at(step * (self._world.now // step + 1), self._sample_hosts)

    def publish_traffic(self, at: float, traffic: Mapping[str, Traffic], rejected: Mapping[str, int]) -> None:
        """Publish requests by target group ARN, and requests without a target by load balancer (`app/...`).

        A count of zero is not reported: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
        Raises ValueError for a target group that does not exist or has no load balancer.
        """
        balancers_of = dict(self._attached_target_groups())
        for arn, seen in traffic.items():
            if arn not in balancers_of:
                raise ValueError(f"{arn}: is no target group behind a load balancer")
            if seen.requests <= 0:
                continue
            for balancer in balancers_of[arn]:
                self._publish_target_group(at, _of_target_group(arn, balancer), seen)
                self._publish_target_group(at, _of_balancer(balancer), seen)
        for balancer, count in rejected.items():
            if count > 0:
                requests = DataPoint(count, count, 1.0, 1.0, None, "Count")
                self._put_minute(_of_balancer(balancer), "HTTPCode_ELB_503_Count", at, requests)

    def _publish_target_group(self, at: float, dimensions: _Dimensions, seen: Traffic) -> None:
        requests = DataPoint(seen.requests, seen.requests, 1.0, 1.0, None, "Count")
        self._put_minute(dimensions, "RequestCount", at, requests)
        if seen.refused > 0:
            refused = DataPoint(seen.refused, seen.refused, 1.0, 1.0, None, "Count")
            self._put_minute(dimensions, "HTTPCode_Target_5XX_Count", at, refused)
        if seen.response_seconds is None:
            return
        mean = seen.response_seconds / seen.requests
        low = mean if seen.fastest_seconds is None else seen.fastest_seconds
        high = mean if seen.slowest_seconds is None else seen.slowest_seconds
        times = DataPoint(seen.requests, seen.response_seconds, low, high, None, "Seconds")
        self._put_minute(dimensions, "TargetResponseTime", at, times)

    def publish_engines(self, at: float, engines: Mapping[str, Mapping[str, float]]) -> None:
        """Publish one sample of each instance's gauges, for its group and for the instance itself.

        Raises ValueError for an instance that no group ever launched.
        """
        samples: list[tuple[str, _Dimensions, DataPoint]] = []
        of_groups: dict[tuple[str, str], DataPoint] = {}
        for instance_id, gauges in engines.items():
            group = self._group_of.get(instance_id)
            if group is None:
                raise ValueError(f"{instance_id}: no group ever launched it")
            dimensions = [("AutoScalingGroupName", group), ("InstanceId", instance_id)]
            for name, value in gauges.items():
                samples.append((name, dimensions, DataPoint(1.0, value, value, value, [(value, 1.0)])))
                of_groups.setdefault((group, name), DataPoint()).add(value)
        samples += [(name, [("AutoScalingGroupName", group)], point) for (group, name), point in of_groups.items()]

        def put() -> None:
            for name, dimensions, point in samples:
                self._metrics.put(ENGINE, name, dimensions, at, point, high_resolution=True)

        self._call_at(at + self._delays.engine_seconds, put)

    def _publish_boot(self, change: InstanceChange) -> None:
        """Publish the phases that an instance times itself, once: `infra/instance/node/boot_phases.py`."""
        member = self._lifecycle.members.get(change.instance_id)
        if change.change is not Change.ANSWERS or member is None or member.boot is None:
            return
        phases, member.boot = member.boot.by_phase, None
        for phase in NODE_PHASES:
            point = DataPoint(unit="Seconds")
            point.add(phases[phase])
            dimensions = [("AutoScalingGroupName", change.group), ("phase", phase.value)]
            self._metrics.put(ENGINE, "boot_seconds", dimensions, change.at, point)

    def _sample_hosts(self) -> None:
        at = self._world.now - HEALTH_SAMPLE_SECONDS
        for arn, balancers in self._attached_target_groups():
            if self._targets.count(arn) == 0:
                continue  # reported only for groups with registered targets
            for balancer in balancers:
                for name, state in (("HealthyHostCount", HEALTHY), ("UnHealthyHostCount", UNHEALTHY)):
                    hosts = DataPoint(unit="Count")
                    hosts.add(float(self._targets.count(arn, state)))
                    self._put_minute(_of_target_group(arn, balancer), name, at, hosts)
        self._world.call_later(HEALTH_SAMPLE_SECONDS, self._sample_hosts)

    def _attached_target_groups(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each target group that has load balancers, with their dimension values."""
        account, region = self._location
        for arn, group in elbv2_backends[account][region].target_groups.items():
            balancers = [b.split("loadbalancer/", 1)[1] for b in dict.fromkeys(group.load_balancer_arns)]
            if balancers:
                yield arn, balancers

    def _put_minute(self, dimensions: _Dimensions, name: str, at: float, point: DataPoint) -> None:
        minute_end = 60 * (at // 60) + 60
        self._call_at(
            minute_end + self._delays.balancer_seconds,
            lambda: self._metrics.put(BALANCER, name, dimensions, at, point),
        )

    def _call_at(self, moment: float, put: Callable[[], None]) -> None:
        """Call `put` at `moment`, or now if that has passed."""
        if moment <= self._world.now:
            put()
        else:
            self._world.call_at(moment, put)


def _of_target_group(arn: str, balancer: str) -> _Dimensions:
    return [("TargetGroup", arn.rsplit(":", 1)[1]), ("LoadBalancer", balancer)]


def _of_balancer(balancer: str) -> _Dimensions:
    return [("LoadBalancer", balancer)]
