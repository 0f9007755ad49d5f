"""Types that change in place: what is counted while two kinds stand, and when a refresh is worth it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling.decide import decide
from gpu_fleet.scaling.decision import Decision, Reason, Refresh, Step
from gpu_fleet.scaling.in_place import as_counted, as_measured, consider
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.record import dump, load
from gpu_fleet.scaling.service import Alternative, Service
from gpu_fleet.scaling.state import Mark, Point, PoolState, State
from tests.scaling.builders import NOW, changed, pool, remembered, seen, service

LIVED = remembered(at=NOW - 60, since=NOW - 7200, request_weight=1.0, dispersion=1.0)
SMALL, BIG = ("g6.xlarge",), ("g6e.xlarge",)


def kind(types: tuple[str, ...] = BIG, **changes: Any) -> Alternative:
    """Types whose instances carry 80 requests, 8 a second: as much as four of the builders' pool."""
    base: dict[str, Any] = {
        "types": types,
        "capacity": 80.0,
        "throughput_rps": 8.0,
        "service_seconds": 10.0,
        "on_demand_usd_per_hour": 1.6,
        "lead_seconds": 300.0,
    }
    return Alternative.model_validate(base | changes)


def changing(*alternatives: Alternative, quotas: dict[str, int] | None = None, **changes: Any) -> Service:
    """A service whose only pool may change to these types; its stay pays for anything, and every instance is used to
    80 %, the small ones for 1.6 requests a second, the big ones for 6.4.
    """
    changes = {
        "sizing": {"mode": "threshold"},
        "forecast": {"method": "none", "max_headroom_percent": 0},
    } | changes
    vertical = {"method": "in_place", "minimum_stay_seconds": 36000, **changes.pop("vertical", {})}
    first = pool(alternatives=alternatives or (kind(),), **changes.pop("pool", {}))
    return service(first, quotas=quotas, vertical=vertical, **changes)


def group(
    small: int = 0, big: int = 0, starting: tuple[str, ...] = (), load: float | None = 0.0, **changes: Any
) -> PoolObservation:
    """A pool with ready instances of both kinds."""
    types = ["g6.xlarge"] * small + ["g6e.xlarge"] * big
    nodes = tuple(Instance(f"i-{n}", t, "ab"[n % 2], Phase.READY, NOW - 7200) for n, t in enumerate(types))
    nodes += tuple(Instance(f"s-{n}", t, "a", Phase.STARTING, NOW - 60) for n, t in enumerate(starting))
    reading = None if load is None else Reading(load, changes.get("at", NOW))
    base: dict[str, Any] = {
        "desired": len(nodes),
        "min_size": 0,
        "max_size": 200,
        "weight": 100,
        "instances": nodes,
        "load": reading,
        "running": reading,
        "waiting": None if load is None else Reading(0.0, changes.pop("at", NOW)),
        "types": SMALL if small or not big else BIG,
    }
    return PoolObservation(**base | changes)


def one(
    svc: Service, view: PoolObservation, arrivals: float | None, state: State = LIVED, now: float = NOW
) -> Decision:
    return decide(svc, Observation({"l4": view}, None if arrivals is None else Reading(arrivals, now)), state, now)


def last(decision: Decision) -> str:
    return next(code for code in reversed(decision.codes) if code.startswith("vertical."))


# --- when not ------------------------------------------------------------------------------------------------------


def test_nothing_is_rolled_while_a_refresh_runs() -> None:
    decision = one(changing(), group(small=8, load=120, refreshing=True), 12.0)
    assert decision.refresh is None
    assert last(decision) == "vertical.wait"


def test_nothing_is_rolled_on_a_hold() -> None:
    assert one(changing(), group(small=8, load=None), None).refresh is None
    assert one(changing(), group(small=8, load=120), 12.0, state=State()).refresh is None


def test_types_that_miss_the_slo_are_never_taken() -> None:
    svc = changing(kind(reaches_slo=False, on_demand_usd_per_hour=0.01), sizing={"mode": "slo"})
    decision = one(svc, group(small=12, load=120), 12.0)
    assert decision.refresh is None
    assert last(decision) == "vertical.no_saving"


