"""Which pools carry the work at the least cost, and when a move between mixes pays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling import mix
from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.mix import Mix, PoolOption, cheapest, choose, cost, most, work
from gpu_fleet.scaling.policy import Vertical, VerticalMethod

VERTICAL = Vertical()
LEADS = {"small": 300.0, "big": 300.0}


def rung(name: str = "small", rps: float = 1, usd: float = 1, low: int = 0, high: int = 10, **more: Any) -> PoolOption:
    return PoolOption(name, rps, usd, low, high, **more)


@st.composite
def rungs(draw: st.DrawFn, most_each: int = 4) -> list[PoolOption]:
    """Up to four rungs with prices in cents and work in tenths, some sharing a quota."""
    made = []
    for i in range(draw(st.integers(1, 4))):
        low = draw(st.integers(0, 2))
        made.append(
            PoolOption(
                f"p{i}",
                draw(st.integers(0, 60)) / 10,
                draw(st.integers(1, 500)) / 100,
                low,
                low + draw(st.integers(0, most_each)),
                draw(st.sampled_from([4, 8, 48])),
                draw(st.sampled_from(["", "g", "p"])),
            )
        )
    return made


quota_sets = st.dictionaries(st.sampled_from(["g", "p"]), st.integers(0, 300), max_size=2)


def allowed(all_rungs: Sequence[PoolOption], counts: Mapping[str, int], quotas: Mapping[str, int]) -> bool:
    for quota, vcpus in quotas.items():
        members = [one for one in all_rungs if one.quota == quota]
        floor = sum(one.vcpus * one.at_least for one in members)
        if sum(one.vcpus * counts[one.name] for one in members) > max(vcpus, floor):
            return False
    return all(one.at_least <= counts[one.name] <= one.at_most for one in all_rungs)


def every_mix(all_rungs: Sequence[PoolOption], quotas: Mapping[str, int]) -> list[dict[str, int]]:
    ranges = [range(one.at_least, one.at_most + 1) for one in all_rungs]
    mixes = [dict(zip([one.name for one in all_rungs], counts, strict=True)) for counts in itertools.product(*ranges)]
    return [counts for counts in mixes if allowed(all_rungs, counts, quotas)]


@settings(max_examples=300)
@given(rungs(), st.floats(-1, 60), quota_sets, st.integers(0, 12))
def test_cheapest_is_the_cheapest_of_all_mixes(
    all_rungs: list[PoolOption], required: float, quotas: dict[str, int], floor: int
) -> None:
    found = cheapest(all_rungs, required, quotas, floor)
    fitting = [
        counts
        for counts in every_mix(all_rungs, quotas)
        if work(all_rungs, counts) >= required - 1e-9 * max(1, abs(required)) and sum(counts.values()) >= floor
    ]
    if found is None:
        assert not fitting
        return
    assert found in fitting
    best = min(fitting, key=lambda counts: (round(cost(all_rungs, counts), 6), sum(counts.values())))
    assert cost(all_rungs, found) == pytest.approx(cost(all_rungs, best), abs=1e-6)
    assert sum(found.values()) == sum(best.values())


@given(rungs(), quota_sets)
def test_most_carries_more_than_every_other_mix(all_rungs: list[PoolOption], quotas: dict[str, int]) -> None:
    found = most(all_rungs, quotas)
    assert allowed(all_rungs, found, quotas)
    best = max(work(all_rungs, counts) for counts in every_mix(all_rungs, quotas))
    assert work(all_rungs, found) == pytest.approx(best)


@settings(max_examples=40)
@given(st.lists(st.floats(0.5, 20), min_size=5, max_size=5), st.floats(0.01, 0.95), st.integers(0, 2000))
def test_two_hundred_instances_of_five_pools_at_almost_one_price_are_still_near_the_optimum(
    works: list[float], part: float, cpus: int
) -> None:
    """No bound can cut there, and the search ends early; the fractional plan bounds what it may have missed."""
    all_rungs = [
        PoolOption(f"p{i}", w, w * (1 + i * 1e-7), 0, 200, 4, "g" if i < 2 else "") for i, w in enumerate(works)
    ]
    quotas = {"g": cpus}
    required = part * work(all_rungs, most(all_rungs, quotas))
    found = cheapest(all_rungs, required, quotas)
    assert found is not None
    assert allowed(all_rungs, found, quotas)
    assert work(all_rungs, found) >= required * (1 - 1e-9)
    assert cost(all_rungs, found) <= required * (1 + 1e-6) + max(works)


def test_of_equal_cost_the_fewest_instances_are_taken() -> None:
    assert cheapest([rung("small", 1, 1), rung("big", 2, 2)], 4, {}) == {"small": 0, "big": 2}


def test_of_equal_rungs_the_earlier_is_taken() -> None:
    assert cheapest([rung("a"), rung("b")], 3, {}) == {"a": 3, "b": 0}
    assert cheapest([rung("b"), rung("a")], 3, {}) == {"b": 3, "a": 0}


def test_a_small_type_fills_what_the_big_one_leaves() -> None:
    assert cheapest([rung("big", 5, 4), rung("small", 1, 1)], 11, {}) == {"big": 2, "small": 1}


def test_a_quota_that_binds_turns_to_types_that_do_more_per_vcpu() -> None:
    frugal = rung("frugal", 2, 3, vcpus=4, quota="g")
    cheap = rung("cheap", 2, 1, vcpus=8, quota="g")
    assert cheapest([frugal, cheap], 8, {"g": 1000}) == {"frugal": 0, "cheap": 4}
    assert cheapest([frugal, cheap], 8, {"g": 24}) == {"frugal": 2, "cheap": 2}
    assert cheapest([frugal, cheap], 8, {"g": 12}) is None


def test_a_quota_lowered_below_the_minimum_leaves_room_for_no_more() -> None:
    kept = rung("kept", low=3, vcpus=8, quota="g")
    assert cheapest([kept], 2, {"g": 8}) == {"kept": 3}
    assert cheapest([kept], 4, {"g": 8}) is None
    assert most([kept], {"g": 8}) == {"kept": 3}


def test_a_quota_that_nobody_names_limits_nobody() -> None:
    assert cheapest([rung(vcpus=8)], 5, {"g": 0}) == {"small": 5}
    assert cheapest([rung(vcpus=8, quota="g")], 5, {}) == {"small": 5}


def test_the_floor_of_instances_is_kept_without_any_demand() -> None:
    assert cheapest([rung("small"), rung("big", 9, 5)], 0, {}, 2) == {"small": 2, "big": 0}
    assert cheapest([rung("small")], 0, {}) == {"small": 0}
    assert cheapest([rung("small", high=1)], 0, {}, 2) is None


def test_a_rung_that_does_nothing_only_serves_the_floor() -> None:
    idle = rung("idle", rps=0, usd=0.1)
    assert cheapest([idle, rung("small")], 2, {}, 4) == {"idle": 2, "small": 2}


def test_bounds_that_cross_are_refused() -> None:
    with pytest.raises(ValueError, match=r"option small: at_least must be within 0\.\.at_most \(2\) \(got 3\)"):
        rung(low=3, high=2)


def decide(
    all_rungs: Sequence[PoolOption],
    required: float,
    standing: Mapping[str, int],
    *,
    vertical: Vertical = VERTICAL,
    quotas: Mapping[str, int] | None = None,
    floor: int = 0,
    leads: Mapping[str, float] = LEADS,
    last_move_at: float | None = None,
    now: float = 100_000,
) -> Mix:
    return choose(
        all_rungs,
        required,
        standing,
        quotas or {},
        floor,
        vertical=vertical,
        lead_seconds=leads,
        last_move_at=last_move_at,
        now=now,
    )


def codes(chosen: Mix) -> list[str]:
    assert all(reason.step is Step.MIX for reason in chosen.reasons)
    return [reason.code for reason in chosen.reasons]


PAIR = [rung("small", 1, 1), rung("big", 2, 1.2)]
"""Two big do the work of four small for 2.40 USD instead of 4."""


def test_what_fits_is_kept() -> None:
    chosen = decide(PAIR, 4, {"small": 0, "big": 2})
    assert chosen.counts == {"small": 0, "big": 2}
    assert codes(chosen) == ["mix.keep"]
    assert chosen.reasons[0].sentence == "Keeps 2 big: carries 4.00 of 4.00 rps required, at 2.40 USD per hour."


def test_a_move_that_pays_is_made_and_says_what_it_saves() -> None:
    chosen = decide(PAIR, 4, {"small": 4, "big": 0})
    assert chosen.moved
    assert chosen.counts == {"small": 0, "big": 2}
    assert codes(chosen) == ["mix.move"]
    assert chosen.reasons[0].sentence == (
        "Moves from 4 small to 2 big: saves 1.60 USD per hour (40.0 %) and pays 0.20 USD twice meanwhile."
    )


def test_a_move_that_does_not_pay_for_its_overlap_is_not_made() -> None:
    """2.40 USD an hour over 2 h of lead is 4.80 USD; 1.60 USD an hour saved over 1 h is less, over 4 h more."""
    slow = {"big": 7200.0}
    refused = decide(PAIR, 4, {"small": 4}, leads=slow)
    assert refused.counts == {"small": 4, "big": 0}
    assert codes(refused) == ["mix.keep", "mix.unpaid"]
    assert not refused.moved
    assert decide(PAIR, 4, {"small": 4}, leads=slow, vertical=Vertical(minimum_stay_seconds=14_400)).moved


def test_the_lead_of_a_pool_that_does_not_grow_is_not_waited_for() -> None:
    assert decide(PAIR, 4, {"small": 4}, leads={"small": 1e6, "big": 300}).moved


def test_a_move_waits_until_the_last_one_has_stayed() -> None:
    waiting = decide(PAIR, 4, {"small": 4}, last_move_at=98_000)
    assert codes(waiting) == ["mix.keep", "mix.stay"]
    assert decide(PAIR, 4, {"small": 4}, last_move_at=100_000 - 3600).moved
    assert decide(PAIR, 4, {"small": 4}, last_move_at=98_000, vertical=Vertical(minimum_stay_seconds=1800)).moved


def test_a_small_saving_is_left_until_the_policy_wants_it() -> None:
    close = [rung("small", 1, 1), rung("big", 1, 0.97)]
    assert codes(decide(close, 4, {"small": 4})) == ["mix.keep", "mix.small"]
    assert decide(close, 4, {"small": 4}, vertical=Vertical(minimum_saving_percent=2), leads={}).moved


@pytest.mark.parametrize("method", [VerticalMethod.OFF, VerticalMethod.IN_PLACE])
def test_pools_are_not_exchanged_unless_the_method_is_pools(method: VerticalMethod) -> None:
    chosen = decide(PAIR, 4, {"small": 4}, vertical=Vertical(method=method))
    assert chosen.counts == {"small": 4, "big": 0}
    assert codes(chosen) == ["mix.keep", "mix.off"]


def test_more_demand_adds_where_it_is_cheapest_and_takes_nothing_away() -> None:
    chosen = decide(PAIR, 6, {"small": 4}, last_move_at=99_999)
    assert chosen.counts == {"small": 4, "big": 1}
    assert codes(chosen) == ["mix.grow", "mix.stay"]


def test_less_demand_takes_away_where_it_is_dearest_and_adds_nothing() -> None:
    chosen = decide(PAIR, 3, {"small": 2, "big": 1}, last_move_at=99_999)
    assert chosen.counts == {"small": 1, "big": 1}
    assert codes(chosen) == ["mix.shrink"]
    cheaper = decide(PAIR, 4, {"small": 5}, last_move_at=99_999)
    assert cheaper.counts == {"small": 4, "big": 0}
    assert codes(cheaper) == ["mix.shrink", "mix.stay"]


def test_capacity_never_waits_for_the_stay() -> None:
    full = [rung("small", 1, 1, high=4), rung("big", 2, 5)]
    chosen = decide(full, 6, {"small": 4}, last_move_at=99_999)
    assert chosen.counts == {"small": 4, "big": 1}


def test_when_only_another_type_has_room_the_move_is_made_at_once() -> None:
    """Four small fill the quota; more work fits only when they make room for big ones."""
    shared = [rung("small", 1, 1, vcpus=8, quota="g"), rung("big", 3, 4, vcpus=8, quota="g")]
    chosen = decide(shared, 10, {"small": 4}, quotas={"g": 32}, last_move_at=99_999)
    assert chosen.counts == {"small": 1, "big": 3}
    assert codes(chosen) == ["mix.grow"]


def test_what_stands_beyond_its_bounds_is_brought_within() -> None:
    chosen = decide([rung("small", high=3), rung("big", 2, 1.2)], 5, {"small": 6, "big": 0})
    assert chosen.counts["small"] <= 3
    assert work(PAIR, chosen.counts) >= 5


def test_what_nothing_carries_is_said_and_the_most_is_taken() -> None:
    chosen = decide([rung("small", high=3)], 5, {"small": 1})
    assert chosen.counts == {"small": 3}
    assert chosen.short_rps == 2
    assert codes(chosen) == ["mix.short"]
    assert "No allowed mix carries 5.00 rps: 3 small carries the most, 3.00 rps with 3 instances." in (
        chosen.reasons[0].sentence
    )


def test_a_floor_that_does_not_fit_buys_as_many_as_fit_at_the_least_cost() -> None:
    shared = [rung("small", 1, 1, high=1), rung("big", 2, 9, high=1)]
    chosen = decide(shared, 1, {}, floor=5)
    assert chosen.counts == {"small": 1, "big": 1}
    assert chosen.short_rps == 0
    cramped = decide(
        [rung("small", 1, 1, vcpus=8, quota="g"), rung("big", 9, 50, vcpus=16, quota="g")],
        0,
        {},
        floor=4,
        quotas={"g": 16},
    )
    assert cramped.counts == {"small": 2, "big": 0}


def test_a_service_of_nothing_keeps_nothing() -> None:
    chosen = decide(PAIR, 0, {})
    assert chosen.counts == {"small": 0, "big": 0}
    assert chosen.reasons[0].sentence.startswith("Keeps no instance")


standings = st.fixed_dictionaries({f"p{i}": st.integers(0, 6) for i in range(4)})


@given(rungs(), st.floats(0, 30), standings, quota_sets, st.integers(0, 4), st.floats(0, 1e5))
def test_a_choice_carries_what_is_asked_wherever_a_mix_does(
    all_rungs: list[PoolOption],
    required: float,
    standing: dict[str, int],
    quotas: dict[str, int],
    floor: int,
    last: float,
) -> None:
    chosen = decide(all_rungs, required, standing, quotas=quotas, floor=floor, last_move_at=last)
    # What runs already is not stopped for a quota that was lowered under it.
    running = {
        quota: sum(r.vcpus * min(standing[r.name], r.at_most) for r in all_rungs if r.quota == quota)
        for quota in quotas
    }
    assert allowed(all_rungs, chosen.counts, {quota: max(limit, running[quota]) for quota, limit in quotas.items()})
    if cheapest(all_rungs, required, quotas, floor) is not None:
        assert work(all_rungs, chosen.counts) >= required - 1e-6
        assert sum(chosen.counts.values()) >= floor
        assert not chosen.short_rps
    assert all(math.isfinite(number) for reason in chosen.reasons for number in reason.numbers.values())


@given(rungs(), st.floats(0, 30), standings, quota_sets, st.integers(0, 4))
def test_a_choice_repeated_changes_nothing(
    all_rungs: list[PoolOption], required: float, standing: dict[str, int], quotas: dict[str, int], floor: int
) -> None:
    first = decide(all_rungs, required, standing, quotas=quotas, floor=floor)
    again = decide(all_rungs, required, first.counts, quotas=quotas, floor=floor)
    if not first.short_rps:
        assert cost(all_rungs, again.counts) <= cost(all_rungs, first.counts) + 1e-6
    last = decide(all_rungs, required, again.counts, quotas=quotas, floor=floor)
    assert last.counts == again.counts


@given(rungs(), st.floats(0, 30), standings, quota_sets)
def test_a_cheaper_mix_is_never_refused_for_ever(
    all_rungs: list[PoolOption], required: float, standing: dict[str, int], quotas: dict[str, int]
) -> None:
    """Boots in no time and any saving counts: whatever stands, the optimum is reached."""
    eager = Vertical(minimum_saving_percent=0)
    free = cheapest(all_rungs, required, quotas)
    if free is None:
        return
    counts: Mapping[str, int] = standing
    for _ in range(2):
        counts = decide(all_rungs, required, counts, quotas=quotas, vertical=eager, leads={}).counts
    assert cost(all_rungs, counts) == pytest.approx(cost(all_rungs, free), abs=1e-5)


def test_the_search_ends_after_its_last_branch() -> None:
    """Proportional prices and a granule: no bound proves the plan, which is optimal all the same."""
    doubling = [PoolOption(f"p{i}", 2.0**i, 2.0**i, 0, 200) for i in range(5)]
    found = cheapest(doubling, 1000.5, {})
    assert found is not None
    assert cost(doubling, found) == pytest.approx(1001)
    assert mix.MOST_NODES < 100_000


def told(chosen: Mix) -> dict[str, tuple[str, Mapping[str, float]]]:
    codes(chosen)
    return {reason.code: (reason.sentence, reason.numbers) for reason in chosen.reasons}


def test_what_is_kept_grown_or_shrunk_is_told_with_its_work_and_its_price() -> None:
    for required, standing, code, carried, usd in (
        (4, {"big": 2}, "mix.keep", 4.0, 2.4),
        (5, {"big": 2}, "mix.grow", 5.0, 3.4),
        (2, {"big": 2}, "mix.shrink", 2.0, 1.2),
    ):
        _, numbers = told(decide(PAIR, required, standing))[code]
        assert numbers == pytest.approx({"required_rps": required, "carried_rps": carried, "usd_per_hour": usd})


def test_a_move_is_told_with_its_saving_and_what_is_paid_twice() -> None:
    _, numbers = told(decide(PAIR, 4, {"small": 4}))["mix.move"]
    assert numbers == pytest.approx(
        {"saving_usd_per_hour": 1.6, "saving_percent": 40.0, "overlap_usd": 0.2, "usd_per_hour": 2.4}
    )


@pytest.mark.parametrize(
    ("vertical", "leads", "last_move_at", "code", "words", "overlap"),
    [
        ({"method": "off"}, LEADS, None, "mix.off", ", but vertical.method is off.", 0.2),
        (
            {"minimum_saving_percent": 41},
            LEADS,
            None,
            "mix.small",
            ": less than vertical.minimum_saving_percent, 41 %.",
            0.2,
        ),
        ({}, {"big": 7200.0}, None, "mix.unpaid", "; within 3600 s that is not more than the 4.80 USD that both", 4.8),
        ({}, LEADS, 98_000, "mix.stay", "; the last move was 2000 s ago, the next waits until 3600 s.", 0.2),
    ],
)
def test_a_move_that_is_not_made_tells_what_it_would_save_and_why_not(
    vertical: dict[str, Any],
    leads: Mapping[str, float],
    last_move_at: float | None,
    code: str,
    words: str,
    overlap: float,
) -> None:
    chosen = decide(PAIR, 4, {"small": 4}, vertical=Vertical(**vertical), leads=leads, last_move_at=last_move_at)
    sentence, numbers = told(chosen)[code]
    assert sentence.startswith(f"2 big would save 1.60 USD per hour (40.0 %){words}")
    since = {"since_move_seconds": 2000} if code == "mix.stay" else {}
    assert numbers == pytest.approx(
        {"saving_usd_per_hour": 1.6, "saving_percent": 40.0, "overlap_usd": overlap} | since
    )


HALF = [rung("small", 1, 1), rung("big", 1, 0.5)]
"""Four big do for 2 USD what four small do for 4."""


def test_a_saving_of_just_the_least_share_is_enough_and_one_that_just_pays_the_overlap_is_not() -> None:
    assert decide(HALF, 4, {"small": 4}, vertical=Vertical(minimum_saving_percent=50)).moved
    assert codes(decide(HALF, 4, {"small": 4}, leads={"big": 3600.0})) == ["mix.keep", "mix.unpaid"]
    assert decide(HALF, 4, {"small": 4}, leads={"big": 3599.0}).moved
    assert told(decide(HALF, 4, {"small": 4}, leads={}))["mix.move"][1]["overlap_usd"] == 0


def test_paid_twice_is_only_what_comes_for_the_move_and_for_as_long_as_the_slowest_takes() -> None:
    """Four small and a demand of six: a big one is needed anyway, and two more of it replace the small ones."""
    assert told(decide(PAIR, 6, {"small": 4}))["mix.move"][1]["overlap_usd"] == pytest.approx(0.2)
    three = [rung("old", 1, 1), rung("big", 5, 2, high=1), rung("mid", 1, 0.3, high=1)]
    chosen = decide(three, 6, {"old": 6}, leads={"old": 9e6, "big": 360.0, "mid": 720.0})
    assert chosen.counts == {"old": 0, "big": 1, "mid": 1}
    assert told(chosen)["mix.move"][1]["overlap_usd"] == pytest.approx(2.3 * 720 / 3600)


def test_a_mix_that_costs_the_same_is_no_reason_to_move() -> None:
    same = [rung("a"), rung("b")]
    chosen = decide(same, 3, {"b": 3})
    assert chosen.counts == {"a": 0, "b": 3}
    assert codes(chosen) == ["mix.keep"]


def test_growth_beside_what_stands_keeps_to_the_quota() -> None:
    """Two small of 8 vCPUs stand and 24 are allowed: the cheap big one, of 16, does not fit beside them."""
    shared = [rung("small", 1, 1, vcpus=8, quota="g"), rung("big", 3, 0.5, vcpus=16, quota="g")]
    waits = {"quotas": {"g": 24}, "last_move_at": 99_999}
    assert decide(shared, 3, {"small": 2}, **waits).counts == {"small": 3, "big": 0}
    assert decide(shared, 3, {"small": 2}, quotas={"g": 32}, last_move_at=99_999).counts == {"small": 2, "big": 1}


def test_what_is_missing_is_told_in_numbers() -> None:
    chosen = decide([rung("small", high=3)], 5, {"small": 1})
    assert told(chosen)["mix.short"][1] == {"required_rps": 5, "carried_rps": 3, "short_rps": 2, "instances": 3}
    few = decide([rung("small", 1, 1, high=1), rung("big", 2, 9, high=1)], 1, {}, floor=5)
    sentence, numbers = told(few)["mix.short"]
    assert sentence == (
        "No allowed mix has 5 instances and carries 1.00 rps: 1 small + 1 big has the most, 3.00 rps with 2 instances."
    )
    assert numbers == {"required_rps": 1, "carried_rps": 3, "short_rps": 0, "instances": 2}


def test_a_floor_is_filled_with_what_costs_least_an_instance_and_not_with_what_costs_least_by_work() -> None:
    """One big one does it for 1.50 USD, but three are asked for: three small ones cost 3, three big ones 4.50."""
    assert cheapest([rung("big", 10, 1.5), rung("small", 5, 1)], 10, {}, 3) == {"big": 0, "small": 3}
    assert cheapest([rung("big", 10, 1.5), rung("small", 5, 1, high=2)], 10, {}, 3) == {"big": 1, "small": 2}


def test_a_quota_that_what_stands_uses_up_leaves_no_room_for_another_vcpu() -> None:
    full = rung(low=2, vcpus=1, quota="g")
    assert most([full], {"g": 2}) == {"small": 2}
    assert most([full], {"g": 3}) == {"small": 3}


def test_a_cent_that_is_saved_pays_for_no_overlap_of_many() -> None:
    """0.12 USD are saved within the hour, and 4 * 0.97 USD an hour are paid twice for a quarter of one."""
    close = [rung("small", 1, 1), rung("big", 1, 0.97)]
    eager = Vertical(minimum_saving_percent=1)
    assert codes(decide(close, 4, {"small": 4}, vertical=eager, leads={"big": 900.0})) == ["mix.keep", "mix.unpaid"]
    assert decide(close, 4, {"small": 4}, vertical=eager, leads={"big": 100.0}).moved


def test_a_plan_is_found_where_only_the_densest_type_fits_beside_the_cheapest_into_the_quota() -> None:
    shared = [
        rung("cheap", 5, 1, high=1, vcpus=4, quota="g"),
        rung("dense", 10, 5, high=1, vcpus=4, quota="g"),
        rung("many", 1, 0.9, high=4, vcpus=4, quota="g"),
    ]
    assert cheapest(shared, 15, {"g": 8}) == {"cheap": 1, "dense": 1, "many": 0}
