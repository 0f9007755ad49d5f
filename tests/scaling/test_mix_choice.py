"""When the counts grow or shrink, and when a move between mixes pays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.decision import Step
from gpu_fleet.scaling.mix import PoolOption, carried_rps, cheapest, usd_per_hour
from gpu_fleet.scaling.mix_choice import Mix, MixProblem, MoveTerms, choose
from gpu_fleet.scaling.policy import Vertical, VerticalMethod
from tests.scaling.mixes import allowed, drawn_options, option, quota_sets

VERTICAL = Vertical()
LEADS = {"small": 300.0, "big": 300.0}


def decide(
    candidates: Sequence[PoolOption],
    required: float,
    current: Mapping[str, int],
    *,
    vertical: Vertical = VERTICAL,
    quotas: Mapping[str, int] | None = None,
    floor: int = 0,
    leads: Mapping[str, float] = LEADS,
    last_move_at: float | None = None,
    now: float = 100_000,
    most_more: int = 1000,
    launch_usd: Mapping[str, float] | None = None,
) -> Mix:
    problem = MixProblem(candidates, required, quotas or {}, floor)
    terms = MoveTerms(vertical, leads, last_move_at, now, launch_usd=launch_usd or {}, most_more=most_more)
    return choose(problem, current, terms)


def codes(chosen: Mix) -> list[str]:
    assert all(reason.step is Step.MIX for reason in chosen.reasons)
    return [reason.code for reason in chosen.reasons]


PAIR = [option("small", 1, 1), option("big", 2, 1.2)]
"""Two big instances carry as much as four small ones, for 2.40 USD instead of 4."""


def test_a_mix_that_fits_stays() -> None:
    chosen = decide(PAIR, 4, {"small": 0, "big": 2})
    assert chosen.counts == {"small": 0, "big": 2}
    assert codes(chosen) == ["mix.keep"]
    assert (
        chosen.reasons[0].sentence == "Keeps 2 big: 4.00 rps of capacity for 4.00 rps required, at 2.40 USD per hour."
    )


def test_a_move_that_pays_is_made_and_gives_its_saving() -> None:
    chosen = decide(PAIR, 4, {"small": 4, "big": 0})
    assert chosen.moved
    assert chosen.counts == {"small": 0, "big": 2}
    assert codes(chosen) == ["mix.move"]
    assert chosen.reasons[0].sentence == (
        "Moves from 4 small to 2 big: saves 1.60 USD per hour (40.0 %); "
        "launches, and running both meanwhile, cost 0.20 USD."
    )


def test_a_move_is_no_larger_than_one_run_can_order() -> None:
    """Five big instances would do; one a run leaves eight small ones and one big, which saves eight percent."""
    chosen = decide(PAIR, 10, {"small": 10}, most_more=1)
    assert chosen.moved
    assert chosen.counts == {"small": 8, "big": 1}
    refused = decide(PAIR, 10, {"small": 10}, most_more=1, vertical=Vertical(minimum_saving_percent=10))
    assert refused.counts == {"small": 10, "big": 0}


def test_a_move_that_does_not_pay_for_its_overlap_is_not_made() -> None:
    """2.40 USD an hour over 2 h of lead is 4.80 USD; 1.60 USD an hour saved over 1 h is less, over 4 h more."""
    slow = {"big": 7200.0}
    refused = decide(PAIR, 4, {"small": 4}, leads=slow)
    assert refused.counts == {"small": 4, "big": 0}
    assert codes(refused) == ["mix.keep", "mix.unpaid"]
    assert not refused.moved
    assert decide(PAIR, 4, {"small": 4}, leads=slow, vertical=Vertical(minimum_stay_seconds=14_400)).moved


def test_the_lead_of_a_pool_that_does_not_grow_does_not_count() -> None:
    assert decide(PAIR, 4, {"small": 4}, leads={"small": 1e6, "big": 300}).moved


def test_a_move_waits_until_the_last_one_has_stayed() -> None:
    waiting = decide(PAIR, 4, {"small": 4}, last_move_at=98_000)
    assert codes(waiting) == ["mix.keep", "mix.stay"]
    assert decide(PAIR, 4, {"small": 4}, last_move_at=100_000 - 3600).moved
    assert decide(PAIR, 4, {"small": 4}, last_move_at=98_000, vertical=Vertical(minimum_stay_seconds=1800)).moved


def test_a_small_saving_counts_only_if_the_policy_wants_it() -> None:
    close = [option("small", 1, 1), option("big", 1, 0.97)]
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
    full = [option("small", 1, 1, high=4), option("big", 2, 5)]
    chosen = decide(full, 6, {"small": 4}, last_move_at=99_999)
    assert chosen.counts == {"small": 4, "big": 1}


def test_a_move_is_made_at_once_when_only_another_type_has_room() -> None:
    """Four small instances fill the quota; more work fits only when they make room for big ones."""
    shared = [option("small", 1, 1, vcpus=8, quota="g"), option("big", 3, 4, vcpus=8, quota="g")]
    chosen = decide(shared, 10, {"small": 4}, quotas={"g": 32}, last_move_at=99_999)
    assert chosen.counts == {"small": 1, "big": 3}
    assert codes(chosen) == ["mix.grow"]


def test_counts_beyond_their_bounds_come_back_within() -> None:
    chosen = decide([option("small", high=3), option("big", 2, 1.2)], 5, {"small": 6, "big": 0})
    assert chosen.counts["small"] <= 3
    assert carried_rps(PAIR, chosen.counts) >= 5


def test_a_demand_that_no_mix_carries_gets_the_largest_mix_and_a_reason() -> None:
    chosen = decide([option("small", high=3)], 5, {"small": 1})
    assert chosen.counts == {"small": 3}
    assert chosen.short_rps == 2
    assert codes(chosen) == ["mix.short"]
    assert "No allowed mix carries 5.00 rps. 3 small carries the most: 3.00 rps with 3 instances." in (
        chosen.reasons[0].sentence
    )


def test_a_floor_that_does_not_fit_gets_as_many_as_fit_at_the_least_cost() -> None:
    shared = [option("small", 1, 1, high=1), option("big", 2, 9, high=1)]
    chosen = decide(shared, 1, {}, floor=5)
    assert chosen.counts == {"small": 1, "big": 1}
    assert chosen.short_rps == 0
    cramped = decide(
        [option("small", 1, 1, vcpus=8, quota="g"), option("big", 9, 50, vcpus=16, quota="g")],
        0,
        {},
        floor=4,
        quotas={"g": 16},
    )
    assert cramped.counts == {"small": 2, "big": 0}


def test_without_instances_and_demand_there_are_no_instances() -> None:
    chosen = decide(PAIR, 0, {})
    assert chosen.counts == {"small": 0, "big": 0}
    assert chosen.reasons[0].sentence.startswith("Keeps no instance")


drawn_counts = st.fixed_dictionaries({f"p{i}": st.integers(0, 6) for i in range(4)})


@given(drawn_options(), st.floats(0, 30), drawn_counts, quota_sets, st.integers(0, 4), st.floats(0, 1e5))
def test_a_choice_carries_the_demand_whenever_some_mix_does(
    candidates: list[PoolOption],
    required: float,
    current: dict[str, int],
    quotas: dict[str, int],
    floor: int,
    last: float,
) -> None:
    chosen = decide(candidates, required, current, quotas=quotas, floor=floor, last_move_at=last)
    # Running instances may exceed a quota that was lowered under them.
    running = {
        quota: sum(r.vcpus * min(current[r.name], r.at_most) for r in candidates if r.quota == quota)
        for quota in quotas
    }
    assert allowed(candidates, chosen.counts, {quota: max(limit, running[quota]) for quota, limit in quotas.items()})
    if cheapest(candidates, required, quotas, floor) is not None:
        assert carried_rps(candidates, chosen.counts) >= required - 1e-6
        assert sum(chosen.counts.values()) >= floor
        assert not chosen.short_rps
    assert all(math.isfinite(number) for reason in chosen.reasons for number in reason.numbers.values())


@given(drawn_options(), st.floats(0, 30), drawn_counts, quota_sets, st.integers(0, 4))
def test_a_repeated_choice_changes_nothing(
    candidates: list[PoolOption], required: float, current: dict[str, int], quotas: dict[str, int], floor: int
) -> None:
    first = decide(candidates, required, current, quotas=quotas, floor=floor)
    again = decide(candidates, required, first.counts, quotas=quotas, floor=floor)
    if not first.short_rps:
        assert usd_per_hour(candidates, again.counts) <= usd_per_hour(candidates, first.counts) + 1e-6
    last = decide(candidates, required, again.counts, quotas=quotas, floor=floor)
    assert last.counts == again.counts


@given(drawn_options(), st.floats(0, 30), drawn_counts, quota_sets)
def test_a_cheaper_mix_is_not_refused_for_ever(
    candidates: list[PoolOption], required: float, current: dict[str, int], quotas: dict[str, int]
) -> None:
    """With instant boots, and any saving enough, every mix reaches the optimum."""
    eager = Vertical(minimum_saving_percent=0)
    free = cheapest(candidates, required, quotas)
    if free is None:
        return
    counts: Mapping[str, int] = current
    for _ in range(2):
        counts = decide(candidates, required, counts, quotas=quotas, vertical=eager, leads={}).counts
    assert usd_per_hour(candidates, counts) == pytest.approx(usd_per_hour(candidates, free), abs=1e-5)


def by_code(chosen: Mix) -> dict[str, tuple[str, Mapping[str, float]]]:
    codes(chosen)
    return {reason.code: (reason.sentence, reason.numbers) for reason in chosen.reasons}


def test_keep_grow_and_shrink_give_their_work_and_price() -> None:
    for required, current, code, carried, usd in (
        (4, {"big": 2}, "mix.keep", 4.0, 2.4),
        (5, {"big": 2}, "mix.grow", 5.0, 3.4),
        (2, {"big": 2}, "mix.shrink", 2.0, 1.2),
    ):
        _, numbers = by_code(decide(PAIR, required, current))[code]
        assert numbers == pytest.approx({"required_rps": required, "carried_rps": carried, "usd_per_hour": usd})


def test_a_move_gives_its_saving_and_its_overlap() -> None:
    _, numbers = by_code(decide(PAIR, 4, {"small": 4}))["mix.move"]
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
            ", less than vertical.minimum_saving_percent (41 %).",
            0.2,
        ),
        (
            {},
            {"big": 7200.0},
            None,
            "mix.unpaid",
            ", but within 3600 s that is no more than the 4.80 USD that launches",
            4.8,
        ),
        (
            {},
            LEADS,
            98_000,
            "mix.stay",
            ", but the last move was 2000 s ago and vertical.minimum_stay_seconds is 3600 s.",
            0.2,
        ),
    ],
)
def test_a_refused_move_gives_its_saving_and_the_cause(
    vertical: dict[str, Any],
    leads: Mapping[str, float],
    last_move_at: float | None,
    code: str,
    words: str,
    overlap: float,
) -> None:
    chosen = decide(PAIR, 4, {"small": 4}, vertical=Vertical(**vertical), leads=leads, last_move_at=last_move_at)
    sentence, numbers = by_code(chosen)[code]
    assert sentence.startswith(f"2 big would save 1.60 USD per hour (40.0 %){words}")
    since = {"since_move_seconds": 2000} if code == "mix.stay" else {}
    assert numbers == pytest.approx(
        {"saving_usd_per_hour": 1.6, "saving_percent": 40.0, "overlap_usd": overlap} | since
    )


HALF = [option("small", 1, 1), option("big", 1, 0.5)]
"""Four big instances carry for 2 USD as much as four small ones for 4."""


def test_a_saving_equal_to_the_minimum_is_enough_and_one_equal_to_the_overlap_is_not() -> None:
    assert decide(HALF, 4, {"small": 4}, vertical=Vertical(minimum_saving_percent=50)).moved
    assert codes(decide(HALF, 4, {"small": 4}, leads={"big": 3600.0})) == ["mix.keep", "mix.unpaid"]
    assert decide(HALF, 4, {"small": 4}, leads={"big": 3599.0}).moved
    assert by_code(decide(HALF, 4, {"small": 4}, leads={}))["mix.move"][1]["overlap_usd"] == 0


def test_the_overlap_counts_only_instances_of_the_move_until_the_slowest_serves() -> None:
    """Four small for a demand of six: one big is needed anyway, and two more replace the small ones."""
    assert by_code(decide(PAIR, 6, {"small": 4}))["mix.move"][1]["overlap_usd"] == pytest.approx(0.2)
    three = [option("old", 1, 1), option("big", 5, 2, high=1), option("mid", 1, 0.3, high=1)]
    chosen = decide(three, 6, {"old": 6}, leads={"old": 9e6, "big": 360.0, "mid": 720.0})
    assert chosen.counts == {"old": 0, "big": 1, "mid": 1}
    assert by_code(chosen)["mix.move"][1]["overlap_usd"] == pytest.approx(2.3 * 720 / 3600)


def test_an_equally_expensive_mix_is_no_reason_to_move() -> None:
    same = [option("a"), option("b")]
    chosen = decide(same, 3, {"b": 3})
    assert chosen.counts == {"a": 0, "b": 3}
    assert codes(chosen) == ["mix.keep"]


def test_growth_beside_the_current_instances_keeps_the_quota() -> None:
    """Two small of 8 vCPUs run and 24 are allowed: the cheap big one, of 16, does not fit beside them."""
    shared = [option("small", 1, 1, vcpus=8, quota="g"), option("big", 3, 0.5, vcpus=16, quota="g")]
    waits = {"quotas": {"g": 24}, "last_move_at": 99_999}
    assert decide(shared, 3, {"small": 2}, **waits).counts == {"small": 3, "big": 0}
    assert decide(shared, 3, {"small": 2}, quotas={"g": 32}, last_move_at=99_999).counts == {"small": 2, "big": 1}


def test_a_shortage_is_given_in_numbers() -> None:
    chosen = decide([option("small", high=3)], 5, {"small": 1})
    assert by_code(chosen)["mix.short"][1] == {"required_rps": 5, "carried_rps": 3, "short_rps": 2, "instances": 3}
    few = decide([option("small", 1, 1, high=1), option("big", 2, 9, high=1)], 1, {}, floor=5)
    sentence, numbers = by_code(few)["mix.short"]
    assert sentence == (
        "No allowed mix has 5 instances and carries 1.00 rps. 1 small + 1 big has the most: 2 instances, which carry"
        " 3.00 rps."
    )
    assert numbers == {"required_rps": 1, "carried_rps": 3, "short_rps": 0, "instances": 2}


def test_a_saving_of_cents_does_not_pay_for_the_overlap_of_many() -> None:
    """0.12 USD are saved within the hour, and 4 * 0.97 USD an hour are paid twice for a quarter of each."""
    close = [option("small", 1, 1), option("big", 1, 0.97)]
    eager = Vertical(minimum_saving_percent=1)
    assert codes(decide(close, 4, {"small": 4}, vertical=eager, leads={"big": 900.0})) == ["mix.keep", "mix.unpaid"]
    assert decide(close, 4, {"small": 4}, vertical=eager, leads={"big": 100.0}).moved


def test_a_move_must_pay_for_the_launches_of_its_new_instances_too() -> None:
    """Two big ones for four small ones save 1.60 USD within the hour that they stay; running both costs 0.20."""
    assert decide(PAIR, 4, {"small": 4}, launch_usd={"big": 0.69}).moved
    chosen = decide(PAIR, 4, {"small": 4}, launch_usd={"big": 0.71})
    assert codes(chosen) == ["mix.keep", "mix.unpaid"]
    assert by_code(chosen)["mix.unpaid"][1]["overlap_usd"] == pytest.approx(0.2 + 2 * 0.71)


def test_launches_of_types_that_do_not_grow_cost_a_move_nothing() -> None:
    assert decide(PAIR, 4, {"small": 4}, launch_usd={"small": 100.0}).moved


def test_capacity_never_waits_for_the_price_of_a_launch() -> None:
    chosen = decide(PAIR, 8, {"small": 4}, launch_usd={"small": 100.0, "big": 100.0})
    assert sum(chosen.counts.values()) > 4 or chosen.counts["big"] > 0
    assert chosen.short_rps == 0
