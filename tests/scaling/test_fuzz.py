"""The independent fuzz (`bench/fuzz_decide.py`), in short: some random stories, and what long runs of it have found."""

from __future__ import annotations

from statistics import fmean
from typing import Any

import pytest

from bench.fuzz_decide import CHECKS, Run, check_cadence, check_jump, check_steady, described, play, story_of
from bench.fuzz_world import Event, Story, World
from gpu_fleet.scaling.state import State
from tests.scaling.builders import pool, service

RANDOM = (
    [f"steady-{n}" for n in (0, 1, 2, 3, 4, 5)]  # constant or noisy load
    + [f"chaos-{n}" for n in (1, 2, 4, 7, 8, 9)]  # lost and wrong data, hands in the console, deaths, dry zones
)


def holds(run: Run) -> None:
    """Nothing is wrong; a policy that asks for no window may follow each minute."""
    wrong = [violation for violation in run.violations if violation.kind != "oscillates without a window"]
    assert not wrong, "\n".join([*(f"{violation}" for violation in wrong[:5]), described(run.story)])


@pytest.mark.parametrize("name", RANDOM)
def test_random_stories_hold(name: str) -> None:
    holds(CHECKS[name.rsplit("-", 1)[0]](story_of(name)))


L4 = {"min_instances": 0, "max_instances": 60, "slowdown": 2.0}
BIG = L4 | {"throughput_rps": 5.0, "capacity": 50.0, "on_demand_usd_per_hour": 1.9}


def small(kind: str, levels: tuple[tuple[int, float], ...], start: tuple[int, ...] = (4,), **changes: Any) -> Story:
    """A story of one pool, or of two where two start: chat on GPUs that boot in four minutes, Poisson arrivals."""
    pools = [pool("l4", **L4), pool("big", **BIG)][: len(start)]
    svc = service(*pools, **{"forecast": {}, **changes.pop("policy", {})})
    return Story(f"{kind}-1", 1, svc, levels, start=start, **changes)


@pytest.mark.parametrize("mode", ["slo", "threshold"])
def test_constant_load_leaves_a_fleet_as_it_is(mode: str) -> None:
    holds(check_steady(small("steady", ((240, 5.0),), policy={"sizing": {"mode": mode}})))


def test_bursty_arrivals_change_no_count_more_than_once_an_hour() -> None:
    holds(check_steady(small("steady", ((240, 5.0),), dispersion=4.0)))


@pytest.mark.parametrize(
    "limit",
    [{"gpu_percent": 80}, {"cpu_percent": 30}, {"network_latency_seconds": 0.01}],
    ids=lambda limit: next(iter(limit)),
)
def test_a_signal_over_its_limit_buys_no_more_than_what_cures_it(limit: dict[str, float]) -> None:
    """The world's CPU stays at 35 % and its latency at 20 ms whatever stands; more instances cure neither."""
    holds(check_steady(small("steady", ((240, 5.0),), policy={"thresholds": limit, "sizing": {"mode": "threshold"}})))


@pytest.mark.parametrize("answers", [2, 8])
def test_equal_work_gets_an_equal_fleet_however_many_answers_a_request_asks_for(answers: int) -> None:
    """5 answers a second; one request can ask for several."""
    run = check_steady(small("steady", ((240, 5.0 / answers),), answers=answers))
    holds(run)
    assert run.looks[-1].desired["l4"] <= 6


def test_a_move_between_pools_is_not_undone() -> None:
    holds(check_steady(small("steady", ((240, 8.0),), start=(3, 2))))


def test_a_move_that_takes_more_orders_than_a_run_may_give_is_not_undone() -> None:
    """Four pools, and no more than two instances of each in a run."""
    holds(check_steady(story_of("steady-4900080")))


@pytest.mark.parametrize(
    "levels",
    [
        ((60, 3.0), (180, 30.0)),
        ((60, 30.0), (180, 3.0)),
    ],
    ids=["up", "down"],
)
def test_after_a_jump_the_fleet_is_that_of_a_service_that_was_always_there(
    levels: tuple[tuple[int, float], ...],
) -> None:
    holds(check_jump(small("jump", levels)))


def test_the_same_world_decided_at_another_cadence_ends_at_the_same_size() -> None:
    holds(check_cadence(small("cadence", ((60, 2.0), (40, 2.0)), start=(8,))))


def test_the_count_of_a_group_that_launches_nothing_does_not_climb() -> None:
    """Somebody suspended `Launch`; the load goes from 4 to 20 rps, for which seven of the big ones suffice."""
    shut = Event(20, "shut", 100, "big")
    run = play(small("chaos", ((30, 4.0), (110, 20.0)), start=(3, 2), events=(shut,)))
    assert max(look.desired["big"] for look in run.looks) <= 14


def test_the_world_keeps_littles_law() -> None:
    """In flight = rate * time in service, at the share that the bent curve gives: 5 rps on 4 instances of 2 rps.

    Each does y = 0.625 of its throughput, so x = y / (s - (s-1)*y) = 0.4545 of its C = 20: 36.4 in flight in all.
    """
    story = small("steady", ((180, 5.0),))
    world = World(story)
    world.advance(600)
    loads = []
    for _ in range(160):
        world.advance(60)
        load = world.observe(State()).pools["l4"].load
        assert load is not None
        loads.append(load.value)
    assert fmean(loads) == pytest.approx(36.4, rel=0.05)
