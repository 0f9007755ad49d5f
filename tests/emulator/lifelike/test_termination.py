from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.emulator.lifelike.placement import Split
from gpu_fleet.emulator.lifelike.termination import Candidate, choose


def one(
    name: str, zone: str = "a", *, spot: bool = False, at: float = 0, version: int = 1, protected: bool = False
) -> Candidate:
    return Candidate(name, zone, spot, at, version, protected)


def test_the_fullest_zone_shrinks_first() -> None:
    candidates = [one("old", "a", at=0), one("x", "b", at=5), one("y", "b", at=6)]
    assert choose(candidates, 1, Split(2, 0), ["OldestInstance"]) == ["x"]


def test_the_purchase_option_is_chosen_before_the_zone() -> None:
    """Two spot instances are one too many; they stand in b, though a is the fullest zone."""
    candidates = [
        one("x", "a", at=0),
        one("y", "a", at=1),
        one("z", "a", at=2),
        *(one(f"spot{i}", "b", spot=True, at=5 + i) for i in range(2)),
    ]
    assert choose(candidates, 1, Split(3, 1), ["Default"]) == ["spot0"]


def test_within_a_zone_the_surplus_purchase_option_shrinks_first() -> None:
    candidates = [one("demand", at=0), one("spot", spot=True, at=5), one("spot2", spot=True, at=6)]
    assert choose(candidates, 1, Split(1, 1), ["Default"]) == ["spot"]


def test_by_default_the_oldest_template_goes_before_the_oldest_instance() -> None:
    candidates = [one("oldest", at=0, version=2), one("younger", at=5, version=1)]
    assert choose(candidates, 1, Split(1, 0), ["Default"]) == ["younger"]
    assert choose(candidates, 1, Split(1, 0), ["OldestInstance"]) == ["oldest"]
    assert choose(candidates, 1, Split(1, 0), ["NewestInstance"]) == ["younger"]


def test_a_protected_instance_is_never_chosen() -> None:
    candidates = [one("safe", protected=True), one("other", at=9)]
    assert choose(candidates, 2, Split(0, 0), ["Default"]) == ["other"]


instances = st.lists(
    st.builds(
        one,
        st.uuids().map(str),
        st.sampled_from("abc"),
        spot=st.booleans(),
        at=st.floats(0, 1e6),
        version=st.integers(1, 3),
        protected=st.booleans(),
    ),
    max_size=30,
    unique_by=lambda c: c.id,
)


@given(instances, st.integers(0, 40))
def test_the_requested_number_goes_as_far_as_protection_allows(candidates: list[Candidate], count: int) -> None:
    free = [c for c in candidates if not c.protected]
    left = max(0, len(candidates) - count)
    chosen = choose(candidates, count, Split(left, 0), ["Default"])
    assert len(chosen) == len(set(chosen)) == min(count, len(free))
    assert set(chosen) <= {c.id for c in free}


@given(st.integers(1, 12), st.integers(0, 12))
def test_zones_that_are_equal_stay_equal(each: int, count: int) -> None:
    candidates = [one(f"{zone}{i}", zone, at=i) for zone in "ab" for i in range(each)]
    gone = set(choose(candidates, min(count, 2 * each), Split(0, 0), ["Default"]))
    left = Counter(c.zone for c in candidates if c.id not in gone)
    assert abs(left["a"] - left["b"]) <= 1