def test_types_that_cannot_carry_the_demand_within_the_maximum_are_never_taken() -> None:
    weak = kind(("g5.xlarge",), throughput_rps=0.5, capacity=5.0, on_demand_usd_per_hour=0.01)
    assert one(changing(weak), group(small=8, load=120), 12.0).refresh is None
    assert one(changing(weak, pool={"max_instances": 100}), group(small=8, load=120), 12.0).refresh is not None


def test_a_quota_must_hold_both_kinds_while_they_stand_side_by_side() -> None:
    """Eight of 16 vCPUs come for eight of 4, one at a time: nine of 16 are the most that may stand."""
    big = kind(vcpus=16, quota="g")
    view = group(small=8, load=120)
    tight = changing(big, quotas={"g": 8 * 16}, pool={"quota": "g"})
    roomy = changing(big, quotas={"g": 9 * 16}, pool={"quota": "g"})
    assert one(tight, view, 12.0).refresh is None
    refresh = one(roomy, view, 12.0).refresh
    assert refresh is not None
    assert refresh.surge_percent == 10


def test_a_saving_below_the_policys_is_not_made() -> None:
    decision = one(changing(vertical={"minimum_saving_percent": 60}), group(small=8, load=120), 12.0)
    assert decision.refresh is None
    assert last(decision) == "vertical.no_saving"
    assert "would save 50.0 %, less than vertical.minimum_saving_percent, 60 %" in decision.reasons[-1].sentence


def test_a_saving_that_does_not_pay_for_the_refresh_within_the_stay_is_not_made() -> None:
    """All eight are replaced one for one, though two would do: eight at 1.60 for 300 s are 1.07 USD, and then they
    stand for two minutes where eight at 0.80 would.
    """
    short = changing(vertical={"minimum_stay_seconds": 600})
    decision = one(short, group(small=8, load=120), 12.0)
    assert decision.refresh is None
    assert "the refresh costs" in decision.reasons[-1].sentence
    assert decision.reasons[-1].numbers["overlap_usd"] == pytest.approx((8 * 1.6 * 300 + 8 * 0.8 * 120) / 3600)


def test_types_stay_for_the_minimum_time() -> None:
    state = changed(LIVED, moved_at=NOW - 3600)
    decision = one(changing(), group(small=8, load=120), 12.0, state=state)
    assert decision.refresh is None
    assert last(decision) == "vertical.wait"


def test_a_pool_that_aws_has_no_instances_for_is_not_rolled_to_save_money() -> None:
    marked = replace(LIVED, pools={"l4": PoolState(marks=(Mark("a", NOW + 300, 1),), marked_at=NOW - 60)})
    decision = one(changing(), group(small=8, load=120), 12.0, state=marked)
    assert (decision.refresh, last(decision)) == (None, "vertical.wait")


def test_a_group_in_motion_is_not_rolled_to_save_money() -> None:
    decision = one(changing(), group(small=7, starting=SMALL, load=120), 12.0)
    assert (decision.refresh, last(decision)) == (None, "vertical.wait")


@pytest.mark.parametrize("method", ["pools", "off"])
def test_other_methods_never_refresh(method: str) -> None:
    decision = one(changing(vertical={"method": method}), group(small=8, load=120), 12.0)
    assert decision.refresh is None
    assert not [code for code in decision.codes if code.startswith("vertical.")]


def test_a_sleeping_service_is_left_alone() -> None:
    svc = changing(pool={"min_instances": 0}, zero={"idle_seconds": 600}, availability={"min_instances": 0})
    decision = one(svc, group(), 0.0, state=changed(LIVED, asleep=True, idle_since=NOW - 3600))
    assert decision.refresh is None


# --- when -----------------------------------------------------------------------------------------------------------


def test_cheaper_types_that_pay_are_rolled_through() -> None:
    decision = one(changing(), group(small=8, load=120), 12.0)
    assert decision.refresh is not None
    assert (decision.refresh.pool, decision.refresh.types) == ("l4", BIG)
    assert last(decision) == "vertical.refresh"
    assert decision.state.mix.moved_at == NOW
    target = decision.targets["l4"]
    assert (target.desired, target.take) == (8, ())


