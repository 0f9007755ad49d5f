"""Pools and zones without instances to be had."""

from dataclasses import replace

from hypothesis import given as draws
from hypothesis import strategies as st

from gpu_fleet.scaling.capacity_errors import blocked, explain, mark, mark_pools, on_demand_base, open_zones
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.observation import CapacityError, Phase
from gpu_fleet.scaling.policy import CapacityErrors
from gpu_fleet.scaling.purchase import on_demand_count
from gpu_fleet.scaling.state import Mark, PoolState, Short, State
from tests.scaling.builders import NOW, instances, pool, pool_seen, seen, service

POLICY = CapacityErrors(avoid_seconds=300)
VIEW = pool_seen(2)
SPOT = pool(spot_percent=50, on_demand_base=0, spot_usd_per_hour=0.3)
ALL_SPOT = pool(spot_percent=100, on_demand_base=0, spot_usd_per_hour=0.3)


def marked(*errors, seen=None, remembered=None):
    view = replace(seen or pool_seen(2), capacity_errors=errors)
    return mark(POLICY, remembered or PoolState(), view, NOW)


def test_an_error_in_one_zone_leaves_the_others_open():
    state = marked(CapacityError("a", NOW))
    assert not blocked(pool(zones=("a", "b")), VIEW, state, NOW)


def test_errors_in_all_zones_block_the_pool_for_the_policys_time():
    state = marked(CapacityError("a", NOW), CapacityError("b", NOW - 10))
    assert blocked(pool(zones=("a", "b")), VIEW, state, NOW + 280)
    assert not blocked(pool(zones=("a", "b")), VIEW, state, NOW + 290)


def test_an_error_that_names_no_zone_blocks_the_pool():
    assert blocked(pool(), VIEW, marked(CapacityError("", NOW)), NOW)


def test_a_spot_error_does_not_block_on_demand():
    state = marked(CapacityError("", NOW, spot=True))
    assert not blocked(pool(), VIEW, state, NOW)
    assert not blocked(SPOT, VIEW, state, NOW)


def test_a_pool_all_of_spot_is_blocked_only_where_on_demand_cannot_be_had_either():
    """What spot does not deliver comes on demand, at 100 % as at 50 %."""
    spot, on_demand = CapacityError("", NOW, spot=True), CapacityError("", NOW)
    assert not blocked(ALL_SPOT, VIEW, marked(spot), NOW)
    assert not blocked(ALL_SPOT, VIEW, marked(on_demand), NOW)
    assert blocked(ALL_SPOT, VIEW, marked(spot, on_demand), NOW)
    # zone by zone: spot is out in one of two, on-demand instances in the other
    assert open_zones(ALL_SPOT, VIEW, marked(CapacityError("a", NOW, spot=True), CapacityError("b", NOW)), NOW) == {
        "a",
        "b",
    }
    assert open_zones(ALL_SPOT, VIEW, marked(CapacityError("a", NOW, spot=True), CapacityError("a", NOW)), NOW) == {"b"}


def test_a_launch_that_fails_for_a_reason_of_both_markets_blocks_any_pool():
    state = marked(CapacityError("", NOW, None, "The AMI ID ami-1 does not exist."))
    for percent in (0, 50, 100):
        assert blocked(pool(spot_percent=percent), VIEW, state, NOW)
    assert {m.why for m in state.marks} == {"The AMI ID ami-1 does not exist."}


def test_a_suspended_launch_blocks_until_it_is_resumed_and_leaves_no_mark():
    suspended = replace(VIEW, launch_suspended=True)
    assert blocked(pool(), suspended, PoolState(), NOW)
    assert marked(seen=suspended) == PoolState()
    assert not blocked(pool(), VIEW, PoolState(), NOW)


def test_errors_seen_together_are_one_try():
    """A group tries every zone, and every missing instance, on its own."""
    tries = [CapacityError("", NOW - n) for n in range(5)]
    assert marked(*tries).marks == (Mark("", NOW + 300, 1),)


def test_the_same_error_seen_twice_counts_once():
    error = CapacityError("", NOW)
    once = marked(error)
    assert marked(error, remembered=once) == once


