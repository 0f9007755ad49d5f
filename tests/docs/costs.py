"""The monthly cost of the scaler itself: quantities counted from the real code, prices from AWS's lists.

us-east-1, no free tier, 730 hours. Each price names its page; `AS_OF` is the month in which they were read.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
from dataclasses import dataclass
from functools import cache

from gpu_fleet.config.composition import services
from gpu_fleet.config.rules.routes import MAX_BALANCER_TARGET_GROUPS
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.emulator import provision
from gpu_fleet.scaling import record, season
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import State
from infra import placeholders, scaler_rights
from infra.instance.node import gauges
from infra.service_parameter import parameter_value
from infra.sizes import MAX_SERVICE_POLICIES
from lambdas.scaler import log, queries
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.publish import publish, publish_run
from lambdas.scaler.result import Outcome, Result
from tests.docs import worked_example
from tests.docs.pages import ROOT
from tests.scaling.builders import changed

AS_OF = "2026-11"
MINUTES = 730 * 60
SERVICES = (1, 10, 100)

LAMBDA = "https://aws.amazon.com/lambda/pricing/"
CLOUDWATCH = "https://aws.amazon.com/cloudwatch/pricing/"
DYNAMODB = "https://aws.amazon.com/dynamodb/pricing/on-demand/"
SCHEDULER = "https://aws.amazon.com/eventbridge/pricing/"
PARAMETERS = "https://aws.amazon.com/systems-manager/pricing/"


@dataclass(frozen=True, slots=True)
class Price:
    """A price in USD for `per` units."""

    usd: float
    per: float
    what: str
    page: str

    def cost(self, count: float) -> float:
        """Return the cost of `count` units."""
        return self.usd * count / self.per


PRICES = {
    "request": Price(0.20, 1e6, "Lambda requests", LAMBDA),
    "gb_second": Price(0.0000133334, 1, "Lambda GB-second, arm64", LAMBDA),
    "get_metric": Price(0.01, 1000, "metrics read by GetMetricData", CLOUDWATCH),
    "put_metric": Price(0.01, 1000, "PutMetricData requests", CLOUDWATCH),
    "metric": Price(0.30, 1, "custom metric and month (the first 10,000)", CLOUDWATCH),
    "alarm": Price(0.10, 1, "metric of an alarm and month, periods of 60 s and more", CLOUDWATCH),
    "fast_alarm": Price(0.30, 1, "metric of an alarm and month, periods below 60 s", CLOUDWATCH),
    "dashboard": Price(3.00, 1, "dashboard and month", CLOUDWATCH),
    "log_gb": Price(0.50, 1, "GB of logs ingested", CLOUDWATCH),
    "log_stored": Price(0.03, 1, "GB of logs stored and month", CLOUDWATCH),
    "write": Price(0.625, 1e6, "DynamoDB write request units (1 KB each)", DYNAMODB),
    "read": Price(0.125, 1e6, "DynamoDB read request units (4 KB each, consistent)", DYNAMODB),
    "schedule": Price(1.00, 1e6, "runs of EventBridge Scheduler", SCHEDULER),
    "parameter": Price(0.05, 1, "advanced parameter and month (above 4 KB)", PARAMETERS),
    "parameter_call": Price(0.05, 10_000, "advanced parameters read", PARAMETERS),
}

RUN_SECONDS, SECONDS_PER_SERVICE = 1.0, 0.25
"""Assumed, not measured on AWS: the describes and reads of a run, and the addition of each service (its target groups
are described one by one, its state is read and written)."""
LOAD_READS_PER_HOUR, INSTANCES = 4, 12
"""Assumed: minutes of an hour in which instances' own loads are read, and the instances of a service at that time."""
STANDARD_PARAMETER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Quantities:
    """Quantities of one service of stack local (chat, three pools), each minute unless noted otherwise."""

    queries: int
    own_metrics: int
    """Series that the scaler publishes for the service."""
    stack_metrics: int
    """Series that the scaler publishes for the whole stack."""
    state_bytes: int
    log_bytes: int
    parameter_bytes: int
    alarm_metrics: int
    fast_alarms: int
    stack_alarms: int
    """Alarms of the whole stack."""
    memory_gb: float
    log_retention_days: int


