"""Training: instances follow the job queue, and a busy one is never taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.observation import CapacityError, Instance, JobQueue, Observation, Phase, PoolObservation
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import Mark, PoolState, Short, State
from gpu_fleet.scaling.training import TrainingDecision, decide_training
from tests.scaling.builders import changed

NOW = 1_700_000_000.0
LONG_AGO = NOW - 7200


def pool(name: str = "l4", **changes: Any) -> Pool:
    base: dict[str, Any] = {
        "name": name,
        "types": ("g6.xlarge",),
        "min_instances": 0,
        "max_instances": 10,
        "capacity": 1.0,
        "throughput_rps": 1.0,
        "on_demand_usd_per_hour": 0.8,
    }
    return Pool.model_validate(base | changes)


def service(*pools: Pool, quotas: dict[str, int] | None = None, **changes: Any) -> Service:
    base: dict[str, Any] = {"model": "m", "workload": "training"}
    policy = Policy.model_validate(base | changes)
    return Service(name="tune", policy=policy, pools=pools or (pool(),), vcpu_quotas=quotas or {})


def node(name: str, jobs: int | None = 0, phase: Phase = Phase.READY, **changes: Any) -> Instance:
    base: dict[str, Any] = {"id": name, "type": "g6.xlarge", "zone": "a", "phase": phase, "since": LONG_AGO}
    return Instance(**base, jobs=jobs, **changes) if "since" not in changes else Instance(**base | changes, jobs=jobs)


def booting(name: str, **changes: Any) -> Instance:
    return node(name, None, Phase.STARTING, **{"since": NOW - 60} | changes)


def of(*nodes: Instance, desired: int | None = None, **changes: Any) -> PoolObservation:
    alive = sum(1 for i in nodes if i.phase is not Phase.DRAINING)
    base: dict[str, Any] = {"min_size": 0, "max_size": 10, "weight": 1}
    return PoolObservation(desired=alive if desired is None else desired, instances=nodes, **base | changes)


def queue(waiting: int = 0, oldest: float = 0, mean: float | None = None) -> JobQueue:
    return JobQueue(waiting, oldest, mean)


def decide(
    seen: PoolObservation | Mapping[str, PoolObservation],
    jobs: JobQueue | None,
    of_service: Service | None = None,
    *,
    idle: Mapping[str, float] | None = None,
    state: State | None = None,
    now: float = NOW,
) -> TrainingDecision:
    pools = seen if isinstance(seen, Mapping) else {"l4": seen}
    before = changed(state or State(at=now - 60), idle_nodes=idle or {})
    return decide_training(Context(of_service or service(), Observation(pools=pools, jobs=jobs), before, now))


def codes(decided: TrainingDecision) -> list[str]:
    return [reason.code for reason in decided.reasons]


def desired(decided: TrainingDecision) -> int:
    return decided.targets["l4"].desired


def test_the_first_job_starts_an_instance_from_zero() -> None:
    decided = decide(of(), queue(1))
    assert desired(decided) == 1
    assert codes(decided) == ["training.queue", "training.start"]
    assert decided.reasons[1].sentence == "Starts 1 l4: there is no place, and none comes."


def test_jobs_that_free_places_will_take_start_nothing() -> None:
    decided = decide(of(node("i-1"), node("i-2")), queue(2, oldest=30))
    assert desired(decided) == 2
    assert decided.targets["l4"].take == ()


def test_jobs_that_running_ones_will_make_room_for_start_nothing() -> None:
    """By the remaining time: 200 s are within the 300 that the policy protects, 400 are not."""
    soon = of(node("i-1", 1, remaining_seconds=200.0))
    late = of(node("i-1", 1, remaining_seconds=400.0))
    waits = queue(1, oldest=700)
    assert desired(decide(soon, waits)) == 1
    assert desired(decide(late, waits)) == 2
    patient = service(training={"protect_remaining_seconds": 500})
    assert desired(decide(late, waits, patient)) == 1


def test_instances_that_boot_are_not_ordered_twice() -> None:
    assert desired(decide(of(booting("i-1"), booting("i-2")), queue(2, oldest=700))) == 2
    assert desired(decide(of(desired=2), queue(2, oldest=700))) == 2


def test_a_job_that_waited_too_long_starts_an_instance() -> None:
    busy = of(node("i-1", 1))
    assert desired(decide(busy, queue(1, oldest=599))) == 1
    decided = decide(busy, queue(1, oldest=600))
    assert desired(decided) == 2
    assert "the oldest job has waited 600 s, longer than 600 s" in decided.reasons[1].sentence
    hasty = service(training={"start_within_seconds": 60})
    assert desired(decide(busy, queue(1, oldest=60), hasty)) == 2


def test_jobs_that_would_wait_too_long_start_instances_at_once() -> None:
    """Two places free themselves every 1200 s: in 600 s they take one of ten jobs."""
    busy = of(node("i-1", 1), node("i-2", 1))
    assert desired(decide(busy, queue(10, oldest=0, mean=1200))) == 10
    assert desired(decide(busy, queue(4, oldest=0, mean=1200))) == 2 + 3


def test_a_queue_that_drains_in_time_starts_nothing() -> None:
    busy = of(node("i-1", 1), node("i-2", 1))
    assert desired(decide(busy, queue(10, oldest=0, mean=100))) == 2


def test_several_jobs_share_an_instance_where_the_policy_says_so() -> None:
    shared = service(training={"jobs_per_instance": 4})
    assert desired(decide(of(), queue(9), shared)) == 3
    assert desired(decide(of(node("i-1", 3)), queue(1, oldest=700), shared)) == 1
    assert desired(decide(of(node("i-1", 4)), queue(1, oldest=700), shared)) == 2


def test_an_idle_node_is_kept_for_a_while_and_then_taken() -> None:
    first = decide(of(node("i-1")), queue())
    assert desired(first) == 1
    assert first.memory.idle_nodes == {"i-1": NOW}
    assert "training.idle" in codes(first)
    still = decide(of(node("i-1")), queue(), idle=first.memory.idle_nodes, now=NOW + 299)
    assert desired(still) == 1
    gone = decide(of(node("i-1")), queue(), idle=still.memory.idle_nodes, now=NOW + 300)
    assert desired(gone) == 0
    assert gone.targets["l4"].take == ("i-1",)
    assert "l4: i-1 (idle for 300 s) leave." in [reason.sentence for reason in gone.reasons]
    keen = service(training={"idle_seconds": 0})
    assert desired(decide(of(node("i-1")), queue(), keen)) == 0


def test_a_node_that_worked_in_between_starts_to_idle_anew() -> None:
    worked = decide(of(node("i-1", 1)), queue(), idle={"i-1": LONG_AGO})
    assert worked.memory.idle_nodes == {}


def test_the_longest_idle_goes_first_and_those_that_waiting_jobs_need_stay() -> None:
    seen = of(node("i-1"), node("i-2"), node("i-3"))
    idle = {"i-1": NOW - 400, "i-2": NOW - 500, "i-3": NOW - 450}
    decided = decide(seen, queue(1, oldest=10), idle=idle)
    assert decided.targets["l4"].take == ("i-2", "i-3")
    assert desired(decided) == 1


def test_free_places_beside_running_jobs_let_idle_nodes_go() -> None:
    shared = service(training={"jobs_per_instance": 4})
    seen = of(node("busy", 1), node("idle"))
    decided = decide(seen, queue(3, oldest=10), shared, idle={"idle": NOW - 400})
    assert decided.targets["l4"].take == ("idle",)
    assert decide(seen, queue(4, oldest=10), shared, idle={"idle": NOW - 400}).targets["l4"].take == ()


def test_busy_nodes_and_those_not_known_are_protected_and_stay() -> None:
    seen = of(node("busy", 1), node("unknown", None), node("sick", 1, Phase.UNHEALTHY), node("idle"))
    decided = decide(seen, queue(), idle={"idle": NOW - 1000, "unknown": LONG_AGO, "busy": LONG_AGO})
    assert decided.targets["l4"].take == ("idle",)
    assert set(decided.targets["l4"].protect) == {"busy", "unknown", "sick"}
    assert "training.busy" in codes(decided)


def test_a_queue_that_was_not_seen_holds_everything() -> None:
    decided = decide(of(node("idle"), node("busy", 1)), None, idle={"idle": LONG_AGO})
    assert decided.held
    assert desired(decided) == 2
    assert decided.targets["l4"].take == ()
    assert decided.targets["l4"].protect == ("busy",)
    assert codes(decided) == ["training.no_queue"]


def test_the_steps_of_the_policy_limit_both_ways() -> None:
    slow = service(horizontal={"max_step_out": 2, "max_step_in": 1})
    assert desired(decide(of(), queue(9), slow)) == 2
    seen = of(*(node(f"i-{n}") for n in range(4)))
    assert desired(decide(seen, queue(), slow, idle={f"i-{n}": LONG_AGO for n in range(4)})) == 3


def test_bounds_hold_and_what_they_forbid_is_said() -> None:
    decided = decide(of(max_size=3), queue(9))
    assert desired(decided) == 3
    assert "training.short" in codes(decided)
    kept = decide(of(node("i-1"), node("i-2")), queue(), service(pool(min_instances=1)), idle={"i-1": 0, "i-2": 0})
    assert desired(kept) == 1
    assert desired(decide(of(), queue(), service(pool(min_instances=2)))) == 2


def test_a_floor_of_instances_stands_while_there_are_jobs_and_only_then() -> None:
    floored = service(availability={"min_instances": 3})
    assert desired(decide(of(), queue(1), floored)) == 3
    assert desired(decide(of(node("i-1"), node("i-2"), node("i-3")), queue(), floored, idle={"i-1": 0, "i-2": 0})) == 1
    assert desired(decide(of(max_size=2), queue(1), floored)) == 2


def test_quotas_limit_what_is_started() -> None:
    limited = service(pool(vcpus=8, quota="g"), quotas={"g": 20})
    decided = decide(of(), queue(5), limited)
    assert desired(decided) == 2
    assert "training.short" in codes(decided)


def test_the_pool_where_a_job_costs_least_is_started() -> None:
    """Twice the price at three times the speed."""
    both = service(pool("l4"), pool("l40s", on_demand_usd_per_hour=1.6, throughput_rps=3))
    decided = decide({"l4": of(), "l40s": of(max_size=1)}, queue(2), both)
    assert {name: target.desired for name, target in decided.targets.items()} == {"l4": 1, "l40s": 1}


def test_a_pool_without_capacity_is_passed_over() -> None:
    both = service(pool("l4"), pool("l40s", on_demand_usd_per_hour=3))
    marked = State(at=NOW - 60, pools={"l4": PoolState(marks=(Mark("", NOW + 100, 1),))})
    decided = decide({"l4": of(), "l40s": of()}, queue(2), both, state=marked)
    assert {name: target.desired for name, target in decided.targets.items()} == {"l4": 0, "l40s": 2}


def test_a_boot_that_never_ends_neither_counts_nor_stays() -> None:
    stuck = of(booting("i-1", since=NOW - 1300), max_size=1)
    decided = decide(stuck, queue(1, oldest=700))
    assert decided.targets["l4"].take == ("i-1",)
    assert desired(decided) == 0
    roomy = of(booting("i-1", since=NOW - 1300))
    assert desired(decide(roomy, queue(1, oldest=700))) == 2
    longer = service(horizontal={"launch_timeout_seconds": 3000})
    assert desired(decide(roomy, queue(1, oldest=700), longer)) == 1


def test_orders_that_nobody_waits_for_any_more_are_dropped() -> None:
    decided = decide(of(node("i-1", 1), desired=4), queue())
    assert desired(decided) == 1
    assert "training.drop" in codes(decided)
    assert desired(decide(of(node("i-1", 1), desired=4), queue(2, oldest=10))) == 3


def test_a_node_that_takes_no_jobs_is_replaced() -> None:
    """A job waits for longer than allowed beside a free place: that place is not one."""
    seen = of(node("dead"))
    decided = decide(seen, queue(1, oldest=700), idle={"dead": NOW - 800})
    assert desired(decided) == 2
    fresh = decide(seen, queue(1, oldest=700), idle={"dead": NOW - 100})
    assert desired(fresh) == 1
    after = decide(of(node("dead"), booting("new")), queue(1, oldest=760), idle={"dead": NOW - 860})
    assert after.targets["l4"].take == ("dead",)


def test_spot_that_does_not_come_is_made_up_for() -> None:
    spot = service(pool(spot_percent=100, spot_usd_per_hour=0.3, lead_seconds=60))
    late = PoolState(marks=(Mark("", NOW + 100, 1, spot=True),), short=(Short(1, NOW - 2000),))
    seen = of(node("i-1", 1, spot=True), desired=3, on_demand_base=0)
    seen = replace(seen, capacity_errors=(CapacityError("", NOW - 30, spot=True),))
    decided = decide(seen, queue(2, oldest=700), spot, state=State(at=NOW - 60, pools={"l4": late}))
    base = decided.targets["l4"].on_demand_base
    assert base is not None
    assert base >= 1


def test_a_clock_set_back_takes_nobody_early() -> None:
    decided = decide(of(node("i-1")), queue(), idle={"i-1": NOW + 5000})
    assert desired(decided) == 1
    assert decided.memory.idle_nodes == {"i-1": NOW}


nodes = st.lists(
    st.tuples(
        st.sampled_from(Phase),
        st.none() | st.integers(0, 4),
        st.none() | st.floats(0, 3000),
        st.floats(0, 4000),
    ),
    max_size=8,
)
queues = st.builds(JobQueue, st.integers(0, 40), st.floats(0, 3000), st.none() | st.floats(1, 5000))


def made(drawn: Sequence[tuple[Phase, int | None, float | None, float]], prefix: str) -> tuple[Instance, ...]:
    return tuple(
        Instance(f"{prefix}{n}", "g6.xlarge", "a", phase, NOW - age, jobs=jobs, remaining_seconds=remaining)
        for n, (phase, jobs, remaining, age) in enumerate(drawn)
    )


@given(nodes, nodes, st.none() | queues, st.integers(1, 4), st.floats(0, 900), st.integers(0, 3), st.integers(0, 4))
def test_in_any_world_bounds_hold_and_no_busy_node_leaves(
    a: Any, b: Any, jobs: JobQueue | None, each: int, idle_seconds: float, ordered: int, least: int
) -> None:
    both = service(
        pool("l4", min_instances=least),
        pool("l40s"),
        training={"jobs_per_instance": each, "idle_seconds": idle_seconds},
    )
    seen = {"l4": of(*made(a, "a")), "l40s": of(*made(b, "b"))}
    seen = {name: replace(view, desired=min(10, view.desired + ordered)) for name, view in seen.items()}
    idle = {i.id: NOW - 500 for view in seen.values() for i in view.instances}
    decided = decide(seen, jobs, both, idle=idle)
    for name, target in decided.targets.items():
        instances = {i.id: i for i in seen[name].instances}
        assert 0 <= target.desired <= 10
        assert target.desired >= min(seen[name].desired, least if name == "l4" else 0)
        assert len(set(target.take)) == len(target.take)
        for taken in target.take:
            assert not instances[taken].jobs
            assert instances[taken].phase in {Phase.READY, Phase.STARTING}
            assert instances[taken].jobs == 0 or instances[taken].phase is Phase.STARTING
        assert not set(target.take) & set(target.protect)
        assert target.desired + len(target.take) <= max(seen[name].desired, target.desired)
        if jobs is None:
            assert target.desired == max(seen[name].desired, least if name == "l4" else 0)


@given(nodes, queues, st.integers(1, 4))
def test_more_waiting_jobs_never_give_fewer_instances(drawn: Any, jobs: JobQueue, each: int) -> None:
    shared = service(training={"jobs_per_instance": each})
    seen = of(*made(drawn, "a"))
    idle = {i.id: NOW - 500 for i in seen.instances}
    fewer = desired(decide(seen, replace(jobs, waiting=jobs.waiting), shared, idle=idle))
    more = desired(decide(seen, replace(jobs, waiting=jobs.waiting + 5), shared, idle=idle))
    assert more >= fewer


@pytest.mark.parametrize("each", [1, 3])
def test_a_queue_is_worked_off_and_then_nothing_is_left(each: int) -> None:
    """Twelve jobs of 20 minutes, boots of 3: all are served, nobody is interrupted, and the service ends at zero."""
    tune = service(training={"jobs_per_instance": each})
    running: dict[str, list[float]] = {}
    born: dict[str, float] = {}
    waiting, oldest, state, seen_most = 12, NOW, State(at=NOW), 0
    for minute in range(90):
        now = NOW + 60 * minute
        for name, ends in running.items():
            ends[:] = [end for end in ends if end > now]
            while waiting and len(ends) < each and now - born[name] >= 180:
                ends.append(now + 1200)
                waiting -= 1
        up = tuple(
            node(name, len(ends), remaining_seconds=max(ends, default=now) - now)
            if now - born[name] >= 180
            else booting(name, since=born[name])
            for name, ends in running.items()
        )
        jobs = queue(waiting, now - oldest if waiting else 0, 1200)
        decided = decide_training(Context(tune, Observation({"l4": of(*up)}, jobs=jobs), state, now))
        state, target = replace(state, training=decided.memory), decided.targets["l4"]
        for taken in target.take:
            assert not running.pop(taken)
        for n in range(target.desired - len(running)):
            running[f"i-{minute}-{n}"], born[f"i-{minute}-{n}"] = [], now
        seen_most = max(seen_most, len(running))
    assert waiting == 0
    assert not running
    assert seen_most == (10 if each == 1 else 4)


def told(decided: TrainingDecision) -> dict[str, tuple[Step, Mapping[str, float]]]:
    """What each reason says, by its code."""
    assert all(isinstance(reason.sentence, str) for reason in decided.reasons)
    return {reason.code: (reason.step, reason.numbers) for reason in decided.reasons}


def sentences(decided: TrainingDecision) -> str:
    return "\n".join(reason.sentence for reason in decided.reasons)


def late(count: int) -> State:
    """A state in which the l4's group cannot launch, and so many of its orders wait."""
    marks = (Mark("", NOW + 200, 1),)
    return State(at=NOW - 60, pools={"l4": PoolState(short=(Short(count, NOW - 60),), marks=marks)})


