"""The worked example of docs/model.md: one minute of a service, from what is seen to what is called, by the real code.

A chat has been at 15 requests per second for an hour and a half, a little up and down, and begins to rise. The first
minute in which instances are ordered is taken apart.
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
from gpu_fleet.scaling.fleet import survey
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
    """Arrivals: an hour and a half around 15 requests per second, then 4 % more each minute."""
    level = 15 * (1 + 0.04 * math.sin(minute * 2.1) + 0.03 * math.sin(minute * 0.7))
    return round(level * 1.04 ** max(0, minute - QUIET_MINUTES), 2)


@cache
def service() -> Service:
    """The service of the example, with the shipped policy, catalog and profiles."""
    read, document = parse_stack(STACK, "the example")
    return services(read, read_library(ROOT), document)[0]


@dataclass(slots=True)
class _Fleet:
    """What stands, minute by minute: instances are ordered, boot, serve and leave as decided."""

    launched: dict[str, dict[str, float]]
    weights: dict[str, int]
    ordered: int = 0

    def order(self, name: str, count: int, now: float) -> None:
        for _ in range(count):
            self.ordered += 1
            self.launched[name][f"i-{name}-{self.ordered}"] = now

    def follow(self, decision: Decision, now: float) -> None:
        for name, target in decision.targets.items():
            for gone in target.take:
                del self.launched[name][gone]
            self.order(name, target.desired - len(self.launched[name]), now)
            self.weights[name] = target.weight

    def seen(self, minute: int, now: float) -> Observation:
        """What the scaler sees now: the minute before, as CloudWatch has it."""
        arrivals, at = demand_rps(minute), now - 60
        ready = {
            name: [id_ for id_, since in ids.items() if now - since >= BOOT_SECONDS]
            for name, ids in self.launched.items()
        }
        carried = {p.name: p.throughput_rps * len(ready[p.name]) for p in service().pools}
        pools = {}
        for pool in service().pools:
            mine, here = self.launched[pool.name], ready[pool.name]
            rate = arrivals * carried[pool.name] / sum(carried.values())
            share = rate / carried[pool.name] if here else 0.0
            each = pool.capacity * load_share(share, pool.slowdown)
            pools[pool.name] = PoolObservation(
                desired=len(mine),
                min_size=pool.min_instances,
                max_size=pool.max_instances,
                weight=self.weights[pool.name],
                instances=tuple(
                    Instance(
                        id_,
                        pool.types[0],
                        "us-east-1a" if n % 2 else "us-east-1b",
                        Phase.READY if id_ in here else Phase.STARTING,
                        since,
                        load=Reading(round(each, 1), at),
                    )
                    for n, (id_, since) in enumerate(mine.items())
                ),
                load=Reading(round(each * len(here), 1), at),
                running=Reading(round(each * len(here), 1), at),
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
    """One minute, whole."""

    record: Record
    calls: tuple[Call, ...]

    @property
    def decision(self) -> Decision:
        """What was decided in it."""
        return self.record.decision


@cache
def example() -> Example:
    """The first minute of the rise in which instances are ordered."""
    fleet = _Fleet({"l4": {}, "l40s": {}}, {"l4": 203, "l40s": 796})
    fleet.order("l4", 2, START - 3600)
    fleet.order("l40s", 2, START - 3600)
    state = State()
    for minute in range(LAST_MINUTE):
        now = START + 60 * minute
        seen, before = fleet.seen(minute, now), state
        decision = decide(service(), seen, before, now)
        grows = any(target.desired > seen.pools[name].desired for name, target in decision.targets.items())
        if minute > QUIET_MINUTES and grows:
            calls = plan(_parameter(), decision, _groups(seen), _rule(seen))
            return Example(Record(service(), seen, before, now, decision), calls)
        state = decision.state
        fleet.follow(decision, now)
    raise AssertionError("the rise orders nothing: choose another traffic")


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
    """The prose at the project's line length; tables and code as they are."""
    parts = text.split("```")
    for i in range(0, len(parts), 2):
        paragraphs = parts[i].split("\n\n")
        parts[i] = "\n\n".join(
            p if "|" in p or not p.strip() else textwrap.fill(p, 120, break_on_hyphens=False) for p in paragraphs
        )
    return "\n```".join(part.strip("\n") if i % 2 == 0 else part for i, part in enumerate(parts)).strip("\n") + "\n"


