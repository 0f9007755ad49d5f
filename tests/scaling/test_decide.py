"""One evaluation, whole: what a user would see the model do."""

from dataclasses import replace

import pytest

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.fleet import counted_share, survey
from gpu_fleet.scaling.observation import CapacityError, JobQueue, Phase, Reading
from gpu_fleet.scaling.record import Record, dump, load
from gpu_fleet.scaling.sizing import TAIL_BUDGET, usable_share
from gpu_fleet.scaling.state import Hindsight, Pending, Point, PoolState, Season, State
from tests.scaling.builders import NOW, changed, instances, pool, pool_seen, remembered, seen, service

LIVED = remembered(at=NOW - 60, since=NOW - 7200, request_weight=1.0, dispersion=1.0)


def one(svc, view, arrivals=None, state=LIVED, now=NOW, **changes):
    return decide(svc, seen(at=now, arrivals=arrivals, pools={"l4": view}, **changes), state, now)


def test_a_first_run_without_state_holds_counts_and_weights():
    decision = one(service(), pool_seen(3, load=60, weight=77), arrivals=9.0, state=State())
    assert decision.held
    assert decision.targets["l4"].desired == 3
    assert "guard.first_run" in decision.codes
    assert decision.signals.ratio > 1


def test_missing_data_holds_and_says_so():
    decision = one(service(), pool_seen(5, load=None))
    assert decision.held
    assert decision.targets["l4"].desired == 5
    assert "demand.missing" in decision.codes
    assert decision.signals.demand_rps is None


def test_a_hold_still_keeps_the_bounds():
    svc = service(pool(max_instances=4))
    assert one(svc, pool_seen(6, load=None)).targets["l4"].desired == 4


def test_too_little_capacity_is_made_good_at_once():
    decision = one(service(), pool_seen(2, load=30), arrivals=6.0)
    assert decision.targets["l4"].desired >= 4
    assert "guard.out" in decision.codes
    assert not decision.held


def test_instances_that_come_are_not_ordered_twice():
    svc = service()
    first = one(svc, pool_seen(2, load=30), arrivals=6.0)
    more = first.targets["l4"].desired - 2
    view = pool_seen(2, starting=more, load=30, at=NOW + 60)
    second = one(svc, view, arrivals=6.0, state=first.state, now=NOW + 60)
    assert second.targets["l4"].desired == first.targets["l4"].desired


def test_a_boot_that_never_ends_is_replaced():
    view = pool_seen(2, starting=2, load=30, starting_since=NOW - 1300)
    fine = pool_seen(2, starting=2, load=30)
    assert (
        one(service(), view, arrivals=6.0).targets["l4"].desired
        >= one(service(), fine, arrivals=6.0).targets["l4"].desired + 2
    )


def test_less_is_taken_only_when_the_window_agrees():
    svc = service(horizontal={"scale_in_stabilization_seconds": 300})
    state, now, desired = LIVED, NOW, []
    for minute in range(9):
        now = NOW + 60 * minute
        view = pool_seen(8, load=100 if minute == 0 else 20, at=now, instance_loads=[2.5] * 8)
        decision = one(svc, view, arrivals=9.0 if minute == 0 else 2.0, state=state, now=now)
        state = decision.state
        desired.append(decision.targets["l4"].desired)
    assert desired[:5] == [8] * 5
    assert desired[-1] < 8


def test_the_least_busy_leave():
    view = pool_seen(6, load=12, instance_loads=[0, 4, 1, 3, 2, 2])
    decision = one(service(availability={"min_instances": 2}), view, arrivals=1.2)
    assert decision.targets["l4"].take[:2] == ("i-0", "i-2")
    assert decision.targets["l4"].desired == 6 - len(decision.targets["l4"].take)


def test_a_steady_service_is_left_alone_for_an_hour():
    svc, state = service(), LIVED
    counts = set()
    desired = 5
    for minute in range(240):
        now = NOW + 60 * minute
        view = pool_seen(desired, load=48, at=now, instance_loads=[48 / desired] * desired)
        decision = one(svc, view, arrivals=4.8, state=state, now=now)
        state, desired = decision.state, decision.targets["l4"].desired
        if minute >= 180:
            counts.add(desired)
    assert len(counts) == 1


def test_zero_traffic_is_zero_and_shrinks_to_the_minimum():
    svc, state, desired = service(pool(min_instances=1)), LIVED, 8
    for minute in range(180):
        now = NOW + 60 * minute
        view = pool_seen(desired, load=0, at=now, instance_loads=[0] * desired)
        decision = one(svc, view, arrivals=0.0, state=state, now=now)
        state, desired = decision.state, decision.targets["l4"].desired
    assert desired == 1


