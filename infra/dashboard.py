"""The CloudWatch dashboard of a service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpu_fleet.scaling.boot import NODE_PHASES
from infra.iam import METRICS_NAMESPACE

SCALER_NAMESPACE = f"{METRICS_NAMESPACE}/Scaler"
"""Where the scaler publishes."""

WIDTH, HEIGHT = 6, 6
"""Of a chart, in cells of the dashboard's grid."""
CHARTS_IN_ROW = 4

Metric = list[Any]
"""Namespace, name, dimensions and options, as a dashboard's body has them."""


@dataclass(frozen=True, slots=True)
class DashboardChart:
    """A chart of some metrics over time."""

    title: str
    metrics: list[Metric]
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class ServiceDashboard:
    """A service's dashboard: rows of the model's figures, of instances, of what users notice, of what GPUs do, and of
    boots.
    """

    stack: str
    """Dimension `stack` of the scaler's metrics."""
    service: str
    region: str
    load_balancer: str
    """ARN suffix."""
    groups: Mapping[str, str]
    """Name of each pool's Auto Scaling group."""
    target_groups: Mapping[str, str]
    """ARN suffix of each pool's target group; empty for training."""

    def body(self) -> dict[str, Any]:
        """Return the dashboard's body, without charts that have no metric.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
        """
        rows = [self._model_charts(), self._instance_charts(), self._user_charts(), self._gpu_charts()]
        boots = self._boot_charts()
        rows += [boots[i : i + CHARTS_IN_ROW] for i in range(0, len(boots), CHARTS_IN_ROW)]
        widgets = [
            self._widget(chart, row, column)
            for row, charts in enumerate(rows)
            for column, chart in enumerate(charts)
            if chart.metrics
        ]
        return {"widgets": widgets}

    def _widget(self, chart: DashboardChart, row: int, column: int) -> dict[str, Any]:
        return {
            "type": "metric", "x": column * WIDTH, "y": row * HEIGHT, "width": WIDTH, "height": HEIGHT,
            "properties": {
                "title": chart.title, "region": self.region, "view": "timeSeries", "stat": "Average", "period": 60,
                "stacked": chart.stacked, "metrics": chart.metrics,
            },
        }  # fmt: skip

    def _model_charts(self) -> list[DashboardChart]:
        demand = [self._of_service(name) for name in ("demand_rps", "forecast_rps", "required_rps")]
        return [
            DashboardChart(
                "Work to carry U and mean queue T (full instances)",
                [self._of_service("utilization"), self._of_service("response_time")],
            ),
            DashboardChart("Ratio R (above 1: scales out)", [self._of_service("ratio")]),
            DashboardChart("Demand, forecast and capacity asked for (requests per second)", demand),
            DashboardChart("Cost (USD per hour)", [self._of_service("usd_per_hour")]),
        ]

    def _instance_charts(self) -> list[DashboardChart]:
        return [
            DashboardChart("Instances wanted", self._by_pool("desired")),
            DashboardChart("Instances ready", self._by_pool("ready")),
            DashboardChart("Weights", self._by_pool("weight")),
            DashboardChart("Held, and failed calls", [self._of_service("held"), self._of_service("errors")]),
        ]

    def _user_charts(self) -> list[DashboardChart]:
        first_header = self._of_target_groups("TargetResponseTime", "p95")
        return [
            DashboardChart(
                "Requests a minute, and those refused",
                self._of_target_groups("RequestCount", "Sum")
                + self._of_target_groups("HTTPCode_Target_5XX_Count", "Sum", ", refused or failed"),
            ),
            DashboardChart("Time to the first header, 95th percentile (s)", first_header),
            DashboardChart("Time to the first token, 95th percentile (s)", self._of_instances("ttft_p95_seconds")),
            DashboardChart("Requests that missed the SLO (%)", self._late_percent()),
        ]

    def _gpu_charts(self) -> list[DashboardChart]:
        cpu_and_memory = self._of_instances("cpu_percent") + self._of_instances("memory_percent")
        serves = bool(self.target_groups)
        title, metric = ("Requests waiting", "requests_waiting") if serves else ("Jobs running", "jobs_running")
        return [
            DashboardChart("GPU (%)", self._of_instances("gpu_percent")),
            DashboardChart("KV cache (%)", self._of_instances("kv_cache_percent")),
            DashboardChart("CPU and memory (%)", cpu_and_memory),
            DashboardChart(f"{title}, mean per instance", self._of_instances(metric)),
        ]

    def _boot_charts(self) -> list[DashboardChart]:
        """Return a chart for each pool: the phases that instances timed, and the whole boot as the scaler saw it."""
        return [
            DashboardChart(
                f"Boot of {pool} by phase (s)",
                [
                    *(
                        [METRICS_NAMESPACE, "boot_seconds", "AutoScalingGroupName", group, "phase", phase.value,
                         {"label": phase.value, "stat": "Average"}]
                        for phase in NODE_PHASES
                    ),
                    [*self._of_service("boot_seconds"), "pool", pool,
                     {"label": "order to ready", "stat": "Average", "yAxis": "right"}],
                ],
                stacked=True,
            )
            for pool, group in self.groups.items()
        ]  # fmt: skip

    def _of_service(self, name: str) -> Metric:
        """Return a metric that the scaler publishes for the service."""
        return [SCALER_NAMESPACE, name, "stack", self.stack, "service", self.service]

    def _by_pool(self, name: str) -> list[Metric]:
        """Return a metric that the scaler publishes for each pool."""
        return [[*self._of_service(name), "pool", pool, {"label": pool}] for pool in self.groups]

    def _of_instances(self, name: str) -> list[Metric]:
        """Return, for each pool, the mean of a metric that its instances publish."""
        return [
            [METRICS_NAMESPACE, name, "AutoScalingGroupName", group, {"label": pool, "stat": "Average"}]
            for pool, group in self.groups.items()
        ]

    def _late_percent(self) -> list[Metric]:
        """Return, for each pool that serves, the share of its requests that its instances count as late or refused.

        Sums over sums: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
        SUM of an array passes over what is missing, as 5XX are where there was none; without requests that instances
        have judged the share is unknown.
        """
        metrics: list[Metric] = []
        failed = self._of_target_groups("HTTPCode_Target_5XX_Count", "Sum")
        for i, pool in enumerate(self.target_groups):
            for id_, name in ((f"late{i}", "late_requests"), (f"judged{i}", "judged_requests")):
                options = {"id": id_, "stat": "Sum", "visible": False}
                metrics.append([METRICS_NAMESPACE, name, "AutoScalingGroupName", self.groups[pool], options])
            metrics.append([*failed[i][:-1], {"id": f"refused{i}", "stat": "Sum", "visible": False}])
            share = f"100 * SUM([late{i}, refused{i}]) / SUM([judged{i}, refused{i}])"
            metrics.append([{"expression": f"IF(judged{i} >= 0, {share})", "id": f"share{i}", "label": pool}])
        return metrics

    def _of_target_groups(self, name: str, statistic: str, suffix: str = "") -> list[Metric]:
        """Return, for each pool, a metric that the load balancer publishes; the suffix goes behind the pool's name."""
        return [
            ["AWS/ApplicationELB", name, "TargetGroup", target_group, "LoadBalancer", self.load_balancer,
             {"label": pool + suffix, "stat": statistic}]
            for pool, target_group in self.target_groups.items()
        ]  # fmt: skip