def test_places_are_counted_by_where_they_come_from() -> None:
    """Two jobs an instance. Free: one of `half`, two of `idle`; soon: the two of `done`; coming: one boot in time of
    each pool, and one order of the l40s, since the l4's group cannot launch."""
    shared = service(pool("l4"), pool("l40s"), training={"jobs_per_instance": 2})
    l4 = of(
        node("half", 1, remaining_seconds=301.0),
        node("idle"),
        node("done", 2, remaining_seconds=300.0),
        node("unknown", None),
        booting("boots"),
        booting("stuck", since=NOW - 1300),
        desired=9,
    )
    decided = decide({"l4": l4, "l40s": of(booting("more"), desired=2)}, queue(3, oldest=20), shared, state=late(2))
    assert told(decided)["training.queue"] == (
        Step.DEMAND,
        {"waiting": 3.0, "oldest_seconds": 20.0, "free": 3.0, "soon": 2.0, "coming": 6.0},
    )
    assert "3 jobs wait, the oldest for 20 s; 3 places are free, 2 will be soon, 6 come" in sentences(decided)


def test_a_node_that_drains_is_not_protected_whatever_it_runs() -> None:
    decided = decide(of(node("busy", 1), node("leaves", 1, Phase.DRAINING)), queue())
    assert decided.targets["l4"].protect == ("busy",)
    assert told(decided)["training.busy"] == (Step.GUARD, {"busy": 1.0})


