"""Which mix is cheapest, and which carries the most."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.scaling import mix
from gpu_fleet.scaling.mix import PoolOption, carried_rps, cheapest, largest, usd_per_hour
from tests.scaling.mixes import allowed, drawn_options, option, quota_sets


def every_mix(candidates: Sequence[PoolOption], quotas: Mapping[str, int]) -> list[dict[str, int]]:
    ranges = [range(each.at_least, each.at_most + 1) for each in candidates]
    mixes = [
        dict(zip([each.name for each in candidates], counts, strict=True)) for counts in itertools.product(*ranges)
    ]
    return [counts for counts in mixes if allowed(candidates, counts, quotas)]


@settings(max_examples=300)
@given(drawn_options(), st.floats(-1, 60), quota_sets, st.integers(0, 12))
def test_cheapest_is_the_cheapest_of_all_mixes(
    candidates: list[PoolOption], required: float, quotas: dict[str, int], floor: int
) -> None:
    found = cheapest(candidates, required, quotas, floor)
    fitting = [
        counts
        for counts in every_mix(candidates, quotas)
        if carried_rps(candidates, counts) >= required - 1e-9 * max(1, abs(required)) and sum(counts.values()) >= floor
    ]
    if found is None:
        assert not fitting
        return
    assert found in fitting
    best = min(fitting, key=lambda counts: (round(usd_per_hour(candidates, counts), 6), sum(counts.values())))
    assert usd_per_hour(candidates, found) == pytest.approx(usd_per_hour(candidates, best), abs=1e-6)
    assert sum(found.values()) == sum(best.values())


@given(drawn_options(), quota_sets)
def test_the_largest_mix_carries_more_than_every_other(candidates: list[PoolOption], quotas: dict[str, int]) -> None:
    found = largest(candidates, quotas)
    assert allowed(candidates, found, quotas)
    best = max(carried_rps(candidates, counts) for counts in every_mix(candidates, quotas))
    assert carried_rps(candidates, found) == pytest.approx(best)


@settings(max_examples=40)
@given(st.lists(st.floats(0.5, 20), min_size=5, max_size=5), st.floats(0.01, 0.95), st.integers(0, 2000))
def test_the_search_stays_near_the_optimum_for_large_pools_at_almost_equal_prices(
    works: list[float], part: float, cpus: int
) -> None:
    """No bound cuts there and the search stops early; the fractional plan bounds its possible error."""
    candidates = [
        PoolOption(f"p{i}", w, w * (1 + i * 1e-7), 0, 200, 4, "g" if i < 2 else "") for i, w in enumerate(works)
    ]
    quotas = {"g": cpus}
    required = part * carried_rps(candidates, largest(candidates, quotas))
    found = cheapest(candidates, required, quotas)
    assert found is not None
    assert allowed(candidates, found, quotas)
    assert carried_rps(candidates, found) >= required * (1 - 1e-9)
    assert usd_per_hour(candidates, found) <= required * (1 + 1e-6) + max(works)


def test_at_equal_cost_the_fewest_instances_win() -> None:
    assert cheapest([option("small", 1, 1), option("big", 2, 2)], 4, {}) == {"small": 0, "big": 2}


def test_of_equal_options_the_earlier_wins() -> None:
    assert cheapest([option("a"), option("b")], 3, {}) == {"a": 3, "b": 0}
    assert cheapest([option("b"), option("a")], 3, {}) == {"b": 3, "a": 0}


def test_a_small_type_fills_what_the_big_one_leaves() -> None:
    assert cheapest([option("big", 5, 4), option("small", 1, 1)], 11, {}) == {"big": 2, "small": 1}


def test_a_binding_quota_favours_types_that_carry_more_per_vcpu() -> None:
    frugal = option("frugal", 2, 3, vcpus=4, quota="g")
    cheap = option("cheap", 2, 1, vcpus=8, quota="g")
    assert cheapest([frugal, cheap], 8, {"g": 1000}) == {"frugal": 0, "cheap": 4}
    assert cheapest([frugal, cheap], 8, {"g": 24}) == {"frugal": 2, "cheap": 2}
    assert cheapest([frugal, cheap], 8, {"g": 12}) is None


def test_a_quota_lowered_below_the_minimum_leaves_room_for_no_more() -> None:
    kept = option("kept", low=3, vcpus=8, quota="g")
    assert cheapest([kept], 2, {"g": 8}) == {"kept": 3}
    assert cheapest([kept], 4, {"g": 8}) is None
    assert largest([kept], {"g": 8}) == {"kept": 3}


def test_a_quota_that_no_option_names_limits_none() -> None:
    assert cheapest([option(vcpus=8)], 5, {"g": 0}) == {"small": 5}
    assert cheapest([option(vcpus=8, quota="g")], 5, {}) == {"small": 5}


def test_the_floor_of_instances_is_kept_without_any_demand() -> None:
    assert cheapest([option("small"), option("big", 9, 5)], 0, {}, 2) == {"small": 2, "big": 0}
    assert cheapest([option("small")], 0, {}) == {"small": 0}
    assert cheapest([option("small", high=1)], 0, {}, 2) is None


def test_an_option_that_carries_nothing_serves_only_the_floor() -> None:
    idle = option("idle", rps=0, usd=0.1)
    assert cheapest([idle, option("small")], 2, {}, 4) == {"idle": 2, "small": 2}


def test_crossed_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"option small: at_least must be within 0\.\.at_most \(2\) \(got 3\)"):
        option(low=3, high=2)


def test_the_search_ends_after_its_last_branch() -> None:
    """Proportional prices and a granule: no bound proves the plan, which is optimal all the same."""
    doubling = [PoolOption(f"p{i}", 2.0**i, 2.0**i, 0, 200) for i in range(5)]
    found = cheapest(doubling, 1000.5, {})
    assert found is not None
    assert usd_per_hour(doubling, found) == pytest.approx(1001)
    assert mix.MOST_NODES < 100_000


def test_the_floor_is_filled_with_the_cheapest_instances_rather_than_the_cheapest_work() -> None:
    """One big instance suffices for 1.50 USD, but three are required: three small cost 3, three big 4.50."""
    assert cheapest([option("big", 10, 1.5), option("small", 5, 1)], 10, {}, 3) == {"big": 0, "small": 3}
    assert cheapest([option("big", 10, 1.5), option("small", 5, 1, high=2)], 10, {}, 3) == {"big": 1, "small": 2}


def test_a_quota_that_the_minimum_uses_up_leaves_no_room() -> None:
    full = option(low=2, vcpus=1, quota="g")
    assert largest([full], {"g": 2}) == {"small": 2}
    assert largest([full], {"g": 3}) == {"small": 3}


def test_the_search_finds_the_only_plan_that_fits_the_quota() -> None:
    shared = [
        option("cheap", 5, 1, high=1, vcpus=4, quota="g"),
        option("dense", 10, 5, high=1, vcpus=4, quota="g"),
        option("many", 1, 0.9, high=4, vcpus=4, quota="g"),
    ]
    assert cheapest(shared, 15, {"g": 8}) == {"cheap": 1, "dense": 1, "many": 0}
