"""What an instance of each pool is counted for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling import sizing
from scaling.fleet import LEAST_SHARE, Fleet, survey
from scaling.observation import Observation
from scaling.service import Service
from scaling.state import PoolState, State
from tests.scaling.builders import NOW, pool, pool_seen, service

SLOW = pool(
    "slow", throughput_rps=1.0, capacity=20.0, service_seconds=20.0, slowdown=5.0, slots=20.0, first_token_seconds=0.4
)
FAST = pool(
    "fast", throughput_rps=2.6, capacity=42.0, service_seconds=16.0, slowdown=10.0, slots=42.0, first_token_seconds=0.1
)
BOTH = service(SLOW, FAST)


def surveyed(of: Service, headroom: float, count: int = 10) -> Fleet:
    seen = Observation(pools={p.name: pool_seen(count) for p in of.pools})
    return survey(of, seen, State(pools={p.name: PoolState() for p in of.pools}), NOW, headroom)


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
    plain, corrected = surveyed(BOTH, 1.2), survey(BOTH, seen, state, NOW, 1.2)
    assert corrected.worth["slow"] == pytest.approx(0.8 * plain.worth["slow"])
    assert corrected.worth["fast"] == pytest.approx(plain.worth["fast"])