def test_a_place_is_mistrusted_only_when_a_job_waited_too_long_beside_it() -> None:
    """Idle for longer than a job may wait is no fault as long as no job waited that long."""
    for oldest, idle_for, wanted in ((10, 800, 1), (599, 800, 1), (600, 599, 1), (600, 600, 2)):
        decided = decide(of(node("i-1")), queue(1, oldest=oldest), idle={"i-1": NOW - idle_for})
        assert desired(decided) == wanted
        assert decided.targets["l4"].take == ()


@pytest.mark.parametrize(
    ("seen", "jobs", "started", "wait"),
    [
        # places free themselves (of those there are, not of those that boot) once every mean job, for 600 s
        (of(node("a", 1), node("b", 1), booting("c"), booting("d")), queue(6, 0, 1200), 3, "3.0"),
        # the place that is free soon is taken already
        (of(node("a", 1, remaining_seconds=100.0)), queue(3, 0, 600), 2, "2.0"),
        (of(node("a", 1)), queue(2, 599, 1.0), 1, "1.0"),
        (of(node("a", 1)), queue(1, 0, 1200), 1, "0.5"),
    ],
)
def test_as_many_start_as_jobs_would_wait_too_long(
    seen: PoolObservation, jobs: JobQueue, started: int, wait: str
) -> None:
    decided = decide(seen, jobs)
    assert desired(decided) == seen.desired + started
    assert told(decided)["training.start"] == (Step.MIX, {"needed": float(started), "started": float(started)})
    assert f"Starts {started} l4: {wait} jobs would wait longer than 600 s." in sentences(decided)