@cache
def quantities() -> Quantities:
    """Return the quantities of stack `local` and its policies, counted with the scaler's own functions."""
    read, _ = read_stack(ROOT, "local")
    service = services(read, read_library(ROOT))[0]
    pools = {
        p.name: {"group": f"gpu-fleet-local-chat-{p.name}-0123456", "target_group_arn": ARN.format(p.name)}
        for p in service.pools
    }
    bindings = {
        "load_balancer": "app/gpu-fleet-local/0123456789abcdef",
        "listener_rule_arn": ARN.format("rule"),
        "pools": pools,
    }
    parameter = ServiceParameter.model_validate({"service": service.model_dump(), "bindings": bindings})
    with provision("local", ROOT) as cloud:
        alarms = cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]
    fast = [a for a in alarms if a.get("Period", 60) < 60]
    slow = [a for a in alarms if a.get("Period", 60) >= 60]
    of_stack = [a for a in slow if "-scaler-" in a["AlarmName"]]
    return Quantities(
        queries=len(set(queries.queries(parameter, State(), {}).minute())),
        own_metrics=_own_metrics(len(service.pools)),
        stack_metrics=_run_metrics(),
        state_bytes=len(record.dump(_state()).encode()),
        log_bytes=_log_bytes(),
        parameter_bytes=len(parameter_value(service, bindings).encode()),
        alarm_metrics=sum(_metrics_in(a) for a in slow) - len(of_stack),
        fast_alarms=len(fast),
        stack_alarms=len(of_stack),
        memory_gb=read.scaler.memory_mb / 1024,
        log_retention_days=read.scaler.log_retention_days,
    )


ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/chat-{}-0123456/0123456789abcdef"


def _metrics_in(alarm: object) -> int:
    queries = alarm.get("Metrics", []) if isinstance(alarm, dict) else []
    return sum("MetricStat" in query for query in queries) or 1


def _own_metrics(pools: int) -> int:
    """Return the number of distinct series that a turn of the worked example publishes, for this number of pools."""
    example = worked_example.example().record
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        publish(Result("chat", Outcome.APPLIED, example.decision), example.observation, "gpu-fleet-local")
    of_service, of_pool = set(), set()
    for line in stdout.getvalue().splitlines():
        for block in json.loads(line)["_aws"]["CloudWatchMetrics"]:
            (of_pool if "pool" in block["Dimensions"][0] else of_service).update(m["Name"] for m in block["Metrics"])
    return len(of_service) + pools * len(of_pool)


def _run_metrics() -> int:
    stdout = io.StringIO()
    with contextlib.redirect_stdout(stdout):
        publish_run((), "gpu-fleet-local")
    (block,) = json.loads(stdout.getvalue())["_aws"]["CloudWatchMetrics"]
    return len(block["Metrics"])


def _state() -> State:
    """Return the example's state with the season of a fortnight of history."""
    state = worked_example.example().decision.state
    past = [Reading(15 + i % 7, state.at - 300.0 * i) for i in range(14 * 288, 0, -1)]
    return changed(state, season=season.season_from(past, state.at))


def _log_bytes() -> int:
    example = worked_example.example().record
    result = Result("chat", Outcome.APPLIED, example.decision)
    return len(json.dumps(log.line(result, example.service, example.observation, _state(), example.now)).encode())


@cache
def services_per_stack() -> int:
    """Return the largest number of such services that `validate` accepts, by target groups and by IAM policies."""
    read, _ = read_stack(ROOT, "local")
    (service,) = services(read, read_library(ROOT))
    grant = placeholders.service_resources("gpu-fleet", "local", read.services[service.name], service, read.region)
    count = MAX_BALANCER_TARGET_GROUPS // len(service.pools)
    while len(scaler_rights.service_batches(placeholders.place(read.region), [grant] * count)) > MAX_SERVICE_POLICIES:
        count -= 1
    return count