def test_a_cheaper_pool_takes_over_make_before_break():
    """H100 serves; the L4s that would do for less come first, then the H100 goes."""
    l4 = pool("l4", min_instances=0)
    h100 = pool("h100", min_instances=0, throughput_rps=10.0, capacity=100.0, on_demand_usd_per_hour=6.0)
    svc = service(l4, h100, routing={"slow_start_seconds": 0})
    state = LIVED
    desired = {"l4": 0, "h100": 1}
    ready = {"l4": 0, "h100": 1}
    seen_both = False
    for minute in range(60):
        now = NOW + 60 * minute
        total = 2.0 * ready["l4"] + 10.0 * ready["h100"]
        assert total >= 3.0, "capacity fell below the demand"
        views = {
            name: pool_seen(
                ready[name],
                starting=desired[name] - ready[name],
                load=3.0 / total * ready[name] * (20 if name == "l4" else 100),
                at=now,
                instance_loads=[3.0] * ready[name],
            )
            for name in desired
        }
        decision = decide(svc, seen(at=now, arrivals=3.0, pools=views), state, now)
        state = decision.state
        for name, target in decision.targets.items():
            left = sum(1 for t in target.take if t.startswith("i"))
            ready[name] -= left
            if desired[name] > ready[name] and minute % 6 == 5:
                ready[name] = min(desired[name], target.desired)
            desired[name] = target.desired
        seen_both = seen_both or (desired["l4"] > 0 and desired["h100"] > 0)
    assert seen_both
    assert desired["h100"] == 0
    assert desired["l4"] >= 2


def test_a_pool_without_instances_to_be_had_is_left_for_the_next_best():
    l4 = pool("l4", min_instances=0)
    l40s = pool("l40s", min_instances=0, throughput_rps=4.0, capacity=40.0, on_demand_usd_per_hour=2.0)
    svc = service(l4, l40s)
    error = (CapacityError("", NOW - 30),)
    views = {"l4": replace(pool_seen(2, load=38), desired=4, capacity_errors=error), "l40s": pool_seen(0, load=None)}
    decision = decide(svc, seen(arrivals=6.0, pools=views), LIVED, NOW)
    assert decision.targets["l40s"].desired >= 1
    assert decision.targets["l4"].desired <= 4


def test_a_burst_is_met_at_once_and_held():
    svc = service(burst={"hold_seconds": 300})
    view = pool_seen(4, load=20, instance_loads=[5] * 4)
    calm = one(svc, view, arrivals=2.0)
    burst = one(svc, view, arrivals=2.0, burst_rps=Reading(12.0, NOW - 10), matched_rps=Reading(2.0, NOW))
    assert burst.targets["l4"].desired > calm.targets["l4"].desired
    assert "demand.burst" in burst.codes
    desired = burst.targets["l4"].desired
    view = pool_seen(desired, load=20, at=NOW + 240, instance_loads=[2] * desired)
    assert one(svc, view, 2.0, burst.state, NOW + 240).targets["l4"].desired == desired
    let_go = service(burst={"hold_seconds": 60})
    assert one(let_go, view, 2.0, burst.state, NOW + 240).targets["l4"].desired < desired


def test_a_node_signal_over_its_threshold_asks_for_more_whatever_the_load_says():
    view = pool_seen(4, load=20, instance_loads=[5] * 4)
    hot = replace(view, kv_cache_percent=Reading(99.0, NOW))
    svc = service(thresholds={"kv_cache_percent": 80})
    assert one(svc, hot, arrivals=2.0).targets["l4"].desired > 4
    assert "sizing.threshold" in one(svc, hot, arrivals=2.0).codes


@pytest.mark.parametrize("signal", ["cpu_percent", "memory_percent", "gpu_percent"])
def test_each_node_signal_has_its_threshold(signal):
    view = replace(pool_seen(4, load=20, instance_loads=[5] * 4), **{signal: Reading(90.0, NOW)})
    assert one(service(thresholds={signal: 60}), view, arrivals=2.0).targets["l4"].desired > 4
    assert one(service(), view, arrivals=2.0).targets["l4"].desired <= 4


def test_network_latency_has_its_threshold():
    view = replace(pool_seen(4, load=20, instance_loads=[5] * 4), network_latency_seconds=Reading(0.5, NOW))
    svc = service(thresholds={"network_latency_seconds": 0.2})
    assert one(svc, view, arrivals=2.0).targets["l4"].desired > 4


def test_a_service_sleeps_and_wakes_with_the_first_request():
    svc = service(pool(min_instances=0), zero={"idle_seconds": 300, "wake_instances": 2})
    state, desired = LIVED, 1
    for minute in range(8):
        now = NOW + 60 * minute
        view = pool_seen(desired, load=0.0 if desired else None, at=now)
        decision = one(svc, view, arrivals=0.0, state=state, now=now)
        state, desired = decision.state, decision.targets["l4"].desired
    assert desired == 0
    assert "zero.asleep" in decision.codes
    now += 60
    woken = one(svc, pool_seen(0, load=None), 0.0, state, now, rejected_rps=Reading(0.02, now))
    assert woken.targets["l4"].desired == 2


def test_a_sleeping_service_whose_metrics_are_missing_sleeps_on():
    svc = service(pool(min_instances=0), zero={"idle_seconds": 300})
    asleep = changed(LIVED, asleep=True, idle_since=NOW - 900)
    decision = one(svc, pool_seen(0, load=None), None, asleep)
    assert decision.targets["l4"].desired == 0


def test_the_step_out_is_the_policys():
    svc = service(horizontal={"max_step_out": 3})
    assert one(svc, pool_seen(2, load=40), arrivals=30.0).targets["l4"].desired == 5


def test_the_availability_floor_is_kept_whatever_the_load():
    view = pool_seen(3, load=0, instance_loads=[0] * 3)
    assert one(service(availability={"min_instances": 3}), view, arrivals=0.0).targets["l4"].desired == 3
    assert (
        one(service(availability={"min_zones": 2}), pool_seen(2, load=0, instance_loads=[0, 0]), 0.0)
        .targets["l4"]
        .desired
        == 2
    )


