"""Node signals over their limit call for more, whatever the load says. In a loop: test_thresholds_loop.py."""

import pytest

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.fleet import survey
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import SignalMemory, State
from gpu_fleet.scaling.thresholds import raised
from tests.scaling.builders import NOW, pool, pool_seen, seen, service

SIGNALS = ["cpu_percent", "memory_percent", "gpu_percent", "kv_cache_percent", "network_latency_seconds"]
LAX = {"slo": None, "sizing": {"target_utilization": 1.0}}
"""An instance counts for all of its 2 rps."""


def after(view, required=1.0, work=4.0, **limits):
    """The capacity required of a pool whose instances are worth 2 rps each."""
    limits = {"kv_cache_percent": None} | limits
    context = Context(service(thresholds=limits, **LAX), seen(pools={"l4": view}), State(), NOW)
    context = context.remember(pools={"l4": context.state.pool("l4")})
    return raised(context, work, survey(context), required)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_half_over_its_limit_asks_for_half_as_much_again_of_what_is_ready(name):
    view = pool_seen(4, **{name: Reading(60.0, NOW)})
    result = after(view, **{name: 40.0})
    assert result.rps == pytest.approx(12)
    (reason,) = result.reasons
    assert (reason.step, reason.code) == (Step.SIZING, "sizing.threshold")
    assert reason.numbers == {"value": 60.0, "limit": 40.0}
    assert f"l4: {name} is 60, over its limit of 40; 12.00 rps are required" in reason.sentence


def test_what_is_coming_does_not_raise_what_is_asked_for():
    assert after(pool_seen(4, starting=2, gpu_percent=Reading(60.0, NOW)), gpu_percent=40.0).rps == pytest.approx(12)


def test_a_pool_over_its_limit_asks_for_its_own_part_of_the_service_alone():
    views = {
        "l4": pool_seen(4, gpu_percent=Reading(60.0, NOW)),
        "l40s": pool_seen(4, gpu_percent=Reading(20.0, NOW)),
    }
    svc = service(pool("l4"), pool("l40s"), thresholds={"gpu_percent": 40, "kv_cache_percent": None}, **LAX)
    context = Context(svc, seen(pools=views), State(), NOW)
    context = context.remember(pools={name: context.state.pool(name) for name in views})
    assert raised(context, 8.0, survey(context), 1.0).rps == pytest.approx(16 + 4)


def test_a_signal_far_over_its_limit_asks_for_twice_of_what_is_ready_at_most():
    view = pool_seen(4, network_latency_seconds=Reading(9.0, NOW))
    assert after(view, network_latency_seconds=0.1).rps == pytest.approx(16)
    assert after(pool_seen(4, cpu_percent=Reading(9.0, NOW)), cpu_percent=0).rps == pytest.approx(16)


@pytest.mark.parametrize("value", [40.0, 30.0])
def test_a_signal_within_its_limit_holds_what_keeps_it_there(value):
    """30 of 40 at four: three would be at 40."""
    result = after(pool_seen(4, cpu_percent=Reading(value, NOW)), cpu_percent=40.0)
    assert result.rps == pytest.approx(8 * value / 40)
    assert [reason.code for reason in result.reasons] == ["sizing.threshold_holds"]


def test_a_signal_without_a_limit_or_a_limit_without_a_signal_asks_for_nothing():
    for view, limits in (
        (pool_seen(4, gpu_percent=Reading(100.0, NOW)), {}),
        (pool_seen(4), {"gpu_percent": 40.0}),
        (pool_seen(4, gpu_percent=Reading(60.0, NOW - 181)), {"gpu_percent": 40.0}),
        (pool_seen(0, starting=2, cpu_percent=Reading(99.0, NOW)), {"cpu_percent": 40.0}),
    ):
        result = after(view, **limits)
        assert (result.rps, result.reasons) == (1.0, ())


def test_where_as_much_is_required_anyway_nothing_is_said():
    view = pool_seen(4, cpu_percent=Reading(60.0, NOW))
    result = after(view, required=12.0, cpu_percent=40.0)
    assert (result.rps, result.reasons) == (12.0, ())


def test_of_several_signals_the_one_furthest_over_its_limit_counts():
    view = pool_seen(4, cpu_percent=Reading(50.0, NOW), gpu_percent=Reading(60.0, NOW))
    result = after(view, cpu_percent=40.0, gpu_percent=40.0)
    assert result.rps == pytest.approx(12.0)
    assert len(result.reasons) == 2


def test_a_limit_that_the_policy_drops_is_forgotten():
    context = Context(service(thresholds={"kv_cache_percent": None}), seen(), State(), NOW)
    context = context.remember(pools={"l4": context.state.pool("l4")})
    known = {"l4.gpu_percent": SignalMemory(within=0.5), "gone.gpu_percent": SignalMemory()}
    context = context.remember(thresholds=type(context.state.thresholds)(signals=known))
    assert raised(context, 1.0, survey(context), 1.0).memory.signals == {}