def monthly_cost(services: int) -> dict[str, float]:
    """Return USD a month by item, for services like that of stack local on the fewest stacks that hold them."""
    c = quantities()
    stacks = math.ceil(services / services_per_stack())
    seconds = RUN_SECONDS * stacks + SECONDS_PER_SERVICE * services
    loads = LOAD_READS_PER_HOUR / 60 * 2 * INSTANCES
    log_gb = services * c.log_bytes * MINUTES / 1e9
    advanced = services if c.parameter_bytes > STANDARD_PARAMETER_BYTES else 0
    p = PRICES
    return {
        "Lambda": p["request"].cost(stacks * MINUTES) + p["gb_second"].cost(seconds * c.memory_gb * MINUTES),
        "schedule": p["schedule"].cost(stacks * MINUTES),
        "GetMetricData": p["get_metric"].cost(services * (c.queries + loads) * MINUTES),
        "own metrics": p["metric"].cost(stacks * c.stack_metrics + services * c.own_metrics),
        "state (DynamoDB)": p["write"].cost(services * math.ceil(c.state_bytes / 1024) * MINUTES)
        + p["read"].cost(services * math.ceil(c.state_bytes / 4096) * MINUTES),
        "parameters": p["parameter"].cost(advanced) + p["parameter_call"].cost(advanced * MINUTES),
        "alarms": p["alarm"].cost(stacks * c.stack_alarms + services * c.alarm_metrics)
        + p["fast_alarm"].cost(services * c.fast_alarms),
        "decision log": p["log_gb"].cost(log_gb) + p["log_stored"].cost(log_gb * c.log_retention_days / 30),
        "dashboards": p["dashboard"].cost(services),
    }


def month_table() -> str:
    """Return the month as Markdown."""
    columns = [monthly_cost(n) for n in SERVICES]
    lines = ["| USD a month | " + " | ".join(f"{n} service{'s' if n > 1 else ''}" for n in SERVICES) + " |"]
    lines.append("|---|" + "---:|" * len(SERVICES))
    lines += [f"| {item} | " + " | ".join(f"{c[item]:,.2f}" for c in columns) + " |" for item in columns[0]]
    lines.append("| **together** | " + " | ".join(f"**{sum(c.values()):,.2f}**" for c in columns) + " |")
    lines.append(
        "| for each service | "
        + " | ".join(f"{sum(c.values()) / n:,.2f}" for c, n in zip(columns, SERVICES, strict=True))
        + " |"
    )
    c = quantities()
    lines.append("")
    lines.append(
        f"Counted from the code, for a service of three pools: {c.queries} metrics read each minute,"
        f" {c.own_metrics} series published for the service and {c.stack_metrics} for the stack, a state of"
        f" {c.state_bytes / 1024:.0f} KB, a log line of {c.log_bytes / 1024:.0f} KB, a parameter of"
        f" {c.parameter_bytes / 1024:.1f} KB, {c.alarm_metrics} metrics in ordinary alarms and"
        f" {c.fast_alarms} in fast ones, and {c.stack_alarms} alarms of the stack."
    )
    return "\n".join(lines)


def metrics_of_an_instance() -> int:
    """Return the number of metrics that an instance of an inference service publishes."""
    engine = {*gauges.published(), "network_latency_seconds"}
    of_jobs = {name for name in engine if name.startswith("job")}
    host = json.loads((ROOT / "infra/instance/agent.json").read_text())["metrics"]["metrics_collected"]
    return len(engine - of_jobs) + sum(len(host[kind]["measurement"]) for kind in ("nvidia_gpu", "cpu", "mem"))


def instance_table() -> str:
    """Return the cost of an instance's own metrics as Markdown."""
    series = PRICES["metric"].cost(metrics_of_an_instance())
    calls = PRICES["put_metric"].cost(MINUTES * 6)
    price = read_library(ROOT).catalog.types["g6.xlarge"].on_demand_usd_per_hour * 730
    share = 100 * (series + calls) / price
    return "\n".join(
        [
            "| USD a month | each instance | each pool |",
            "|---|---:|---:|",
            f"| {metrics_of_an_instance()} metrics | {series:.2f} | {series:.2f} |",
            f"| a request each 10 s | {calls:.2f} | |",
            f"| **together** | **{series + calls:.2f}** | **{series:.2f}** |",
            "",
            f"A g6.xlarge costs {price:.0f} USD in the same time: its metrics add {share:.1f} %.",
        ]
    )


def price_table() -> str:
    """Return the prices as Markdown."""
    lines = ["| USD | for | page |", "|---:|---|---|"]
    for price in PRICES.values():
        per = f"{price.per:,.0f} " if price.per > 1 else ""
        lines.append(f"| {price.usd:g} | {per}{price.what} | <{price.page}> |")
    return "\n".join(lines)
