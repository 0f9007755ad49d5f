"""What is asked of a service, from what was seen."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.arrival_counts import DISPERSION_HALF_LIFE_SECONDS, DISPERSION_SECONDS, MOST_DISPERSED
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.demand import SATURATED, measure
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


def engines(newest, minute, at=NOW - 10):
    """What the engines count: requests per second of the newest 10 s, and of the load balancer's minute."""
    return {"burst_rps": Reading(newest, at), "matched_rps": Reading(minute, NOW - 60)}


def test_ten_seconds_far_above_the_minute_are_a_burst():
    demand, _ = demand_of(seen(arrivals=10.0, **engines(30.0, 10.0)))
    assert demand.burst is not None
    assert demand.burst.rps == pytest.approx(30.0)


def test_noise_of_a_small_count_is_no_burst():
    demand, _ = demand_of(seen(arrivals=0.5, **engines(0.9, 0.5)))
    assert demand.burst is None


def test_an_old_ten_seconds_is_no_burst():
    demand, _ = demand_of(seen(arrivals=10.0, **engines(30.0, 10.0, at=NOW - 61)))
    assert demand.burst is None


def test_the_burst_factor_is_the_policys():
    svc = service(burst={"factor": 4})
    demand, _ = demand_of(seen(arrivals=10.0, **engines(30.0, 10.0)), svc=svc)
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


@pytest.mark.parametrize(("waited", "raises"), [(700.0, False), (600.0, True), (500.0, True), (None, False)])
def test_full_instances_whose_queue_does_not_shrink_raise_the_weight_of_a_request(waited, raises):
    """Two do 4 rps of work and 1 rps arrives: one request is worth 4 at least, unless an older queue is worked off."""
    queue = None if waited is None else Point(NOW - 60, waited)
    assert taught(busy(40.0, 600.0), queue=queue) == pytest.approx(1 + 2 * (1 - 0.5 ** (60 / 300)) if raises else 1.0)


def test_full_instances_never_lower_the_weight_of_a_request():
    queue = Point(NOW - 60, 10.0)
    assert taught(busy(40.0, 600.0), arrivals=2.0, request_weight=3.0, queue=queue) == 3.0


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
    # 1 rps of work is done where 5 arrived; a minute counts for a third of the weight known at least
    assert demand.rps == pytest.approx(5 * (1 / 3 + 2 / 3 * 0.5 ** (60 / 900)))


def test_the_zeros_of_empty_pools_do_not_stand_in_for_a_serving_pool_whose_rate_is_not_known():
    svc = service(pool("l4"), pool("l40s"), pool("h100"))
    nothing = Reading(0.0, NOW)
    pools = {
        "l4": pool_seen(0, load=0.0, rate_rps=nothing),
        "l40s": pool_seen(2, load=20, rate_rps=None),
        "h100": pool_seen(0, load=0.0, rate_rps=nothing),
    }
    demand, _ = demand_of(seen(pools=pools), svc=svc)
    assert demand.rps == pytest.approx(2.0)
    assert not demand.counted


@pytest.mark.parametrize("other", [{}, {"rate_rps": Reading(3.0, NOW - 181)}])
def test_arrivals_are_unknown_while_a_serving_pool_does_not_say_what_it_was_given(other):
    svc = service(pool("l4"), pool("h100"))
    pools = {"l4": pool_seen(1, load=5, rate_rps=Reading(2.0, NOW)), "h100": pool_seen(1, load=5, **other)}
    demand, _ = demand_of(seen(pools=pools), svc=svc)
    assert not demand.counted
    assert demand.rps == pytest.approx(1.0)  # work done


BEFORE = {"at": NOW - 60, "since": NOW - 3600}


def dispersion_of(samples, every=60.0, before=1.0, known=DISPERSION_SECONDS):
    """What is known of burstiness after these samples of it, `every` so many seconds."""
    state = remembered(at=NOW - 60, dispersion=before, dispersed_at=NOW, dispersed_seconds=known)
    for n, sample in enumerate(samples, start=1):
        at = NOW + n * every
        state = demand_of(seen(at=at, dispersion=Reading(sample, at)), state, now=at)[1]
    return state.demand.dispersion


def test_half_of_what_is_known_of_burstiness_is_of_the_last_23_minutes():
    assert DISPERSION_HALF_LIFE_SECONDS == 23 * 60
    assert dispersion_of([3.0] * 23) == pytest.approx(2.0)


