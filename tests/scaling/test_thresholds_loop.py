"""Node signals in a closed loop, in virtual minutes: what they order comes, and moves them or does not."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.state import State
from tests.scaling.builders import pool, service

START = 1_767_787_200.0
BOOT_SECONDS = 300.0
Signal = Callable[[float, float], float]
"""Value of the signal, of the work in rps and the instances that share it."""


class Loop:
    """A pool of l4, its work and one signal. A reading covers the minute that ended `lag` minutes ago."""

    def __init__(self, ready: int, name: str, limit: float | None, signal: Signal, **world: Any) -> None:
        self.name, self.signal = name, signal
        self.rps: float = world.pop("rps", 4.0)
        self.lag: int = world.pop("lag", 1)
        self.noise: float = world.pop("noise", 0.0)
        self.step: float = world.pop("step", 60.0)
        self.random = random.Random(world.pop("seed", 0))
        self.waiting: Callable[[int], float] = world.pop("waiting", lambda ready: 0.0)
        policy = {"thresholds": {"kv_cache_percent": None, name: limit}} | world
        self.service = service(pool(max_instances=60, zones=("a",)), **policy)
        self.now, self.state, self.desired = START, State(), ready
        self.codes: tuple[str, ...] = ()
        self.instances = [self._new(Phase.READY, START - 86400) for _ in range(ready)]
        self.history: list[float] = []
        self.counts: list[int] = []
        self.all_codes: set[str] = set()

    def _new(self, phase: Phase, since: float) -> Instance:
        return Instance(f"i-{self.random.random()}", "g6.xlarge", "a", phase, since)

    @property
    def ready(self) -> int:
        return sum(i.phase is Phase.READY for i in self.instances)

    @property
    def value(self) -> float:
        """What the signal is now, noise apart."""
        return self.signal(self.rps, self.ready)

    def run(self, minutes: float) -> Loop:
        for _ in range(int(minutes * 60 / self.step)):
            self._minute()
        return self

    def _minute(self) -> None:
        self.now += self.step
        self.instances = [
            replace(i, phase=Phase.READY) if i.phase is Phase.STARTING and self.now - i.since >= BOOT_SECONDS else i
            for i in self.instances
        ]
        self.history.append(self.value * math.exp(self.random.gauss(0, self.noise)))
        lag = max(1, round(self.lag * 60 / self.step)) if self.lag else 0
        at = self.now - 60.0 * self.lag
        seen = Reading(self.history[max(0, len(self.history) - 1 - lag)], at)
        busy = Reading(self.rps * 10, self.now)
        view = PoolObservation(
            desired=self.desired, min_size=1, max_size=60, weight=999, instances=tuple(self.instances), load=busy,
            running=busy, waiting=Reading(self.waiting(self.ready), self.now), rate_rps=Reading(self.rps, self.now),
        )  # fmt: skip
        named: dict[str, Any] = {self.name: seen}
        view = replace(view, **named)
        observation = Observation(pools={"l4": view}, arrivals_rps=Reading(self.rps, self.now))
        decision = decide(self.service, observation, self.state, self.now)
        self.state, self.codes = decision.state, decision.codes
        self.all_codes |= set(decision.codes)
        target = decision.targets["l4"]
        self.instances = [i for i in self.instances if i.id not in target.take]
        while len(self.instances) < target.desired:
            self.instances.append(self._new(Phase.STARTING, self.now))
        self.desired = target.desired
        self.counts.append(target.desired)

    def changes(self, minutes: float) -> int:
        """Changes of the count within the last minutes."""
        last = self.counts[-int(minutes * 60 / self.step) :]
        return sum(a != b for a, b in itertools.pairwise(last))


def ratio(at: int, value: float) -> Signal:
    """In proportion to the work of an instance: `value` at 4 rps and that many instances."""
    return lambda rps, n: value * rps / 4 * at / n


def offset(idle: float, at: int, value: float) -> Signal:
    """With a part that work does not move."""
    return lambda rps, n: idle + (value - idle) * rps / 4 * at / n


PERCENT = ["cpu_percent", "memory_percent", "gpu_percent", "kv_cache_percent"]


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize(("ready", "settled"), [(4, 5), (10, 13)])
def test_a_quarter_too_much_orders_a_quarter_more_once_and_it_stays(ready: int, settled: int, lag: int):
    """10 at GPU 100 % of 80 need 12.5."""
    loop = Loop(ready, "gpu_percent", 80, ratio(ready, 100), lag=lag).run(90)
    assert set(loop.counts) == {ready, settled}
    assert loop.changes(90) == 1
    assert loop.value <= 80


@pytest.mark.parametrize("name", PERCENT)
def test_each_signal_settles(name: str):
    assert Loop(10, name, 80, ratio(10, 100)).run(90).counts[-1] == 13


def test_a_saturated_signal_asks_again_until_it_can_be_seen_to_fall():
    """True need 160 % at ten: it reads 100 % until there are 16."""
    loop = Loop(10, "cpu_percent", 80, lambda rps, n: min(100.0, 1600 / n)).run(180)
    assert loop.counts[-1] == max(loop.counts) == 20


def test_a_saturated_signal_is_believed_while_requests_wait():
    """24 are needed for the queue to end, 30 for the cache: at 16, twice as many, it is as full as at eight."""
    need = {"waiting": lambda ready: 400.0 if ready < 24 else 0.0}
    loop = Loop(8, "kv_cache_percent", 80, lambda rps, n: min(100.0, 2400 / n), **need).run(180)
    assert loop.counts[-1] == max(loop.counts) == 30
    without = Loop(8, "kv_cache_percent", 80, lambda rps, n: 100.0).run(180)
    assert without.counts[-1] < 8


def test_a_signal_that_gave_up_is_believed_again_when_a_queue_comes():
    queue = {"now": 0.0}
    loop = Loop(8, "gpu_percent", 80, lambda rps, n: 100.0, waiting=lambda ready: queue["now"]).run(60)
    assert "sizing.threshold_unmoved" in loop.codes
    before = loop.counts[-1]
    queue["now"] = 400.0
    assert loop.run(10).counts[-1] > before


@pytest.mark.parametrize(
    ("idle", "limit", "settled"), [(20.0, 80.0, 5), (70.0, 80.0, 9), (50.0, 70.0, 9)], ids=["cpu", "memory", "half"]
)
def test_a_signal_with_an_idle_part_comes_within_the_tolerance_and_stays(idle: float, limit: float, settled: int):
    loop = Loop(4, "memory_percent", limit, offset(idle, 4, 100)).run(240)
    assert loop.counts[-1] == settled
    assert loop.changes(180) == 0
    assert loop.value <= limit * 1.05


def test_a_signal_that_rises_faster_than_work_does_not_swing():
    loop = Loop(10, "kv_cache_percent", 80, lambda rps, n: 100 * (10 / n) ** 3).run(300)
    assert set(loop.counts) == {10, 13}
    assert loop.changes(300) == 1


def test_a_signal_that_instances_do_not_move_asks_once_says_so_and_lets_go():
    loop = Loop(8, "network_latency_seconds", 0.05, lambda rps, n: 0.2).run(25)
    assert max(loop.counts) == 16
    assert "sizing.threshold_unmoved" in loop.codes
    asked_by_load = Loop(8, "network_latency_seconds", 0.5, lambda rps, n: 0.0).run(25).counts[-1]
    assert loop.counts[-1] == asked_by_load
    loop.run(95)
    assert set(loop.counts[-95:]) == {asked_by_load}


def test_it_tries_again_a_day_later():
    loop = Loop(8, "network_latency_seconds", 0.05, lambda rps, n: 0.2).run(25 * 60)
    tries = sum(b > a for a, b in itertools.pairwise(loop.counts))
    assert tries == 2
    assert loop.counts[-1] < 8


def test_a_signal_that_gave_up_asks_again_once_it_has_kept_its_limit():
    latency, cured = {"now": 0.2}, {"by": 0.0}
    loop = Loop(4, "network_latency_seconds", 0.05, lambda rps, n: latency["now"] * (4 / n) ** cured["by"]).run(30)
    assert "sizing.threshold_unmoved" in loop.codes
    latency["now"] = 0.02
    loop.run(40)
    latency["now"], cured["by"] = 0.08, 1.0
    assert max(loop.run(30).counts[-30:]) >= 6


def test_no_instance_leaves_whose_work_would_bring_the_signal_back():
    """13 at 77 % of 80 do the work of 12.5; the load alone would be served by fewer than 6."""
    loop = Loop(13, "gpu_percent", 80, ratio(10, 100)).run(240)
    assert set(loop.counts) == {13}
    assert "sizing.threshold_holds" in loop.codes


def test_a_signal_that_load_does_not_move_holds_no_fleet_for_ever():
    """Memory at 75 of 80 whatever happens: at night the fleet goes to what the load asks for."""
    busy = Loop(6, "memory_percent", 80, lambda rps, n: 75.0, rps=8.0).run(60)
    busy.rps = 1.5
    quiet = Loop(6, "memory_percent", None, lambda rps, n: 75.0, rps=8.0).run(60)
    quiet.rps = 1.5
    assert busy.run(60).counts[-1] == quiet.run(60).counts[-1] < 4


def test_growing_work_is_followed_by_the_signal():
    loop = Loop(10, "gpu_percent", 80, ratio(10, 80)).run(30)
    loop.rps = 8.0
    assert loop.run(90).counts[-1] == 20


@pytest.mark.parametrize("step", [10.0, 30.0, 60.0, 120.0])
def test_the_cadence_does_not_change_where_it_settles(step: float):
    assert Loop(10, "gpu_percent", 80, ratio(10, 100), step=step).run(60).counts[-1] == 13


@settings(max_examples=3, deadline=None)
@given(
    st.sampled_from(["ratio", "offset", "constant", "at the limit"]),
    st.floats(0.0, 0.02),
    st.integers(4, 12),
    st.integers(0, 10**6),
)
def test_constant_noisy_work_neither_swings_nor_runs_away(kind: str, noise: float, ready: int, seed: int):
    """At most one change an hour after the first two, and never far more than what cures the signal."""
    signal = {
        "ratio": ratio(ready, 100),
        "offset": offset(40, ready, 95),
        "constant": lambda rps, n: 120.0,
        "at the limit": lambda rps, n: 80.0,
    }[kind]
    loop = Loop(ready, "cpu_percent", 80, signal, noise=noise, seed=seed).run(5 * 60)
    assert loop.changes(4 * 60) <= 4
    assert max(loop.counts) <= 2.5 * ready