def test_what_is_started_without_a_job_is_the_minimum() -> None:
    floored = service(pool(min_instances=2))
    assert "Starts 2 l4: the minimum is not there." in sentences(decide(of(), queue(), floored))
    busy = of(node("a", 1), min_size=2)
    assert "Starts 1 l4: the minimum is not there." in sentences(decide(busy, queue(1, 0), floored))


def test_what_is_started_in_several_pools_is_named_for_each_that_grows() -> None:
    pools = {"l4": of(node("a", 1), max_size=2), "l40s": of(max_size=1), "h100": of()}
    svc = service(pool("l4"), pool("l40s", on_demand_usd_per_hour=1.0), pool("h100", on_demand_usd_per_hour=9.0))
    decided = decide(pools, queue(2, oldest=700), svc)
    assert "Starts 1 l4 + 1 l40s: the oldest" in sentences(decided)


def test_what_cannot_be_started_is_said_with_its_numbers() -> None:
    decided = decide(of(node("a", 1), max_size=2), queue(4, oldest=700))
    assert told(decided)["training.short"] == (Step.MIX, {"needed": 4.0, "started": 1.0})
    assert "4 instances are needed; bounds, quotas and capacity errors allow 1." in sentences(decided)


def test_a_pool_without_capacity_keeps_what_it_has_and_starts_no_more() -> None:
    marked = State(at=NOW - 60, pools={"l4": PoolState(marks=(Mark("", NOW + 100, 1),))})
    for seen in (of(node("a", 1), node("b", 1)), of(node("a", 1), booting("stuck", since=NOW - 1300))):
        decided = decide(seen, queue(2, oldest=700), state=marked)
        assert "training.start" not in codes(decided)
        assert told(decided)["training.short"][1]["started"] == 0


