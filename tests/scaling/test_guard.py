"""Out at once, in after a while, and never from a busy or a needed node."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling import continuity, leaving, missing, window
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.leaving import Wish
from gpu_fleet.scaling.observation import Phase, Reading
from gpu_fleet.scaling.policy import Horizontal
from gpu_fleet.scaling.state import GuardMemory, Pending, Point, Short, State
from gpu_fleet.scaling.zones import Zones
from tests.scaling.builders import NOW, changed, instances, policy, pool, pool_seen, remembered, seen, service

WINDOW = {"scale_in_stabilization_seconds": 300, "tolerance_percent": 3}


def stands(rps):
    """A fleet of that worth."""
    return Fleet((), {}, {}, {}, rps, rps)


def test_a_lost_state_is_told_apart_from_one_that_goes_on():
    state, reason = continuity.resume(State(), NOW)
    assert (reason.step, reason.code) == (Step.GUARD, "guard.first_run")
    assert (state.at, state.since) == (NOW, NOW)
    again, reason = continuity.resume(replace(state, at=NOW), NOW + 60)
    assert reason is None
    assert again == replace(state, at=NOW)


@pytest.mark.parametrize("jump", [-1.0, -86400.0, 601.0, 86400.0])
def test_a_clock_that_jumps_keeps_what_was_learnt_and_forgets_the_windows(jump):
    state = remembered(
        at=NOW,
        since=NOW - 9000,
        request_weight=2.0,
        required=(Point(NOW, 5),),
        pending=(Pending(NOW + 60, {"none": 1}),),
        idle_since=NOW - 500,
    )
    after, reason = continuity.resume(state, NOW + jump)
    assert reason.code == "guard.gap"
    assert (after.guard.required, after.forecast.pending, after.zero.idle_since) == ((), (), None)
    assert after.demand.request_weight == 2.0
    assert after.since == NOW + jump


def test_capacity_goes_down_only_to_the_highest_that_was_wanted_within_the_window():
    state = State(at=NOW, since=NOW - 3600)
    for minute, wanted in enumerate([10, 4, 4, 4, 4]):
        band, state = stabilised(WINDOW, state, wanted, NOW + 60 * minute)
        assert band.in_rps == 10
    band, state = stabilised(WINDOW, state, 4, NOW + 300)
    assert band.in_rps == 4


def test_a_window_that_was_not_seen_whole_takes_nothing():
    band, _ = stabilised(WINDOW, State(at=NOW, since=NOW - 299), 4, NOW)
    assert not band.settled
    wanted, reason = window.wanted_rps(band, stands(20), 3)
    assert wanted == 20
    assert reason.code == "guard.window"


@pytest.mark.parametrize(
    ("out", "standing", "code"),
    [(15.5, 15, "guard.out"), (15.4, 15, "guard.steady"), (14.6, 15, "guard.steady"), (14.5, 15, "guard.in")],
)
def test_nothing_changes_within_the_tolerance(out, standing, code):
    _, reason = window.wanted_rps(window.Band(out, out, settled=True), stands(standing), 3)
    assert reason.code == code


def shrunk(view, by=1, spare=100.0, fits=100, waited=0.0, pool_=None, zones=0, must=0, **horizontal):
    pol = policy(horizontal=horizontal) if horizontal else policy()
    wish = Wish(by=by, must=must, spare_rps=spare, instance_rps=2.0, fits=fits, waited_seconds=waited)
    return leaving.shrink(context(pol), pool_ or pool(), view, wish, Zones.of(zones, [view]))


def context(pol):
    """An evaluation of a service with this policy; `leaving` looks at nothing else of it."""
    svc = service().model_copy(update={"policy": pol})
    return Context(svc, seen(), State(), NOW)


def stabilised(horizontal, state, required, now):
    band, memory = window.stabilise(Context(service(horizontal=horizontal), seen(), state, now), required)
    return band, replace(state, guard=memory)


def test_the_least_busy_leaves():
    gone = shrunk(pool_seen(4, instance_loads=[5, 1, 9, 3]))
    assert gone.take == ("i-1",)


def test_a_node_that_does_not_serve_leaves_before_one_that_does():
    view = pool_seen(2, starting=1, unhealthy=1, load=None, instance_loads=[0, 0])
    assert shrunk(view, by=1).take == ("u-0",)
    assert shrunk(view, by=2).take == ("u-0", "s-0")


def test_an_order_that_was_never_filled_is_taken_back_first():
    view = replace(pool_seen(3, instance_loads=[0, 0, 0]), desired=5)
    gone = shrunk(view, by=2)
    assert (gone.drop, gone.take) == (2, ())


def test_the_old_stays_until_the_new_is_ready():
    gone = shrunk(pool_seen(4, instance_loads=[0] * 4), by=4, spare=0.0)
    assert gone.take == ()
    assert [r.code for r in gone.reasons] == ["guard.make_before_break"]
    assert len(shrunk(pool_seen(4, instance_loads=[0] * 4), by=4, spare=4.0).take) == 2


def test_nobody_leaves_whose_load_would_not_fit_the_rest():
    gone = shrunk(pool_seen(4, instance_loads=[0] * 4), by=2, fits=1)
    assert len(gone.take) == 1
    assert gone.reasons[0].code == "guard.consolidation"


def test_loads_are_read_before_one_is_chosen():
    gone = shrunk(pool_seen(4))
    assert gone.take == ()
    assert gone.wants_loads
    # three runs later the choice is made without them: the terminating hook still drains it
    assert len(shrunk(pool_seen(4), waited=leaving.LOADS_PATIENCE_SECONDS).take) == 1


def test_at_most_the_policys_step_leaves():
    view = pool_seen(10, instance_loads=[0] * 10)
    assert len(shrunk(view, by=8, max_step_in=3).take) == 3


def test_the_last_node_of_a_needed_zone_stays():
    view = pool_seen(3, instance_loads=[9, 0, 9])  # zones a, b, a
    gone = shrunk(view, zones=2)
    assert gone.take in {("i-0",), ("i-2",)}


def test_equals_leave_the_fullest_zone_first():
    view = pool_seen(3, instance_loads=[0, 0, 0])
    assert shrunk(view).take[0] in {"i-0", "i-2"}


def test_a_boot_that_never_ends_does_not_count_as_coming():
    view = pool_seen(2, starting=2, starting_since=NOW - 1201)
    assert missing.missing(Horizontal(launch_timeout_seconds=1200), view, NOW).stuck == ("s-0", "s-1")
    assert missing.missing(Horizontal(launch_timeout_seconds=1300), view, NOW).count == 0


def test_a_new_order_is_not_late_because_an_old_one_is():
    """Else each order that replaces a late one would be late at once, and one more would be ordered every minute."""
    seen_at = {NOW: 5, NOW + 600: 5, NOW + 1260: 8}
    short = ()
    for now, desired in seen_at.items():
        view = replace(pool_seen(2), desired=desired)
        short = missing.shortage(short, view, now)
    assert short == (Short(3, NOW), Short(6, NOW + 1260))
    filled = missing.shortage(short, replace(pool_seen(4), desired=8), NOW + 1320)
    assert [s.count for s in filled] == [3, 4]
    assert missing.shortage(filled, replace(pool_seen(8), desired=8), NOW + 1380) == ()


loads = st.lists(st.floats(0, 50), min_size=1, max_size=30)


@given(loads, st.integers(1, 40), st.floats(0, 60), st.integers(0, 30))
def test_who_leaves_is_never_busier_than_who_stays_and_never_more_than_is_spared(each, by, spare, fits):
    view = pool_seen(len(each), load=None, instance_loads=each)
    gone = shrunk(view, by=by, spare=spare, fits=fits)
    assert len(gone.take) <= min(by, fits, int(spare / 2 + 1e-9), 10)
    assert len(set(gone.take)) == len(gone.take)
    left = [x for i, x in enumerate(each) if f"i-{i}" not in gone.take]
    went = [x for i, x in enumerate(each) if f"i-{i}" in gone.take]
    if left and went:
        assert max(went) <= min(left) + 0.1


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20), st.floats(0, 100))
def test_more_wanted_never_leads_to_less(history, standing):
    state = State(at=NOW, since=NOW - 9000)
    for i, wanted in enumerate(history):
        band, state = stabilised(WINDOW, state, wanted, NOW + 60 * i)
    more = replace(band, out_rps=band.out_rps + 1, in_rps=band.in_rps + 1)
    assert window.wanted_rps(more, stands(standing), 3)[0] >= window.wanted_rps(band, stands(standing), 3)[0]


def test_draining_nodes_are_not_chosen_again():
    view = replace(pool_seen(0), desired=0, instances=instances(3, Phase.DRAINING, load=Reading(0, NOW)))
    assert shrunk(view, by=1).take == ()


def test_the_last_node_of_a_needed_zone_may_go_when_another_pool_holds_the_zone():
    """Two pools in zones a and b: the floor of two zones must not keep the old pool alive for ever."""
    old, new = pool_seen(2, instance_loads=[0, 0]), pool_seen(2, instance_loads=[0, 0])
    wish = Wish(by=2, spare_rps=100.0, instance_rps=2.0, fits=100, waited_seconds=0.0)
    gone = leaving.shrink(context(policy()), pool(), old, wish, Zones.of(2, [old, new]))
    assert set(gone.take) == {"i-0", "i-1"}


def test_one_step_never_empties_two_zones_when_one_is_to_spare():
    nodes = tuple(replace(i, zone=z, load=Reading(0, NOW)) for i, z in zip(instances(3), "abc", strict=True))
    view = replace(pool_seen(3), instances=nodes)
    assert len(shrunk(view, by=3, zones=2).take) == 1


def test_a_node_that_boots_to_open_a_zone_is_not_taken_before_it_is_there():
    """It would be ordered again in the next minute, and so on."""
    nodes = (*instances(2), *instances(1, Phase.STARTING, "s", since=NOW - 60))
    nodes = tuple(replace(i, zone=z, load=Reading(0, NOW)) for i, z in zip(nodes, "aab", strict=True))
    view = replace(pool_seen(2, starting=1), instances=nodes)
    assert set(shrunk(view, by=1, zones=2).take) < {"i-0", "i-1"}
    assert shrunk(view, by=1, zones=1).take == ("s-0",)


def test_a_stuck_boot_leaves_before_one_that_is_under_way():
    view = pool_seen(1, starting=1)
    view = replace(view, desired=3, instances=(*view.instances, *instances(1, Phase.STARTING, "old", since=NOW - 5000)))
    assert shrunk(view, by=1).take == ("old-0",)


def test_what_stands_over_the_maximum_goes_whatever_the_load():
    gone = shrunk(pool_seen(6, instance_loads=[9] * 6), by=4, spare=0.0, fits=0, must=2)
    assert len(gone.take) == 2


def test_two_runs_in_the_same_second_are_no_gap_and_ten_minutes_are_none_either():
    state = State(at=NOW, since=NOW - 9000)
    for pause in (0, 600):
        assert continuity.resume(state, NOW + pause) == (state, None)


def test_a_run_half_a_minute_after_the_last_one_is_the_schedules():
    state = remembered(stepped_at=NOW)
    assert [continuity.is_extra(state, NOW + seconds) for seconds in (-1, 0, 29.9, 30, 60)] == [
        False,
        True,
        True,
        False,
        False,
    ]


def zoned(phases, letters, **changes):
    """Instances of these phases in these zones, each with a load of nothing; the first is the oldest."""
    return tuple(
        replace(instances(1, phase, since=NOW - 900 + i, load=Reading(0, NOW), **changes)[0], id=f"n{i}", zone=zone)
        for i, (phase, zone) in enumerate(zip(phases, letters, strict=True))
    )


R, S, U = Phase.READY, Phase.STARTING, Phase.UNHEALTHY


def test_what_leaves_is_missing_from_its_zone_and_from_no_other():
    ready, boots, ill = nodes = zoned((R, S, U), "aab")
    view = replace(pool_seen(0), instances=(*nodes, *zoned((R, R), "bb")))
    zones = Zones.of(2, [view])
    assert (zones.ready, zones.alive) == ({"a": 1, "b": 2}, {"a": 2, "b": 2})
    assert (zones.without(boots).ready, zones.without(boots).alive) == ({"a": 1, "b": 2}, {"a": 1, "b": 2})
    assert (zones.without(ready).ready, zones.without(ready).alive) == ({"b": 2}, {"a": 1, "b": 2})
    assert (zones.without(ill).ready, zones.without(ill).alive) == ({"a": 1, "b": 2}, {"a": 2, "b": 2})
    in_b = view.instances[-1]
    assert (zones.without(in_b).ready, zones.without(in_b).alive) == ({"a": 1, "b": 1}, {"a": 2, "b": 1})


def test_a_boot_in_its_zone_does_not_free_the_last_node_that_serves_there():
    nodes = zoned((R, S, R), "aab")
    zones = Zones.of(2, [replace(pool_seen(0), instances=nodes)])
    assert zones.needs(nodes[0])
    assert not zones.needs(nodes[1])


def test_stuck_boots_that_leave_give_up_their_zone_and_wait_for_no_loads():
    nodes = zoned((R, S), "ab")
    view = replace(pool_seen(0), desired=2, instances=(nodes[0], replace(nodes[1], since=NOW - 1300)))
    gone = leaving.relieve(context(policy()), pool(), view, Zones.of(1, [view]))
    assert (gone.take, gone.drop, gone.wants_loads) == (("n1",), 0, False)
    assert gone.zones.alive == {"a": 1}
    (reason,) = gone.reasons
    assert (reason.step, reason.code, reason.numbers) == (Step.GUARD, "guard.stuck", {"stuck": 1.0})
    assert "n1 leave, not ready 1200 s after" in reason.sentence


def test_of_two_boots_the_one_that_has_just_begun_is_given_up():
    older, newer = instances(1, S, "a", since=NOW - 200), instances(1, S, "b", since=NOW - 20)
    view = replace(pool_seen(1), desired=3, instances=(*instances(1), *older, *newer))
    assert shrunk(view, by=1).take == ("b-0",)


def test_orders_taken_back_count_as_taken():
    view = replace(pool_seen(1, starting=2, load=None, instance_loads=[0]), desired=4)
    gone = shrunk(view, by=2)
    assert (gone.drop, gone.take, gone.wants_loads) == (1, ("s-0",), False)


def test_a_limit_kept_by_orders_taken_back_spares_the_boot_that_opens_a_zone():
    nodes = zoned((R, R, S), "aab")
    view = replace(pool_seen(0), desired=4, instances=nodes)
    gone = shrunk(view, by=2, zones=2, must=1, spare=0.0)
    assert (gone.drop, gone.take) == (1, ())


@pytest.mark.parametrize(("unhealthy", "desired"), [(1, 4), (0, 4)])
def test_what_goes_without_serving_counts_towards_the_limit(unhealthy, desired):
    """Two too many: one ill or not there yet, so only one that serves has to go, whatever it carries."""
    view = replace(pool_seen(3, unhealthy=unhealthy, load=None, instance_loads=[9] * 3), desired=desired)
    gone = shrunk(view, by=3, spare=0.0, fits=0, must=2)
    assert len(gone.take) + gone.drop == 2


def test_when_only_what_does_not_serve_leaves_nothing_is_said_of_what_serves():
    view = pool_seen(2, unhealthy=1, load=None, instance_loads=[9, 9])
    gone = shrunk(view, by=1, spare=-5.0, fits=-1)
    assert (gone.take, gone.reasons, gone.wants_loads) == (("u-0",), (), False)
    assert gone.zones.ready == {"a": 1, "b": 1}


def test_loads_are_not_read_for_a_choice_that_is_not_to_be_made():
    gone = shrunk(pool_seen(4), spare=-10.0)
    assert (gone.take, gone.wants_loads) == ((), False)
    assert gone.zones.ready == {"a": 2, "b": 2}


@pytest.mark.parametrize(("worth", "spare", "leave"), [(0.0, 9.0, 0), (0.5, 0.5, 1), (0.5, 0.49, 0), (2.0, 3.9, 1)])
def test_as_many_leave_as_the_spare_capacity_is_worth(worth, spare, leave):
    view = pool_seen(4, instance_loads=[0] * 4)
    wish = Wish(by=2, spare_rps=spare, instance_rps=worth, fits=9, waited_seconds=0.0)
    gone = leaving.shrink(context(policy()), pool(), view, wish, Zones.of(0, [view]))
    assert len(gone.take) == leave


def test_why_fewer_leave_than_could_is_told_with_its_numbers():
    view = pool_seen(4, instance_loads=[0] * 4)
    enough = shrunk(view, by=2, spare=4.0, fits=2)
    assert [(r.step, r.code) for r in enough.reasons] == [(Step.GUARD, "guard.take")]
    assert "i-0, i-1 leave" in enough.reasons[0].sentence
    short = shrunk(view, by=2, spare=3.5, fits=1)
    assert [(r.step, r.code, r.numbers) for r in short.reasons] == [
        (Step.GUARD, "guard.make_before_break", {"spare_rps": 3.5}),
        (Step.GUARD, "guard.consolidation", {"fits": 1}),
        (Step.GUARD, "guard.take", {}),
    ]
    assert (
        "2 serving instances may leave once others are ready; ready capacity spares 1 now" in short.reasons[0].sentence
    )
    assert "1 may leave" in short.reasons[1].sentence


def test_while_loads_are_read_orders_are_taken_back_already():
    gone = shrunk(replace(pool_seen(4), desired=5), by=2)
    assert (gone.drop, gone.take, gone.wants_loads) == (1, (), True)
    assert [(r.step, r.code) for r in gone.reasons] == [(Step.GUARD, "guard.choose_next")]
    assert "reads each instance's load" in gone.reasons[0].sentence
    assert gone.zones.ready == {"a": 2, "b": 2}


def test_loads_are_asked_for_again_only_while_more_shall_leave():
    view = pool_seen(6, instance_loads=[0] * 6)
    assert shrunk(view, by=4, max_step_in=3).wants_loads
    assert shrunk(view, by=3, max_step_in=3).wants_loads is False
    assert shrunk(view, by=1).wants_loads is False
    assert shrunk(replace(view, desired=7), by=2).wants_loads is False
    assert shrunk(view, by=2).zones.ready == {"a": 2, "b": 2}


def test_a_tenth_of_a_request_makes_a_node_busier_and_less_does_not():
    assert shrunk(pool_seen(2, instance_loads=[0.4, 0.2])).take == ("i-1",)
    assert shrunk(pool_seen(2, instance_loads=[0, 0.5])).take == ("i-0",)
    # equals: the fullest zone, a
    assert shrunk(pool_seen(3, instance_loads=[0.04, 0.0, 0.04])).take[0] in {"i-0", "i-2"}


def test_of_equals_in_one_zone_the_newest_leaves():
    view = replace(pool_seen(3), instances=zoned((R, R, R), "aaa"))
    assert shrunk(view).take == ("n2",)


def test_a_limit_takes_the_last_node_of_a_needed_zone_only_as_often_as_it_must():
    view = replace(pool_seen(3), instances=zoned((R, R, R), "abc"))
    assert len(shrunk(view, by=2, zones=3, must=1).take) == 1
    assert shrunk(view, by=2, zones=3).take == ()


def test_after_a_gap_all_is_forgotten_that_only_holds_from_minute_to_minute():
    learnt = remembered(at=NOW, since=NOW - 9000, request_weight=2.0, dispersion=3.0, allowance=0.01, moved_at=NOW - 50)
    windows = {
        "required": (Point(NOW, 5),),
        "pending": (Pending(NOW + 60, {"none": 1}),),
        "series": (Point(NOW, 5),),
        "burst": Point(NOW, 9),
        "idle_since": NOW - 500,
        "loads_wanted_since": NOW - 120,
        "answered_at": NOW,
        "dispersed_at": NOW,
    }
    after, reason = continuity.resume(changed(learnt, **windows), NOW + 700)
    assert after == replace(learnt, since=NOW + 700)
    assert (reason.step, reason.code, reason.numbers) == (Step.GUARD, "guard.gap", {"gap_seconds": 700.0})
    assert "700 s ago" in reason.sentence


def test_a_window_counts_as_seen_from_its_last_second_on():
    assert stabilised(WINDOW, State(at=NOW, since=NOW - 300), 4, NOW)[0].settled


@pytest.mark.parametrize(
    ("out", "within", "settled", "wanted", "code"),
    [
        (21, 5, True, 21, "guard.out"),
        (20, 20, True, 10, "guard.steady"),
        (5, 5, True, 10, "guard.steady"),
        (5, 5, False, 10, "guard.steady"),
        (4, 4, False, 10, "guard.window"),
        (4, 4.5, True, 9, "guard.in"),
    ],
)
def test_with_a_tolerance_of_a_hundred_percent_twice_as_much_is_needed_and_half_is_enough(
    out, within, settled, wanted, code
):
    rps, reason = window.wanted_rps(window.Band(out, within, settled=settled), stands(10), 100)
    assert (rps, reason.step, reason.code) == (wanted, Step.GUARD, code)
    assert reason.numbers == {"wanted_rps": out, "standing_rps": 10, "window_rps": within}
    assert isinstance(reason.sentence, str)


def test_a_boot_that_shows_progress_is_not_stuck():
    """Weights of 140 GB: the instance keeps its launching hook open, and AWS ends it when it does not."""
    view = pool_seen(2, starting=2, starting_since=NOW - 3000)
    booting = replace(view, instances=tuple(replace(i, booting=i.id == "s-0") for i in view.instances))
    assert missing.missing(Horizontal(launch_timeout_seconds=1200), booting, NOW).stuck == ("s-1",)


def test_a_boot_has_all_of_its_launch_time():
    view = pool_seen(0, starting=1, starting_since=NOW - 1200)
    assert missing.missing(Horizontal(launch_timeout_seconds=1200), view, NOW).stuck == ()


def test_orders_taken_back_ask_for_no_loads_where_nothing_is_to_spare():
    gone = shrunk(replace(pool_seen(4), desired=5), by=2, spare=-10.0)
    assert (gone.drop, gone.take, gone.wants_loads) == (1, (), False)


FIVE_MINUTES = Horizontal(scale_in_stabilization_seconds=300)


def test_capacity_that_is_missed_within_half_an_hour_trebles_the_window():
    memory = GuardMemory()
    for missed, trebled in ((1800, True), (1801, False)):
        taken = window.learn(memory, out=False, taken=True, now=NOW)
        late = window.learn(taken, out=True, taken=False, now=NOW + missed)
        assert window.seconds(FIVE_MINUTES, late, NOW + missed) == (900.0 if trebled else 300.0)


def test_capacity_is_missed_once_for_each_time_it_was_taken():
    memory = window.learn(GuardMemory(), out=False, taken=True, now=NOW)
    for second in (60, 120, 180):
        memory = window.learn(memory, out=True, taken=False, now=NOW + second)
    assert window.seconds(FIVE_MINUTES, memory, NOW + 180) == pytest.approx(900, rel=0.01)


def test_the_window_grows_to_an_hour_and_loses_half_of_its_rise_in_six():
    memory = GuardMemory()
    for n in range(20):
        memory = window.learn(memory, out=False, taken=True, now=NOW + 600 * n)
        memory = window.learn(memory, out=True, taken=False, now=NOW + 600 * n + 60)
    assert window.seconds(FIVE_MINUTES, memory, NOW + 12_000) == 3600
    twice = replace(GuardMemory(), patience=3.0, patience_at=NOW)
    assert window.seconds(FIVE_MINUTES, twice, NOW + 6 * 3600) == 600


def test_a_policy_without_a_window_or_with_a_longer_one_keeps_it():
    memory = GuardMemory(patience=64.0, patience_at=NOW)
    none, long = (Horizontal(scale_in_stabilization_seconds=seconds) for seconds in (0, 7200))
    assert window.seconds(none, memory, NOW) == 0
    assert window.seconds(long, memory, NOW) == 7200
