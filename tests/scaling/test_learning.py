"""What launches and loads teach."""

from dataclasses import replace

import pytest

from gpu_fleet.scaling import learning
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.observation import Phase, Reading
from gpu_fleet.scaling.state import PoolState, State
from tests.scaling.builders import NOW, instances, pool, pool_seen, remembered, seen, service


def test_the_lead_time_is_the_catalogs_until_three_launches_are_known():
    assert learning.lead_seconds(pool(), State()) == 300
    state = State(pools={"l4": PoolState(leads=(100, 110))})
    assert learning.lead_seconds(pool(), state) == 300
    state = State(pools={"l4": PoolState(leads=(100, 110, 500))})
    assert learning.lead_seconds(pool(), state) == 500
    state = State(pools={"l4": PoolState(leads=(100, 110, 120, 130, 900))})
    assert learning.lead_seconds(pool(), state) == 130


def test_a_launch_is_timed_from_order_to_ready_once():
    starting = replace(pool_seen(0), instances=instances(1, Phase.STARTING, "n", since=NOW - 200))
    remembered = learning.learn_leads(PoolState(), starting, NOW)
    ready = replace(pool_seen(0), instances=instances(1, Phase.READY, "n", since=NOW - 200, ready_at=NOW + 40))
    remembered = learning.learn_leads(remembered, ready, NOW + 60)
    assert remembered.leads == (240.0,)
    assert learning.learn_leads(remembered, ready, NOW + 120).leads == (240.0,)


def test_an_instance_that_was_always_ready_teaches_no_lead_time():
    assert learning.learn_leads(PoolState(), pool_seen(3), NOW).leads == ()


LEARN = {"learning": {"enabled": True, "half_life_seconds": 600}, "slo": {"ttft_seconds": 2}}


def corrected(view, minutes=1, state=None, **policy):
    svc = service(**(LEARN | policy))
    state = state or State(at=NOW - 60, pools={"l4": PoolState()})
    for i in range(minutes):
        now = NOW + 60 * i
        fresh = replace(
            view,
            **{
                name: Reading(getattr(view, name).value, now)
                for name in ("running", "waiting", "ttft_seconds")
                if getattr(view, name)
            },
        )
        state = replace(learning.learn_capacity(Context(svc, seen(pools={"l4": fresh}), state, now)), at=now)
    return state.pools["l4"].correction


def test_engines_that_hold_requests_back_carry_what_they_have_in_service():
    # C = 20, but 2 instances have 30 in service and hold 10 back: 15 each, 0.75 of the catalog's
    view = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(10.0, NOW))
    assert corrected(view) < 1
    assert corrected(view, minutes=300) == pytest.approx(0.75, abs=0.01)


def test_the_correction_stays_within_its_bound():
    view = pool_seen(2, load=40, running=Reading(4.0, NOW), waiting=Reading(36.0, NOW))
    assert corrected(view, minutes=400) == pytest.approx(0.7, abs=0.001)
    assert corrected(view, minutes=400, learning=LEARN["learning"] | {"bound_percent": 10}) == pytest.approx(
        0.9, abs=0.001
    )


def test_more_than_the_catalog_says_without_trouble_is_believed_slowly():
    view = pool_seen(2, load=48, running=Reading(48.0, NOW), ttft_seconds=Reading(0.5, NOW))
    assert 1 < corrected(view) < 1.05
    assert corrected(view, minutes=300) == pytest.approx(1.2, abs=0.01)


def test_a_late_first_token_at_the_edge_makes_the_capacity_smaller():
    view = pool_seen(2, load=37, running=Reading(37.0, NOW), ttft_seconds=Reading(4.0, NOW))
    assert corrected(view) < 1


def test_a_half_empty_instance_teaches_nothing():
    view = pool_seen(2, load=20, running=Reading(20.0, NOW), ttft_seconds=Reading(4.0, NOW))
    assert corrected(view, minutes=50) == 1


def test_missing_counts_teach_nothing():
    assert corrected(pool_seen(2, load=None), minutes=5) == 1


def test_a_longer_half_life_follows_more_slowly():
    view = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(10.0, NOW))
    slow = corrected(view, learning=LEARN["learning"] | {"half_life_seconds": 6000})
    assert corrected(view) < slow < 1


def test_learning_can_be_switched_off():
    view = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(10.0, NOW))
    assert corrected(view, minutes=50, learning={"enabled": False}) == 1


def test_another_reset_text_forgets_what_was_learnt():
    state = remembered(at=NOW - 60, pools={"l4": PoolState(correction=0.8)}, learning_reset="")
    assert corrected(pool_seen(2), state=state) == pytest.approx(0.8)
    assert corrected(pool_seen(2), state=state, learning=LEARN["learning"] | {"reset": "new driver"}) == 1


def test_a_pool_of_one_instance_learns_as_well():
    view = pool_seen(1, load=40, running=Reading(15.0, NOW), waiting=Reading(10.0, NOW))
    assert corrected(view, minutes=300) == pytest.approx(0.75, abs=0.01)


def test_one_request_held_back_by_each_instance_is_not_yet_a_full_pool():
    view = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(2.0, NOW))
    assert corrected(view, minutes=50) == 1


def test_a_load_below_what_is_believed_teaches_nothing_while_tokens_come_in_time():
    view = pool_seen(2, load=38, running=Reading(38.0, NOW), ttft_seconds=Reading(0.5, NOW))
    assert corrected(view, minutes=50) == 1