def test_a_type_that_cannot_meet_the_slo_is_not_used_for_it():
    slow = pool("l4", min_instances=0, reaches_slo=False)
    good = pool("h100", min_instances=0, on_demand_usd_per_hour=6.0)
    views = {"l4": pool_seen(0, load=None), "h100": pool_seen(2, load=38)}
    decision = decide(service(slow, good), seen(arrivals=8.0, pools=views), LIVED, NOW)
    assert decision.targets["l4"].desired == 0
    assert decision.targets["h100"].desired > 2


def test_types_stay_where_vertical_scaling_is_off():
    cheap = pool("h100", min_instances=0, throughput_rps=20.0, capacity=200.0)
    views = {"l4": pool_seen(2, load=38), "h100": pool_seen(0, load=None)}
    off = service(pool("l4"), cheap, vertical={"method": "off"})
    assert decide(off, seen(arrivals=8.0, pools=views), LIVED, NOW).targets["h100"].desired == 0
    on = service(pool("l4"), cheap)
    assert decide(on, seen(arrivals=8.0, pools=views), LIVED, NOW).targets["h100"].desired > 0


def test_the_article_threshold_is_the_mode_of_a_policy_without_slo():
    svc = service(slo=None, sizing={"target_utilization": 0.5})
    # 4 rps of work at half of 2 rps each: four instances, and what the forecast's head-room adds
    assert one(svc, pool_seen(2, load=30), arrivals=4.0).targets["l4"].desired >= 4
    assert "sizing.threshold" in one(svc, pool_seen(2, load=30), arrivals=4.0).codes


def test_a_backlog_asks_for_more_and_is_drained_in_the_policys_time():
    view = pool_seen(2, load=160, running=Reading(40.0, NOW), waiting=Reading(120.0, NOW))
    slow = one(service(sizing={"drain_backlog_seconds": 1200}), view, arrivals=4.0)
    fast = one(service(sizing={"drain_backlog_seconds": 60}), view, arrivals=4.0)
    assert fast.targets["l4"].desired > slow.targets["l4"].desired


def test_what_spot_does_not_deliver_comes_on_demand():
    spotty = pool(spot_percent=50, spot_usd_per_hour=0.3)
    nodes = instances(3) + instances(1, prefix="spot", spot=True)
    error = (CapacityError("", NOW - 30, spot=True),)
    view = replace(pool_seen(0, load=40), desired=6, instances=nodes, capacity_errors=error, on_demand_base=0)
    assert one(service(spotty), view, arrivals=7.0).targets["l4"].on_demand_base == 3


def test_a_lost_pool_in_the_observation_is_an_error():
    with pytest.raises(ValueError, match="pool l4 of service chat is missing"):
        decide(service(), seen(pools={}), LIVED, NOW)


def test_the_same_input_gives_the_same_decision_and_survives_the_record():
    svc = service()
    observation = seen(arrivals=6.0, pools={"l4": pool_seen(3, load=50, instance_loads=[16, 17, 17])})
    decision = decide(svc, observation, LIVED, NOW)
    record = Record(svc, observation, LIVED, NOW, decision)
    again = load(Record, dump(record))
    assert decide(again.service, again.observation, again.state, again.now) == decision
    assert again.decision == decision


def test_unhealthy_nodes_carry_nothing_and_are_made_up_for():
    sick = pool_seen(2, unhealthy=2, load=36)
    well = pool_seen(4, load=36, instance_loads=[9] * 4)
    assert (
        one(service(), sick, arrivals=4.0).targets["l4"].desired
        > one(service(), well, arrivals=4.0).targets["l4"].desired
    )


def test_draining_nodes_are_no_capacity():
    view = replace(pool_seen(2, load=36), instances=(*pool_seen(2).instances, *instances(4, Phase.DRAINING, "d")))
    assert one(service(), view, arrivals=6.0).targets["l4"].desired >= 4


def through(svc, view, minutes=1, **loads):
    """Decide minute by minute; what is ordered is there a minute later, still starting, and what is taken is gone."""
    state, now = LIVED, NOW
    for minute in range(minutes):
        now = NOW + 60 * minute
        view = replace(
            view, load=Reading(loads["load"], now), running=Reading(loads["load"], now), waiting=Reading(0.0, now)
        )
        decision = one(svc, view, arrivals=loads["arrivals"], state=state, now=now)
        state, target = decision.state, decision.targets["l4"]
        staying = tuple(i for i in view.instances if i.id not in target.take)
        new = instances(max(0, target.desired - len(staying)), Phase.STARTING, f"new{minute}", since=now)
        view = replace(view, desired=target.desired, instances=(*staying, *new))
    return decision, view


def test_a_boot_that_never_ends_in_a_pool_at_its_maximum_leaves_and_is_ordered_again():
    svc = service(pool(max_instances=4))
    stuck = pool_seen(2, starting=2, load=38, starting_since=NOW - 1300)
    first, after = through(svc, stuck, load=38, arrivals=12.0)
    assert first.targets["l4"].take == ("s-0", "s-1")
    assert first.targets["l4"].desired == 2
    assert "guard.stuck" in first.codes
    second, after = through(svc, stuck, 2, load=38, arrivals=12.0)
    assert second.targets["l4"].desired == 4
    assert {i.id for i in after.instances if i.phase is Phase.STARTING} == {"new1-0", "new1-1"}