def test_as_many_are_replaced_at_a_time_as_the_maximum_leaves_room_for() -> None:
    def surge(most: int) -> int:
        refresh = one(changing(pool={"max_instances": most}), group(small=8, load=120), 12.0).refresh
        assert refresh is not None
        return refresh.surge_percent

    assert [surge(most) for most in (8, 11, 12, 40)] == [10, 37, 50, 100]


def test_smaller_types_come_in_the_number_that_carries_the_demand() -> None:
    """Two big ones carry 12 a second; eight small ones must stand before a big one goes."""
    svc = changing(kind(on_demand_usd_per_hour=9.0))
    decision = one(svc, group(big=2, load=120), 12.0)
    assert decision.refresh is not None
    assert decision.refresh.types == SMALL
    assert decision.targets["l4"].desired == 8


def test_a_demand_beyond_the_maximum_of_small_instances_brings_bigger_ones_at_once_whatever_they_cost() -> None:
    svc = changing(kind(on_demand_usd_per_hour=50.0), pool={"max_instances": 8})
    state = changed(LIVED, moved_at=NOW - 60)
    decision = one(svc, group(small=8, load=160, starting=()), 30.0, state=state)
    assert decision.refresh is not None
    assert decision.refresh.types == BIG
    assert "cannot carry" in decision.reasons[-1].sentence


def test_a_demand_that_no_types_carry_changes_nothing() -> None:
    decision = one(changing(pool={"max_instances": 8}), group(small=8, load=160), 500.0)
    assert (decision.refresh, last(decision)) == (None, "vertical.short")


def test_the_cheapest_of_several_is_taken() -> None:
    svc = changing(kind(), kind(("p5.4xlarge",), on_demand_usd_per_hour=1.2))
    refresh = one(svc, group(small=8, load=120), 12.0).refresh
    assert refresh is not None
    assert refresh.types == ("p5.4xlarge",)


def test_a_group_that_launches_types_no_longer_named_is_brought_up_to_what_is_written() -> None:
    view = group(small=8, load=120, types=("g4dn.xlarge",))
    decision = one(changing(kind(on_demand_usd_per_hour=90.0)), view, 12.0)
    assert decision.refresh is not None
    assert decision.refresh.types == SMALL


def test_what_was_learnt_upwards_of_old_types_is_not_believed_of_new_ones() -> None:
    state = replace(LIVED, pools={"l4": PoolState(correction=1.2, leads=(60.0, 60.0, 60.0))})
    kept = one(changing(), group(small=8, load=120), 12.0, state=state).state.pools["l4"]
    assert (kept.correction, kept.leads) == (1.0, ())
    state = replace(LIVED, pools={"l4": PoolState(correction=0.8)})
    assert one(changing(), group(small=8, load=100), 10.0, state=state).state.pools["l4"].correction == 0.8


# --- while two kinds stand ------------------------------------------------------------------------------------------


def test_measured_by_the_mean_of_what_serves() -> None:
    measured = as_measured(changing(), seen(pools={"l4": group(small=1, big=2)})).pools[0]
    assert measured.capacity == pytest.approx((20 + 2 * 80) / 3)
    assert measured.throughput_rps == pytest.approx(6.0)
    assert measured.on_demand_usd_per_hour == pytest.approx((0.8 + 2 * 1.6) / 3)
    assert measured.throughput_rps * measured.service_seconds == pytest.approx(measured.capacity)  # Little's law


def test_the_queue_is_that_of_the_instances_there_are() -> None:
    """Half of 180 requests' worth of room is in use, whichever kinds it is made of."""
    decision = one(changing(), group(small=1, big=2, load=90, refreshing=True), 9.0)
    assert decision.signals.response_time == pytest.approx(0.5)


def test_counted_by_the_weakest_that_stands_or_comes() -> None:
    def counted(view: PoolObservation) -> tuple[str, ...]:
        return as_counted(changing(), seen(pools={"l4": view})).pools[0].types

    assert counted(group(big=3)) == BIG
    assert counted(group(small=1, big=2)) == SMALL
    assert counted(group(big=2, starting=SMALL, types=BIG)) == SMALL
    assert counted(group(big=2, types=SMALL)) == SMALL  # a refresh under way brings them
    assert counted(group(big=2, types=())) == SMALL  # not known: the user's first ones


