"""Hash routing: shares met exactly, clients that stay, and few that move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.hashing import DIGITS, digit_weights
from gpu_fleet.scaling.policy import MAX_WEIGHT

shares = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 999), min_size=1).filter(lambda w: any(w.values()))


def of_digits(weights: dict[str, int], pool: str) -> list[float]:
    return [one[pool] / MAX_WEIGHT for one in digit_weights(weights)]


def test_each_digit_has_one_pool_where_the_shares_allow_it() -> None:
    halves = digit_weights({"l4": 500, "h100": 500})
    assert [one["h100"] for one in halves] == [999] * 8 + [0] * 8  # in the order of their names
    assert halves[8:] == ({"l4": 999, "h100": 0},) * 8


def test_a_digit_on_a_boundary_is_shared() -> None:
    """a has 53 %: 8.48 of 16 digits."""
    assert of_digits({"a": 530, "b": 470}, "a") == pytest.approx([1] * 8 + [0.48] + [0] * 7, abs=1 / MAX_WEIGHT)


def test_weights_of_zero_stay_zero() -> None:
    assert digit_weights({"a": 0, "b": 0}) == ({"a": 0, "b": 0},) * 16


@given(shares)
def test_all_digits_together_have_the_services_shares(weights: dict[str, int]) -> None:
    total = sum(weights.values())
    for pool, weight in weights.items():
        assert sum(of_digits(weights, pool)) / len(DIGITS) == pytest.approx(weight / total, abs=1 / MAX_WEIGHT)


@given(shares)
def test_every_digit_leads_somewhere_and_to_no_pool_without_weight(weights: dict[str, int]) -> None:
    for one in digit_weights(weights):
        assert sum(one.values()) == MAX_WEIGHT
        assert all(0 <= weight <= MAX_WEIGHT for weight in one.values())
        assert not any(one[pool] for pool, weight in weights.items() if weight == 0)


@given(shares)
def test_only_digits_on_boundaries_are_shared(weights: dict[str, int]) -> None:
    shared = [one for one in digit_weights(weights) if max(one.values()) < MAX_WEIGHT]
    assert len(shared) < len([weight for weight in weights.values() if weight])


def test_few_clients_move_with_the_shares() -> None:
    """5 % of the traffic moves from b to a: no client but those of digits 8 moves, and none between other pools."""
    before, after = digit_weights({"a": 500, "b": 500}), digit_weights({"a": 550, "b": 450})
    assert [digit for digit in range(16) if before[digit] != after[digit]] == [8]
