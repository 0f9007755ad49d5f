"""Runs worked by hand, and properties of every run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling.policy import Slo
from gpu_fleet.scaling.queue_limit import QueueLimit
from gpu_fleet.simulator import kernel
from gpu_fleet.simulator.simulation import (
    Engine,
    PoolChoice,
    RequestOutcome,
    Simulation,
    SimulationOptions,
    TargetChoice,
)
from gpu_fleet.simulator.sketch import Sketch

ENGINE = Engine(
    prefill_base_seconds=0.0,
    prefill_seconds_per_token=0.001,
    decode_base_seconds=0.010,
    decode_seconds_per_sequence=0.005,
    kv_cache_tokens=10_000,
    max_sequences=4,
)


KEPT = SimulationOptions(keep_requests=True)


def one_instance(engine: Engine = ENGINE, slo: Slo | None = None, output_reserved: float = 0.5) -> Simulation:
    simulation = Simulation([engine], slo=slo, options=replace(KEPT, output_reserved=output_reserved))
    simulation.join(0)
    return simulation


def test_two_sequences_share_the_steps_as_worked_by_hand() -> None:
    # The module's example, with prompts that take no time: 101 tokens at 0, and 101 more after 50 steps of 15 ms.
    simulation = one_instance(Engine(0.0, 0.0, 0.010, 0.005, 10_000, 4))
    simulation.run(100.0, [0.0, 0.75], [1, 1], [101, 101])
    log = simulation.requests()
    # 50 steps alone (0.75 s), 50 steps of 20 ms together (1.0 s): the first ends at 1.75; 50 alone: the second at 2.5.
    assert log.finished_at.tolist() == pytest.approx([1.75, 2.5])
    assert log.first_token_at.tolist() == pytest.approx([0.0, 0.75])


def test_decoding_pauses_during_a_prefill() -> None:
    simulation = one_instance()
    # 100 tokens in: 0.1 s. The first decodes from 0.1 on; the second's 500 tokens stop it from 0.4 to 0.9.
    simulation.run(100.0, [0.0, 0.4], [100, 500], [101, 2])
    log = simulation.requests()
    assert log.first_token_at.tolist() == pytest.approx([0.1, 0.9])
    # The second takes one step of 20 ms; the first has 20 steps by 0.4, 1 by 0.92, and 79 of 15 ms to go.
    assert log.finished_at.tolist() == pytest.approx([0.92 + 79 * 0.015, 0.92])


def test_an_answer_of_one_token_ends_with_its_prompt() -> None:
    simulation = one_instance()
    simulation.run(10.0, [1.0], [300], [1])
    assert simulation.requests().finished_at.tolist() == pytest.approx([1.3])


def test_the_first_waiting_request_is_not_overtaken_by_one_that_would_fit() -> None:
    engine = Engine(0.0, 0.0, 0.01, 0.0, 1000, 4)
    simulation = one_instance(engine, output_reserved=0.0)
    # 700 of 1000 tokens are held for 1 s; 600 more do not fit, and the 100 behind them wait with them.
    simulation.run(10.0, [0.0, 0.1, 0.2], [700, 600, 100], [101, 11, 11])
    assert simulation.requests().first_token_at.tolist() == pytest.approx([0.0, 1.0, 1.0])


def test_admission_reserves_memory_for_a_share_of_the_answer() -> None:
    engine = Engine(0.0, 0.0, 0.01, 0.0, 1000, 4)
    for reserved, second in ((0.5, 0.1), (1.0, 4.99)):
        simulation = one_instance(engine, output_reserved=reserved)
        simulation.run(100.0, [0.0, 0.1], [100, 100], [500, 500])
        assert simulation.requests().first_token_at[1] == pytest.approx(second)


def test_a_request_too_long_for_the_memory_is_rejected() -> None:
    simulation = one_instance()
    simulation.run(10.0, [0.0], [20_000], [10])
    assert simulation.requests().outcome.tolist() == [RequestOutcome.TOO_LONG]
    assert simulation.window().total.slo_attainment == 0.0


def test_a_full_queue_refuses_and_an_idle_instance_takes_any_prompt() -> None:
    """Each prompt is read in 0.1 s or, of 600 tokens, 0.6 s; the fourth comes to 600 tokens without a first token."""
    engine = Engine(0.0, 0.001, 0.01, 0.0, 10_000, 4, QueueLimit(prompt_tokens=400))
    simulation = one_instance(engine)
    simulation.run(10.0, [0.0, 1.0, 1.05, 1.1, 2.0], [100, 100, 600, 100, 100], [10] * 5)
    assert simulation.requests().outcome.tolist() == [
        RequestOutcome.COMPLETED,
        RequestOutcome.COMPLETED,
        RequestOutcome.COMPLETED,
        RequestOutcome.QUEUE_FULL,
        RequestOutcome.COMPLETED,
    ]
    total = simulation.window().total
    assert (total.routed, total.rejected_queue_full, total.ended) == (5, 1, 5)
    assert total.ttft.count == 4


def outcomes_under(limit: QueueLimit, at: list[float], output_tokens: int = 10) -> list[bool]:
    """Whether each prompt of 100 tokens, read in 0.1 s, is refused by an engine of two slots."""
    simulation = one_instance(Engine(0.0, 0.001, 0.01, 0.0, 10_000, 2, limit))
    simulation.run(100.0, at, [100] * len(at), [output_tokens] * len(at))
    return [outcome == RequestOutcome.QUEUE_FULL for outcome in simulation.requests().outcome]


def test_a_limit_on_requests_counts_those_in_service_too() -> None:
    """Two in the batch and one that waits make three; one second later the first two have made their 10 tokens."""
    assert outcomes_under(QueueLimit(requests=3), [0.0, 0.0, 0.0, 0.0, 2.0]) == [False, False, False, True, False]


def test_a_limit_on_those_that_wait_counts_no_others() -> None:
    """The first is read at once and two wait; at 0.5 s both slots are taken, so one waits, and a second one may."""
    found = outcomes_under(QueueLimit(waiting=2), [0.0, 0.0, 0.0, 0.0, 0.5, 0.5], output_tokens=1000)
    assert found == [False, False, False, True, False, True]


def test_whichever_limit_is_reached_first_refuses() -> None:
    at = [0.0] * 4
    assert outcomes_under(QueueLimit(requests=2, prompt_tokens=300), at) == [False, False, True, True]
    assert outcomes_under(QueueLimit(requests=4, prompt_tokens=300), at) == [False, False, False, True]


def test_a_drained_instance_that_comes_back_has_an_empty_queue() -> None:
    """The slot of an instance that died with a full queue serves the next one."""
    engine = Engine(0.0, 0.001, 0.01, 0.0, 10_000, 1, QueueLimit(prompt_tokens=200))
    simulation = Simulation([engine], options=KEPT)
    first = simulation.join(0)
    simulation.run(1.0, [0.0, 0.0, 0.0], [100, 500, 100], [1000, 10, 10])
    simulation.kill(first)
    simulation.join(0)
    simulation.run(2.0, [1.0], [100], [10])
    assert simulation.requests().outcome.tolist() == [
        RequestOutcome.LOST,
        RequestOutcome.LOST,
        RequestOutcome.QUEUE_FULL,
        RequestOutcome.COMPLETED,
    ]


def test_without_a_target_a_request_is_rejected_at_once() -> None:
    simulation = Simulation([ENGINE, ENGINE], options=KEPT)
    simulation.join(0)
    simulation.set_weights([0.0, 1.0])
    simulation.run(1.0, [0.5], [10], [10])
    # The pool that the weight names is empty; the load balancer does not turn to the other.
    assert simulation.requests().outcome.tolist() == [RequestOutcome.NO_TARGET]
    simulation.set_weights([0.0, 0.0])
    simulation.run(2.0, [1.5], [10], [10])
    window = simulation.window()
    assert (window.pools[1].rejected_no_target, window.unrouted, window.total.rejected) == (1, 1, 2)


def test_a_draining_instance_finishes_its_requests_and_gets_no_new_ones() -> None:
    simulation = Simulation([ENGINE], options=KEPT)
    old = simulation.join(0)
    simulation.run(1.0, [0.5], [100], [101])
    simulation.drain(old, deadline=100.0)
    new = simulation.join(0)
    simulation.run(50.0, [1.2], [100], [2])
    assert simulation.requests().outcome.tolist() == [RequestOutcome.COMPLETED, RequestOutcome.COMPLETED]
    (gone,) = simulation.departures()
    assert (gone.instance, gone.lost) == (old, 0)
    # It leaves when its last token is made, not when somebody looks: 0.6 + 100 steps of 15 ms.
    assert gone.at == pytest.approx(2.1)
    assert [number for number, _ in simulation.loads()] == [new]


def test_requests_of_a_draining_instance_are_lost_at_its_deadline() -> None:
    simulation = one_instance()
    simulation.run(1.0, [0.5, 0.6], [100, 100], [10_000, 10_000])
    simulation.drain(0, deadline=3.0)
    simulation.run(10.0)
    (gone,) = simulation.departures()
    assert (gone.at, gone.lost) == (3.0, 2)
    assert simulation.in_flight == 0
    assert simulation.window().total.lost == 2


def test_a_deadline_after_the_end_of_the_drain_affects_no_other_instance() -> None:
    simulation = one_instance()
    simulation.drain(0, at=1.0, deadline=5.0)
    simulation.join(0, at=2.0)  # takes the slot that instance 0 left
    simulation.run(10.0, [4.9], [100], [1000])
    assert simulation.in_flight == 1
    assert simulation.window().total.lost == 0


def test_the_death_of_an_instance_loses_all_its_requests() -> None:
    simulation = one_instance()
    simulation.kill(0, at=2.0)
    simulation.run(10.0, np.linspace(0.1, 1.9, 19), np.full(19, 100), np.full(19, 500))
    window = simulation.window().total
    assert window.lost + window.completed == 19
    assert window.lost > 4
    assert simulation.targets(0) == 0


def test_requests_go_to_the_instance_with_the_fewest_requests() -> None:
    simulation = Simulation([ENGINE])
    for _ in range(3):
        simulation.join(0)
    simulation.run(0.1, np.linspace(0, 0.09, 10), np.full(10, 100), np.full(10, 1000))
    loads = sorted(load.running + load.waiting for _, load in simulation.loads())
    assert loads == [3, 3, 4]
    simulation.join(0)
    simulation.run(0.2, np.linspace(0.1, 0.14, 3), np.full(3, 100), np.full(3, 1000))
    assert dict(simulation.loads())[3].running + dict(simulation.loads())[3].waiting == 3


def test_round_robin_ignores_the_load() -> None:
    simulation = Simulation([ENGINE], options=SimulationOptions(target_choice=TargetChoice.ROUND_ROBIN))
    for _ in range(3):
        simulation.join(0)
    simulation.run(10.0, np.linspace(0, 9, 9), np.full(9, 100), [5000, 2, 2, 5000, 2, 2, 5000, 2, 2])
    assert [load.running + load.waiting for _, load in simulation.loads()] == [3, 0, 0]


def test_smooth_weights_interleave_the_pools_exactly() -> None:
    simulation = Simulation([ENGINE] * 3, options=replace(KEPT, pool_choice=PoolChoice.SMOOTH_WEIGHTED))
    for pool in range(3):
        simulation.join(pool)
    simulation.set_weights([5, 1, 1])
    simulation.run(100.0, np.arange(7.0), np.full(7, 10), np.full(7, 2))
    # nginx's own example of weights 5, 1, 1.
    assert simulation.requests().pool.tolist() == [0, 0, 1, 0, 2, 0, 0]


def test_weights_change_at_their_time() -> None:
    simulation = Simulation([ENGINE, ENGINE], options=KEPT)
    simulation.join(0)
    simulation.join(1)
    simulation.set_weights([1.0, 0.0])
    simulation.set_weights([0.0, 1.0], at=5.0)
    simulation.run(20.0, np.arange(10.0) + 0.5, np.full(10, 10), np.full(10, 2))
    assert simulation.requests().pool.tolist() == [0] * 5 + [1] * 5


def test_an_slo_allows_more_time_for_longer_prompts() -> None:
    slo = Slo(ttft_seconds=0.15, ttft_seconds_per_1000_input_tokens=1.0, tpot_seconds=0.02)
    simulation = one_instance(slo=slo)
    # 100 tokens in 0.1 s (limit 0.25), 1000 in 1 s (limit 1.15), and one that waits for another's prompt.
    simulation.run(100.0, [0.0, 10.0, 20.0, 20.01], [100, 1000, 500, 10], [2, 2, 1, 1])
    window = simulation.window().total
    assert (window.completed, window.attained) == (4, 3)


def test_invalid_arguments_are_refused_and_change_nothing() -> None:
    simulation = one_instance()
    simulation.run(5.0)
    for until, at, n in ((4.0, [], 0), (9.0, [3.0], 1), (9.0, [7.0, 6.0], 2), (9.0, [6.0], 2)):
        with pytest.raises(ValueError, match="must"):
            simulation.run(until, at, np.ones(n), np.ones(n))
    with pytest.raises(ValueError, match=r"weights: must be one a pool \(got 2 for 1\)"):
        simulation.set_weights([1, 1])
    with pytest.raises(ValueError, match=r"weights\[0\]: must not be negative"):
        simulation.set_weights([float("nan")])
    with pytest.raises(ValueError, match="pool: must be from 0 to 0"):
        simulation.join(1)
    assert (simulation.now, simulation.arrived) == (5.0, 0)


def test_requests_beyond_the_first_thousand_find_room() -> None:
    simulation = one_instance()
    n = 5000
    taken = simulation.run(1.0, np.linspace(0, 0.9, n), np.full(n, 10), np.full(n, 10))
    assert taken == n
    assert simulation.in_flight + simulation.window().total.completed == n
    simulation.run(1e6)
    assert simulation.in_flight == 0


def test_a_thousand_instances_in_five_pools_share_the_load() -> None:
    simulation = Simulation([ENGINE] * 5, seed=3)
    for _ in range(200):
        for pool in range(5):
            simulation.join(pool)
    n = 40_000
    simulation.run(100.0, np.linspace(0, 99, n), np.full(n, 100), np.full(n, 50))
    window = simulation.window()
    assert window.total.completed > 39_000
    assert max(load.running + load.waiting for _, load in simulation.loads()) <= 2
    assert all(abs(pool.routed / n - 0.2) < 0.01 for pool in window.pools)


@given(seed=st.integers(0, 1000), cuts=st.lists(st.floats(0.0, 60.0), max_size=12))
@settings(max_examples=40, deadline=None)
def test_a_run_in_windows_gives_the_same_bits_as_a_single_run(seed: int, cuts: list[float]) -> None:
    random = np.random.default_rng(seed)
    n = 200
    at = np.sort(random.uniform(0, 50, n))
    inputs, outputs = random.uniform(10, 500, n), random.uniform(1, 300, n)

    def start() -> Simulation:
        simulation = Simulation([ENGINE, ENGINE], seed=seed, options=KEPT)
        for k in range(6):
            simulation.join(k % 2, at=float(k))
        simulation.drain(0, at=20.0, deadline=25.0)
        simulation.kill(1, at=30.0)
        simulation.set_weights([1.0, 2.0], at=15.0)
        return simulation

    whole, stepped = start(), start()
    whole.run(1000.0, at, inputs, outputs)
    taken, windows = 0, []
    for edge in [*sorted(cuts), 1000.0]:
        taken += stepped.run(edge, at[taken:], inputs[taken:], outputs[taken:])
        windows.append(stepped.window())
    a, b = whole.requests(), stepped.requests()
    for name in ("outcome", "pool", "first_token_at", "finished_at"):
        assert np.array_equal(getattr(a, name), getattr(b, name), equal_nan=name.endswith("_at")), name
    together = windows[0]
    for window in windows[1:]:
        together = together.then(window)
    one_window = whole.window()
    for ours, theirs in zip(together.pools, one_window.pools, strict=True):
        assert (ours.completed, ours.lost, ours.routed) == (theirs.completed, theirs.lost, theirs.routed)
        assert np.array_equal(ours.e2e.counts, theirs.e2e.counts)
        for name in ("running_seconds", "waiting_seconds", "busy_seconds", "target_seconds"):
            assert getattr(ours, name) == pytest.approx(getattr(theirs, name), abs=1e-6), name


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    def routed(seed: int) -> list[int]:
        simulation = Simulation([ENGINE, ENGINE], seed=seed, options=KEPT)
        simulation.join(0)
        simulation.join(1)
        simulation.run(100.0, np.arange(50.0), np.full(50, 10), np.full(50, 2))
        return simulation.requests().pool.tolist()

    assert routed(1) == routed(1)
    assert routed(1) != routed(2)


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=60), st.floats(0, 1))
@settings(deadline=None)
def test_a_sketch_is_within_one_percent_of_the_exact_quantile(values: list[float], share: float) -> None:
    counts = np.zeros(kernel.BUCKETS, np.int64)
    for value in values:
        counts[1 + int(np.log(value / kernel.SMALLEST_SECONDS) / np.log(kernel.GROWTH))] += 1
    exact = sorted(values)[max(0, int(np.ceil(share * len(values) - 1e-9)) - 1)]
    assert Sketch(counts).quantile(share) == pytest.approx(exact, rel=0.0100001)


def test_an_empty_sketch_has_no_quantile() -> None:
    assert Sketch.empty().quantile(0.5) is None
    with pytest.raises(ValueError, match="share: must be from 0 to 1"):
        Sketch.empty().quantile(1.5)


def test_instances_of_one_pool_may_run_different_engines() -> None:
    """A fast instance beside a slow one: 10 steps of 15 ms each, and the same on an engine of 50 ms a step."""
    slow = Engine(0.0, 0.0, 0.045, 0.005, 10_000, 1)
    simulation = Simulation(
        [Engine(0.0, 0.0, 0.010, 0.005, 10_000, 4)], more_engines=[slow], options=SimulationOptions(keep_requests=True)
    )
    simulation.join(0)
    simulation.join(0, engine=1)
    simulation.run(100.0, [0.0, 0.0], [1, 1], [11, 11])
    assert simulation.requests().finished_at.tolist() == pytest.approx([0.15, 0.5])
    assert simulation.window().total.completed == 2
    with pytest.raises(ValueError, match="engine: must be from 0 to 1"):
        simulation.join(0, engine=2)


def test_an_instance_keeps_to_the_limits_of_its_own_engine() -> None:
    """A prompt that the pool's own engine could hold is too long for the smaller one beside it."""
    small = Engine(0.0, 0.001, 0.010, 0.005, 100, 4)
    simulation = Simulation([ENGINE], more_engines=[small], options=SimulationOptions(keep_requests=True))
    simulation.join(0, engine=1)
    simulation.run(100.0, [0.0], [200], [2])
    assert simulation.requests().outcome.tolist() == [RequestOutcome.TOO_LONG]
    simulation.join(0)
    simulation.run(200.0, [100.0, 100.0], [200, 200], [2, 2])
    assert sorted(simulation.requests().outcome.tolist()[1:]) == [RequestOutcome.COMPLETED, RequestOutcome.TOO_LONG]
