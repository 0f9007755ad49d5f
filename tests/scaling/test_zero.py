"""Sleeping and waking."""

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.demand import measure
from gpu_fleet.scaling.observation import Reading
from gpu_fleet.scaling.state import State
from gpu_fleet.scaling.zero import may_sleep, sleep_or_wake
from tests.scaling.builders import NOW, pool, pool_seen, remembered, seen, service

SLEEPY = service(pool(min_instances=0), zero={"idle_seconds": 600})


def after(observation, state, svc=SLEEPY, now=NOW):
    context = Context(svc, observation, state, now)
    return sleep_or_wake(context, measure(context)[0])


def slept(memory):
    return State(at=NOW - 60, zero=memory)


def test_a_service_sleeps_only_after_the_whole_idle_time():
    state = after(seen(arrivals=0.0), State(at=NOW - 60))
    assert state.idle_since == NOW
    assert not state.asleep
    state = after(seen(at=NOW + 540, arrivals=0.0), slept(state), now=NOW + 540)
    assert not state.asleep
    state = after(seen(at=NOW + 600, arrivals=0.0), slept(state), now=NOW + 600)
    assert state.asleep


def test_one_request_starts_the_idle_time_anew():
    state = after(seen(arrivals=0.0), State(at=NOW - 60))
    state = after(seen(at=NOW + 60, arrivals=0.02), slept(state), now=NOW + 60)
    assert state.idle_since is None


def test_missing_metrics_neither_send_to_sleep_nor_wake():
    missing = seen(pools={"l4": pool_seen(load=None)})
    idle = remembered(at=NOW - 60, idle_since=NOW - 6000)
    assert not after(missing, idle).asleep
    assert after(missing, remembered(at=NOW - 60, asleep=True)).asleep


def test_a_request_that_found_no_target_wakes():
    empty = {"l4": pool_seen(0, load=None)}
    asleep = remembered(at=NOW - 60, asleep=True, idle_since=NOW - 6000)
    assert after(seen(arrivals=0.0, pools=empty), asleep).asleep
    assert not after(seen(arrivals=0.0, rejected_rps=Reading(0.02, NOW), pools=empty), asleep).asleep


def test_a_burst_wakes_before_the_minute_is_over():
    asleep = remembered(at=NOW - 60, asleep=True, idle_since=NOW - 6000)
    empty = {"l4": pool_seen(0, load=None)}
    assert not after(seen(arrivals=0.0, burst_rps=Reading(0.1, NOW), pools=empty), asleep).asleep


def test_a_pool_with_a_minimum_keeps_the_service_awake():
    svc = service(pool(min_instances=1), zero={"idle_seconds": 600})
    assert not may_sleep(svc)
    assert not after(seen(arrivals=0.0), remembered(at=NOW - 60, idle_since=NOW - 6000), svc=svc).asleep


def test_without_an_idle_time_a_service_never_sleeps():
    assert not may_sleep(service(pool(min_instances=0)))


def test_an_answer_still_in_service_is_not_idleness():
    """Nothing arrived in the minute, but a long answer is still streamed: the idle time starts when it is done."""
    state = after(seen(arrivals=0.0, pools={"l4": pool_seen(load=3.0)}), remembered(at=NOW - 60, idle_since=NOW - 599))
    assert state.idle_since is None
    assert not state.asleep


def test_a_minute_that_was_not_seen_does_not_start_the_idle_time_anew():
    missing = seen(pools={"l4": pool_seen(load=None)})
    assert after(missing, remembered(at=NOW - 60, idle_since=NOW - 500)).idle_since == NOW - 500


def test_a_request_wakes_a_service_that_still_has_an_instance():
    assert after(seen(arrivals=0.02), remembered(at=NOW - 60, asleep=True, idle_since=NOW - 6000)).asleep is False


def test_a_service_whose_new_policy_forbids_sleep_wakes_and_forgets_its_idle_time():
    asleep = remembered(at=NOW - 60, asleep=True, idle_since=NOW - 6000)
    for awake in (service(pool(min_instances=0)), service(pool(min_instances=1), zero={"idle_seconds": 600})):
        state = after(seen(arrivals=0.0), asleep, svc=awake)
        assert state.asleep is False
        assert state.idle_since is None