def test_each_error_in_a_row_doubles_the_time_up_to_an_hour():
    state = PoolState()
    lengths = []
    for i in range(6):
        at = NOW + i * 10
        state = mark(POLICY, state, replace(pool_seen(2), capacity_errors=(CapacityError("", at),)), at)
        lengths.append(max(one.until for one in state.marks) - at)
    assert lengths == [300, 600, 1200, 2400, 3600, 3600]


def test_a_launch_that_works_clears_the_mark():
    state = marked(CapacityError("", NOW), CapacityError("a", NOW))
    for phase in (Phase.STARTING, Phase.READY):
        view = replace(pool_seen(2), instances=instances(1, phase, "new", since=NOW + 30))
        assert mark(POLICY, state, view, NOW + 60).marks == ()
    for phase in (Phase.UNHEALTHY, Phase.DRAINING):
        view = replace(pool_seen(2), instances=instances(1, phase, "new", since=NOW + 30))
        assert mark(POLICY, state, view, NOW + 60).marks == state.marks


def test_a_boot_of_some_seconds_is_no_launch_that_works_yet():
    """With a key that cannot be used the group launches instance after instance, and each is gone in seconds."""
    state = marked(CapacityError("", NOW, None))
    for age, cleared in ((10, False), (30, True)):
        view = replace(pool_seen(2), instances=instances(1, Phase.STARTING, "new", since=NOW + 60 - age))
        assert ([m for m in mark(POLICY, state, view, NOW + 60).marks if not m.spot] == []) is cleared


def test_a_boot_clears_no_mark_of_boots_that_fail():
    """An engine that crashes: the group launches instance after instance, and each boots for minutes."""
    state = marked(CapacityError("", NOW, None, booted=True))
    for phase, left in ((Phase.STARTING, {False, True}), (Phase.READY, {True})):
        view = replace(pool_seen(2), instances=instances(1, phase, "new", since=NOW + 60))
        assert {m.spot for m in mark(POLICY, state, view, NOW + 400).marks} == left


def test_boots_that_fail_in_a_row_double_the_time_although_others_boot_between():
    state, view = PoolState(), replace(pool_seen(2), instances=instances(1, Phase.STARTING, "new", since=NOW))
    lengths = []
    for at in (NOW + 300, NOW + 700, NOW + 1100):
        errors = (CapacityError("", at, None, booted=True),)
        state = mark(POLICY, state, replace(view, capacity_errors=errors), at)
        lengths.append(max(one.until for one in state.marks) - at)
        booting = replace(view, instances=instances(1, Phase.STARTING, "next", since=at + 60))
        state = mark(POLICY, state, booting, at + 200)
    assert lengths == [300, 600, 1200]


def test_an_instance_from_before_the_error_clears_nothing():
    state = marked(CapacityError("", NOW))
    view = replace(pool_seen(2), instances=instances(1, Phase.STARTING, "old", since=NOW - 30))
    assert mark(POLICY, state, view, NOW + 60).marks == state.marks


def spot_view(spot_ready, spot_starting=0, since=NOW - 60):
    nodes = instances(5) + instances(spot_ready, Phase.READY, "spot", spot=True)
    nodes += instances(spot_starting, Phase.STARTING, "coming", since=since, spot=True)
    return replace(pool_seen(0), desired=10, instances=nodes)


def test_spot_that_stands_asks_for_no_on_demand():
    assert on_demand_base(SPOT, spot_view(5), PoolState(), 300, NOW) == 0


def test_spot_that_boots_is_given_its_lead_time():
    assert on_demand_base(SPOT, spot_view(3, 2), PoolState(), 300, NOW) == 0
    assert on_demand_base(SPOT, spot_view(3, 2, since=NOW - 451), PoolState(), 300, NOW) == 3


def test_on_demand_makes_up_for_spot_that_is_not_to_be_had_and_goes_when_it_is_back():
    """Ten, half on spot, of which three stand: with a base of 3 the group wants 3 + 4 on-demand ones and 3 on spot."""
    state = marked(CapacityError("", NOW, spot=True))
    assert on_demand_base(SPOT, spot_view(3), state, 300, NOW) == 3
    assert on_demand_base(SPOT, spot_view(5), state, 300, NOW) == 0
    assert on_demand_base(ALL_SPOT, spot_view(3), state, 300, NOW) == 7
    assert on_demand_base(ALL_SPOT, spot_view(10), state, 300, NOW) == 0