def test_a_pool_of_spot_alone_starts_on_demand_when_spot_is_not_to_be_had() -> None:
    both = service(pool("l4", spot_percent=100, spot_usd_per_hour=0.3), pool("l40s", on_demand_usd_per_hour=3))
    marked = State(at=NOW - 60, pools={"l4": PoolState(marks=(Mark("", NOW + 100, 1, spot=True),))})
    decided = decide({"l4": of(on_demand_base=0), "l40s": of()}, queue(2), both, state=marked)
    assert {name: target.desired for name, target in decided.targets.items()} == {"l4": 2, "l40s": 0}
    assert decided.targets["l4"].on_demand_base == 2


def test_what_a_job_costs_goes_by_what_a_pool_was_seen_to_carry() -> None:
    both = service(pool("l4"), pool("l40s", on_demand_usd_per_hour=1.2))
    slower = State(at=NOW - 60, pools={"l4": PoolState(correction=0.5)})
    decided = decide({"l4": of(), "l40s": of()}, queue(2), both, state=slower)
    assert {name: target.desired for name, target in decided.targets.items()} == {"l4": 0, "l40s": 2}


@pytest.mark.parametrize(
    ("seen", "jobs", "changes", "wanted"),
    [
        # one of three orders is needed: two jobs wait, and one place is free soon
        (of(node("a", 1, remaining_seconds=100.0), desired=4), queue(2, 0), {}, 2),
        (of(node("a"), desired=4), queue(2, 0), {}, 2),
        # boots come as well, but only orders can be taken back
        (of(booting("a"), booting("b"), desired=3), queue(), {}, 2),
        # the floor stands while there are jobs
        (of(node("a", 1), desired=4), queue(), {"availability": {"min_instances": 3}}, 3),
        (of(node("a", 1), desired=4), queue(), {"availability": {"min_instances": 4}}, 4),
        (of(node("a", 1), desired=4), queue(), {"horizontal": {"max_step_in": 1}}, 3),
        # and so does the group's minimum
        (of(node("a", 1), desired=4, min_size=3), queue(), {}, 3),
        (of(node("a", 1), desired=4, min_size=4), queue(), {}, 4),
    ],
)
def test_orders_are_taken_back_only_as_far_as_nobody_needs_them(
    seen: PoolObservation, jobs: JobQueue, changes: Any, wanted: int
) -> None:
    decided = decide(seen, jobs, service(**changes))
    assert desired(decided) == wanted
    assert decided.targets["l4"].take == ()
    dropped = seen.desired - wanted
    assert told(decided).get("training.drop") == ((Step.GUARD, {"dropped": float(dropped)}) if dropped else None)