def test_a_boot_that_never_ends_is_replaced_first_and_leaves_then():
    """Four are needed: two are ordered while the two stuck ones stand, then those go; nothing is left to pay for."""
    stuck = pool_seen(2, starting=2, load=30, starting_since=NOW - 1300)
    needed = one(service(), pool_seen(2, starting=2, load=30), arrivals=6.0).targets["l4"].desired
    _, after = through(service(), stuck, 3, load=30, arrivals=6.0)
    assert not {"s-0", "s-1"} & {i.id for i in after.instances}
    assert after.desired == len(after.instances) == needed


def test_a_stuck_boot_stays_where_the_group_would_fall_below_its_minimum():
    svc = service(pool(min_instances=2, max_instances=2))
    stuck = pool_seen(1, starting=1, load=5, starting_since=NOW - 1300)
    target = one(svc, stuck, arrivals=0.5).targets["l4"]
    assert (target.desired, target.take) == (2, ())


def in_zones(view, zones):
    return replace(view, instances=tuple(replace(i, zone=z) for i, z in zip(view.instances, zones, strict=True)))


def test_a_floor_of_two_zones_orders_an_instance_where_all_stand_in_one():
    svc = service(availability={"min_zones": 2})
    one_zone = in_zones(pool_seen(2, load=1, instance_loads=[1, 0]), "aa")
    assert one(svc, one_zone, arrivals=0.1).targets["l4"].desired == 3
    # what is ordered may open the zone, and so may what boots there
    assert one(svc, replace(one_zone, desired=3), arrivals=0.1).targets["l4"].desired == 3
    boots = in_zones(pool_seen(2, starting=1, load=1, instance_loads=[1, 0]), "aab")
    assert one(svc, boots, arrivals=0.1).targets["l4"].take != ("s-0",)
    assert one(service(), one_zone, arrivals=0.1).targets["l4"].desired < 3


def test_a_zone_that_has_no_capacity_is_not_asked_for_while_it_is_marked():
    svc = service(availability={"min_zones": 2})
    one_zone = in_zones(pool_seen(2, load=1, instance_loads=[1, 0]), "aa")
    full = replace(one_zone, capacity_errors=(CapacityError("b", NOW - 30),))
    assert one(svc, full, arrivals=0.1).targets["l4"].desired == 2


def test_the_floor_of_zones_never_orders_more_than_the_pools_have_zones():
    """Where the group does not spread, ordering on and on would not help: at two zones at most two are tried."""
    svc = service(availability={"min_zones": 2})
    crowd = in_zones(pool_seen(4, load=1, instance_loads=[1, 0, 0, 0]), "aaaa")
    assert one(svc, crowd, arrivals=0.1).targets["l4"].desired <= 4


def test_a_maximum_that_was_lowered_is_kept_even_under_load_and_even_in_a_hold():
    svc = service(pool(max_instances=4))
    busy = one(svc, pool_seen(6, load=110, instance_loads=[18] * 6), arrivals=11.0).targets["l4"]
    held = one(svc, pool_seen(6, load=None)).targets["l4"]
    for target in (busy, held):
        assert target.desired == 4
        assert len(target.take) == 2


def test_a_stay_of_nothing_is_refused_and_says_why():
    with pytest.raises(ValueError, match=r"vertical\.minimum_stay_seconds\n.*greater than 0"):
        service(vertical={"minimum_stay_seconds": 0})


def test_a_run_on_top_of_the_schedules_takes_no_second_step():
    """An event delivered twice, or a burst alarm, in the same minute: one step in a minute, not two."""
    svc = service(pool(min_instances=1), horizontal={"max_step_in": 2, "scale_in_stabilization_seconds": 0})
    view = pool_seen(10, load=2, instance_loads=[0.2] * 10)
    first = one(svc, view, arrivals=0.2)
    assert len(first.targets["l4"].take) == 2
    left = replace(view, desired=8, instances=view.instances[2:])
    for seconds, taken in ((0, 0), (20, 0), (60, 2)):
        again = one(svc, left, arrivals=0.2, state=first.state, now=NOW + seconds)
        assert len(again.targets["l4"].take) == taken
    more = one(svc, left, arrivals=30.0, state=first.state, now=NOW + 20)
    assert more.targets["l4"].desired > 8


def test_the_groups_own_bounds_come_before_the_policys():
    """AWS refuses a desired count outside them: a minimum raised before the group knows of it waits for the group."""
    view = replace(pool_seen(1, load=1, instance_loads=[1]), min_size=1, max_size=1)
    assert one(service(pool(min_instances=3)), view, arrivals=0.1).targets["l4"].desired == 1
    low = replace(pool_seen(3, load=1, instance_loads=[0, 1, 0]), min_size=3)
    assert one(service(pool(max_instances=1)), low, arrivals=0.1).targets["l4"].desired == 3


def test_the_limit_of_a_pool_goes_before_the_floor_of_zones():
    svc = service(pool(min_instances=0, max_instances=0), pool("l40s", min_instances=0))
    views = {"l4": pool_seen(1, load=1, instance_loads=[1]), "l40s": pool_seen(0, load=None)}
    decision = decide(svc, seen(arrivals=0.1, pools=views), LIVED, NOW)
    assert decision.targets["l4"].take == ("i-0",)


