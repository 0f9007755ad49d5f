"""What is asked of a service, from what was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.demand import measure
from scaling.observation import Reading
from scaling.state import State
from tests.scaling.builders import NOW, pool, pool_seen, seen, service


def demand_of(observation, state=None, svc=None, now=NOW):
    return measure(svc or service(), observation, state or State(at=now - 60, since=now - 3600), now)


def test_nothing_seen_is_missing_and_not_zero():
    demand, _ = demand_of(seen(pools={"l4": pool_seen(load=None)}))
    assert demand.rps is None
    assert demand.utilization is None
    assert not demand.idle


def test_zero_arrivals_under_a_heartbeat_are_idle():
    demand, _ = demand_of(seen(arrivals=0.0))
    assert demand.rps == 0
    assert demand.idle


def test_waiting_requests_are_not_idle_even_without_arrivals():
    view = pool_seen(load=0.0, waiting=Reading(3.0, NOW))
    demand, _ = demand_of(seen(arrivals=0.0, pools={"l4": view}))
    assert not demand.idle
    assert demand.backlog == 3


def test_a_stale_value_is_missing():
    old = NOW - 181
    demand, _ = demand_of(seen(at=old, arrivals=5.0, pools={"l4": pool_seen(load=10, at=old)}))
    assert demand.rps is None


def test_a_value_from_the_future_is_missing():
    demand, _ = demand_of(seen(at=NOW + 3600, arrivals=5.0, pools={"l4": pool_seen(load=10, at=NOW + 3600)}))
    assert demand.rps is None


def test_work_done_stands_in_for_arrivals_that_were_not_seen():
    # 2 instances of C = 20 and 2 rps, 20 in flight: half of 4 rps
    demand, _ = demand_of(seen(pools={"l4": pool_seen(2, load=20)}))
    assert demand.rps == pytest.approx(2.0)
    assert demand.utilization == pytest.approx(1.0)
    assert demand.ratio == pytest.approx(1.0 / 1.6)


def test_half_the_requests_in_flight_are_more_than_half_the_work_where_batches_slow_down():
    # x = 0.5, s = 3: 0.5 * 3 / (1 + 2 * 0.5) = 0.75 of 4 rps
    svc = service(pool(slowdown=3.0))
    demand, _ = demand_of(seen(pools={"l4": pool_seen(2, load=20)}), svc=svc)
    assert demand.rps == pytest.approx(3.0)


def test_littles_law_counts_load_where_the_engines_are_silent():
    view = pool_seen(2, load=None, rate_rps=Reading(2.0, NOW), response_time_seconds=Reading(12.0, NOW))
    demand, _ = demand_of(seen(pools={"l4": view}))
    assert demand.loads["l4"] == pytest.approx(24.0)


def test_littles_law_does_not_take_the_first_header_for_the_end_of_a_stream():
    view = pool_seen(2, load=None, rate_rps=Reading(2.0, NOW), response_time_seconds=Reading(0.2, NOW))
    demand, _ = demand_of(seen(pools={"l4": view}))
    assert demand.loads["l4"] == pytest.approx(20.0)  # 2 rps * 10 s in service


def test_work_done_and_arrivals_are_told_apart():
    assert not demand_of(seen(pools={"l4": pool_seen(2, load=20)}))[0].counted
    assert demand_of(seen(arrivals=2.0))[0].counted


def test_heavier_requests_are_learnt_from_the_work_they_make():
    state = State(at=NOW - 60, since=NOW - 3600, request_weight=1.0)
    # 1 rps arrives and makes 2 rps of work: requests of twice the typical weight
    demand, after = demand_of(seen(arrivals=1.0, pools={"l4": pool_seen(2, load=20)}), state)
    assert 1.0 < after.request_weight < 2.0
    assert demand.rps == pytest.approx(after.request_weight)


def test_saturated_instances_teach_nothing_of_the_weight_of_a_request():
    state = State(at=NOW - 60, since=NOW - 3600, request_weight=1.0)
    view = pool_seen(2, load=60, running=Reading(40.0, NOW), waiting=Reading(20.0, NOW))
    demand, after = demand_of(seen(arrivals=6.0, pools={"l4": view}), state)
    assert after.request_weight == 1.0
    assert demand.rps == pytest.approx(6.0)
    assert demand.backlog == pytest.approx(20.0)


def test_requests_turned_away_count_as_demand():
    demand, _ = demand_of(seen(arrivals=2.0, rejected_rps=Reading(1.5, NOW)))
    assert demand.rps == pytest.approx(3.5)


def test_utilisation_units_are_means_and_not_sums():
    svc = service(pool(capacity=100.0), load={"unit": "gpu_utilization"})
    demand, _ = demand_of(seen(pools={"l4": pool_seen(4, load=50)}), svc=svc)
    assert demand.utilization == pytest.approx(2.0)
    assert demand.rps == pytest.approx(4.0)


def test_a_pool_that_has_no_ready_instance_needs_no_load_to_be_known():
    svc = service(pool("l4"), pool("h100"))
    pools = {"l4": pool_seen(2, load=20), "h100": pool_seen(0, load=None)}
    demand, _ = demand_of(seen(pools=pools), svc=svc)
    assert demand.rps == pytest.approx(2.0)


def test_a_serving_pool_without_load_or_rate_makes_the_whole_unknown_where_arrivals_are_not_seen():
    svc = service(pool("l4"), pool("h100"))
    pools = {"l4": pool_seen(2, load=20), "h100": pool_seen(1, load=None)}
    demand, _ = demand_of(seen(pools=pools), svc=svc)
    assert demand.rps is None
    demand, _ = demand_of(seen(arrivals=3.0, pools=pools), svc=svc)
    assert demand.rps == pytest.approx(3.0)


def test_ten_seconds_far_above_the_minute_are_a_burst():
    demand, _ = demand_of(seen(arrivals=10.0, burst_rps=Reading(30.0, NOW - 10)))
    assert demand.burst is not None
    assert demand.burst.rps == pytest.approx(30.0)


def test_noise_of_a_small_count_is_no_burst():
    demand, _ = demand_of(seen(arrivals=0.5, burst_rps=Reading(0.9, NOW - 10)))
    assert demand.burst is None


def test_an_old_ten_seconds_is_no_burst():
    demand, _ = demand_of(seen(arrivals=10.0, burst_rps=Reading(30.0, NOW - 61)))
    assert demand.burst is None


def test_the_burst_factor_is_the_policys():
    svc = service(burst={"factor": 4})
    demand, _ = demand_of(seen(arrivals=10.0, burst_rps=Reading(30.0, NOW - 10)), svc=svc)
    assert demand.burst is None


@given(st.integers(1, 30), st.floats(0, 1000), st.floats(1, 8))
def test_more_load_is_never_less_demand(ready, load, slowdown):
    svc = service(pool(slowdown=slowdown))
    low, _ = demand_of(seen(pools={"l4": pool_seen(ready, load=load)}), svc=svc)
    high, _ = demand_of(seen(pools={"l4": pool_seen(ready, load=load + 5)}), svc=svc)
    assert high.rps >= low.rps
    assert high.utilization > low.utilization