def test_the_edge_is_nine_tenths_of_what_is_believed_now_and_not_of_the_catalogs_figure():
    late = Reading(4.0, NOW)
    at_edge = pool_seen(2, load=36, running=Reading(36.0, NOW), ttft_seconds=late)
    assert corrected(at_edge) < 1
    assert corrected(replace(at_edge, running=Reading(35.9, NOW))) == 1
    # believed 0.8: 0.75 of the catalog's C is beyond the edge of 0.72, 0.7 is not
    smaller = State(at=NOW - 60, pools={"l4": PoolState(correction=0.8)})
    beyond = pool_seen(2, load=30, running=Reading(30.0, NOW), ttft_seconds=late)
    assert 0.75 < corrected(beyond, state=smaller) < 0.8
    assert corrected(replace(beyond, running=Reading(28.0, NOW)), state=smaller) == 0.8


def test_a_first_token_just_within_its_limit_is_in_time():
    view = pool_seen(2, load=48, running=Reading(48.0, NOW), ttft_seconds=Reading(2.0, NOW))
    assert corrected(view) > 1


def test_without_an_slo_or_without_its_latency_only_a_queue_teaches():
    slow = pool_seen(2, load=48, running=Reading(48.0, NOW), ttft_seconds=Reading(9.0, NOW))
    queue = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(10.0, NOW))
    assert corrected(slow, slo=None) == 1
    assert corrected(replace(slow, ttft_seconds=None)) == 1
    assert corrected(queue, slo=None) < 1


def timed(since, ready_at, now=NOW):
    ready = replace(pool_seen(0), instances=instances(1, Phase.READY, "n", since=since, ready_at=ready_at))
    return learning.learn_leads(PoolState(starting=("n-0",)), ready, now).leads


def test_a_launch_is_timed_to_a_tenth_of_a_second_and_to_now_where_its_end_was_not_seen():
    assert timed(NOW - 200, NOW + 40.44) == (240.4,)
    assert timed(NOW - 200, None) == (200.0,)
    assert timed(NOW - 1.5, NOW) == (1.5,)
    assert timed(NOW, NOW) == (1.0,)


def test_a_pools_launches_stay_known_from_run_to_run_and_go_with_the_pool():
    state = State(at=NOW - 60, pools={"l4": PoolState(leads=(90.0,), starting=("n-0",)), "gone": PoolState()})
    ready = replace(pool_seen(0), instances=instances(1, Phase.READY, "n", since=NOW - 200))
    after = learning.remember_pools(
        Context(service(pool("l4"), pool("new")), seen(pools={"l4": ready, "new": ready}), state, NOW)
    )
    assert {name: each.leads for name, each in after.items()} == {"l4": (90.0, 200.0), "new": ()}


FULL = pool_seen(2, load=40, running=Reading(30.0, NOW), waiting=Reading(10.0, NOW))


def test_what_was_learnt_is_forgotten_once_for_each_reset_text():
    svc = service(**LEARN | {"learning": LEARN["learning"] | {"reset": "new driver"}})
    state = remembered(at=NOW - 60, pools={"l4": PoolState(correction=0.8)}, learning_reset="")
    state = learning.learn_capacity(Context(svc, seen(pools={"l4": pool_seen(2)}), state, NOW))
    assert state.learning.reset == "new driver"
    learnt = replace(state, pools={"l4": PoolState(correction=0.9)})
    assert learning.learn_capacity(Context(svc, seen(pools={"l4": pool_seen(2)}), learnt, NOW + 60)) == learnt


def test_a_pool_that_shows_nothing_keeps_no_other_from_learning():
    svc = service(pool("l4"), pool("l40s"), **LEARN)
    state = State(at=NOW - 60)
    after = learning.learn_capacity(Context(svc, seen(pools={"l4": pool_seen(2), "l40s": FULL}), state, NOW))
    assert after.pools["l40s"].correction < 1
    assert "l4" not in after.pools


def test_half_of_the_way_is_gone_in_the_policys_half_life_and_never_more_than_ten_minutes_worth_in_a_run():
    at = {"l4": PoolState()}
    assert corrected(FULL, state=State(at=NOW - 600, pools=at)) == pytest.approx(0.875)
    assert corrected(FULL, state=State(at=NOW - 6000, pools=at)) == pytest.approx(0.875)
    assert corrected(FULL, state=State(at=NOW + 60, pools=at)) == 1.0


def test_what_is_seen_beyond_the_bound_pulls_no_harder_than_the_bound():
    """Twice the catalog's C is seen and 30 % allowed: half of the way to 1.3, not to 2."""
    state = State(at=NOW - 600, pools={"l4": PoolState()})
    twice = pool_seen(2, load=80, running=Reading(80.0, NOW), waiting=Reading(10.0, NOW))
    assert corrected(twice, state=state) == pytest.approx(1.15)


def test_a_tighter_bound_holds_at_once():
    tight = LEARN["learning"] | {"bound_percent": 10}
    for before, after in ((1.3, 1.1), (0.7, 0.9)):
        state = State(at=NOW - 60, pools={"l4": PoolState(correction=before)})
        view = pool_seen(2, load=40, running=Reading(40.0 * before, NOW), waiting=Reading(10.0, NOW))
        assert corrected(view, state=state, learning=tight) == pytest.approx(after)