def test_orders_that_never_came_are_dropped_beside_those_that_are_not_needed_and_no_boot_with_them() -> None:
    decided = decide(of(booting("a"), booting("b"), desired=4), queue(), state=late(1))
    assert desired(decided) == 2
    floored = service(availability={"min_instances": 3})
    # orders that cannot be filled do not help to the floor of three
    assert desired(decide(of(node("a", 1), desired=5), queue(), floored, state=late(1))) == 1


def test_pools_share_what_is_not_needed() -> None:
    both = service(pool("l4"), pool("l40s"))
    ordered = {"l4": of(node("a", 1), desired=3), "l40s": of(desired=2)}
    # two of four orders are for the jobs that wait
    targets = decide(ordered, queue(2, 0), both).targets
    assert (targets["l4"].desired, targets["l40s"].desired) == (1, 2)
    # three of five stay as the floor
    floored = service(pool("l4"), pool("l40s"), availability={"min_instances": 3})
    targets = decide(ordered, queue(), floored).targets
    assert (targets["l4"].desired, targets["l40s"].desired) == (1, 2)


def test_a_stuck_boot_stays_where_the_minimum_would_not() -> None:
    stuck = of(booting("stuck", since=NOW - 1300), max_size=1)
    assert decide(stuck, queue(), service(pool(min_instances=1))).targets["l4"].take == ()


