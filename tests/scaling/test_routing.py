"""How the pools share the traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.policy import RoutingPolicy as Settings
from gpu_fleet.scaling.policy import RoutingStrategy
from gpu_fleet.scaling.routing import PoolInput, Routing, route
from gpu_fleet.scaling.state import RoutingState

CAPACITY = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=0)
BY_TIME = Settings(strategy=RoutingStrategy.RESPONSE_TIME, slow_start_seconds=0, dead_band_percent=0)
AUTO = Settings(slow_start_seconds=0, dead_band_percent=0)
NOW = 1_000_000.0


def pool(name: str = "a", weight: int = 0, capacity_rps: float = 10, ready: int = 1, **seen: Any) -> PoolInput:
    return PoolInput(name, ready, capacity_rps, weight, **seen)


def decide(
    pools: Sequence[PoolInput], settings: Settings = CAPACITY, state: RoutingState | None = None, now: float = NOW
) -> Routing:
    return route(settings, pools, state or RoutingState(), now)


def settle(pools: Sequence[PoolInput], settings: Settings, steps: int = 300, every: float = 60) -> list[Routing]:
    """Decisions on constant input, each with the weights that the last one wrote, until nothing changes."""
    state, made = RoutingState(), []
    for i in range(steps):
        decided = route(settings, pools, state, NOW + i * every)
        made.append(decided)
        if i > 20 and decided.weights == {each.name: each.weight for each in pools}:
            break
        pools = [replace(each, weight=decided.weights[each.name]) for each in pools]
        state = decided.state
    return made


def shares(weights: Mapping[str, int]) -> dict[str, float]:
    return {name: weight / sum(weights.values()) for name, weight in weights.items()}


def codes(decided: Routing) -> list[str]:
    for reason in decided.reasons:
        assert reason.step is Step.ROUTING
        assert isinstance(reason.sentence, str)
        assert all(isinstance(number, (int, float)) for number in reason.numbers.values())
    return [reason.code for reason in decided.reasons]


@st.composite
def inputs(draw: st.DrawFn) -> list[PoolInput]:
    return [
        PoolInput(
            f"p{i}",
            ready := draw(st.integers(0, 20)),
            ready * draw(st.sampled_from([0.0, 0.001, 0.5, 3.0, 400.0])),
            draw(st.integers(0, 999)),
            draw(st.none() | st.floats(0, 3)),
            draw(st.none() | st.floats(0, 30)),
        )
        for i in range(draw(st.integers(1, 5)))
    ]


settings_drawn = st.builds(
    Settings,
    strategy=st.sampled_from(RoutingStrategy),
    static_weights=st.just({"p0": 3, "p1": 0, "p2": 999}),
    dead_band_percent=st.sampled_from([0, 2, 40]),
    max_step_percent=st.sampled_from([3, 25, 100]),
    slow_start_seconds=st.sampled_from([0, 60, 300]),
    damping=st.sampled_from([0.1, 0.3, 1]),
)


@given(inputs(), settings_drawn)
def test_weights_are_valid_for_a_load_balancer(pools: list[PoolInput], settings: Settings) -> None:
    weights = decide(pools, settings).weights
    assert set(weights) == {each.name for each in pools}
    assert all(isinstance(weight, int) and 0 <= weight <= 999 for weight in weights.values())


@given(inputs(), settings_drawn)
def test_a_pool_without_ready_instances_gets_nothing_at_once(pools: list[PoolInput], settings: Settings) -> None:
    weights = decide(pools, settings).weights
    if any(each.ready for each in pools):
        assert all(weights[each.name] == 0 for each in pools if not each.ready)
        assert any(weights.values())
    else:
        assert weights == {each.name: each.weight for each in pools}


@given(inputs(), settings_drawn)
def test_a_healthy_share_moves_by_no_more_than_the_step(pools: list[PoolInput], settings: Settings) -> None:
    ready = [each for each in pools if each.ready]
    total = sum(each.weight for each in ready)
    if not total:
        return
    weights = decide(pools, settings).weights
    moved = max(abs(weights[each.name] / sum(weights.values()) - each.weight / total) for each in ready)
    # Five pools that must not be nothing cost up to four weights of 999 in rounding.
    assert 100 * moved <= settings.max_step_percent + 0.5


@run(max_examples=60)
@given(inputs(), settings_drawn)
def test_constant_input_settles_at_the_ideal_and_then_nothing_changes(
    pools: list[PoolInput], settings: Settings
) -> None:
    """Within 0.5 % after a move, else within the dead band; and each pool with capacity gets traffic."""
    settings = settings.model_copy(update={"strategy": RoutingStrategy.CAPACITY})
    made = settle(pools, settings, steps=400)
    last = made[-1]
    ready = [each for each in pools if each.ready]
    if not ready:
        return
    assert codes(last) == ["routing.keep"]
    total = sum(each.capacity_rps for each in ready)
    for each in ready:
        ideal = each.capacity_rps / total if total else each.ready / sum(each.ready for each in ready)
        written = any(code != "routing.keep" for decided in made for code in codes(decided))
        band = 0.5 if written else max(0.5, settings.dead_band_percent)
        assert 100 * abs(shares(last.weights)[each.name] - ideal) <= band
        assert (last.weights[each.name] > 0) == (ideal > 0)


@run(max_examples=40)
@given(inputs(), settings_drawn)
def test_repeated_decisions_stop_writing(pools: list[PoolInput], settings: Settings) -> None:
    made = settle(pools, settings, steps=300)
    assert len(made) < 300


def test_capacity_is_the_share() -> None:
    decided = decide([pool("a", capacity_rps=30), pool("b", capacity_rps=10)])
    assert shares(decided.weights) == pytest.approx({"a": 0.75, "b": 0.25}, abs=0.001)
    assert codes(decided) == ["routing.fill"]
    assert decided.reasons[0].sentence == "First traffic to a, b; shares: a 75.0 %, b 25.0 %."


def test_weights_of_the_same_shares_are_left_alone() -> None:
    decided = decide([pool("a", 3, 30), pool("b", 1, 10)])
    assert decided.weights == {"a": 3, "b": 1}
    assert codes(decided) == ["routing.keep"]


def test_static_weights_are_kept_whatever_the_capacity() -> None:
    fixed = Settings(strategy=RoutingStrategy.STATIC, static_weights={"a": 80, "b": 20}, slow_start_seconds=0)
    decided = decide([pool("a", capacity_rps=1), pool("b", capacity_rps=100)], fixed)
    assert shares(decided.weights) == pytest.approx({"a": 0.8, "b": 0.2}, abs=0.001)


def test_traffic_has_a_target_when_static_weights_name_no_ready_pool() -> None:
    fixed = Settings(strategy=RoutingStrategy.STATIC, static_weights={"a": 80}, slow_start_seconds=0)
    decided = decide([pool("a", 999, ready=0), pool("b", 0)], fixed)
    assert decided.weights == {"a": 0, "b": 999}
    assert codes(decided) == ["routing.static_unready", "routing.empty"]


def test_sticky_shares_new_sessions_by_capacity_whatever_the_latency() -> None:
    sticky = Settings(strategy=RoutingStrategy.STICKY, slow_start_seconds=0)
    slow = [pool("a", 1, response_time_seconds=9.0, load_over_capacity=2.0), pool("b", 1, response_time_seconds=1.0)]
    assert decide(slow, sticky).weights == {"a": 1, "b": 1}


def test_weights_stay_when_no_pool_is_ready() -> None:
    decided = decide([pool("a", 700, ready=0), pool("b", 299, ready=0)])
    assert decided.weights == {"a": 700, "b": 299}
    assert codes(decided) == ["routing.none"]


def test_a_dead_pool_loses_all_its_traffic_in_one_step() -> None:
    decided = decide([pool("a", 900, ready=0), pool("b", 99)])
    assert decided.weights == {"a": 0, "b": 999}
    assert codes(decided) == ["routing.empty"]


def test_a_pool_to_be_emptied_goes_step_by_step() -> None:
    made = settle([pool("old", 999, capacity_rps=0), pool("new", 0)], CAPACITY)
    old = [decided.weights["old"] for decided in made]
    assert old[:2] == pytest.approx([750, 501], abs=2)
    assert old[-1] == 0
    assert len([weight for weight in old if weight]) == 4


def test_the_policy_sets_the_step() -> None:
    bold = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=0, max_step_percent=100)
    pools = [pool("a", 999), pool("b", 0)]
    assert decide(pools).weights["b"] == pytest.approx(249, abs=1)
    assert decide(pools, bold).weights["b"] == pytest.approx(499.5, abs=1)


def test_a_difference_within_the_dead_band_stays() -> None:
    pools = [pool("a", 508), pool("b", 491)]
    assert decide(pools).weights == {"a": 508, "b": 491}
    narrow = CAPACITY.model_copy(update={"dead_band_percent": 0.5})
    assert decide(pools, narrow).weights["a"] == pytest.approx(499.5, abs=1)


def test_a_dead_band_wider_than_the_step_does_not_stop_a_due_move() -> None:
    wide = CAPACITY.model_copy(update={"dead_band_percent": 30, "max_step_percent": 5})
    made = settle([pool("a", 900), pool("b", 99)], wide)
    assert shares(made[-1].weights)["a"] == pytest.approx(0.5, abs=0.002)


def test_a_new_pool_starts_slowly() -> None:
    slow = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=100, max_step_percent=100)
    pools = [pool("a", 999), pool("b", 0)]
    first = decide(pools, slow)
    assert shares(first.weights)["b"] == pytest.approx(0.1 / 1.1, abs=0.002)
    pools = [pool("a", first.weights["a"]), pool("b", first.weights["b"])]
    half = decide(pools, slow, first.state, NOW + 50)
    assert shares(half.weights)["b"] == pytest.approx(0.5 / 1.5, abs=0.002)
    whole = decide(pools, slow, half.state, NOW + 100)
    assert shares(whole.weights)["b"] == pytest.approx(0.5, abs=0.002)
    at_once = slow.model_copy(update={"slow_start_seconds": 0})
    assert shares(decide([pool("a", 999), pool("b", 0)], at_once).weights)["b"] == pytest.approx(0.5, abs=0.002)


def test_a_slow_start_ends_at_the_ideal_despite_the_dead_band() -> None:
    slow = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=61, max_step_percent=100)
    made = settle([pool("a", 999), pool("b", 0)], slow)
    assert shares(made[-1].weights)["b"] == pytest.approx(0.5, abs=0.001)


def test_a_pool_that_died_and_came_back_starts_slowly_again() -> None:
    slow = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=100, max_step_percent=100)
    gone = decide([pool("a", 500), pool("b", 499, ready=0)], slow)
    back = decide([pool("a", 999), pool("b", 0)], slow, gone.state, NOW + 1000)
    assert shares(back.weights)["b"] == pytest.approx(0.1 / 1.1, abs=0.002)


def test_a_lost_state_does_not_restart_pools_that_have_traffic() -> None:
    slow = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=100)
    decided = decide([pool("a", 500), pool("b", 499)], slow, RoutingState())
    assert decided.weights == {"a": 500, "b": 499}


def test_a_clock_set_back_does_not_raise_or_starve() -> None:
    slow = Settings(strategy=RoutingStrategy.CAPACITY, slow_start_seconds=100)
    decided = decide([pool("a", 500), pool("b", 499)], slow, RoutingState(healthy_since={"a": NOW + 500}))
    assert all(decided.weights.values())


def test_the_slower_pool_gets_less_by_response_time() -> None:
    made = settle([pool("a", 500, response_time_seconds=1.0), pool("b", 499, response_time_seconds=1.5)], BY_TIME)
    got = shares(made[-1].weights)
    assert got["a"] / got["b"] == pytest.approx(1.5, rel=0.02)


def test_response_times_change_a_share_by_a_factor_of_two_at_most() -> None:
    made = settle([pool("a", 500, response_time_seconds=0.01), pool("b", 499, response_time_seconds=90.0)], BY_TIME)
    got = shares(made[-1].weights)
    assert got["a"] / got["b"] == pytest.approx(4, rel=0.02)


def test_damping_sets_the_part_of_the_correction_per_step() -> None:
    pools = [pool("a", 500, response_time_seconds=1.0), pool("b", 499, response_time_seconds=1.5)]
    slow = decide(pools, BY_TIME.model_copy(update={"damping": 0.1}))
    fast = decide(pools, BY_TIME.model_copy(update={"damping": 1}))
    assert 500 < slow.weights["a"] < fast.weights["a"]
    assert shares(fast.weights)["a"] / shares(fast.weights)["b"] == pytest.approx(1.5, rel=0.02)


def test_a_damped_loop_comes_to_rest() -> None:
    """Response times rise with the share: 1 s when empty; at the same share a is half as fast as b."""
    state, weights = RoutingState(), {"a": 500, "b": 499}
    seen = []
    for i in range(200):
        part = shares(weights)
        pools = [
            pool("a", weights["a"], response_time_seconds=1 / (1 - 0.9 * part["a"])),
            pool("b", weights["b"], response_time_seconds=1 / (1 - 0.45 * part["b"])),
        ]
        decided = decide(pools, BY_TIME.model_copy(update={"dead_band_percent": 2}), state, NOW + 60 * i)
        state, weights = decided.state, dict(decided.weights)
        seen.append(weights["a"])
    assert len(set(seen[-100:])) == 1
    assert weights["a"] < weights["b"]


def test_without_a_response_time_there_is_no_correction() -> None:
    pools = [pool("a", 500, response_time_seconds=1.0), pool("b", 499)]
    assert decide(pools, BY_TIME).state.corrections == {"a": 1.0, "b": 1.0}


def drifting(apart: float, weight_a: int = 500) -> list[PoolInput]:
    """Two equal pools; at equal shares a is `apart` more loaded than b, and twice as slow."""
    part = weight_a / 999
    return [
        pool("a", weight_a, load_over_capacity=2 * part * (0.5 + apart), response_time_seconds=2.0),
        pool("b", 999 - weight_a, load_over_capacity=2 * (1 - part) * 0.5, response_time_seconds=1.0),
    ]


def test_auto_starts_by_capacity_and_counts_response_times_when_loads_drift_apart() -> None:
    calm = decide(drifting(0.15), AUTO)
    assert not calm.state.by_response_time
    assert calm.weights["a"] == pytest.approx(500, abs=1)
    apart = decide(drifting(0.25), AUTO)
    assert apart.state.by_response_time
    assert apart.weights["a"] < 480
    assert codes(apart) == ["routing.drift", "routing.shift"]
    assert "25 % apart" in apart.reasons[0].sentence


def test_the_policy_sets_the_drift() -> None:
    assert decide(drifting(0.15), AUTO.model_copy(update={"drift_percent": 10})).state.by_response_time


def test_auto_does_not_go_back_because_its_own_correction_evened_the_loads() -> None:
    """The correction evens the loads; going back to capacity would let them drift apart again, for ever."""
    state, weight = RoutingState(), 500
    modes = []
    for i in range(60):
        decided = decide(drifting(0.25, weight), AUTO, state, NOW + 60 * i)
        state, weight = decided.state, decided.weights["a"]
        modes.append(state.by_response_time)
    assert all(modes)
    assert weight == pytest.approx(333, abs=3)


def test_auto_goes_back_only_when_loads_are_well_within_the_drift() -> None:
    over = RoutingState(by_response_time=True)
    assert decide(drifting(0.12), AUTO, over).state.by_response_time
    back = decide(drifting(0.08), AUTO, over)
    assert not back.state.by_response_time
    assert codes(back)[0] == "routing.even"


def test_auto_without_readings_stays_as_it_is() -> None:
    for mode in (True, False):
        state = RoutingState(by_response_time=mode)
        assert (
            decide([pool("a", 500, load_over_capacity=3.0), pool("b", 499)], AUTO, state).state.by_response_time is mode
        )


def test_without_ready_pools_slow_starts_and_corrections_begin_anew_and_the_mode_stays() -> None:
    before = RoutingState(
        by_response_time=True,
        healthy_since={"a": NOW - 500},
        corrections={"a": 1.5},
        moving=True,
    )
    after = decide([pool("a", 700, ready=0), pool("b", 299, ready=0)], AUTO, before).state
    assert after == RoutingState(by_response_time=True)


def test_a_finished_move_is_no_longer_moving() -> None:
    for pools in ([pool("a"), pool("b")], [pool("a", 520), pool("b", 479)], [pool("a", 1), pool("b", 1)]):
        decided = decide(pools)
        assert not decided.state.moving
    assert decide([pool("a", 999), pool("b", 0)]).state.moving


def test_a_difference_within_a_dead_band_wider_than_the_step_stays_for_good() -> None:
    wide = CAPACITY.model_copy(update={"dead_band_percent": 30, "max_step_percent": 5})
    made = settle([pool("a", 700), pool("b", 299)], wide)
    assert all(decided.weights == {"a": 700, "b": 299} for decided in made)


def test_weights_are_whole_and_exact() -> None:
    assert decide([pool("a", 999), pool("b", 0)]).weights == {"a": 750, "b": 249}
    by_hairs = CAPACITY.model_copy(update={"max_step_percent": 0.1})
    assert decide([pool("a", 999), pool("b", 0)], by_hairs).weights == {"a": 998, "b": 1}
    assert decide([pool("a", capacity_rps=400), pool("b", capacity_rps=0.001)]).weights == {"a": 998, "b": 1}
    small = [pool(name, capacity_rps=0.001) for name in "bcd"]
    assert decide([pool("a", capacity_rps=400), *small]).weights == {"a": 996, "b": 1, "c": 1, "d": 1}


def even(a: float | None, b: float | None) -> list[PoolInput]:
    """Two equal pools with the same traffic, at these loads over capacity."""
    return [pool("a", 1, 1.0, load_over_capacity=a), pool("b", 1, 1.0, load_over_capacity=b)]


def test_auto_changes_at_the_drift_and_back_below_half_of_it() -> None:
    at_25 = AUTO.model_copy(update={"drift_percent": 25})
    over = RoutingState(by_response_time=True)
    gone_over = decide(even(0.75, 0.5), at_25)
    assert gone_over.state.by_response_time
    assert gone_over.reasons[0].numbers == {"spread_percent": 25.0, "drift_percent": 25.0}
    assert not decide(even(0.74, 0.5), at_25).state.by_response_time
    assert decide(even(0.625, 0.5), at_25, over).state.by_response_time
    back = decide(even(0.61, 0.5), at_25, over)
    assert codes(back)[0] == "routing.even"
    assert back.reasons[0].numbers["spread_percent"] == pytest.approx(11.0)
    assert "11 % apart" in back.reasons[0].sentence


def test_an_idle_pool_counts_as_empty() -> None:
    assert not decide(even(0.0, 0.15), AUTO).state.by_response_time
    assert decide(even(0.0, 0.25), AUTO).state.by_response_time


def test_the_mean_response_time_is_weighted_by_traffic() -> None:
    """One request in three takes 1 s and two take 2: 5/3 in the mean."""
    at_once = BY_TIME.model_copy(update={"damping": 1})
    pools = [pool("a", 1, response_time_seconds=1.0), pool("b", 2, response_time_seconds=2.0)]
    assert decide(pools, at_once).state.corrections == pytest.approx({"a": 5 / 3, "b": 5 / 6})
    alone = [pool("a", 1, response_time_seconds=7.0)]
    assert decide(alone, at_once).state.corrections == {"a": 1.0}


def test_a_correction_reaches_its_bound_and_is_forgotten_once_it_has_decayed() -> None:
    at_once = BY_TIME.model_copy(update={"damping": 1})
    apart = [pool("a", 10, response_time_seconds=0.01), pool("b", 90, response_time_seconds=90.0)]
    assert decide(apart, at_once).state.corrections == pytest.approx({"a": 2.0, "b": 0.9}, rel=0.001)
    faint = RoutingState(corrections={"a": 1 + 1e-6, "b": 1 + 1e-5})
    after = decide([pool("a", 1), pool("b", 1)], BY_TIME, faint).state.corrections
    assert after["a"] == 1.0
    assert after["b"] > 1.0


def numbers(pools: Sequence[PoolInput], settings: Settings = CAPACITY) -> tuple[str, Mapping[str, float], str]:
    reason = decide(pools, settings).reasons[-1]
    return reason.code, reason.numbers, reason.sentence


def test_each_reason_gives_the_weights_and_how_far_off_the_shares_were() -> None:
    code, figures, _ = numbers([pool("a"), pool("b")])
    assert (code, figures["off_percent"]) == ("routing.fill", 100.0)
    assert {figures["weight_a"], figures["weight_b"]} == {499.0, 500.0}
    code, figures, sentence = numbers([pool("a", 450), pool("b", 450), pool("c", 100, ready=0)])
    assert (code, figures["weight_c"]) == ("routing.empty", 0.0)
    assert figures["off_percent"] == pytest.approx(10.0)
    assert "No more traffic to c; shares: a 50.1 %, b 49.9 %, c 0.0 %" in sentence
    code, figures, sentence = numbers(
        [pool("a", 3), pool("b", 1)], CAPACITY.model_copy(update={"max_step_percent": 100})
    )
    assert (code, figures["off_percent"]) == ("routing.shift", 25.0)
    assert "A share is off by 25.0 % of the traffic" in sentence
    code, figures, sentence = numbers(
        [pool("a", 3), pool("b", 1)], CAPACITY.model_copy(update={"dead_band_percent": 25})
    )
    assert (code, figures["off_percent"]) == ("routing.keep", 25.0)
    assert "off by more than 25.0 %, and routing.dead_band_percent is 25 %" in sentence


def test_the_reason_names_the_pools_that_static_weights_leave_without_traffic() -> None:
    fixed = Settings(strategy=RoutingStrategy.STATIC, static_weights={"a": 80}, slow_start_seconds=0)
    assert "(b, c)" in decide([pool("a", 999, ready=0), pool("b"), pool("c")], fixed).reasons[0].sentence