@given(st.sampled_from([10, 30, 60, 120]), st.floats(0, MOST_DISPERSED))
def test_burstiness_is_learnt_by_time_however_often_the_service_is_looked_at(every, sample):
    """Half an hour of the same burstiness: the same whether it was seen 180 times or 15."""
    seconds = 1800
    left = 0.5 ** (seconds / DISPERSION_HALF_LIFE_SECONDS)
    assert dispersion_of([sample] * (seconds // every), every) == pytest.approx(left + (1 - left) * sample)


def test_one_burst_does_not_make_a_service_bursty_for_hours():
    kept = 0.5 ** (1 / 23)
    assert dispersion_of([10_000.0]) == pytest.approx(kept + (1 - kept) * MOST_DISPERSED)


def test_a_new_service_is_taken_for_poisson_for_two_minutes_only():
    """After ten minutes at 14 the prior weighs a sixth; by half-lives alone it would still have weighed 74 %."""
    assert dispersion_of([14.0] * 10, known=120.0) == pytest.approx(12, abs=0.5)


def test_the_same_minute_teaches_once():
    state = remembered(**BEFORE, dispersion=2.0, dispersed_at=NOW)
    after = demand_of(seen(dispersion=Reading(9.0, NOW)), state)[1]
    assert after.demand.dispersion == 2.0


def test_a_first_minute_counts_as_a_minute_and_a_long_pause_as_ten():
    view = seen(dispersion=Reading(3.0, NOW))
    first = demand_of(view, remembered(**BEFORE, dispersed_seconds=DISPERSION_SECONDS))[1]
    assert first.demand.dispersion == pytest.approx(3 - 2 * 0.5 ** (1 / 23))
    known = {"dispersed_at": NOW - 86400, "dispersed_seconds": DISPERSION_SECONDS}
    late = demand_of(view, remembered(**BEFORE, **known))[1]
    assert late.demand.dispersion == pytest.approx(3 - 2 * 0.5 ** (10 / 23))


def burst_at(newest, minute, **before):
    view = seen(at=NOW - 60, arrivals=minute, **engines(newest, minute))
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


def test_ten_seconds_of_the_engines_are_not_held_against_the_load_balancers_minute():
    """5 rps of requests for 8 answers each are 40 of the engines: no burst, whatever the load balancer counts."""
    assert demand_of(seen(arrivals=5.0, burst_rps=Reading(40.0, NOW - 10)))[0].burst is None
    assert demand_of(seen(arrivals=5.0, **engines(40.0, 40.0)))[0].burst is None


def test_where_the_load_balancer_is_silent_the_engines_newest_minute_is_the_usual():
    view = seen(burst_rps=Reading(30.0, NOW - 10), engine_rps=Reading(10.0, NOW - 10))
    assert demand_of(view)[0].burst is not None


def counting(arrivals, matched, view=None, **before):
    """Demand, and what was learnt, where balancer and engines count so many requests per second."""
    at_engines = {} if matched is None else {"matched_rps": Reading(matched, NOW), "engine_rps": Reading(matched, NOW)}
    observation = seen(
        arrivals=arrivals, pools={"l4": view or busy(2 * matched if matched else 4.0, 0.0)}, **at_engines
    )
    demand, state = demand_of(observation, remembered(**(BEFORE | before)))
    return demand.rps / state.demand.request_weight, state.demand


@pytest.mark.parametrize(("arrivals", "engines_count"), [(1.0, 8.0), (10.0, 1.0), (0.0, 3.0), (2.0, 1.0)])
def test_where_the_two_counts_differ_demand_is_what_reaches_the_engines(arrivals, engines_count):
    """Eight answers a request, 9 of 10 GETs, traffic that passes no balancer, every second one a GET."""
    learnt = {"answers": engines_count / arrivals, "answered": 9000.0} if arrivals else {}
    view = busy(1.0, 0.0, ready=20)
    assert counting(arrivals, engines_count, view, **learnt)[0] == pytest.approx(engines_count)


def test_where_the_two_counts_agree_demand_is_what_the_load_balancer_counted():
    assert counting(10.0, 10.3)[0] == 10.0
    assert counting(10.0, 9.7)[0] == 10.0


def test_the_ratio_of_the_two_counts_stands_in_for_engines_that_are_silent():
    assert counting(2.0, None, answers=8.0, answered=9000.0)[0] == pytest.approx(16.0)


def test_requests_that_clients_give_up_are_still_demand():
    """Full engines finish 4 of 10 requests per second, and the clients of the others hang up."""
    full = pool_seen(2, load=60, running=Reading(40.0, NOW), waiting=Reading(20.0, NOW))
    rps, memory = counting(10.0, 4.0, full)
    assert rps == 10.0
    assert memory.answers == 1.0


def test_engines_far_above_the_load_balancer_count_at_once():
    """A batch job beside the balancer begins: nothing was learnt of it yet."""
    assert counting(10.0, 60.0, busy(1.0, 0.0, ready=60))[0] == pytest.approx(60.0)


def test_the_ratio_is_learnt_from_sums_and_once_a_minute():
    # 60 requests, 480 answers, and 30 requests' worth of the old ratio of 1
    _, memory = counting(1.0, 8.0, busy(1.0, 0.0, ready=20))
    assert memory.answers == pytest.approx((30 + 480) / 90)
    assert counting(1.0, 8.0, busy(1.0, 0.0), answers=3.0, answered=90.0, answered_at=NOW)[1].answers == 3.0


def test_a_weight_far_from_one_is_learnt_where_the_engines_do_not_tell_what_ends():
    """8 answers a request, 2.5 requests per second: 20 rps of work at 12 instances, seen for half an hour."""
    state = remembered(at=NOW - 60, since=NOW - 60)
    view = pool_seen(12, load=200.0)
    for minute in range(30):
        at = NOW + 60 * minute
        fresh = {"load": Reading(200.0, at), "running": Reading(200.0, at), "waiting": Reading(0.0, at)}
        demand, state = demand_of(seen(at=at, arrivals=2.5, pools={"l4": replace(view, **fresh)}), state, now=at)
    assert demand.rps == pytest.approx(20.0, rel=0.15)


def test_load_is_work_of_the_instances_that_it_was_counted_at():
    """36 of 40 at one instance, and three more that have joined since: 0.9 and not 4 * share(9 / 40)."""
    svc = service(pool(slowdown=3.0, capacity=40.0))
    view = pool_seen(4, load=36.0, publishers=1.0)
    assert demand_of(seen(pools={"l4": view}), svc=svc)[0].rps == pytest.approx(2.0 * 0.9 * 3 / (1 + 2 * 0.9))


def test_while_instances_join_their_load_teaches_nothing_of_a_request():
    view = pool_seen(4, load=20.0, publishers=1.0)
    assert taught(view) == 1.0