def idles(count: int, stuck: int = 0, **changes: Any) -> PoolObservation:
    """So many long idle nodes and boots that never end."""
    boots = (booting(f"stuck-{n}", since=NOW - 1300) for n in range(stuck))
    return of(*boots, *(node(f"idle-{n}") for n in range(count)), **changes)


def taken(seen: PoolObservation, jobs: JobQueue, svc: Service | None = None) -> tuple[int, int]:
    """How many stuck and how many idle ones leave, with all idle for long."""
    long_ago = {f"idle-{n}": LONG_AGO for n in range(9)}
    decided = decide(seen, jobs, svc, idle=long_ago)
    take = decided.targets["l4"].take
    reasons = told(decided)
    stay = sum(1 for i in seen.instances if i.id in long_ago and i.id not in take)
    assert reasons.get("training.idle") == ((Step.GUARD, {"idle": float(stay)}) if stay else None)
    assert reasons.get("training.take") == ((Step.GUARD, {"taken": float(len(take))}) if take else None)
    return sum(1 for name in take if name.startswith("stuck")), sum(1 for name in take if name.startswith("idle"))


def test_what_leaves_first_counts_towards_the_minimum_and_the_step() -> None:
    assert taken(idles(2, stuck=2), queue(), service(pool(min_instances=1))) == (2, 1)
    assert taken(idles(3, stuck=2), queue(), service(horizontal={"max_step_in": 4})) == (2, 2)
    assert taken(idles(3), queue(), service(horizontal={"max_step_in": 2})) == (0, 2)
    assert taken(idles(3), queue(), service(pool(min_instances=1))) == (0, 2)
    # an order that is dropped is a step, too
    assert taken(idles(2, desired=3), queue(), service(horizontal={"max_step_in": 2})) == (0, 1)
    assert taken(idles(2, desired=3), queue(), service(pool(min_instances=1))) == (0, 1)


def test_as_many_idle_ones_stay_as_the_waiting_jobs_fill_and_as_the_floor_asks_for() -> None:
    shared = service(training={"jobs_per_instance": 4}, availability={"min_instances": 0})
    assert taken(idles(3), queue(4, 0), shared) == (0, 2)
    assert taken(idles(3), queue(5, 0), shared) == (0, 1)
    nobody = service(availability={"min_instances": 0})
    assert taken(idles(3), queue(1, 0), nobody) == (0, 2)
    busy = of(node("busy", 1), *idles(3).instances)
    assert taken(busy, queue(), service(availability={"min_instances": 2})) == (0, 2)
    assert taken(busy, queue(), service(availability={"min_instances": 4})) == (0, 0)