@draws(st.integers(0, 60), st.integers(0, 20), st.integers(1, 100), st.integers(0, 60))
def test_with_the_base_raised_the_group_wants_no_more_spot_than_there_is_and_no_more_on_demand_than_that(
    desired, base, percent, good
):
    state = marked(CapacityError("", NOW, spot=True))
    mixed = pool(spot_percent=percent, on_demand_base=base, spot_usd_per_hour=0.3)
    view = replace(pool_seen(0), desired=desired, instances=instances(good, Phase.READY, "spot", spot=True))
    raised = on_demand_base(mixed, view, state, 300, NOW)
    wanted = {b: desired - on_demand_count(mixed, desired, b) for b in (raised - 1, raised)}
    assert raised >= base
    assert wanted[raised] <= good
    assert raised == base or wanted[raised - 1] > good


def test_a_pool_without_spot_keeps_its_base():
    assert on_demand_base(pool(), pool_seen(4), PoolState(), 300, NOW) == 0


def test_spot_that_has_had_no_time_to_come_is_not_made_up_for():
    """Two of five spot instances are not there yet and nothing says that they will not come: no base."""
    assert on_demand_base(SPOT, spot_view(3), PoolState(), 300, NOW) == 0
    assert on_demand_base(SPOT, spot_view(3, 1), PoolState(), 300, NOW) == 0


def test_while_spot_is_marked_what_boots_still_counts_until_one_and_a_half_lead_times():
    state = marked(CapacityError("", NOW, spot=True))
    assert on_demand_base(SPOT, spot_view(3, 2, since=NOW - 450), state, 300, NOW) == 0
    assert on_demand_base(SPOT, spot_view(3, 2, since=NOW - 451), state, 300, NOW) == 3
    assert on_demand_base(SPOT, spot_view(3, 1, since=NOW - 450), PoolState(), 300, NOW) == 0


def test_spot_that_leaves_or_is_ill_does_not_count_as_delivered():
    state = marked(CapacityError("", NOW, spot=True))
    view = spot_view(3)
    young = instances(1, Phase.UNHEALTHY, "ill", since=NOW - 60, spot=True)
    young += instances(1, Phase.DRAINING, "leaves", since=NOW - 60, spot=True)
    assert on_demand_base(SPOT, replace(view, instances=view.instances + young), state, 300, NOW) == 3


def test_the_spot_share_is_of_what_stands_above_the_pools_own_base():
    """Ten with a base of 2 and half of the rest on spot: four on spot, and the base is 2 when they stand."""
    state = marked(CapacityError("", NOW, spot=True))
    based = SPOT.model_copy(update={"on_demand_base": 2})
    assert on_demand_base(based, spot_view(4), state, 300, NOW) == 2
    assert on_demand_base(based, spot_view(3), state, 300, NOW) == 3


def test_a_single_spot_instance_is_made_up_for_too():
    state = marked(CapacityError("", NOW, spot=True))
    view = replace(pool_seen(1), desired=2)
    assert on_demand_base(SPOT, view, state, 300, NOW) == 1


def test_only_a_spot_mark_that_still_holds_brings_on_demand_instances():
    on_demand_error = marked(CapacityError("", NOW))
    assert on_demand_base(SPOT, spot_view(3), on_demand_error, 300, NOW) == 0
    spot_error = marked(CapacityError("", NOW, spot=True))
    assert on_demand_base(SPOT, spot_view(3), spot_error, 300, NOW + 299) == 3
    assert on_demand_base(SPOT, spot_view(3), spot_error, 300, NOW + 300) == 0


def test_where_the_settings_name_no_zones_the_groups_own_stand_in():
    given, own = pool(zones=()), replace(VIEW, zones=("a", "b"))
    one, both = marked(CapacityError("a", NOW)), marked(CapacityError("a", NOW), CapacityError("b", NOW))
    assert open_zones(given, own, one, NOW) == {"b"}
    assert blocked(given, own, both, NOW)
    # as written, where both are known: the group launches there from now on
    assert blocked(pool(zones=("a",)), own, one, NOW)


