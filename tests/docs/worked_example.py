"""The worked example of docs/model.md: one minute of a service, from observation to API calls, by the real code.

A chat has received about 15 requests per second for an hour and a half, and demand begins to rise. The example shows
the first minute in which instances are ordered.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import textwrap
from dataclasses import dataclass
from functools import cache

from gpu_fleet.cli.explain import sentences
from gpu_fleet.config.composition import services
from gpu_fleet.config.stack_file import parse_stack
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.scaling import sizing
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.fleet import counted_share, survey, thinned
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.profile import load_share, work_share
from gpu_fleet.scaling.record import Record
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from lambdas.scaler.apply import Call, plan
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.groups import Group, Member
from lambdas.scaler.rules import Rule
from tests.docs.pages import ROOT

START = 1_764_000_000.0  # 2025-11-24 16:00:00 UTC
QUIET_MINUTES = 90
LAST_MINUTE = 120
BOOT_SECONDS = 300.0

STACK = """\
config:
  aws:region: us-east-1
  gpu-fleet:network: {cidr: 10.0.0.0/16, zones: [us-east-1a, us-east-1b]}
  gpu-fleet:load_balancer: {internal: true}
  gpu-fleet:services:
    chat:
      policy: chat
      paths: ["/v1/*"]
      priority: 100
      container: {image: "vllm/vllm-openai:v0.11.0"}
      pools:
        l4: {types: [g6.xlarge], min: 1, max: 12}
        l40s: {types: [g6e.xlarge], min: 0, max: 6}
