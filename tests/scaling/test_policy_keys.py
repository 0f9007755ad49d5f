"""Every key of a policy does something: for each, two values and the difference that they make.

A key of the schema without an entry here fails, and so does an entry without a key.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pulumi_aws.lb import ListenerRuleConditionHttpHeaderArgs

from gpu_fleet.cases import cases, run
from gpu_fleet.config.composition import pool as composed
from gpu_fleet.config.library import library
from gpu_fleet.config.settings import PoolSettings, ServiceSettings
from gpu_fleet.config.stack_file import read_stack
from gpu_fleet.config.yaml_files import library_texts, read_library
from gpu_fleet.scaling import burst, capacity_errors, demand, forecast, headroom, learning, routing
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision
from gpu_fleet.scaling.headroom import Aim
from gpu_fleet.scaling.observation import CapacityError, JobQueue, Observation, PoolObservation, Reading
from gpu_fleet.scaling.policy import LoadUnit, Policy, Request, Section, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.scaling.queue_limit import UNLIMITED, queue_limit
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import Hindsight, Point, PoolState, Season, State
from infra import listener_rule
from lambdas.scaler.apply import plan
from lambdas.scaler.bindings import ServiceParameter
from lambdas.scaler.groups import Group
from lambdas.scaler.rules import Rule
from tests.scaling.builders import NOW, changed, instances, policy, pool, pool_seen, remembered, seen, service

LIVED = remembered(at=NOW - 60, since=NOW - 7200, dispersion=1.0)
PROFILE = Profile(
    prefill_tokens_per_second=8000,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0006,
    kv_cache_tokens=200_000,
    compile_seconds=60,
    estimate=True,
    source="made up for this test",
)

EFFECTS: dict[str, Callable[[], None]] = {}


def effect(key: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Enter a function that shows what the key does."""

    def enter(shows: Callable[[], None]) -> Callable[[], None]:
        assert key not in EFFECTS
        EFFECTS[key] = shows
        return shows

    return enter


def keys(section: type[Section], above: str = "") -> Iterator[str]:
    """Every key of the schema that holds a value."""
    for name, field in section.model_fields.items():
        kinds = [field.annotation, *typing.get_args(field.annotation)]
        below = [k for k in kinds if isinstance(k, type) and issubclass(k, Section)]
        if below:
            yield from keys(below[0], f"{above}{name}.")
        else:
            yield f"{above}{name}"


# Short ways


def one(svc: Service, view: PoolObservation, arrivals: float | None, state: State = LIVED, **changes: Any) -> Decision:
    return decide(svc, seen(arrivals=arrivals, pools={"l4": view}, **changes), state, NOW)


def count(svc: Service, view: PoolObservation, arrivals: float | None, state: State = LIVED, **changes: Any) -> int:
    return one(svc, view, arrivals, state, **changes).targets["l4"].desired


def busy(ready: int = 4, each: float = 5.0, **changes: Any) -> PoolObservation:
    return pool_seen(ready, load=ready * each, instance_loads=[each] * ready, **changes)


def two_pools(**changes: Any) -> Service:
    cheap = pool("cheap", min_instances=0, on_demand_usd_per_hour=0.5)
    dear = pool("dear", min_instances=0, on_demand_usd_per_hour=1.0)
    return service(dear, cheap, **changes)


def moved(minutes: int = 1, state: State = LIVED, ready: int = 6, **changes: Any) -> Decision:
    """A service on its dear pool, with a cheap one of the same kind beside it."""
    views = {"dear": pool_seen(ready, load=60, instance_loads=[10] * ready), "cheap": pool_seen(0, load=None)}
    return decide(two_pools(**changes), seen(arrivals=6.0, pools=views), state, NOW)


