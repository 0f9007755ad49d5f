"""What an instance of each pool is counted for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpu_fleet.scaling import sizing
from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.fleet import LEAST_SHARE, Fleet, lead_seconds, nothing_stands, survey, thinned
from gpu_fleet.scaling.observation import Observation, Phase, PoolObservation
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import Mark, PoolState, State
from tests.scaling.builders import NOW, instances, pool, pool_seen, service

SLOW = pool(
    "slow", throughput_rps=1.0, capacity=20.0, service_seconds=20.0, slowdown=5.0, slots=20.0, first_token_seconds=0.4
)
FAST = pool(
    "fast", throughput_rps=2.6, capacity=42.0, service_seconds=16.0, slowdown=10.0, slots=42.0, first_token_seconds=0.1
)
BOTH = service(SLOW, FAST)


def surveyed(of: Service, headroom: float, count: int = 10) -> Fleet:
    seen = Observation(pools={p.name: pool_seen(count) for p in of.pools})
    return survey(Context(of, seen, State(pools={p.name: PoolState() for p in of.pools}), NOW), headroom)


def share(of: Service, name: str, budget: float | None = None, count: int = 10) -> float:
    (one,) = (p for p in of.pools if p.name == name)
    return sizing.usable_share(one, of.policy, count, 1.0, budget)


def test_without_headroom_an_instance_counts_for_what_keeps_the_slo_strictly():
    for one in BOTH.pools:
        assert surveyed(BOTH, 1.0).worth[one.name] == pytest.approx(one.throughput_rps * share(BOTH, one.name))


def test_headroom_is_carried_less_strictly_but_never_past_what_a_few_per_cent_allow():
    strict, tail = share(BOTH, "slow"), share(BOTH, "slow", sizing.TAIL_BUDGET)
    assert strict < 1.2 * strict < tail, "else this shows nothing"
    assert surveyed(BOTH, 1.2).worth["slow"] == pytest.approx(1.2 * strict)
    assert surveyed(BOTH, 10.0).worth["slow"] == pytest.approx(tail)


def test_a_class_that_long_prompts_may_hardly_fill_counts_for_less_of_itself_than_one_that_reads_them_fast():
    worth = surveyed(BOTH, 1.2).worth
    assert worth["slow"] / SLOW.throughput_rps < 0.75 * worth["fast"] / FAST.throughput_rps


def test_never_less_than_a_quarter_of_an_instance_is_counted():
    hopeless = service(replace_first_token(3.0))
    assert share(hopeless, "slow") < LEAST_SHARE
    assert surveyed(hopeless, 1.0).worth["slow"] == pytest.approx(LEAST_SHARE)


def replace_first_token(seconds: float):
    return SLOW.model_copy(update={"first_token_seconds": seconds})


def test_what_was_learnt_of_a_pool_is_counted_in():
    seen = Observation(pools={p.name: pool_seen(10) for p in BOTH.pools})
    state = State(pools={"slow": replace(PoolState(), correction=0.8), "fast": PoolState()})
    plain, corrected = surveyed(BOTH, 1.2), survey(Context(BOTH, seen, state, NOW), 1.2)
    assert corrected.worth["slow"] == pytest.approx(0.8 * plain.worth["slow"])
    assert corrected.worth["fast"] == pytest.approx(plain.worth["fast"])


def look(*pools: Pool, views: tuple[PoolObservation, ...], remembered: PoolState | None = None) -> Fleet:
    seen = Observation(pools={p.name: view for p, view in zip(pools, views, strict=True)})
    return survey(Context(service(*pools), seen, State(pools={p.name: remembered or PoolState() for p in pools}), NOW))


def test_unless_head_room_is_said_an_instance_counts_strictly():
    fleet = look(SLOW, FAST, views=(pool_seen(10), pool_seen(10)))
    assert fleet.worth == surveyed(BOTH, 1.0).worth


def test_a_pool_of_which_nothing_stands_is_taken_for_as_many_as_stand_in_all():
    alone = look(SLOW, FAST, views=(pool_seen(0), pool_seen(0)))
    assert alone.worth["slow"] == pytest.approx(share(BOTH, "slow", count=1))
    beside = look(SLOW, FAST, views=(pool_seen(0), pool_seen(6)))
    assert beside.worth["slow"] == pytest.approx(share(BOTH, "slow", count=6))


def test_what_is_ready_is_worth_what_its_instances_are_together():
    fleet = look(SLOW, FAST, views=(pool_seen(3, starting=2), pool_seen(1, unhealthy=1)))
    assert fleet.ready_rps == pytest.approx(3 * fleet.worth["slow"] + fleet.worth["fast"])


@pytest.mark.parametrize(("most", "barred"), [(0, False), (1, True), (5, True)])
def test_a_class_that_misses_the_slo_is_barred_where_one_that_reaches_it_may_be_had(most, barred):
    misses = SLOW.model_copy(update={"reaches_slo": False, "min_instances": 0})
    reaches = FAST.model_copy(update={"min_instances": 0, "max_instances": most})
    fleet = look(misses, reaches, views=(pool_seen(2), pool_seen(0)))
    assert fleet.options[0].at_most == (0 if barred else misses.max_instances)


def test_where_no_class_reaches_the_slo_all_are_used():
    both = [p.model_copy(update={"reaches_slo": False}) for p in (SLOW, FAST)]
    fleet = look(*both, views=(pool_seen(2), pool_seen(0)))
    assert [rung.at_most for rung in fleet.options] == [SLOW.max_instances, FAST.max_instances]


def test_instances_that_carry_nothing_take_their_room_below_the_maximum():
    """Five at most: two that fail their checks leave room for three that serve; of two at most none is left."""
    view = pool_seen(0, unhealthy=2)
    assert look(pool(max_instances=5), views=(view,)).options[0].at_most == 3
    full = look(pool(max_instances=2), views=(view,)).options[0]
    assert (full.at_least, full.at_most) == (0, 0)


def marked(*markets: bool) -> PoolState:
    return PoolState(marks=tuple(Mark("", NOW + 60, 1, spot) for spot in markets))


def test_a_pool_of_which_none_can_be_had_keeps_what_lives_and_does_not_wait_for_boots_that_never_end():
    view = pool_seen(3, starting=2, starting_since=NOW - 7200)
    assert look(pool(), views=(view,), remembered=marked(False)).options[0].at_most == 3
    boots = pool_seen(3, starting=2)
    assert look(pool(), views=(boots,), remembered=marked(False)).options[0].at_most == 5
    never = pool_seen(0, starting=1, starting_since=NOW - 7200)
    assert look(pool(), views=(never,), remembered=marked(False)).options[0].at_most == 0


def test_orders_that_the_group_cannot_fill_are_neither_standing_nor_lost():
    """Seven wanted, three there: the four orders come to nothing, whether AWS said so or `Launch` is suspended."""
    view = replace(pool_seen(3), desired=7)
    for fleet in (
        look(pool(), views=(view,), remembered=marked(False)),
        look(pool(), views=(replace(view, launch_suspended=True),)),
    ):
        assert (fleet.standing["l4"], fleet.lost["l4"], fleet.options[0].at_most) == (3, 0, 3)
        assert fleet.standing_rps == pytest.approx(3 * fleet.worth["l4"])
    assert look(pool(), views=(view,)).standing["l4"] == 7


@pytest.mark.parametrize(
    ("percent", "markets", "stopped"),
    [
        (100, (True,), False),
        (99, (True,), False),
        (100, (False,), False),
        (99, (False,), True),
        (100, (True, False), True),
    ],
)
def test_a_lack_of_spot_stops_no_pool_and_a_lack_of_on_demand_those_that_need_it(percent, markets, stopped):
    one = pool(spot_percent=percent)
    at_most = look(one, views=(pool_seen(2),), remembered=marked(*markets)).options[0].at_most
    assert at_most == (2 if stopped else one.max_instances)


def test_the_mix_knows_each_pools_vcpus_quota_and_price():
    rung = look(pool(vcpus=48, quota="G and VT"), views=(pool_seen(1),)).options[0]
    assert (rung.vcpus, rung.quota, rung.usd_per_hour) == (48, "G and VT", 0.8)


@pytest.mark.parametrize(
    ("view", "nothing"),
    [
        (pool_seen(0), True),
        (pool_seen(1), False),
        (pool_seen(0, desired=1), False),
        (replace(pool_seen(0), instances=instances(1, Phase.DRAINING)), False),
    ],
)
def test_orders_and_what_still_drains_stand_as_well(view, nothing):
    assert nothing_stands(Observation(pools={"l4": pool_seen(0), "h100": view})) == nothing


def horizon(*pools: tuple[float, int, int]) -> float:
    """Of pools with this lead time, maximum and desired count."""
    these = [
        pool(f"p{n}", lead_seconds=lead, min_instances=0, max_instances=most) for n, (lead, most, _) in enumerate(pools)
    ]
    seen = Observation(pools={p.name: pool_seen(count) for p, (_, _, count) in zip(these, pools, strict=True)})
    return lead_seconds(Context(service(*these), seen, State(pools={p.name: PoolState() for p in these}), NOW))


def test_one_looks_as_far_ahead_as_the_slowest_pool_that_stands_takes():
    assert horizon((600, 9, 1), (100, 9, 3)) == 600
    assert horizon((600, 9, 0), (100, 9, 3)) == 100
    assert horizon((600, 1, 1), (100, 9, 3)) == 600


def test_where_nothing_stands_one_looks_as_far_as_the_fastest_that_may_takes():
    assert horizon((600, 9, 0), (100, 9, 0)) == 100
    assert horizon((600, 9, 0), (100, 0, 0)) == 600
    assert horizon((600, 0, 0)) == 0


def test_a_part_of_the_traffic_is_less_bursty_than_the_whole():
    """Ten slow ones do 10 of 36 requests a second: 1 + (13 - 1) * 10/36."""
    counts = {"slow": 10, "fast": 10}
    assert thinned(13.0, SLOW, BOTH, counts) == pytest.approx(1 + 12 * 10 / 36)
    assert thinned(13.0, FAST, BOTH, counts) == pytest.approx(1 + 12 * 26 / 36)


def test_the_only_pool_has_all_of_the_burstiness_and_so_has_one_that_would_take_over():
    assert thinned(13.0, SLOW, BOTH, {"slow": 3, "fast": 0}) == 13.0
    assert thinned(13.0, FAST, BOTH, {"slow": 3, "fast": 0}) == 13.0
