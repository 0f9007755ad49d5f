"""What is asked of a service, from what was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.demand import DISPERSION_KEPT, MOST_DISPERSED, SATURATED, measure
from gpu_fleet.scaling.observation import Reading, current
from gpu_fleet.scaling.state import Point, PoolState, State
from tests.scaling.builders import NOW, pool, pool_seen, remembered, seen, service


def demand_of(observation, state=None, svc=None, now=NOW):
    context = Context(svc or service(), observation, state or State(at=now - 60, since=now - 3600), now)
    demand, memory = measure(context)
    return demand, context.remember(demand=memory).state


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
    state = remembered(at=NOW - 60, since=NOW - 3600, request_weight=1.0)
    # 1 rps arrives and makes 2 rps of work: requests of twice the typical weight
    demand, after = demand_of(seen(arrivals=1.0, pools={"l4": pool_seen(2, load=20)}), state)
    assert 1.0 < after.demand.request_weight < 2.0
    assert demand.rps == pytest.approx(after.demand.request_weight)


def test_saturated_instances_teach_nothing_of_the_weight_of_a_request():
    state = remembered(at=NOW - 60, since=NOW - 3600, request_weight=1.0)
    view = pool_seen(2, load=60, running=Reading(40.0, NOW), waiting=Reading(20.0, NOW))
    demand, after = demand_of(seen(arrivals=6.0, pools={"l4": view}), state)
    assert after.demand.request_weight == 1.0
    assert demand.rps == pytest.approx(6.0)
    assert demand.backlog == pytest.approx(20.0)


def test_requests_turned_away_count_as_demand():
    demand, _ = demand_of(seen(arrivals=2.0, rejected_rps=Reading(1.5, NOW)))
    assert demand.rps == pytest.approx(3.5)


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


def test_a_value_is_missing_only_once_it_is_older_than_the_limit():
    assert current(Reading(5.0, NOW - 180), NOW, 180) == 5
    assert current(Reading(5.0, NOW - 180.1), NOW, 180) is None


def test_a_clock_may_be_a_minute_ahead():
    assert current(Reading(5.0, NOW + 60), NOW, 180) == 5
    assert current(Reading(5.0, NOW + 60.5), NOW, 180) is None


def silent(ready=2, **readings):
    return pool_seen(ready, load=None, **{name: Reading(value, NOW) for name, value in readings.items()})


def test_what_the_load_balancer_counts_is_the_load_in_requests_per_second():
    svc = service(load={"unit": "requests_per_second"})
    demand, _ = demand_of(seen(pools={"l4": silent(rate_rps=2.0)}), svc=svc)
    assert demand.loads["l4"] == 2.0


def test_littles_law_takes_the_time_of_a_lone_request_where_no_response_time_was_seen():
    svc = service(pool(slowdown=4.0, service_seconds=2.0))
    demand, _ = demand_of(seen(pools={"l4": silent(rate_rps=2.0)}), svc=svc)
    assert demand.loads["l4"] == pytest.approx(1.0)  # 2 rps * 2 s / 4


def test_the_first_silent_pool_does_not_hide_the_loads_of_the_others():
    svc = service(pool("l4"), pool("h100"))
    demand, _ = demand_of(seen(pools={"l4": silent(), "h100": pool_seen(2, load=20)}), svc=svc)
    assert demand.loads == {"l4": None, "h100": 20}
    assert demand.utilization is None
    assert demand.response_time is None


def test_the_work_of_all_pools_adds_up():
    svc = service(pool("l4"), pool("h100", throughput_rps=6.0))
    demand, _ = demand_of(seen(pools={"l4": pool_seen(2, load=20), "h100": pool_seen(1, load=10)}), svc=svc)
    assert demand.rps == pytest.approx(2 * 2 * 0.5 + 6 * 0.5)


def test_a_pool_that_is_seen_to_carry_less_is_fuller_and_does_less():
    """C is 16 and not 20, throughput 1.6 rps and not 2: 16 in flight at two instances are half, and 1.6 rps."""
    state = State(at=NOW - 60, since=NOW - 3600, pools={"l4": PoolState(correction=0.8)})
    demand, _ = demand_of(seen(pools={"l4": pool_seen(2, load=16)}), state)
    assert demand.utilization == pytest.approx(1.0)
    assert demand.rps == pytest.approx(1.6)


def busy(running, waiting, ready=2):
    return pool_seen(
        ready, load=running + waiting, running=Reading(running, NOW), waiting=Reading(waiting, NOW) if waiting else None
    )


def test_requests_that_wait_do_no_work():
    demand, _ = demand_of(seen(pools={"l4": busy(20.0, 10.0)}))
    assert demand.rps == pytest.approx(2.0)  # 20 in service at two instances of C = 20
    assert demand.utilization == pytest.approx(1.5)


def test_response_time_counts_what_waits_and_what_is_in_service():
    demand, _ = demand_of(seen(pools={"l4": busy(20.0, 10.0)}))
    assert demand.response_time == pytest.approx(30 / 2 / 20)
    demand, _ = demand_of(seen(pools={"l4": busy(20.0, 0.0)}))
    assert demand.response_time == pytest.approx(20 / 2 / 20)


def taught(view, arrivals=1.0, **before):
    state = remembered(**({"at": NOW - 60, "since": NOW - 3600} | before))
    return demand_of(seen(arrivals=arrivals, pools={"l4": view}), state)[1].demand.request_weight


def test_more_requests_waiting_than_instances_teach_nothing_of_a_requests_weight():
    assert taught(busy(20.0, 2.0)) > 1.0
    assert taught(busy(20.0, 3.0)) == 1.0


def test_instances_that_are_all_but_full_teach_nothing_of_a_requests_weight():
    assert taught(busy(37.9, 0.0)) > 1.0
    assert taught(busy(40 * SATURATED, 0.0)) == 1.0


def test_one_full_pool_is_enough_to_teach_nothing():
    svc = service(pool("l4"), pool("h100"))
    view = seen(arrivals=1.0, pools={"l4": busy(40.0, 0.0), "h100": busy(10.0, 0.0)})
    assert demand_of(view, svc=svc)[1].demand.request_weight == 1.0


def test_the_last_answers_after_the_last_arrival_teach_nothing_of_a_requests_weight():
    assert taught(busy(20.0, 0.0), arrivals=0.0) == 1.0


def test_the_weight_of_a_request_moves_halfway_in_a_quarter_of_an_hour():
    """1 rps that makes 2 rps of work, looked at after a minute, twice at once, and after hours without a look."""
    assert taught(busy(20.0, 0.0)) == pytest.approx(2 - 0.5 ** (60 / 900))
    assert taught(busy(20.0, 0.0), at=NOW) == 1.0
    assert taught(busy(20.0, 0.0), at=NOW - 7200) == pytest.approx(2 - 0.5 ** (600 / 900))


def test_little_work_teaches_the_weight_of_a_request_too():
    assert taught(busy(4.0, 0.0), arrivals=0.1) > 1.0  # 0.4 rps of work


def test_the_backlog_is_counted_in_typical_requests():
    state = remembered(at=NOW - 60, since=NOW - 3600, request_weight=2.0)
    demand, _ = demand_of(seen(arrivals=1.0, pools={"l4": busy(20.0, 3.0)}), state)
    assert demand.backlog == pytest.approx(6.0)


def test_a_service_whose_last_requests_are_still_served_is_not_idle():
    demand, _ = demand_of(seen(arrivals=0.0, pools={"l4": busy(1.0, 0.0)}))
    assert not demand.idle


def test_requests_that_find_no_target_keep_a_service_from_being_idle():
    view = seen(rejected_rps=Reading(1.5, NOW), pools={"l4": pool_seen(1, rate_rps=Reading(0.0, NOW))})
    assert not demand_of(view)[0].idle
    stale = seen(rejected_rps=Reading(1.5, NOW - 181), pools={"l4": pool_seen(1, rate_rps=Reading(0.0, NOW))})
    assert demand_of(stale)[0].idle


def test_demand_is_new_only_where_its_interval_ends_later_than_the_last_ones():
    state = remembered(at=NOW - 60, since=NOW - 3600, series=(Point(NOW - 60, 1.0),))
    assert demand_of(seen(arrivals=1.0), state)[0].fresh
    assert not demand_of(seen(at=NOW - 60, arrivals=1.0), state)[0].fresh
    assert demand_of(seen(arrivals=1.0), State(at=NOW - 60))[0].fresh
    assert not demand_of(seen(pools={"l4": silent()}), State(at=NOW - 60))[0].fresh


def test_nothing_stands_and_nothing_is_seen_is_unknown_and_not_zero():
    demand, _ = demand_of(seen(pools={"l4": pool_seen(0, load=None)}))
    assert demand.rps is None


def test_what_the_pools_were_given_is_the_arrivals_where_the_service_has_no_count_of_its_own():
    svc = service(pool("l4"), pool("h100"))
    older = pool_seen(1, load=5, rate_rps=Reading(3.0, NOW - 60))
    demand, _ = demand_of(seen(pools={"l4": pool_seen(1, load=5, rate_rps=Reading(2.0, NOW)), "h100": older}), svc=svc)
    assert demand.counted
    assert demand.at == NOW - 60
    # 1 rps of work is done where 5 arrived; a request is taken for half a typical one at least
    assert demand.rps == pytest.approx(5 * (0.5 + 0.5 * 0.5 ** (60 / 900)))


@pytest.mark.parametrize("other", [{}, {"rate_rps": Reading(3.0, NOW - 181)}])
def test_arrivals_are_unknown_while_a_serving_pool_does_not_say_what_it_was_given(other):
    svc = service(pool("l4"), pool("h100"))
    pools = {"l4": pool_seen(1, load=5, rate_rps=Reading(2.0, NOW)), "h100": pool_seen(1, load=5, **other)}
    demand, _ = demand_of(seen(pools=pools), svc=svc)
    assert not demand.counted
    assert demand.rps == pytest.approx(1.0)  # work done


BEFORE = {"at": NOW - 60, "since": NOW - 3600}


def spread(arrivals, burst=None, at=NOW, now=NOW, **before):
    view = seen(at=at, arrivals=arrivals, burst_rps=burst)
    return demand_of(view, remembered(**(BEFORE | before)), now=now)[1]


def test_ten_seconds_wait_until_the_minute_that_they_are_part_of_is_seen():
    first = spread(10.0, Reading(12.0, NOW - 10), at=NOW - 60)
    assert first.demand.newest == (Point(NOW - 10, 12.0),)
    assert first.demand.dispersion is None
    # 120 where 100 were to be expected: 20^2 / 100 = 4, which moves 1 by 3 %
    then = spread(10.0, at=NOW, now=NOW + 60, newest=first.demand.newest, dispersed_at=first.demand.dispersed_at)
    assert then.demand.dispersion == pytest.approx(DISPERSION_KEPT * 1 + (1 - DISPERSION_KEPT) * 4)
    assert then.demand.newest == ()
    assert then.demand.dispersed_at == NOW - 10


def test_burstiness_moves_on_from_what_was_known_of_it():
    after = spread(10.0, newest=(Point(NOW - 10, 12.0), Point(NOW - 5, 8.0)), dispersion=3.0)
    assert after.demand.dispersion == pytest.approx(DISPERSION_KEPT * (DISPERSION_KEPT * 3 + 0.12) + 0.12)


def test_one_burst_does_not_make_a_service_bursty_for_hours():
    after = spread(10.0, newest=(Point(NOW - 10, 1000.0),))
    assert after.demand.dispersion == pytest.approx(DISPERSION_KEPT + (1 - DISPERSION_KEPT) * MOST_DISPERSED)


@pytest.mark.parametrize(("age", "counts"), [(0, True), (59.5, True), (60, False), (60.5, False)])
def test_ten_seconds_are_held_against_their_own_minute_and_no_other(age, counts):
    after = spread(10.0, newest=(Point(NOW - age, 12.0),))
    assert (after.demand.dispersion is not None) == counts
    assert after.demand.newest == ()


@pytest.mark.parametrize(("arrivals", "counts"), [(0.1, True), (0.099, False), (0.0, False)])
def test_less_than_one_request_in_ten_seconds_says_nothing_of_burstiness(arrivals, counts):
    after = spread(arrivals, newest=(Point(NOW - 10, 0.5),))
    assert after.demand.dispersion == (pytest.approx(DISPERSION_KEPT + (1 - DISPERSION_KEPT) * 16) if counts else None)


@pytest.mark.parametrize(("age", "taken"), [(120, True), (120.5, False)])
def test_ten_seconds_of_more_than_two_minutes_ago_are_not_waited_with(age, taken):
    assert bool(spread(10.0, Reading(12.0, NOW - age), at=NOW - 130).demand.newest) == taken


def test_the_same_ten_seconds_are_taken_once():
    waiting = tuple(Point(NOW - age, 9.0) for age in (50, 30, 10))
    assert spread(10.0, Reading(12.0, NOW - 10), at=NOW - 60, newest=waiting).demand.newest == waiting
    held = spread(10.0, Reading(12.0, NOW - 10), dispersed_at=NOW - 10)
    assert held.demand.newest == ()
    assert held.demand.dispersion is None


def test_only_the_last_five_are_waited_with():
    waiting = tuple(Point(NOW - age, 9.0) for age in (55, 45, 35, 25, 15))
    after = spread(10.0, Reading(12.0, NOW - 5), at=NOW - 60, newest=waiting)
    assert after.demand.newest == (*waiting[1:], Point(NOW - 5, 12.0))


def burst_at(newest, arrivals, **before):
    view = seen(at=NOW - 60, arrivals=arrivals, burst_rps=Reading(newest, NOW - 10))
    return demand_of(view, remembered(**(BEFORE | before)))[0].burst


def test_a_burst_stands_out_of_the_noise_by_four_standard_deviations():
    """At 0.5 rps 5 are expected in 10 s, and 5 + 4*sqrt(5) = 13.9."""
    assert burst_at(1.4, 0.5) is not None
    assert burst_at(1.39, 0.5) is None


def test_the_noise_of_bursty_arrivals_is_wider():
    """Four times the variance: 5 + 4*sqrt(4*5) = 22.9."""
    assert burst_at(2.2, 0.5, dispersion=4.0) is None
    assert burst_at(2.3, 0.5, dispersion=4.0) is not None
    assert burst_at(1.39, 0.5, dispersion=0.2) is None


def test_where_next_to_nothing_is_expected_more_than_four_requests_are_a_burst():
    """At 0.1 rps 1 is expected: 1 + 4."""
    assert burst_at(0.51, 0.1) is not None
    assert burst_at(0.49, 0.1) is None
    assert burst_at(0.39, 0.0) is None
    assert burst_at(0.41, 0.0) is not None


def test_a_burst_is_counted_in_typical_requests():
    burst = burst_at(30.0, 10.0, request_weight=2.0, at=NOW)
    assert burst is not None
    assert burst.rps == pytest.approx(60.0)
    assert burst.at == NOW - 10


def test_ten_seconds_without_a_minute_to_hold_them_against_are_no_burst():
    demand, _ = demand_of(seen(burst_rps=Reading(30.0, NOW - 10), pools={"l4": pool_seen(2, load=20)}))
    assert demand.burst is None