def section() -> str:
    """The example as Markdown."""
    one = example()
    record, decision, seen = one.record, one.decision, one.record.observation
    numbers = {reason.code: reason.numbers for reason in decision.reasons}
    policy, state = record.service.policy, decision.state
    outlook = next(reason for reason in decision.reasons if reason.step == "demand")
    headroom = 1 + outlook.numbers["headroom_percent"] / 100
    asked, now_fleet = (
        decision.signals.demand_rps or 0.0,
        survey(Context(record.service, seen, state, record.now), headroom),
    )
    counts = {name: target.desired for name, target in decision.targets.items()}
    then_fleet = survey(Context(record.service, seen, state, record.now), headroom, counts)
    horizon = outlook.numbers["horizon_seconds"]
    ready = {name: sum(i.phase is Phase.READY for i in view.instances) for name, view in seen.pools.items()}
    nodes, terms = sum(ready.values()), []
    rows = []
    for pool in record.service.pools:
        view = seen.pools[pool.name]
        held = view.load.value if view.load else 0.0
        each = held / ready[pool.name]
        share = work_share(each / pool.capacity, pool.slowdown)
        terms.append(f"{ready[pool.name]} * {each:.1f}/{pool.capacity:.0f}")
        rows.append(
            f"| {pool.name} | {ready[pool.name]} | {pool.capacity:.0f} | {pool.throughput_rps:.2f}"
            f" | {pool.slowdown:.2f} | {each:.1f} | {100 * each / pool.capacity:.0f} % | {100 * share:.0f} % |"
        )
    scv = state.demand.dispersion or 1.0
    shares = []
    for pool in record.service.pools:
        strict = sizing.usable_share(pool, policy, ready[pool.name], scv)
        tail = sizing.usable_share(pool, policy, ready[pool.name], scv, sizing.TAIL_BUDGET)
        worth = now_fleet.worth[pool.name]
        shares.append(f"| {pool.name} | {ready[pool.name]} | {100 * strict:.0f} % | {100 * tail:.0f} % | {worth:.2f} |")
    guard = next(r for r in decision.reasons if r.code == "guard.out").numbers
    carried = " + ".join(f"{counts[name]} * {then_fleet.worth[name]:.2f}" for name in counts)
    dearer = "\n".join(
        f"| {name} | {pool.usd_per_hour:.2f} | {then_fleet.worth[name]:.2f}"
        f" | {pool.usd_per_hour / then_fleet.worth[name]:.3f} |"
        for name, pool in ((p.name, p) for p in record.service.pools)
    )
    ideal = {p.name: ready[p.name] * p.throughput_rps for p in record.service.pools}
    parts = ", ".join(f"{name} {100 * value / sum(ideal.values()):.1f} %" for name, value in ideal.items())
    weights = ", ".join(f"{name} {target.weight}" for name, target in decision.targets.items())
    calls = "\n".join(f"{call.client} {call.operation} {json.dumps(dict(call.arguments))}" for call in one.calls)
    signals = decision.signals
    assert (signals.ratio or 9) < 1 < len(one.calls) + 1, (
        "the text says that the threshold would do, and that calls follow"
    )
    return wrapped(f"""\
A chat under the shipped policy, on L4 and L40S, has been at 15 requests per second for an hour and a half and begins to
rise. It is {dt.datetime.fromtimestamp(record.now, dt.UTC):%H:%M} UTC, minute {round((record.now - START) / 60)}.

**Observed.** The load balancer counted {asked:.2f} requests per second in the newest whole minute; the engines hold:

| pool | ready | C | requests/s at C | slowdown s | load of each, L | L/C | work done |
|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The last two columns differ: that is the slowdown curve, x*s/(1 + (s-1)*x).

**The article's three.** U = {" + ".join(terms)} = {signals.utilization:.2f};
T = U/n = {signals.utilization:.2f}/{nodes} = {signals.response_time:.2f} (nothing waits, so Q = L);
U_max = {nodes} * {policy.sizing.target_utilization:g} = {nodes * policy.sizing.target_utilization:.1f}, so
R = {signals.ratio:.2f}. By the threshold alone the service would be more than large enough.

**Demand.** An instance ordered now serves in {horizon:.0f} s ({horizon - 60:.0f} s boot and load, and the reading is a
minute old). Of the methods, `{outlook.code.removeprefix("demand.")}` has lately cost least for what it carried: it says
{outlook.numbers["forecast_rps"]:.2f}. What is seen then should stay below {headroom:.3f} times that, going by
what came of its forecasts so far, but for the share that may be missed
({100 * (state.feedback.allowance or 0.0):.2f} % of the demand, by now), so the upper end is
{headroom:.3f} * {outlook.numbers["forecast_rps"]:.2f} = {signals.forecast_rps:.2f}.

**Sizing.** How much of an instance may be used so that requests keep to the SLO, by pool and number; arrivals vary as
Poisson's ({scv:.1f}):

| pool | instances | day in, day out | at the upper end | worth, requests/s |
|---|---|---|---|---|
{chr(10).join(shares)}

An instance counts for what it may do at the upper end, but for no more than {headroom:.3f} times its strict share, so
that the forecast itself is served strictly. Required is the upper end, **{signals.required_rps:.2f}**; no backlog is to
be drained.

**Guard.** {guard["standing_rps"]:.2f} stand or come, the tolerance is {policy.horizontal.tolerance_percent:g} %:
{guard["standing_rps"]:.2f} * {1 + policy.horizontal.tolerance_percent / 100:.2f} =
{guard["standing_rps"] * (1 + policy.horizontal.tolerance_percent / 100):.2f} is less than required, so out, at once.

**Mix.** Among as many as will stand an instance is worth a little more:

| pool | USD per hour | worth | USD per hour and request/s |
|---|---|---|---|
{dearer}

An L40S does a request for less, but the step is small: {carried} =
{numbers["mix.grow"]["carried_rps"]:.2f} carries it at
{signals.usd_per_hour:.2f} USD per hour, the least of all counts within the bounds that keep what stands.

**Routing.** Shares by what is ready: {parts}. The weights that stand ({weights}) are within
`routing.dead_band_percent`, so they stay; the new instance gets its part when it is healthy.

**Said**, as `gpu-fleet explain` prints it:

```text
{chr(10).join(sentences(record))}
```

**Called**, and nothing else:

```text
{calls}
```
""")
