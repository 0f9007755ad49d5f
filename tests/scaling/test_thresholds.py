"""Node signals over their limit call for more, whatever the load says."""

import pytest

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import State
from gpu_fleet.scaling.thresholds import raised
from tests.scaling.builders import NOW, pool_seen, seen, service

SIGNALS = ["cpu_percent", "memory_percent", "gpu_percent", "kv_cache_percent", "network_latency_seconds"]


def after(view, required=1.0, worth=2.0, standing=8.0, **limits):
    """The capacity required of a pool whose instances are worth 2 rps each, 8 of which stand."""
    fleet = Fleet((), {"l4": worth}, {"l4": 0}, {"l4": 4}, standing, standing)
    limits = {"kv_cache_percent": None} | limits
    return raised(Context(service(thresholds=limits), seen(pools={"l4": view}), State(), NOW), fleet, required)


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_half_over_its_limit_asks_for_half_as_much_again(name):
    view = pool_seen(4, **{name: Reading(60.0, NOW)})
    required, reasons = after(view, **{name: 40.0})
    assert required == pytest.approx(8 + 4 * 2 * 0.5)
    (reason,) = reasons
    assert (reason.step, reason.code) == (Step.SIZING, "sizing.threshold")
    assert reason.numbers == {"value": 60.0, "limit": 40.0}
    assert f"l4: {name} is 60, over its limit of 40; 12.00 rps are required" in reason.sentence


def test_what_a_signal_asks_for_is_in_proportion_to_what_the_pool_is_worth():
    view = pool_seen(4, gpu_percent=Reading(60.0, NOW))
    assert after(view, worth=5.0, standing=20.0, gpu_percent=40.0)[0] == pytest.approx(20 + 4 * 5 * 0.5)
    one = pool_seen(1, gpu_percent=Reading(60.0, NOW))
    assert after(one, standing=2.0, gpu_percent=40.0)[0] == pytest.approx(3.0)


def test_a_signal_at_or_below_its_limit_asks_for_nothing():
    for value in (40.0, 39.0, 0.0):
        assert after(pool_seen(4, cpu_percent=Reading(value, NOW)), cpu_percent=40.0) == (1.0, ())


def test_no_signal_asks_for_more_than_the_pool_again():
    view = pool_seen(4, network_latency_seconds=Reading(9.0, NOW))
    assert after(view, network_latency_seconds=0.1)[0] == pytest.approx(16.0)


def test_a_signal_without_a_limit_or_a_limit_without_a_signal_asks_for_nothing():
    assert after(pool_seen(4, gpu_percent=Reading(100.0, NOW))) == (1.0, ())
    assert after(pool_seen(4), gpu_percent=40.0) == (1.0, ())
    assert after(pool_seen(4, gpu_percent=Reading(60.0, NOW - 181)), gpu_percent=40.0) == (1.0, ())


def test_a_pool_where_nothing_is_ready_is_not_judged_by_its_signals():
    assert after(pool_seen(0, starting=2, cpu_percent=Reading(99.0, NOW)), cpu_percent=40.0) == (1.0, ())


def test_where_as_much_is_required_anyway_nothing_is_said():
    view = pool_seen(4, cpu_percent=Reading(60.0, NOW))
    assert after(view, required=12.0, cpu_percent=40.0) == (12.0, ())


def test_of_several_signals_the_one_furthest_over_its_limit_counts():
    view = pool_seen(4, cpu_percent=Reading(50.0, NOW), gpu_percent=Reading(60.0, NOW))
    required, reasons = after(view, cpu_percent=40.0, gpu_percent=40.0)
    assert required == pytest.approx(12.0)
    assert len(reasons) == 2