def test_orders_that_are_never_filled_are_taken_back_and_given_their_time_again():
    """A pool that gets nothing at all, and AWS does not say why: no order stands on top of one that is late."""
    svc, state = service(pool(max_instances=50)), LIVED
    view, desired = replace(pool_seen(2, load=30), desired=4), []
    for minute in range(35):
        now = NOW + 60 * minute
        late = replace(view, load=Reading(30, now), running=Reading(30, now), waiting=Reading(0, now))
        decision = one(svc, late, arrivals=3.0, state=state, now=now)
        state = decision.state
        view = replace(view, desired=decision.targets["l4"].desired)
        desired.append(view.desired)
    assert set(desired) == {2, desired[0]}
    assert desired[0] > 2
    assert desired[20:] == [desired[0]] + [2] * 5 + [desired[0]] * 9


def test_what_a_lowered_maximum_takes_is_not_made_up_for_without_a_demand():
    """After a gap nothing is taken for a while, but that is no reason to order elsewhere what the bounds forbid."""
    l4 = pool("l4", min_instances=0, max_instances=1)
    h100 = pool("h100", min_instances=0, throughput_rps=10.0, capacity=100.0, on_demand_usd_per_hour=6.0)
    views = {"l4": pool_seen(8, load=1, instance_loads=[0.1] * 8), "h100": pool_seen(1, load=1, instance_loads=[1])}
    after_a_gap = replace(LIVED, at=NOW - 3000)
    decision = decide(service(l4, h100), seen(arrivals=0.2, pools=views), after_a_gap, NOW)
    assert decision.targets["h100"].desired == 1
    assert decision.targets["l4"].desired < 8


def test_a_floor_of_zones_does_not_keep_a_surplus_that_stands_in_one_zone():
    """Eight in zone a, two needed: the surplus goes first, and the other zone is opened when there is none."""
    svc = service(pool(zones=("a", "b", "c")), availability={"min_zones": 2}, horizontal={"max_step_in": 50})
    crowd = in_zones(pool_seen(8, load=1, instance_loads=[0.1] * 8), "aaaaaaaa")
    assert one(svc, crowd, arrivals=0.1).targets["l4"].desired == 2


def test_spot_that_leaves_is_not_counted_as_spot_that_is_there():
    """Of ten, five boot on spot and are taken back: of the five that stay, two should be spot, and none is. With a base
    of 4 the group wants 4 + 1 on-demand ones."""
    spotty = pool(spot_percent=50, spot_usd_per_hour=0.3, min_instances=0)
    nodes = instances(5) + instances(5, Phase.STARTING, "spot", since=NOW - 60, spot=True)
    view = replace(pool_seen(0, load=4), desired=10, instances=nodes, on_demand_base=0)
    view = replace(view, capacity_errors=(CapacityError("a", NOW - 30, spot=True),))
    target = one(service(spotty, availability={"min_instances": 5}), view, arrivals=0.4).targets["l4"]
    assert {i for i in target.take if i.startswith("spot")} == {f"spot-{n}" for n in range(5)}
    assert target.on_demand_base == 4


def test_weights_move_one_step_a_minute_and_leave_a_dead_pool_at_once():
    l4, l40s = (pool(name, min_instances=2, max_instances=2) for name in ("l4", "l40s"))
    svc = service(l4, l40s, routing={"strategy": "capacity", "max_step_percent": 10, "slow_start_seconds": 0})
    views = {
        "l4": pool_seen(2, load=4, instance_loads=[2, 2], weight=999),
        "l40s": pool_seen(2, load=4, instance_loads=[2, 2], weight=1),
    }
    first = decide(svc, seen(arrivals=1.0, pools=views), LIVED, NOW)
    moved = {name: replace(views[name], weight=t.weight) for name, t in first.targets.items()}
    assert moved["l40s"].weight == pytest.approx(100, abs=5)
    for seconds, still in ((0, True), (20, True), (60, False)):
        again = decide(svc, seen(arrivals=1.0, pools=moved), first.state, NOW + seconds)
        assert (again.targets["l40s"].weight == moved["l40s"].weight) is still
    dead = moved | {"l40s": replace(pool_seen(0, unhealthy=2, load=None), weight=moved["l40s"].weight)}
    assert decide(svc, seen(arrivals=1.0, pools=dead), first.state, NOW + 20).targets["l40s"].weight == 0


def test_what_is_ordered_is_enough_when_it_stands():
    """Each instance is worth more among many: the counts are looked at until they are right for as many as they are."""
    svc = service(pool("h100", slowdown=3.0, max_instances=40), slo={"ttft_seconds": 2, "tpot_seconds": 0.1})
    view = pool_seen(1, load=15)
    for arrivals in (5.0, 13.0, 29.0, 47.0):
        first = decide(svc, seen(arrivals=arrivals, pools={"h100": view}), LIVED, NOW)
        stands = replace(view, desired=first.targets["h100"].desired)
        again = decide(svc, seen(arrivals=arrivals, pools={"h100": stands}), first.state, NOW)
        assert again.targets["h100"].desired == first.targets["h100"].desired


def test_requests_stuck_in_a_queue_for_ever_do_not_hold_the_size():
    """A queue that nobody empties, as of clients long gone: what stands could serve it many times over, and shrinks."""
    svc, state, desired = service(pool(min_instances=1)), LIVED, 10
    for minute in range(60):
        now = NOW + 60 * minute
        view = pool_seen(desired, load=2, at=now, instance_loads=[0.1] * desired, waiting=Reading(30.0, now))
        decision = one(svc, view, arrivals=0.2, state=state, now=now)
        state, desired = decision.state, decision.targets["l4"].desired
    assert desired <= 2