"""


def demand_rps(minute: int) -> float:
    """Return the arrivals of a minute: an hour and a half around 15 requests per second, then 4 % more each minute."""
    level = 15 * (1 + 0.04 * math.sin(minute * 2.1) + 0.03 * math.sin(minute * 0.7))
    return round(level * 1.04 ** max(0, minute - QUIET_MINUTES), 2)


@cache
def service() -> Service:
    """Return the service of the example, with the shipped policy, catalog and profiles."""
    read, document = parse_stack(STACK, "the example")
    return services(read, read_library(ROOT), document)[0]


@dataclass(slots=True)
class _Fleet:
    """Instances that are ordered, boot, serve and leave as decided."""

    launched: dict[str, dict[str, float]]
    weights: dict[str, int]
    ordered: int = 0

    def order(self, name: str, count: int, now: float) -> None:
        for _ in range(count):
            self.ordered += 1
            self.launched[name][f"i-{name}-{self.ordered}"] = now

    def follow(self, decision: Decision, now: float) -> None:
        for name, target in decision.targets.items():
            for instance in target.take:
                del self.launched[name][instance]
            self.order(name, target.desired - len(self.launched[name]), now)
            self.weights[name] = target.weight

    def observe(self, minute: int, now: float) -> Observation:
        """Return what the scaler sees now: the minute before, as CloudWatch has it."""
        arrivals, at = demand_rps(minute), now - 60
        ready = {
            name: [id_ for id_, since in ids.items() if now - since >= BOOT_SECONDS]
            for name, ids in self.launched.items()
        }
        carried = {p.name: p.throughput_rps * len(ready[p.name]) for p in service().pools}
        pools = {}
        for pool in service().pools:
            launched, serving = self.launched[pool.name], ready[pool.name]
            rate = arrivals * carried[pool.name] / sum(carried.values())
            share = rate / carried[pool.name] if serving else 0.0
            each = pool.capacity * load_share(share, pool.slowdown)
            pools[pool.name] = PoolObservation(
                desired=len(launched),
                min_size=pool.min_instances,
                max_size=pool.max_instances,
                weight=self.weights[pool.name],
                instances=tuple(
                    Instance(
                        id_,
                        pool.types[0],
                        "us-east-1a" if n % 2 else "us-east-1b",
                        Phase.READY if id_ in serving else Phase.STARTING,
                        since,
                        load=Reading(round(each, 1), at),
                    )
                    for n, (id_, since) in enumerate(launched.items())
                ),
                load=Reading(round(each * len(serving), 1), at),
                running=Reading(round(each * len(serving), 1), at),
                waiting=Reading(0.0, at),
                rate_rps=Reading(round(rate, 2), at),
            )
        tokens = service().policy.request
        return Observation(
            pools=pools,
            arrivals_rps=Reading(arrivals, at),
            input_tokens=Reading(tokens.input_tokens, at),
            output_tokens=Reading(tokens.output_tokens, at),
        )


@dataclass(frozen=True, slots=True)
class Example:
    """The record of one minute and the calls that follow from it."""

    record: Record
    calls: tuple[Call, ...]

    @property
    def decision(self) -> Decision:
        """The decision of the minute."""
        return self.record.decision


@cache
def example() -> Example:
    """Return the first minute of the rise in which instances are ordered."""
    fleet = _Fleet({"l4": {}, "l40s": {}}, {"l4": 203, "l40s": 796})
    fleet.order("l4", 2, START - 3600)
    fleet.order("l40s", 2, START - 3600)
    state = State()
    for minute in range(LAST_MINUTE):
        now = START + 60 * minute
        seen, before = fleet.observe(minute, now), state
        decision = decide(service(), seen, before, now)
        grows = any(target.desired > seen.pools[name].desired for name, target in decision.targets.items())
        if minute > QUIET_MINUTES and grows:
            calls = plan(_parameter(), decision, _groups(seen), _rule(seen))
            return Example(Record(service(), seen, before, now, decision), calls)
        state = decision.state
        fleet.follow(decision, now)
    raise AssertionError("no minute of the rise orders instances: choose other traffic")


def _parameter() -> ServiceParameter:
    pools = {p.name: {"group": f"chat-{p.name}", "target_group_arn": f"tg-{p.name}"} for p in service().pools}
    bindings = {"load_balancer": "app/gpu-fleet-dev", "listener_rule_arn": "chat", "pools": pools}
    return ServiceParameter.model_validate({"service": service().model_dump(), "bindings": bindings})


def _groups(seen: Observation) -> dict[str, Group]:
    return {
        name: Group(
            f"chat-{name}",
            view.desired,
            view.min_size,
            view.max_size,
            tuple(Member(i.id, i.type, i.zone, "InService") for i in view.instances),
        )
        for name, view in seen.pools.items()
    }


def _rule(seen: Observation) -> Rule:
    groups = [{"TargetGroupArn": f"tg-{name}", "Weight": view.weight} for name, view in seen.pools.items()]
    return Rule("chat", ({"Type": "forward", "ForwardConfig": {"TargetGroups": groups}},))


def wrapped(text: str) -> str:
    """Return the text with its prose at the project's line length; tables and code stay as they are."""
    parts = text.split("```")
    for i in range(0, len(parts), 2):
        paragraphs = parts[i].split("\n\n")
        parts[i] = "\n\n".join(
            p if "|" in p or not p.strip() else textwrap.fill(p.strip(), 120, break_on_hyphens=False)
            for p in paragraphs
        )
    for i in range(1, len(parts), 2):
        parts[i] = f"```{parts[i].rstrip()}\n```"
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


class _Minute:
    """The example with the values that several of its paragraphs show."""

    def __init__(self, one: Example) -> None:
        record, decision = one.record, one.decision
        self.calls, self.record, self.decision = one.calls, record, decision
        self.policy, self.pools, self.state = record.service.policy, record.service.pools, decision.state
        self.seen, self.signals = record.observation, decision.signals
        self.numbers = {reason.code: reason.numbers for reason in decision.reasons}
        self.outlook = next(reason for reason in decision.reasons if reason.step == "demand")
        self.headroom = headroom = 1 + self.outlook.numbers["headroom_percent"] / 100
        self.counts = {name: target.desired for name, target in decision.targets.items()}
        self.fleet_now = survey(Context(record.service, self.seen, self.state, record.now), headroom)
        self.fleet_after = survey(Context(record.service, self.seen, self.state, record.now), headroom, self.counts)
        self.ready = {
            name: sum(i.phase is Phase.READY for i in view.instances) for name, view in self.seen.pools.items()
        }
        assert (self.signals.ratio or 0) > 1, "the text says that the service scales out"
        assert self.calls, "the text shows calls"