def test_a_refresh_to_bigger_instances_keeps_the_number_until_it_is_over() -> None:
    state, desired = LIVED, 8
    for minute in range(1, 30):
        now = NOW + 60 * minute
        view = group(small=1, big=7, load=120, refreshing=True, types=BIG, at=now)
        decision = one(changing(), view, 12.0, state=state, now=now)
        state, desired = decision.state, decision.targets["l4"].desired
        assert desired == 8
    for minute in range(30, 60):
        now = NOW + 60 * minute
        decision = one(changing(), group(big=desired, load=120, at=now), 12.0, state=state, now=now)
        state, desired = decision.state, decision.targets["l4"].desired
    assert desired == 2


def test_a_refresh_to_smaller_instances_orders_what_more_is_asked_for_meanwhile() -> None:
    view = group(big=2, starting=SMALL * 6, load=150, refreshing=True, types=SMALL)
    assert one(changing(), view, 19.0).targets["l4"].desired >= 10


def test_a_record_of_it_reads_back() -> None:
    svc = changing()
    assert load(Service, dump(svc)) == svc
    decision = one(svc, group(small=8, load=120), 12.0)
    assert load(Decision, dump(decision)) == decision


# --- always ---------------------------------------------------------------------------------------------------------

prices = st.floats(0.2, 12.0)
speeds = st.floats(0.5, 12.0)


def world(svc: Service, types: tuple[str, ...], ready: int, rps: float, at: float) -> Observation:
    """A group of one kind under a constant load, as its engines would show it."""
    capacity = next(k for k in (svc.pools[0], *svc.pools[0].alternatives) if k.types == types).capacity
    nodes = tuple(Instance(f"{types[0]}-{n}", types[0], "ab"[n % 2], Phase.READY, at - 7200) for n in range(ready))
    load = Reading(min(rps * 10, ready * capacity), at)
    nodes = tuple(replace(node, load=Reading(load.value / ready, at)) for node in nodes)
    view = PoolObservation(ready, 0, 200, 100, nodes, load=load, running=load, waiting=Reading(0.0, at), types=types)
    return Observation({"l4": view}, Reading(rps, at))