LEARNS = {"learning": {"enabled": True, "half_life_seconds": 60}}


def reason(decision, code):
    return next(r for r in decision.reasons if r.code == code)


def sound(decision):
    """The decision, after a look at what must hold for each of its reasons, whatever they say."""
    for r in decision.reasons:
        assert r.code.split(".")[0] in {r.step.value, "zero", "training"}
        assert isinstance(r.sentence, str)
        assert all(isinstance(n, int | float) for n in r.numbers.values())
    return decision


def test_what_a_pool_is_seen_to_carry_is_learnt_in_each_evaluation():
    full = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(10.0, NOW))
    assert one(service(**LEARNS), full, arrivals=3.0).state.pools["l4"].correction == pytest.approx(0.875)


def test_a_service_of_which_nothing_stands_is_built_up_before_anything_is_measured():
    decision = sound(one(service(pool(min_instances=0)), pool_seen(0, load=None)))
    assert not decision.held
    assert decision.targets["l4"].desired == 1
    assert decision.signals.forecast_rps == 0


def test_a_service_that_is_woken_with_an_instance_left_is_sized_by_the_requests_that_found_no_target():
    svc = service(pool(min_instances=0), zero={"idle_seconds": 600})
    asleep = changed(LIVED, asleep=True, idle_since=NOW - 6000)
    boots = pool_seen(0, starting=1, load=None)
    woken = sound(one(svc, boots, state=asleep, rejected_rps=Reading(7.0, NOW - 180)))
    assert not woken.held
    assert woken.signals.forecast_rps >= 7
    assert woken.targets["l4"].desired >= 4
    # what is too old, or was never seen, wakes nobody
    still = one(svc, boots, state=asleep, rejected_rps=Reading(7.0, NOW - 181))
    assert still.state.zero.asleep
    assert still.signals.forecast_rps == 0


def test_a_hold_for_missing_data_says_so_for_demand():
    assert reason(sound(one(service(), pool_seen(5, load=None))), "demand.missing").sentence.startswith("Neither")


def test_a_forecast_from_arrivals_is_not_judged_by_work_done_nor_the_other_way_round():
    past = (Point(NOW - 60, 4.0),)
    waiting = (Pending(NOW + 60, {"none": 4.0}),)
    view = pool_seen(4, load=20, instance_loads=[5] * 4)
    for counted, arrivals, kept in ((True, 2.0, True), (False, None, True), (True, None, False), (False, 2.0, False)):
        state = changed(LIVED, counted=counted, series=past, pending=waiting)
        after = one(service(), view, arrivals=arrivals, state=state).state
        assert after.demand.counted is (arrivals is not None)
        assert [p.at for p in after.forecast.series] == [NOW - 60, NOW]
        assert len(after.forecast.pending) == 1 + kept


@pytest.mark.parametrize("load", [20, 0])
def test_arrivals_that_are_late_for_minutes_are_no_reason_to_forget_weeks(load):
    """Five minutes without arrivals while load is seen, or nothing in flight: highs, season and hindsight stay."""
    highest = tuple(Point(NOW - day * 86400.0, 50.0) for day in range(13, 0, -1))
    season = Season(NOW - 3600, (4.0,) * 288, (4.0,) * 288, 14.0)
    past = tuple(Point(NOW - 60.0 * n, 4.0) for n in range(110, 0, -1))
    state = changed(
        LIVED, counted=True, highest=highest, season=season, series=past, hindsight={"none": Hindsight(weight=1.0)}
    )
    for minute in range(5):
        now = NOW + 60 * minute
        view = pool_seen(4, load=load, at=now, instance_loads=[load / 4] * 4)
        state = decide(service(), seen(at=now, pools={"l4": view}), state, now).state
    assert not state.demand.counted
    assert state.forecast.highest[:13] == highest
    assert state.forecast.season == season
    assert state.forecast.series[:110] == past
    assert "none" in state.forecast.hindsight


def test_while_nothing_is_seen_of_a_sleeping_service_its_series_is_kept():
    svc = service(pool(min_instances=0), zero={"idle_seconds": 600})
    state = changed(LIVED, asleep=True, counted=True, series=(Point(NOW - 60, 4.0),), idle_since=NOW - 6000)
    after = one(svc, pool_seen(0, load=None), state=state).state
    assert (after.forecast.series, after.demand.counted) == (state.forecast.series, True)


def required(waiting, arrivals=4.0, correction=0.5):
    """The capacity asked for with so much waiting, of ten instances that carry half of 2 rps each."""
    state = replace(LIVED, pools={"l4": PoolState(correction=correction)})
    view = pool_seen(10, load=40, running=Reading(40.0, NOW), waiting=Reading(float(waiting), NOW))
    return one(service(), view, arrivals=arrivals, state=state).signals


def test_only_the_backlog_that_spare_capacity_will_not_work_off_anyway_is_sized_for():
    """10 rps stand for 4: in the 300 s of a boot 1800 requests more are served; of 2000, 200 are left for 120 s."""
    none = required(0)
    assert none.required_rps == none.forecast_rps
    assert required(1800).required_rps == none.required_rps
    assert required(2000).required_rps == pytest.approx(none.required_rps + 200 / 120)