def section() -> str:
    """Return the example as Markdown."""
    minute = _Minute(example())
    parts = (_opening, _observed, _demand, _sizing, _the_articles_three, _guard, _mix, _routing, _explained, _called)
    return wrapped("\n\n".join(part(minute) for part in parts))


def _opening(minute: _Minute) -> str:
    return f"""\
A chat under the shipped policy, on L4 and L40S, has received about 15 requests per second for an hour and a half. Now
demand rises. It is {dt.datetime.fromtimestamp(minute.record.now, dt.UTC):%H:%M} UTC, minute
{round((minute.record.now - START) / 60)}."""


def _observed(minute: _Minute) -> str:
    rows = []
    for pool in minute.pools:
        each = _load_of_each(minute, pool.name)
        share = work_share(each / pool.capacity, pool.slowdown)
        rows.append(
            f"| {pool.name} | {minute.ready[pool.name]} | {pool.capacity:.0f} | {pool.throughput_rps:.2f}"
            f" | {pool.slowdown:.2f} | {each:.1f} | {100 * each / pool.capacity:.0f} % | {100 * share:.0f} % |"
        )
    return f"""\
**Observed.** The load balancer counted {minute.signals.demand_rps or 0.0:.2f} requests per second in the newest whole
minute. The engines report:

| pool | ready | C | requests/s at C | slowdown s | load of each, L | L/C | work done |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The last two columns differ by the slowdown curve, x*s/(1 + (s-1)*x)."""


def _load_of_each(minute: _Minute, pool: str) -> float:
    load = minute.seen.pools[pool].load
    return (load.value if load else 0.0) / minute.ready[pool]


def _the_articles_three(minute: _Minute) -> str:
    signals, fleet, nodes = minute.signals, minute.fleet_now, sum(minute.ready.values())
    terms = [f"{minute.ready[p.name]} * {_load_of_each(minute, p.name):.1f}/{p.capacity:.0f}" for p in minute.pools]
    shares = [f"{fleet.standing[p.name]} * {100 * fleet.worth[p.name] / p.throughput_rps:.0f} %" for p in minute.pools]
    u, r, most = signals.utilization or 0.0, signals.ratio or 0.0, fleet.standing_rps / fleet.full_rps
    slack = 1 + minute.policy.horizontal.tolerance_percent / 100
    return f"""\
**The article's three.** A full node does {fleet.full_rps:.2f} requests per second, so U =
{signals.required_rps:.2f}/{fleet.full_rps:.2f} = {u:.2f} full nodes. What stands may be used to {" + ".join(shares)} =
{most:.2f}, with the tolerance U_max = {most:.2f} * {slack:.2f} = {most * slack:.2f}. So R = {r:.2f}. Nothing waits, so
Q = L and T = ({" + ".join(terms)})/{nodes} = {signals.response_time:.2f}."""


def _demand(minute: _Minute) -> str:
    numbers, method = minute.outlook.numbers, minute.outlook.code.removeprefix("demand.")
    horizon, forecast = numbers["horizon_seconds"], numbers["forecast_rps"]
    return f"""\
**Demand.** An instance ordered now serves in {horizon:.0f} s ({horizon - 60:.0f} s to boot and load, and the reading is
a minute old). The method `{method}` has lately cost least for what it carried; it forecasts {forecast:.2f}. By its past
errors, demand stays below {minute.headroom:.3f} times the forecast, except for the share that may be missed
({100 * (minute.state.feedback.allowance or 0.0):.2f} % of the demand by now). So the upper end is
{minute.headroom:.3f} * {forecast:.2f} = {minute.signals.forecast_rps:.2f}."""