def test_over_the_maximum_an_idle_node_leaves_before_its_time() -> None:
    fresh = {"idle-0": NOW, "idle-1": NOW}
    assert decide(idles(2, max_size=1), queue(), idle=fresh).targets["l4"].take == ("idle-0",)
    assert decide(idles(2, max_size=2), queue(), idle=fresh).targets["l4"].take == ()


def test_an_idle_node_that_stays_keeps_none_of_another_pool() -> None:
    """In the first pool it is not over its maximum, or is the minimum; in the second another has to go all the same."""
    seen = {"l4": of(node("a")), "l40s": of(node("b"), max_size=0)}
    waits = decide(seen, queue(), service(pool("l4"), pool("l40s")), idle={"a": NOW - 200, "b": NOW - 100})
    least = decide(seen, queue(), service(pool("l4", min_instances=1), pool("l40s")), idle={"a": 0, "b": 0})
    for decided in (waits, least):
        assert (decided.targets["l4"].take, decided.targets["l40s"].take) == ((), ("b",))
        assert told(decided)["training.idle"][1] == {"idle": 1.0}


def test_a_node_that_takes_no_jobs_stays_until_its_replacement_is_ordered() -> None:
    both = service(pool("l4"), pool("l40s", on_demand_usd_per_hour=0.1), availability={"min_instances": 0})
    decided = decide({"l4": of(node("dead")), "l40s": of()}, queue(1, oldest=700), both, idle={"dead": NOW - 800})
    assert decided.targets["l40s"].desired == 1
    assert decided.targets["l4"].take == ()


def test_the_on_demand_base_is_written_only_where_there_is_spot_and_only_when_it_changes() -> None:
    assert decide(of(node("a", 1), weight=7), queue()).targets["l4"].on_demand_base is None
    little = service(pool(spot_percent=1, spot_usd_per_hour=0.3, on_demand_base=3))
    for standing, written in ((3, None), (0, 3)):
        target = decide(of(node("a", 1), on_demand_base=standing, weight=7), queue(), little).targets["l4"]
        assert (target.on_demand_base, target.weight) == (written, 7)


def test_spot_that_boots_is_given_the_lead_time_of_the_pools_own_launches() -> None:
    spot = service(pool(spot_percent=100, spot_usd_per_hour=0.3))
    boots = of(booting("a", since=NOW - 900, spot=True), booting("b", since=NOW - 900, spot=True), on_demand_base=0)
    marks = (Mark("", NOW + 60, 1, spot=True),)
    for leads, base in (((800.0,) * 3, None), ((), 2)):
        state = State(at=NOW - 60, pools={"l4": PoolState(leads=leads, marks=marks)})
        assert decide(boots, queue(2, 0), spot, state=state).targets["l4"].on_demand_base == base


def test_an_order_that_never_came_was_never_one_of_those_that_the_floor_counts() -> None:
    """One busy and two idle stand, and an order is given up: with a floor of two, one idle one may go."""
    seen = of(node("busy", 1), *idles(2).instances, desired=4)
    floored = service(availability={"min_instances": 2})
    decided = decide(seen, queue(), floored, idle={"idle-0": 0, "idle-1": 0}, state=late(1))
    assert decided.targets["l4"].take == ("idle-0",)
    assert desired(decided) == 2


def test_spot_is_made_up_for_while_the_queue_is_not_seen_and_while_more_is_started() -> None:
    spot = service(pool(spot_percent=100, spot_usd_per_hour=0.3))
    boots = of(booting("a", since=NOW - 900, spot=True), on_demand_base=0)
    held = decide(boots, None, spot)
    assert held.held
    assert told(held) == {"training.no_queue": (Step.DEMAND, {})}
    assert held.targets["l4"].on_demand_base == 1
    grown = decide(boots, queue(3, oldest=700), spot)
    assert desired(grown) == 3
    assert grown.targets["l4"].on_demand_base == 3, "new orders must not wait for spot either"