@pytest.mark.parametrize(("age", "horizon"), [(0, 300), (60, 360), (-30, 300)])
def test_the_forecast_reaches_from_the_newest_data_to_the_end_of_the_lead_time(age, horizon):
    at = NOW - age
    view = pool_seen(4, load=20, at=at)
    decision = sound(decide(service(), seen(at=at, arrivals=2.0, pools={"l4": view}), LIVED, NOW))
    said = reason(decision, "demand.none")
    assert said.numbers["horizon_seconds"] == horizon
    assert decision.state.forecast.series == (Point(at, 2.0),)
    assert decision.state.forecast.pending[0].due == at + horizon


def test_without_any_reading_the_horizon_is_the_lead_time_alone():
    decision = one(service(pool(min_instances=0)), pool_seen(0, load=None))
    assert reason(decision, "demand.none").numbers["horizon_seconds"] == 300


def test_the_same_data_seen_again_is_learnt_from_once():
    view = pool_seen(4, load=20)
    known = one(service(), view, arrivals=2.0).state
    view = pool_seen(4, load=20, at=NOW + 60)
    first = one(service(), view, arrivals=2.0, state=known, now=NOW + 60).state
    again = decide(service(), seen(at=NOW + 60, arrivals=2.0, pools={"l4": view}), first, NOW + 90).state
    assert again.forecast.series == first.forecast.series
    later = one(service(), pool_seen(4, load=20, at=NOW + 120), arrivals=2.0, state=again, now=NOW + 120).state
    assert len(later.forecast.series) == 3


def test_a_late_minute_is_learnt_from_once():
    late, view, state = {"late_share": Reading(0.5, NOW)}, pool_seen(4, load=20), changed(LIVED, allowance=0.01)
    first = one(service(), view, arrivals=2.0, state=state, **late)
    assert first.state.feedback.allowance < 0.01
    again = one(service(), view, arrivals=2.0, state=first.state, now=NOW + 10, **late)
    assert again.state.feedback.allowance == first.state.feedback.allowance
    assert again.signals.forecast_rps == first.signals.forecast_rps


def test_a_share_that_the_user_sets_is_kept():
    late = {"late_share": Reading(0.5, NOW)}
    svc = service(forecast={"method": "none", "confidence": 0.99})
    assert one(svc, pool_seen(4, load=20), arrivals=2.0, **late).state.feedback.allowance == pytest.approx(0.01)


def test_a_minute_without_demand_says_nothing_about_how_well_demand_is_forecast():
    idle = one(service(), pool_seen(4, load=0), arrivals=0.0)
    assert "demand.idle" in idle.codes
    assert idle.state.feedback.allowance == pytest.approx(1 - service().policy.forecast_confidence)


def test_the_head_room_is_that_of_the_share_that_may_be_missed_as_it_has_been_corrected():
    view = pool_seen(4, load=20)
    strict, loose = (
        one(service(), view, arrivals=2.0, state=changed(LIVED, allowance=share)).signals.forecast_rps
        for share in (0.001, 0.03)
    )
    assert strict > loose > 2.0


def test_a_first_run_tells_what_it_would_size_for_and_keeps_the_maximum():
    svc = service(pool(max_instances=4))
    decision = sound(one(svc, pool_seen(6, load=60), arrivals=6.0, state=State()))
    assert decision.held
    assert decision.targets["l4"].desired == 4
    assert decision.signals.forecast_rps >= 6
    assert decision.signals.required_rps == decision.signals.forecast_rps


def test_every_decision_publishes_what_it_measured_and_what_it_costs():
    """Three with 15 in service and 6 waiting, C = 20: T = (21/3)/20. A full instance does 2 rps, so U is half of the
    work required; U_max what three may do, with a tolerance of 5 %."""
    view = pool_seen(3, load=15, waiting=Reading(6.0, NOW), instance_loads=[5] * 3)
    decision = sound(one(service(), view, arrivals=1.5))
    signals = decision.signals
    share = usable_share(pool(), service().policy, 3, 1.0, TAIL_BUDGET)
    assert signals.utilization == pytest.approx(signals.required_rps / 2)
    assert signals.response_time == pytest.approx(0.35)
    assert signals.ratio == pytest.approx(signals.utilization / (3 * share * 1.05))
    assert signals.demand_rps == pytest.approx(1.5, rel=0.05)
    assert signals.forecast_rps > signals.demand_rps
    assert signals.backlog == pytest.approx(6.0, rel=0.05)
    assert signals.usd_per_hour == pytest.approx(0.8 * decision.targets["l4"].desired)


def test_a_run_on_top_of_the_schedules_does_not_put_off_the_next_one():
    svc = service(horizontal={"max_step_in": 2, "scale_in_stabilization_seconds": 0})
    view = pool_seen(10, load=2, instance_loads=[0.2] * 10)
    first = one(svc, view, arrivals=0.2)
    left = replace(view, desired=8, instances=view.instances[2:])
    extra = sound(one(svc, left, arrivals=0.2, state=first.state, now=NOW + 20))
    assert extra.state.routing == first.state.routing
    assert reason(extra, "routing.wait").step is Step.ROUTING
    assert len(one(svc, left, arrivals=0.2, state=extra.state, now=NOW + 40).targets["l4"].take) == 2


def shares(svc, views, state=LIVED):
    decision = sound(decide(svc, seen(arrivals=2.0, pools=views), state, NOW))
    weights = {name: target.weight for name, target in decision.targets.items()}
    return decision, weights["l40s"] / sum(weights.values())


