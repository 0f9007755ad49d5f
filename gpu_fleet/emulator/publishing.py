"""What the load balancer and the instances publish to CloudWatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from moto.elbv2.models import elbv2_backends

from gpu_fleet.emulator.cloud_world import CloudWorld
from gpu_fleet.emulator.lifelike.metric_store import DataPoint, Metrics
from gpu_fleet.emulator.lifelike.target_health import HEALTHY, UNHEALTHY, Targets

BALANCER = "AWS/ApplicationELB"
ENGINE = "GpuFleet"
HEALTH_SAMPLE_SECONDS = 15.0
"""How often the hosts are counted within the minute that the load balancer reports."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What the load balancer saw of one target group in one window."""

    requests: int
    response_seconds: float | None = None
    """Sum over the requests of the time to the response's first header; None where none was answered."""
    slowest_seconds: float | None = None
    """The longest of them; the mean where it is not given."""
    fastest_seconds: float | None = None


class Publisher:
    """Puts metrics into the region's store as AWS reports them: per minute from the balancer, per 10 s from engines."""

    def __init__(
        self,
        world: CloudWorld,
        metrics: Metrics,
        targets: Targets,
        where: tuple[str, str],
        group_of: Callable[[str], str],
        *,
        balancer_delay_seconds: float = 0.0,
        engine_delay_seconds: float = 0.0,
    ) -> None:
        """Delays count from the end of the minute (balancer) or from the sample (engine) until the data can be read."""
        self._world, self._metrics, self._targets, self._where = world, metrics, targets, where
        self._group_of = group_of
        self._balancer_delay, self._engine_delay = balancer_delay_seconds, engine_delay_seconds

    def begin(self) -> None:
        """Count hosts from now on, for as long as time moves."""
        step = HEALTH_SAMPLE_SECONDS
        self._world.at(step * (self._world.now // step + 1), self._sample_hosts)

    def traffic(self, at: float, traffic: Mapping[str, Traffic], rejected: Mapping[str, int]) -> None:
        """Requests by target group ARN, and requests that found no target by load balancer (`app/...`).

        A count of zero is not reported: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
        Raises ValueError for a target group that is not there or that no load balancer sends to.
        """
        known = dict(self._attached())
        for arn, seen in traffic.items():
            if arn not in known:
                raise ValueError(f"{arn}: is no target group behind a load balancer")
            if seen.requests <= 0:
                continue
            for balancer in known[arn]:
                both, alone = _both(arn, balancer), [("LoadBalancer", balancer)]
                for dimensions in (both, alone):
                    requests = DataPoint(seen.requests, seen.requests, 1.0, 1.0, None, "Count")
                    self._balancer(dimensions, "RequestCount", at, requests)
                if seen.response_seconds is not None:
                    mean = seen.response_seconds / seen.requests
                    low = mean if seen.fastest_seconds is None else seen.fastest_seconds
                    high = mean if seen.slowest_seconds is None else seen.slowest_seconds
                    for dimensions in (both, alone):
                        times = DataPoint(seen.requests, seen.response_seconds, low, high, None, "Seconds")
                        self._balancer(dimensions, "TargetResponseTime", at, times)
        for balancer, count in rejected.items():
            if count > 0:
                refused = DataPoint(count, count, 1.0, 1.0, None, "Count")
                self._balancer([("LoadBalancer", balancer)], "HTTPCode_ELB_503_Count", at, refused)

    def engines(self, at: float, engines: Mapping[str, Mapping[str, float]]) -> None:
        """One sample of each instance's gauges, with the group's dimension and with the instance's.

        Raises ValueError for an instance that no group ever launched.
        """
        ready: list[tuple[str, list[tuple[str, str]], DataPoint]] = []
        of_groups: dict[tuple[str, str], DataPoint] = {}
        for instance_id, gauges in engines.items():
            group = self._group_of(instance_id)
            own = [("AutoScalingGroupName", group), ("InstanceId", instance_id)]
            for name, value in gauges.items():
                ready.append((name, own, DataPoint(1.0, value, value, value, [(value, 1.0)])))
                of_groups.setdefault((group, name), DataPoint()).add(value)
        ready += [(name, [("AutoScalingGroupName", group)], point) for (group, name), point in of_groups.items()]

        def put() -> None:
            for name, dimensions, point in ready:
                self._metrics.put(ENGINE, name, dimensions, at, point, high_resolution=True)

        self._when(at + self._engine_delay, put)

    def _sample_hosts(self) -> None:
        at = self._world.now - HEALTH_SAMPLE_SECONDS
        for arn, balancers in self._attached():
            if self._targets.count(arn) == 0:
                continue  # reported only where targets are registered
            for balancer in balancers:
                for name, state in (("HealthyHostCount", HEALTHY), ("UnHealthyHostCount", UNHEALTHY)):
                    hosts = DataPoint(unit="Count")
                    hosts.add(float(self._targets.count(arn, state)))
                    self._balancer(_both(arn, balancer), name, at, hosts)
        self._world.after(HEALTH_SAMPLE_SECONDS, self._sample_hosts)

    def _attached(self) -> Iterator[tuple[str, list[str]]]:
        """Target groups with the load balancers that send to them."""
        account, region = self._where
        for arn, group in elbv2_backends[account][region].target_groups.items():
            balancers = [b.split("loadbalancer/", 1)[1] for b in dict.fromkeys(group.load_balancer_arns)]
            if balancers:
                yield arn, balancers

    def _balancer(self, dimensions: list[tuple[str, str]], name: str, at: float, point: DataPoint) -> None:
        minute_ends = 60 * (at // 60) + 60
        self._when(minute_ends + self._balancer_delay, lambda: self._metrics.put(BALANCER, name, dimensions, at, point))

    def _when(self, visible: float, put: Callable[[], None]) -> None:
        if visible <= self._world.now:
            put()
        else:
            self._world.at(visible, put)


def _both(target_group_arn: str, balancer: str) -> list[tuple[str, str]]:
    return [("TargetGroup", target_group_arn.rsplit(":", 1)[1]), ("LoadBalancer", balancer)]