def found_in(path: str, test: str) -> Callable[[], None]:
    """An effect that another room's test shows."""

    def look() -> None:
        text = (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
        assert re.search(rf"^\s*def {test}\(", text, re.MULTILINE), f"{path} has no {test}"

    return look


# The file itself


@effect("description")
def description() -> None:
    """Words for people: it is kept, and changes nothing."""
    assert policy(description="for chats").description == "for chats"
    a, b = (service(description=text) for text in ("", "for chats"))
    assert one(a, busy(), 9.0) == one(b, busy(), 9.0)


def outcomes(**changes: str) -> list[bool]:
    """Whether each of the chat policy's cases holds, with these words changed in its file."""
    root = Path(__file__).parents[2]
    texts = library_texts(root)
    for old, new in changes.items():
        text = texts["policies/chat.yaml"]
        assert old in text
        texts["policies/chat.yaml"] = text.replace(old, new, 1)
    found, problems = cases(library(texts), ["chat"], lambda stack: read_stack(root, stack)[0])
    assert [str(problem) for problem in problems if "differ" not in str(problem)] == []
    return [not problems and run(case, decide).passed for case in found]


@effect("cases.name")
def case_name() -> None:
    """By its name `gpu-fleet test` tells a case from the others: two of one name are refused."""
    assert all(outcomes())
    first, second = "a fleet near its limit grows at once", "a fleet that is large enough stays as it is"
    assert not any(outcomes(**{first: second}))


@effect("cases.given")
def case_given() -> None:
    assert outcomes(**{"load_percent: 98": "load_percent: 20"}).count(False) == 1


@effect("cases.expect")
def case_expect() -> None:
    assert outcomes(**{">=5": ">=500"}).count(False) == 1


@effect("workload")
def workload() -> None:
    """Training looks at the queue of jobs and not at requests."""
    jobs = JobQueue(waiting=5, oldest_seconds=900)
    view = pool_seen(0, load=None)
    trained = one(service(workload="training"), view, None, jobs=jobs)
    assert trained.targets["l4"].desired == 5
    assert "training.start" in trained.codes
    assert "training.start" not in one(service(), view, None, jobs=jobs).codes


EFFECTS["mode"] = found_in("lambdas/test_serve.py", "test_shadow_writes_the_state_and_nothing_else")


@effect("model")
def model() -> None:
    """The profile is looked up by it: half the bytes a weight leave more room for requests."""
    shipped = read_library(Path(__file__).parents[2])
    plain, quantized = (
        composed(
            "p",
            PoolSettings(types=("g6.xlarge",), min=0, max=4),
            "chat",
            replace(shipped, policies={"chat": shipped.policies["chat"].model_copy(update={"model": name})}),
        )
        for name in ("llama-3.1-8b", "llama-3.1-8b-fp8")
    )
    assert plain.capacity < quantized.capacity


# What an instance carries


def carried(unit: LoadUnit = LoadUnit.CONCURRENCY, slo: dict[str, Any] | None = None, **request: float) -> Any:
    limits = Slo.model_validate({"ttft_seconds": 2, "tpot_seconds": 0.05} | (slo or {}))
    return instance_capacity(PROFILE, Request.model_validate(request), limits, unit)


@effect("request.input_tokens")
def input_tokens() -> None:
    assert carried(input_tokens=4000).throughput_rps < carried(input_tokens=500).throughput_rps


@effect("request.output_tokens")
def output_tokens() -> None:
    assert carried(output_tokens=800).throughput_rps < carried(output_tokens=100).throughput_rps


@effect("slo.tpot_seconds")
def tpot_seconds() -> None:
    assert carried(slo={"tpot_seconds": 0.03}).capacity < carried(slo={"tpot_seconds": 0.06}).capacity


@effect("slo.ttft_seconds")
def ttft_seconds() -> None:
    reader = pool(first_token_seconds=0.5, slots=40.0)
    tight, wide = (service(reader, slo={"ttft_seconds": limit, "tpot_seconds": 0.1}) for limit in (0.6, 10.0))
    assert count(tight, busy(10), 5.0) > count(wide, busy(10), 5.0)
    assert not carried(slo={"ttft_seconds": 0.01}).reaches_slo
    assert carried().reaches_slo


@effect("slo.ttft_seconds_per_1000_input_tokens")
def ttft_per_length() -> None:
    for each, reaches in ((0.0, False), (1.0, True)):
        limits = {"ttft_seconds": 0.3, "ttft_seconds_per_1000_input_tokens": each}
        assert carried(slo=limits, input_tokens=4000).reaches_slo is reaches


@effect("slo.attainment")
def attainment() -> None:
    strict, loose = (
        service(slo={"ttft_seconds": 2, "tpot_seconds": 0.1, "attainment": share}) for share in (0.999, 0.9)
    )
    assert count(strict, busy(8, 10), 9.0) > count(loose, busy(8, 10), 9.0)


@effect("load.unit")
def unit() -> None:
    requests, concurrency = carried(LoadUnit.REQUESTS), carried()
    assert requests.capacity == pytest.approx(requests.throughput_rps)
    assert concurrency.capacity != pytest.approx(requests.capacity)
    # and Little's law counts as the unit does: 2 rps are 2, or 2 * 10 s = 20 in flight
    view = replace(pool_seen(2, load=None), rate_rps=Reading(2.0, NOW))
    for name, load in (("requests_per_second", 2.0), ("concurrency", 20.0)):
        assert demand.pool_load(Context(service(load={"unit": name}), seen(), LIVED, NOW), pool(), view) == load


@effect("load.stale_after_seconds")
def stale() -> None:
    old = busy(4, at=NOW - 200)
    assert one(service(load={"stale_after_seconds": 180}), old, None).held
    assert not one(service(load={"stale_after_seconds": 300}), old, None).held


# Node signals


def threshold(name: str, limit: float, over: float) -> Callable[[], None]:
    def shows() -> None:
        view = replace(busy(), **{name: Reading(over, NOW)})
        assert count(service(thresholds={name: limit}), view, 2.0) > 4
        assert count(service(thresholds={name: over + 1}), view, 2.0) <= 4

    return shows


for signal in ("cpu_percent", "memory_percent", "gpu_percent", "kv_cache_percent"):
    EFFECTS[f"thresholds.{signal}"] = threshold(signal, 60, 90)
EFFECTS["thresholds.network_latency_seconds"] = threshold("network_latency_seconds", 0.2, 0.5)


# Sizing


@effect("sizing.mode")
def sizing_mode() -> None:
    by_threshold = one(service(sizing={"mode": "threshold"}), busy(), 4.0)
    assert "sizing.threshold" in by_threshold.codes
    assert "sizing.slo" in one(service(sizing={"mode": "slo"}), busy(), 4.0).codes


@effect("sizing.target_utilization")
def target_utilization() -> None:
    low, high = (service(slo=None, sizing={"target_utilization": share}) for share in (0.4, 0.9))
    assert count(low, busy(4, 10), 4.0) > count(high, busy(4, 10), 4.0)


@effect("sizing.wait_budget")
def wait_budget() -> None:
    strict, loose = (service(sizing={"wait_budget": share}) for share in (0.0001, 0.2))
    assert count(strict, busy(2, 15), 9.0) > count(loose, busy(2, 15), 9.0)


@effect("sizing.drain_backlog_seconds")
def drain_backlog_seconds() -> None:
    view = pool_seen(2, load=240, running=Reading(40.0, NOW), waiting=Reading(200.0, NOW))
    fast, slow = (service(sizing={"drain_backlog_seconds": seconds}) for seconds in (30, 1200))
    assert count(fast, view, 4.0) > count(slow, view, 4.0)


# Forecast


def looked(settings: dict[str, Any], series: list[float], season: Season | None = None) -> forecast.Outlook:
    points = tuple(Point(NOW - 60 * (len(series) - n), rps) for n, rps in enumerate(series))
    late = tuple(
        1e5 * 0.5**n for n in range(len(headroom.LEVELS))
    )  # at level 1 a thousandth, at 1.5 a fifty-thousandth
    jumpy = Hindsight(late, absolute=1.0, weight=1e5, said=1e5)
    hindsight = dict.fromkeys(("none", "trend_900", "peak_600", "peak_3600", "seasonal"), jumpy)
    memory = changed(LIVED, series=points[:-1], hindsight=hindsight, season=season).forecast
    pol = policy(forecast=settings)
    budget = 1 - pol.forecast_confidence
    aim = Aim(budget, budget, 2.0, 120.0, 1 + pol.forecast.max_headroom_percent / 100)
    return forecast.look_ahead(pol.forecast, aim, memory, points[-1], 300.0, fresh=False)[0]


@effect("forecast.method")
def method() -> None:
    rising = [float(n) for n in range(1, 21)]
    assert looked({"method": "none"}, rising).rps == 20
    assert looked({"method": "trend"}, rising).rps > 20
    assert looked({"method": "peak"}, rising[::-1]).rps >= 10
    day = tuple(float(n) for n in range(288))
    season = Season(NOW, day, day, 14.0)
    assert looked({"method": "seasonal"}, [1.0] * 5, season).method == "seasonal"
    assert looked({"method": "auto"}, rising, season).method in {"none", "trend", "peak_600", "peak_3600", "seasonal"}


@effect("forecast.confidence")
def confidence() -> None:
    sure, bold = (looked({"method": "none", "confidence": share}, [10.0] * 5) for share in (0.999, 0.99))
    assert sure.upper_rps > bold.upper_rps


@effect("forecast.max_headroom_percent")
def max_headroom() -> None:
    least, some, most = (
        looked({"method": "none", "confidence": 0.99999, "max_headroom_percent": percent}, [10.0] * 5).headroom_percent
        for percent in (0, 10, 150)
    )
    assert least == 0
    assert least <= some <= 10 < most


@effect("forecast.history_days")
def history_days() -> None:
    """Twelve days of 1 rps, then two of 9: a short memory knows only the two."""
    history = tuple(Reading(9.0 if n <= 2 * 288 else 1.0, NOW - 300.0 * n) for n in range(14 * 288, 0, -1))
    for days, low in ((2, 8.9), (14, 1.0)):
        svc = service(forecast={"method": "seasonal", "history_days": days})
        season = one(svc, busy(), 4.0, history_rps=history).state.forecast.season
        assert season is not None
        assert (season.working[0] > 8.9) is (low > 8)


# Burst


@effect("burst.factor")
def burst_factor() -> None:
    for factor, noticed in ((1.2, True), (9.0, False)):
        svc = service(burst={"factor": factor})
        decision = one(svc, busy(), 2.0, burst_rps=Reading(12.0, NOW - 10), matched_rps=Reading(2.0, NOW))
        assert ("demand.burst" in decision.codes) is noticed


@effect("burst.hold_seconds")
def hold_seconds() -> None:
    quiet = replace(demand.Demand.unknown(NOW), rps=2.0, counted=True)
    state = changed(LIVED, burst=Point(NOW - 200, 12.0))
    for seconds, met in ((300, 12.0), (60, 2.0)):
        settings = policy(burst={"hold_seconds": seconds}).burst
        assert burst.meet(settings, quiet, 2.0, state.burst, NOW)[0] == met


# Horizontal


@effect("horizontal.tolerance_percent")
def tolerance() -> None:
    tight, wide = (service(horizontal={"tolerance_percent": p}) for p in (0, 100))
    assert count(tight, busy(4, 12), 7.0) > 4
    assert count(wide, busy(4, 12), 7.0) == 4


@effect("horizontal.max_step_out")
def max_step_out() -> None:
    for step in (1, 3):
        assert count(service(horizontal={"max_step_out": step}), busy(2, 20), 30.0) == 2 + step


@effect("horizontal.max_step_in")
def max_step_in() -> None:
    for step in (1, 3):
        svc = service(horizontal={"max_step_in": step, "scale_in_stabilization_seconds": 0})
        assert count(svc, busy(12, 0.1), 0.1) == 12 - step


@effect("horizontal.scale_in_stabilization_seconds")
def stabilization() -> None:
    state = changed(LIVED, required=(Point(NOW - 240, 20.0),))
    for seconds, left in ((600, True), (120, False)):
        svc = service(horizontal={"scale_in_stabilization_seconds": seconds})
        assert (count(svc, busy(12, 0.5), 0.5, state) == 12) is left


@effect("horizontal.launch_timeout_seconds")
def launch_timeout() -> None:
    view = pool_seen(2, starting=2, load=30, starting_since=NOW - 700)
    assert count(service(horizontal={"launch_timeout_seconds": 600}), view, 4.0) > count(
        service(horizontal={"launch_timeout_seconds": 900}), view, 4.0
    )


EFFECTS["horizontal.busy_max_drain_seconds"] = found_in(
    "simulator/test_world.py", "test_a_drain_that_takes_too_long_loses_the_remaining_requests"
)


# Vertical


@effect("vertical.method")
def vertical_method() -> None:
    assert moved().targets["cheap"].desired > 0
    assert moved(vertical={"method": "off"}).targets["cheap"].desired == 0


@effect("vertical.minimum_stay_seconds")
def minimum_stay() -> None:
    # half an hour after the last move; and an overlap of 300 s must pay for itself within the stay
    lately = changed(LIVED, moved_at=NOW - 1800)
    assert moved(state=lately, vertical={"minimum_stay_seconds": 1200}).targets["cheap"].desired > 0
    assert moved(state=lately, vertical={"minimum_stay_seconds": 3600}).targets["cheap"].desired == 0
    assert moved(vertical={"minimum_stay_seconds": 60}).targets["cheap"].desired == 0


@effect("vertical.minimum_saving_percent")
def minimum_saving() -> None:
    assert moved(vertical={"minimum_saving_percent": 40}).targets["cheap"].desired > 0
    assert moved(vertical={"minimum_saving_percent": 60}).targets["cheap"].desired == 0


# Floors and capacity errors


@effect("availability.min_instances")
def min_instances() -> None:
    for floor in (2, 5):
        svc = service(availability={"min_instances": floor}, horizontal={"max_step_in": 50})
        assert count(svc, busy(8, 0), 0.0) == floor


@effect("availability.min_zones")
def min_zones() -> None:
    crowd = busy(2, 0.5)
    crowd = replace(crowd, instances=tuple(replace(i, zone="a") for i in crowd.instances))
    assert count(service(availability={"min_zones": 2}), crowd, 0.1) == 3
    assert count(service(availability={"min_zones": 1}), crowd, 0.1) < 3


@effect("capacity_errors.avoid_seconds")
def avoid_seconds() -> None:
    view = replace(busy(), capacity_errors=(CapacityError("", NOW - 200),))
    for seconds, avoided in ((300, True), (100, False)):
        remembered = capacity_errors.mark(
            policy(capacity_errors={"avoid_seconds": seconds}).capacity_errors, PoolState(), view, NOW
        )
        assert capacity_errors.blocked(pool(), view, remembered, NOW) is avoided


# Routing


def routed(settings: dict[str, Any], after: float = 3600.0, **weights: int) -> dict[str, int]:
    """Two pools of the same capacity, the second one slower and, where weights say so, out of balance."""
    given = {"old": 500, "new": 499} | weights
    pools = [
        routing.PoolInput("old", 2, 4.0, given["old"], 0.4, 1.0),
        routing.PoolInput("new", 2, 4.0, given["new"], 0.9, 3.0),
    ]
    state = routing.RoutingState(healthy_since={"old": NOW - 9000, "new": NOW - after})
    return dict(routing.route(policy(routing=settings).routing, pools, state, NOW).weights)


@effect("routing.strategy")
def strategy() -> None:
    assert routed({"strategy": "response_time"})["new"] < routed({"strategy": "capacity"})["new"]
    assert routed({"strategy": "static", "static_weights": {"old": 3, "new": 1}, "max_step_percent": 100})["new"] < 260


@effect("routing.static_weights")
def static_weights() -> None:
    for share in (1, 9):
        settings = {"strategy": "static", "static_weights": {"old": 1, "new": share}, "max_step_percent": 100}
        assert routed(settings)["new"] == pytest.approx(999 * share / (1 + share), abs=1)


@effect("routing.hash_header")
def hash_header() -> None:
    """The header that the listener rule of a digit looks at."""
    settings = ServiceSettings.model_construct(paths=("/v1/*",), hosts=())
    for name in ("x-session-id", "x-user-id"):
        routing = policy(routing={"strategy": "hash", "hash_header": name}).routing
        paths, header = listener_rule.conditions(settings, routing.hash_header, "7")
        assert paths.http_header is None
        assert header.http_header == ListenerRuleConditionHttpHeaderArgs(http_header_name=name, values=["*7"])


@effect("routing.stickiness_seconds")
def stickiness() -> None:
    """How long the rule keeps a session: what the scaler writes into it."""
    for seconds in (60, 7200):
        parameter = ServiceParameter.model_validate(
            {
                "service": service(routing={"strategy": "sticky", "stickiness_seconds": seconds}).model_dump(),
                "bindings": {"listener_rule_arn": "rule", "pools": {"l4": {"group": "l4", "target_group_arn": "l4"}}},
            }
        )
        rule = Rule("rule", ({"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "l4"}]}},))
        decision = one(parameter.service, busy(), 4.0)
        calls = plan(parameter, decision, {"l4": Group("l4", decision.targets["l4"].desired, 0, 20, ())}, rule)
        (modify,) = [call for call in calls if call.operation == "ModifyRule"]
        config = modify.arguments["Actions"][0]["ForwardConfig"]["TargetGroupStickinessConfig"]
        assert config == {"Enabled": True, "DurationSeconds": seconds}


@effect("routing.dead_band_percent")
def dead_band() -> None:
    for percent, kept in ((1, False), (10, True)):
        settings = {"strategy": "capacity", "dead_band_percent": percent}
        assert (routed(settings, old=550, new=449)["old"] == 550) is kept


@effect("routing.max_step_percent")
def max_step_percent() -> None:
    for percent in (10, 30):
        weights = routed({"strategy": "capacity", "max_step_percent": percent}, old=950, new=49)
        assert 950 - weights["old"] == pytest.approx(9.99 * percent, abs=2)


@effect("routing.slow_start_seconds")
def slow_start() -> None:
    full, part = (routed({"strategy": "capacity", "slow_start_seconds": s}, after=60) for s in (30, 600))
    assert part["new"] < full["new"]


@effect("routing.drift_percent")
def drift() -> None:
    for percent, corrected in ((20, True), (90, False)):
        settings = {"strategy": "auto", "drift_percent": percent, "max_step_percent": 100}
        assert (routed(settings)["new"] < 490) is corrected


@effect("routing.damping")
def damping() -> None:
    gently, at_once = (
        routed({"strategy": "response_time", "damping": part, "max_step_percent": 100})["new"] for part in (0.1, 1.0)
    )
    assert at_once < gently < 499


# Overload


@effect("overload.refuse")
def refuse() -> None:
    for refuses in (True, False):
        assert (queue_limit(policy(overload={"refuse": refuses}), PROFILE) != UNLIMITED) is refuses


@effect("overload.max_wait_seconds")
def max_wait() -> None:
    short, long = (queue_limit(policy(overload={"max_wait_seconds": s}), PROFILE).waiting for s in (10, 100))
    assert short is not None
    assert long == pytest.approx(10 * short, abs=10)


# Zero


@effect("zero.idle_seconds")
def idle_seconds() -> None:
    state = changed(LIVED, idle_since=NOW - 400)
    for seconds, asleep in ((300, True), (600, False)):
        svc = service(pool(min_instances=0), zero={"idle_seconds": seconds})
        assert one(svc, busy(1, 0.0), 0.0, state).state.zero.asleep is asleep


@effect("zero.wake_instances")
def wake_instances() -> None:
    state = changed(LIVED, asleep=True, idle_since=NOW - 900)
    for woken in (1, 3):
        svc = service(pool(min_instances=0), zero={"idle_seconds": 300, "wake_instances": woken})
        assert count(svc, pool_seen(0, load=None), 0.0, state, rejected_rps=Reading(0.02, NOW)) == woken


# Training


def trained(settings: dict[str, Any], jobs: JobQueue, view: PoolObservation | None = None, state: State = LIVED) -> int:
    svc = service(pool(min_instances=0), workload="training", training=settings, availability={"min_instances": 0})
    return count(svc, view or pool_seen(0, load=None), None, state, jobs=jobs)


def working(jobs: int, remaining: float | None = None) -> PoolObservation:
    nodes = instances(2, jobs=jobs, remaining_seconds=remaining)
    return replace(pool_seen(0, load=None), desired=2, instances=nodes)


@effect("training.jobs_per_instance")
def jobs_per_instance() -> None:
    assert trained({"jobs_per_instance": 1}, JobQueue(8, 900)) == 8
    assert trained({"jobs_per_instance": 4}, JobQueue(8, 900)) == 2


@effect("training.start_within_seconds")
def start_within() -> None:
    jobs = JobQueue(3, 700)
    assert trained({"start_within_seconds": 600}, jobs, working(1)) > 2
    assert trained({"start_within_seconds": 900}, jobs, working(1)) == 2


@effect("training.idle_seconds")
def training_idle() -> None:
    state = changed(LIVED, idle_nodes={"i-0": NOW - 400, "i-1": NOW - 400})
    assert trained({"idle_seconds": 300}, JobQueue(0, 0), working(0), state) == 0
    assert trained({"idle_seconds": 600}, JobQueue(0, 0), working(0), state) == 2


@effect("training.protect_remaining_seconds")
def protect_remaining() -> None:
    jobs = JobQueue(2, 700)
    assert trained({"protect_remaining_seconds": 300}, jobs, working(1, remaining=200)) == 2
    assert trained({"protect_remaining_seconds": 100}, jobs, working(1, remaining=200)) > 2


# Learning


def learnt(settings: dict[str, Any], state: State, minutes: int = 1) -> float:
    """A pool that holds back requests at half of its C: it carries less than the catalog says."""
    svc = service(learning=settings)
    view = pool_seen(2, load=40, running=Reading(20.0, NOW), waiting=Reading(20.0, NOW))
    for _ in range(minutes):
        state = learning.learn_capacity(Context(svc, Observation({"l4": view}), state, NOW))
    return state.pools["l4"].correction


KNOWN = replace(LIVED, at=NOW - 600, pools={"l4": PoolState(correction=0.9)})


@effect("learning.enabled")
def learning_enabled() -> None:
    assert learnt({"enabled": True}, KNOWN) < 0.9
    assert learnt({"enabled": False}, KNOWN) == 0.9


@effect("learning.bound_percent")
def bound_percent() -> None:
    for percent in (5, 30):
        settings = {"bound_percent": percent, "half_life_seconds": 60}
        assert learnt(settings, KNOWN, minutes=20) == pytest.approx(1 - percent / 100, abs=0.001)


@effect("learning.half_life_seconds")
def half_life() -> None:
    assert learnt({"half_life_seconds": 600}, KNOWN) < learnt({"half_life_seconds": 60_000}, KNOWN)


@effect("learning.reset")
def reset() -> None:
    assert learnt({"enabled": False, "reset": ""}, KNOWN) == 0.9
    assert learnt({"enabled": False, "reset": "new engine"}, KNOWN) == 1.0


def test_no_key_is_without_an_effect() -> None:
    assert sorted(EFFECTS) == sorted(keys(Policy))


@pytest.mark.parametrize("key", sorted(EFFECTS))
def test_the_key_has_its_effect(key: str) -> None:
    EFFECTS[key]()