TWO = (pool("l4", max_instances=2, min_instances=2), pool("l40s", max_instances=2, min_instances=2, throughput_rps=6.0))


def test_traffic_is_shared_by_what_is_ready_and_by_what_it_is_seen_to_carry():
    svc = service(*TWO, routing={"strategy": "capacity", "max_step_percent": 100, "slow_start_seconds": 0})
    views = {name: pool_seen(2, load=4, weight=500) for name in ("l4", "l40s")}
    l4, l40s = usable(svc)
    assert l4 < l40s, "else the shares are those of full instances, 6 of 8"
    assert shares(svc, views)[1] == pytest.approx(6 * l40s / (2 * l4 + 6 * l40s), abs=0.002)
    halved = replace(LIVED, pools={"l40s": PoolState(correction=0.5)})
    assert shares(svc, views, halved)[1] == pytest.approx(3 * l40s / (2 * l4 + 3 * l40s), abs=0.002)


def usable(svc, ready=2):
    """What each of two instances of a pool may carry, of its throughput, under Poisson arrivals."""
    return [counted_share(each, svc.policy, ready, 1.0) for each in svc.pools]


def test_response_times_seen_take_traffic_from_the_slower_pool_and_old_ones_do_not():
    svc = service(*TWO, routing={"strategy": "response_time", "max_step_percent": 100, "dead_band_percent": 0})
    for age, moves in ((0, True), (180, True), (181, False)):
        views = {
            name: pool_seen(2, load=4, weight=w, response_time_seconds=Reading(seconds, NOW - age))
            for name, w, seconds in (("l4", 250, 1.0), ("l40s", 749, 4.0))
        }
        decision, share = shares(svc, views)
        assert (share < 0.74) is moves
        assert (decision.state.routing.corrections["l40s"] < 1) is moves


def test_auto_looks_at_the_load_of_each_pool_over_what_it_is_seen_to_carry():
    """By its catalog the l40s has room; it was seen to carry half of that, so the same load is nearly all it can."""
    svc = service(*TWO, routing={"drift_percent": 25})
    views = {"l4": pool_seen(2, load=12, weight=250), "l40s": pool_seen(2, load=18, weight=749)}
    assert not shares(svc, views)[0].state.routing.by_response_time
    decision, _ = shares(svc, views, replace(LIVED, pools={"l40s": PoolState(correction=0.5)}))
    # Of what they may carry, 4 and 6 rps of which l4 and l40s parts are usable, 12 and 18 in flight of 40 and 20 are
    # 0.48 and 1.18; shared by what they may carry instead of 250 and 749 they would differ by a third.
    l4, l40s = usable(svc)
    spread = 100 * 999 / (4 * l4 + 6 * l40s) * (18 / 20 * 6 / 749 - 12 / 40 * 4 / 250)
    assert reason(decision, "routing.drift").numbers["spread_percent"] == pytest.approx(spread)
    assert spread == pytest.approx(34, abs=0.1)


def test_a_training_service_holds_and_says_so_without_its_queue_and_after_a_loss_of_its_state():
    svc = service(workload="training")
    held = one(svc, pool_seen(2, load=None), state=LIVED)
    assert held.held
    assert "training.no_queue" in held.codes
    lost = sound(one(svc, pool_seen(2, load=None), state=State(), jobs=JobQueue(0, 0.0)))
    assert not lost.held
    assert "guard.first_run" in lost.codes
    assert lost.signals.demand_rps is None


def test_an_instance_counts_for_what_the_head_room_lets_it_and_without_a_demand_for_its_strict_share():
    """Of less than a request a second as of many: the upper end may fill an instance more than every day may."""
    svc = service(pool(slowdown=3.0, slots=20.0, first_token_seconds=0.2), slo={"ttft_seconds": 1})
    view, state = pool_seen(2, load=4), replace(LIVED, pools={"l4": PoolState()})
    for arrivals, at_most in ((0.8, 2.5), (0.0, 1.0)):
        decision = one(svc, view, arrivals=arrivals)
        numbers = next(r.numbers for r in decision.reasons if "headroom_percent" in r.numbers)
        headroom = 1 + numbers["headroom_percent"] / 100
        assert 1 <= headroom <= at_most
        assert (headroom > 1) is (arrivals > 0)
        counted, strict, twice = (
            survey(Context(svc, seen(pools={"l4": view}), state, NOW), h).worth["l4"] for h in (headroom, 1.0, 2.0)
        )
        assert strict < twice
        assert (counted > strict) is (arrivals > 0)
        assert reason(decision, "sizing.slo").sentence.endswith(f"an instance may carry: l4 {counted:.2f}.")


def test_launches_and_requests_seen_are_remembered_with_their_time():
    booted = PoolState(starting=("i-0",))
    view = replace(pool_seen(0, load=4), desired=1, instances=instances(1, since=NOW - 250))
    tokens = {"input_tokens": Reading(2000.0, NOW), "output_tokens": Reading(300.0, NOW)}
    after = one(service(), view, arrivals=1.0, state=replace(LIVED, pools={"l4": booted}), **tokens).state
    assert after.pools["l4"].leads == (250.0,)
    assert after.requests.tokens is not None
    old = {name: replace(reading, at=NOW - 181) for name, reading in tokens.items()}
    assert one(service(), view, arrivals=1.0, **old).state.requests.tokens is None