@settings(max_examples=25, deadline=None)
@given(prices, speeds, prices, speeds, st.floats(1.0, 30.0), st.floats(1800, 36000))
def test_under_constant_load_types_change_at_most_once(
    price: float, speed: float, other_price: float, other_speed: float, rps: float, stay: float
) -> None:
    first = {"on_demand_usd_per_hour": price, "throughput_rps": speed, "capacity": speed * 10, "max_instances": 100}
    other = kind(on_demand_usd_per_hour=other_price, throughput_rps=other_speed, capacity=other_speed * 10)
    svc = changing(other, pool=first, vertical={"minimum_stay_seconds": stay})
    types, ready, state, changes = SMALL, max(1, int(rps / speed * 1.6)), LIVED, 0
    for step in range(120):
        now = NOW + 300 * step
        decision = decide(svc, world(svc, types, ready, rps, now), state, now)
        state, ready = decision.state, max(1, decision.targets["l4"].desired)
        if decision.refresh is not None:
            types, changes = decision.refresh.types, changes + 1
    assert changes <= 1


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(prices, speeds, st.integers(4, 64), st.booleans()), min_size=1, max_size=3),
    st.integers(1, 15),
    st.floats(0.0, 60.0),
    st.integers(8, 400),
    st.sampled_from(["threshold", "slo"]),
)
def test_a_refresh_always_carries_the_requirement_within_maximum_and_quota(
    others: list[tuple[float, float, int, bool]], ready: int, rps: float, quota: int, mode: str
) -> None:
    kinds = [
        kind(
            (f"t{n}",), on_demand_usd_per_hour=usd, throughput_rps=r, capacity=10 * r, vcpus=v, quota="g", reaches_slo=k
        )
        for n, (usd, r, v, k) in enumerate(others)
    ]
    svc = changing(*kinds, quotas={"g": quota}, pool={"quota": "g"}, sizing={"mode": mode})
    decision = decide(svc, world(svc, SMALL, ready, rps, NOW), LIVED, NOW)
    if decision.refresh is None:
        return
    taken = next(k for k in kinds if k.types == decision.refresh.types)
    through = decision.targets["l4"].desired
    assert decision.signals.required_rps is not None
    assert through * taken.throughput_rps >= decision.signals.required_rps * (1 - 1e-6)
    assert ready <= through <= 20
    assert taken.reaches_slo or mode == "threshold"
    surge = max(1, through * decision.refresh.surge_percent // 100)
    for gone in range(ready + 1):  # both kinds, at every moment of the roll
        new = min(through, through - ready + gone + surge)
        assert (ready - gone) * 4 + new * taken.vcpus <= quota


def test_considering_twice_says_the_same() -> None:
    view = group(small=8, load=120)
    decision = one(changing(), view, 12.0)
    again = consider(changing(), Observation({"l4": view}), replace(decision, refresh=None), NOW + 60)
    assert again.refresh is None  # the first one is remembered


@pytest.mark.parametrize("rps", [3.0, 12.0, 25.0])
def test_it_reckons_with_as_many_instances_as_the_evaluation_comes_to(rps: float) -> None:
    svc = changing(kind(on_demand_usd_per_hour=99.0), sizing={"mode": "slo"}, pool={"max_instances": 60})
    ready, decision = int(rps), decide(svc, world(svc, SMALL, int(rps), rps, NOW), LIVED, NOW)
    for minute in range(1, 60):
        now = NOW + 60 * minute
        ready = decision.targets["l4"].desired
        decision = decide(svc, world(svc, SMALL, ready, rps, now), decision.state, now)
    reckoned = int(decision.reasons[-1].sentence.removeprefix("Stays with ").split(" ")[0])
    assert abs(ready - reckoned) <= 1  # the dead band may leave one more


# --- in figures -----------------------------------------------------------------------------------------------------


def reason(decision: Decision) -> Reason:
    found = decision.reasons[-1]
    assert found.step is Step.MIX
    assert isinstance(found.sentence, str)
    return found


def test_what_a_refresh_saves_and_costs_is_told() -> None:
    """Four at 1 USD are replaced at once by four at 2, of which one is enough: (4 + 8 - 4) USD an hour for 360 s and
    (8 - 4) for 120 s more are 0.93 USD.
    """
    svc = changing(
        kind(on_demand_usd_per_hour=2.0, lead_seconds=360.0), pool={"on_demand_usd_per_hour": 1.0, "max_instances": 8}
    )
    decision = one(svc, group(small=4, load=60), 6.0)
    assert decision.refresh == Refresh("l4", BIG, 100)
    found = reason(decision)
    assert found.code == "vertical.refresh"
    assert found.numbers == pytest.approx(
        {"saving_usd_per_hour": 2.0, "overlap_usd": 0.8 + 4 / 30, "required_rps": 6.0, "instances": 4.0}
    )
    assert found.sentence == (
        "1 g6e.xlarge (2.00 USD per hour) instead of 4 g6.xlarge (4.00 USD per hour) saves 2.00 USD per hour, and the"
        " refresh costs 0.93 USD: a refresh of l4 to 4 g6e.xlarge begins, 100 % at a time."
    )


def refused(decision: Decision) -> tuple[str, str, float]:
    found = reason(decision)
    assert decision.refresh is None
    return found.code, found.sentence, found.numbers["overlap_usd"]


def test_each_batch_of_a_refresh_is_paid_for_while_it_boots() -> None:
    """Eight in two batches of four: (8*0.8 + 4*1.6 - 6.4) and (4*0.8 + 8*1.6 - 6.4) for 300 s each, and what is too
    much, (8*1.6 - 6.4), for 120 s.
    """
    svc = changing(pool={"max_instances": 12}, vertical={"minimum_stay_seconds": 60})
    code, sentence, overlap = refused(one(svc, group(small=8, load=120), 12.0))
    assert (code, overlap) == ("vertical.no_saving", pytest.approx((6.4 + 9.6) / 12 + 6.4 / 30))
    assert sentence == (
        "Stays with 8 g6.xlarge (6.40 USD per hour); 2 g6e.xlarge (3.20 USD per hour) would save 3.20 USD per hour,"
        " which within 60 s is no more than the 1.55 USD that the refresh costs."
    )


def test_the_growth_before_a_refresh_to_smaller_types_is_paid_for_as_well() -> None:
    """Six small ones at 0.2 first, then two more while two big ones at 1.6 still stand; 3.2 would stand anyway."""
    svc = changing(kind(), pool={"on_demand_usd_per_hour": 0.2, "max_instances": 16})
    decision = one(svc, group(big=2, load=120), 12.0)
    assert decision.refresh == Refresh("l4", SMALL, 100)
    assert decision.targets["l4"].desired == 8
    numbers = {"saving_usd_per_hour": 1.6, "overlap_usd": (1.2 + 1.6) / 12, "required_rps": 12.0, "instances": 8.0}
    assert reason(decision).numbers == pytest.approx(numbers)
    assert reason(decision).sentence.endswith("a refresh of l4 to 8 g6.xlarge begins, 100 % at a time.")


def test_a_saving_must_be_more_than_the_refresh_costs_within_the_stay_and_as_much_as_the_policy_asks_for() -> None:
    """Half a USD an hour of one is saved, and replacing one costs 0.5 USD an hour for its lead time: paid off then."""
    svc = {"pool": {"on_demand_usd_per_hour": 1.0, "max_instances": 1}, "availability": {"min_instances": 1}}
    half = kind(on_demand_usd_per_hour=0.5, lead_seconds=1800.0)
    view = group(small=1, load=8)
    for stay, made in ((1800, False), (1801, True)):
        decision = one(changing(half, vertical={"minimum_stay_seconds": stay}, **svc), view, 0.8)
        assert (decision.refresh is not None) is made
    for percent, made in ((50, True), (51, False)):
        decision = one(changing(half, vertical={"minimum_saving_percent": percent}, **svc), view, 0.8)
        assert (decision.refresh is not None) is made


def test_types_that_cost_as_much_save_nothing() -> None:
    code, sentence, _ = refused(one(changing(kind(on_demand_usd_per_hour=3.2)), group(small=8, load=120), 12.0))
    assert code == "vertical.no_saving"
    assert sentence.endswith("2 g6e.xlarge (6.40 USD per hour) would save nothing.")


@pytest.mark.parametrize(
    ("state", "view", "words"),
    [
        (
            changed(LIVED, moved_at=NOW - 35_999),
            group(small=8, load=120),
            "types changed 35999 s ago and stay for 36000 s",
        ),
        (changed(LIVED, moved_at=NOW - 36_000), group(small=8, load=120), None),
        (
            replace(LIVED, pools={"l4": PoolState(marks=(Mark("a", NOW + 1, 1),), marked_at=NOW - 60)}),
            group(small=8, load=120),
            "AWS has",
        ),
        (
            replace(LIVED, pools={"l4": PoolState(marks=(Mark("a", NOW, 1),), marked_at=NOW - 60)}),
            group(small=8, load=120),
            None,
        ),
        (LIVED, group(small=7, starting=SMALL, load=120), "the group is still changing"),
        (LIVED, group(small=8, load=120, desired=9), "the group is still changing"),
        (LIVED, group(small=6, load=120), "the group is still changing"),
    ],
)
def test_what_pays_waits_for_the_last_change_for_capacity_and_for_the_group(
    state: State, view: PoolObservation, words: str | None
) -> None:
    decision = one(changing(), view, 12.0, state=state)
    if words is None:
        assert decision.refresh is not None
        return
    code, sentence, _ = refused(decision)
    assert code == "vertical.wait"
    assert "2 g6e.xlarge (3.20 USD per hour) must wait" in sentence
    assert words in sentence


def test_what_was_wanted_within_the_window_must_be_carried_too() -> None:
    state = changed(LIVED, required=(Point(NOW - 60, 30.0),))
    found = reason(one(changing(pool={"max_instances": 20}), group(small=20, load=120), 12.0, state=state))
    assert found.numbers["required_rps"] == 30.0


def test_what_no_types_carry_is_told_with_the_demand() -> None:
    found = reason(one(changing(pool={"max_instances": 8}), group(small=8, load=160), 500.0))
    assert (found.code, found.numbers) == ("vertical.short", {"required_rps": 500.0})
    assert "carry 500.00 rps within its maximum and quota" in found.sentence
    weak = kind(("g5.xlarge",), throughput_rps=0.5, capacity=5.0)
    found = reason(one(changing(weak), group(small=8, load=120), 12.0))
    assert (found.code, found.numbers) == ("vertical.no_saving", {"required_rps": 12.0})
    assert found.sentence.startswith("Stays with 8 g6.xlarge (6.40 USD per hour): no other types carry 12.00 rps")


def test_while_a_refresh_runs_its_types_are_named() -> None:
    found = reason(one(changing(), group(small=1, big=7, load=120, refreshing=True, types=BIG), 12.0))
    assert (found.code, found.sentence) == ("vertical.wait", "A refresh to g6e.xlarge is under way.")


def test_a_group_without_instances_is_left_alone() -> None:
    view = group()
    decision = decide(changing(pool={"min_instances": 0}), Observation({"l4": view}), LIVED, NOW)
    assert not [code for code in decision.codes if code.startswith("vertical.")]


OLD = ("g4dn.xlarge",)


def test_types_no_longer_named_give_way_to_the_cheapest_that_are_when_the_group_stands_still() -> None:
    named = "The group launches g4dn.xlarge, which the settings no longer name"
    roomy = changing(pool={"max_instances": 40})
    decision = one(roomy, group(small=8, load=120, types=OLD), 12.0)
    assert decision.refresh is not None
    assert decision.refresh.types == BIG
    assert decision.targets["l4"].desired == 8
    assert reason(decision).numbers == {"instances": 8.0}
    assert reason(decision).sentence.startswith(f"{named}: a refresh of l4 to 8 g6e.xlarge begins")
    moved = one(roomy, group(small=8, load=120, types=OLD), 12.0, state=changed(LIVED, moved_at=NOW - 60))
    assert (moved.refresh, reason(moved).code) == (None, "vertical.wait")
    assert "2 g6e.xlarge (3.20 USD per hour) must wait: types changed 60 s ago" in reason(moved).sentence
    short = one(changing(pool={"max_instances": 8}), group(small=8, load=120, types=OLD), 500.0)
    assert (short.refresh, reason(short).code) == (None, "vertical.short")
    assert reason(short).sentence == f"{named}, and none that they name carries the demand."


def test_the_mean_of_two_kinds_works_as_both_of_them_do() -> None:
    """Two with C = 40 and 4 rps and one with C = 10 and 1 rps: C = 30, 3 rps, and 10 s in service."""
    other = kind(
        capacity=40.0, throughput_rps=4.0, slowdown=3.0, slots=60.0, first_token_seconds=0.5, spot_usd_per_hour=0.6
    )
    small = {
        "capacity": 10.0,
        "throughput_rps": 1.0,
        "slowdown": 1.5,
        "slots": 30.0,
        "first_token_seconds": 0.2,
        "spot_usd_per_hour": 0.3,
    }
    mean = as_measured(changing(other, pool=small), seen(pools={"l4": group(small=1, big=2)})).pools[0]
    assert (mean.capacity, mean.throughput_rps, mean.service_seconds) == pytest.approx((30.0, 3.0, 10.0))
    assert mean.slowdown == pytest.approx((2 * 4 * 3 + 1 * 1.5) / 9)
    assert (mean.slots, mean.first_token_seconds) == pytest.approx((50.0, 0.5))
    assert (mean.on_demand_usd_per_hour, mean.spot_usd_per_hour) == pytest.approx(((2 * 1.6 + 0.8) / 3, 0.5))
    assert mean.types == BIG  # those of most
    no_slots = as_measured(
        changing(other, pool=small | {"slots": 0.0, "spot_usd_per_hour": None}),
        seen(pools={"l4": group(small=1, big=2)}),
    ).pools[0]
    assert (no_slots.slots, no_slots.spot_usd_per_hour) == (0.0, None)


def test_what_boots_or_is_ill_is_not_in_the_mean_and_where_nothing_serves_it_is_what_is_launched() -> None:
    boots = group(small=1, starting=BIG * 3)
    assert as_measured(changing(), seen(pools={"l4": boots})).pools[0].throughput_rps == 2.0
    nothing = group(starting=SMALL, types=BIG)
    assert as_measured(changing(), seen(pools={"l4": nothing})).pools[0].throughput_rps == 8.0


def test_an_instance_of_a_type_that_nobody_names_counts_as_one_of_those_launched() -> None:
    view = group(big=1, starting=("p9.xlarge",), types=BIG)
    assert as_counted(changing(), seen(pools={"l4": view})).pools[0].types == BIG


def test_just_as_many_as_carry_the_demand_are_reckoned_with_and_no_fewer_than_the_floor() -> None:
    for arrivals, count in ((12.8, 2), (12.9, 3), (0.1, 1)):
        dear = changing(kind(on_demand_usd_per_hour=0.1), pool={"max_instances": 40})
        sentence = reason(one(dear, group(small=9, load=10 * arrivals), arrivals)).sentence
        assert sentence.startswith(f"{count} g6e.xlarge ({count / 10:.2f} USD")
    for floor in ({"pool": {"min_instances": 4}}, {"availability": {"min_instances": 4}}):
        sentence = reason(
            one(changing(kind(on_demand_usd_per_hour=0.1), **floor), group(small=9, load=1), 0.1)
        ).sentence
        assert sentence.startswith("4 g6e.xlarge")


def test_kinds_of_different_quotas_need_room_each_in_its_own() -> None:
    """Eight of 16 vCPUs, one at a time: nine of them must fit their quota, whatever the small ones take of theirs."""
    big = kind(vcpus=16, quota="p")
    view = group(small=8, load=120)
    for vcpus, made in ((9 * 16, True), (9 * 16 - 1, False)):
        svc = changing(big, quotas={"g": 32, "p": vcpus}, pool={"quota": "g"})
        decision = one(svc, view, 12.0)
        assert (decision.refresh is not None) is made
        if decision.refresh is not None:
            assert decision.refresh.surge_percent == 10


@pytest.mark.parametrize(("correction", "small", "big"), [(0.5, 15, 4), (1.0, 8, 2), (1.25, 6, 2)])
def test_what_a_pool_was_seen_to_carry_is_believed_of_its_types_and_of_others_only_where_it_is_less(
    correction: float, small: int, big: int
) -> None:
    """12 rps at 1.6 and 6.4 an instance."""
    state = replace(LIVED, pools={"l4": PoolState(correction=correction)})
    svc = changing(kind(on_demand_usd_per_hour=3.0), vertical={"minimum_saving_percent": 99})
    found = reason(one(svc, group(small=12, load=60), 12.0, state=state))
    assert found.sentence.startswith(
        f"Stays with {small} g6.xlarge ({small * 0.8:.2f} USD per hour); {big} g6e.xlarge ({big * 3:.2f} USD per hour)"
    )


def test_a_refresh_of_a_group_with_too_many_keeps_them_all_and_is_priced_beside_what_would_stand() -> None:
    """Twelve stand where eight would do, for 6.4: (12*0.8 + 12*1.6 - 6.4) for 300 s and (12*1.6 - 6.4) for 120 s."""
    decision = one(changing(pool={"max_instances": 24}), group(small=12, load=120), 12.0)
    assert decision.targets["l4"].desired == 12
    assert reason(decision).numbers["overlap_usd"] == pytest.approx(22.4 / 12 + 12.8 / 30)
    dear = changing(kind(on_demand_usd_per_hour=90.0), pool={"max_instances": 40})
    decision = one(dear, group(small=12, load=120, types=OLD), 12.0)
    assert decision.refresh is not None
    assert (decision.refresh.types, decision.targets["l4"].desired) == (SMALL, 12)


def test_types_that_miss_an_slo_are_taken_where_none_is_sized_for() -> None:
    svc = changing(kind(reaches_slo=False), sizing={"mode": "threshold"})
    assert one(svc, group(small=8, load=120), 12.0).refresh is not None


def test_types_whose_quota_does_not_hold_what_is_needed_make_way_at_any_price() -> None:
    """Six of 4 vCPUs fit into 24, eight are needed."""
    for vcpus, made in ((24, True), (32, False)):
        svc = changing(kind(on_demand_usd_per_hour=90.0), quotas={"g": vcpus}, pool={"quota": "g"})
        decision = one(svc, group(small=6, load=120), 12.0)
        assert (decision.refresh is not None) is made