def test_zones_that_are_not_known_are_not_zones_that_are_lost():
    given = pool(zones=())
    assert not blocked(given, VIEW, marked(CapacityError("a", NOW)), NOW)
    assert blocked(given, VIEW, marked(CapacityError("", NOW)), NOW)
    assert not blocked(given, VIEW, PoolState(), NOW)


def test_a_new_error_counts_beside_one_that_was_counted_before():
    old, new = CapacityError("", NOW - 60), CapacityError("", NOW)
    state = mark(POLICY, PoolState(), replace(pool_seen(2), capacity_errors=(old,)), NOW - 60)
    state = marked(old, new, remembered=state)
    assert state.marks == (Mark("", NOW + 600, 2),)


def test_a_launch_of_the_very_second_of_the_error_clears_nothing():
    state = marked(CapacityError("", NOW))
    view = replace(pool_seen(2), instances=instances(1, Phase.STARTING, "same", since=NOW))
    assert mark(POLICY, state, view, NOW + 60).marks == state.marks


def test_an_hour_after_a_mark_has_ended_its_errors_are_no_longer_in_a_row():
    state = marked(CapacityError("", NOW))
    quiet = pool_seen(2)
    assert mark(POLICY, state, quiet, NOW + 300 + 3599).marks == state.marks
    assert mark(POLICY, state, quiet, NOW + 300 + 3600).marks == ()


def test_each_run_brings_marks_and_unfilled_orders_of_every_pool_up_to_date():
    ended = PoolState(marks=(Mark("a", NOW - 3600, 3),), short=(Short(1, NOW - 500),))
    state = State(at=NOW - 60, pools={"l4": ended, "l40s": PoolState()})
    views = {
        "l4": replace(pool_seen(2), desired=4),
        "l40s": replace(pool_seen(0), capacity_errors=(CapacityError("b", NOW - 10),)),
    }
    after = mark_pools(Context(service(pool("l4"), pool("l40s")), seen(pools=views), state, NOW))
    assert after["l4"] == PoolState(short=(Short(1, NOW - 500), Short(2, NOW)))
    assert after["l40s"] == PoolState(marks=(Mark("b", NOW + 290, 1),), marked_at=NOW - 10)


def evaluated(view, remembered=None, now=NOW):
    state = State(pools={"l4": remembered or PoolState()})
    context = Context(service(pool()), seen(at=now, pools={"l4": view}), state, now)
    return context.remember(pools=mark_pools(context))


def test_an_order_that_nobody_fills_has_failed_as_well():
    """AWS says nothing for twenty minutes: no capacity to come, and tried again with growing pauses."""
    view = replace(VIEW, desired=5)
    waited = PoolState(short=(Short(3, NOW - 1200),))
    assert evaluated(view, waited).state.pools["l4"].marks == ()
    failed = evaluated(view, waited, NOW + 1).state.pools["l4"]
    assert {(m.zone, m.spot, m.until, m.errors) for m in failed.marks} == {
        ("", False, NOW + 301, 1),
        ("", True, NOW + 301, 1),
    }
    # while it is blocked nobody waits, so its orders have their whole time afterwards
    later = evaluated(view, failed, NOW + 61).state.pools["l4"]
    assert (later.marks, later.short) == (failed.marks, (Short(3, NOW + 61),))


def test_each_pool_that_cannot_launch_says_why_and_when_it_is_tried_again():
    why = "InvalidAMIID.NotFound - The image id '[ami-1]' does not exist."
    view = replace(VIEW, capacity_errors=(CapacityError("", NOW - 60, None, why),))
    (reason,) = explain(evaluated(view))
    assert (reason.code, reason.numbers) == ("mix.cannot_launch", {"again_seconds": 240.0})
    assert reason.sentence == f"l4 cannot launch: {why} Tried again in 240 s."
    (reason,) = explain(evaluated(replace(VIEW, launch_suspended=True)))
    assert reason.code == "mix.launch_suspended"
    assert list(explain(evaluated(replace(VIEW, capacity_errors=(CapacityError("a", NOW),))))) == []