def _sizing(minute: _Minute) -> str:
    scv = minute.state.demand.dispersion or 1.0
    rows = []
    for pool in minute.pools:
        part_scv = thinned(scv, pool, minute.record.service, minute.ready)
        strict = sizing.usable_share(pool, minute.policy, minute.ready[pool.name], part_scv)
        tail = sizing.usable_share(pool, minute.policy, minute.ready[pool.name], part_scv, sizing.TAIL_BUDGET)
        rows.append(
            f"| {pool.name} | {minute.ready[pool.name]} | {100 * strict:.0f} % | {100 * tail:.0f} %"
            f" | {minute.fleet_now.worth[pool.name]:.2f} |"
        )
    return f"""\
**Sizing.** The share of an instance that may be used within the SLO depends on the pool and its number of instances.
Arrivals vary as in a Poisson process ({scv:.1f}):

| pool | instances | for the forecast | for the upper end | worth, requests/s |
|---|---|---|---|---|
{chr(10).join(rows)}

An instance counts for its share at the upper end, but for no more than {minute.headroom:.3f} times its strict share,
so that the forecast itself is served strictly. Required is the upper end, **{minute.signals.required_rps:.2f}**; there
is no backlog to drain."""


def _guard(minute: _Minute) -> str:
    standing, tolerance = minute.numbers["guard.out"]["standing_rps"], minute.policy.horizontal.tolerance_percent
    return f"""\
**Guard.** Instances that run or boot carry {standing:.2f}. The tolerance is {tolerance:g} %:
{standing:.2f} * {1 + tolerance / 100:.2f} = {standing * (1 + tolerance / 100):.2f} is less than required, so the
service scales out at once."""


def _mix(minute: _Minute) -> str:
    worth = minute.fleet_after.worth
    rows = [
        f"| {pool.name} | {pool.usd_per_hour:.2f} | {worth[pool.name]:.2f}"
        f" | {pool.usd_per_hour / worth[pool.name]:.3f} |"
        for pool in minute.pools
    ]
    carried = " + ".join(f"{count} * {worth[name]:.2f}" for name, count in minute.counts.items())
    return f"""\
**Mix.** In the larger fleet an instance is worth a little more:

| pool | USD per hour | worth | USD per hour and request/s |
|---|---|---|---|
{chr(10).join(rows)}

An L40S serves a request for less, but the step is small: {carried} =
{minute.numbers["mix.grow"]["carried_rps"]:.2f} is enough, at {minute.signals.usd_per_hour:.2f} USD per hour, the least
of all counts within the bounds that keep what runs."""


def _routing(minute: _Minute) -> str:
    scv, service = minute.state.demand.dispersion or 1.0, minute.record.service
    shares = {
        p.name: counted_share(p, minute.policy, minute.ready[p.name], thinned(scv, p, service, minute.ready))
        for p in minute.pools
    }
    ideal = {p.name: minute.ready[p.name] * p.throughput_rps * shares[p.name] for p in minute.pools}
    parts = ", ".join(f"{name} {100 * value / sum(ideal.values()):.1f} %" for name, value in ideal.items())
    weights = ", ".join(f"{name} {target.weight}" for name, target in minute.decision.targets.items())
    return f"""\
**Routing.** Shares by what the ready instances may carry: {parts}. The present weights ({weights}) are within
`routing.dead_band_percent`, so they stay; the new instances get their part when they are healthy."""


def _explained(minute: _Minute) -> str:
    return f"""\
**Explained** by `gpu-fleet explain`:

```text
{chr(10).join(sentences(minute.record))}
```"""


def _called(minute: _Minute) -> str:
    calls = [f"{call.client} {call.operation} {json.dumps(dict(call.arguments))}" for call in minute.calls]
    return f"""\
**Called**, and nothing else:

```text
{chr(10).join(calls)}
```"""
