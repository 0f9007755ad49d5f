"""How often requests wait too long, and how full a batch may be on average."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.queueing import Queue, share_in_flight

slowdowns = st.floats(1, 20)
dispersions = st.floats(0.2, 20)


def test_one_server_waits_as_computed_by_hand() -> None:
    """M/M/1 at rho 0.8: P(wait > t) = rho * exp(-(1-rho) t / service)."""
    assert Queue(1, 2, 1).wait_probability(0.8, 0) == pytest.approx(0.8)
    assert Queue(1, 2, 1).wait_probability(0.8, 6) == pytest.approx(0.8 * math.exp(-0.2 * 6 / 2))


def test_two_servers_wait_as_computed_by_hand() -> None:
    """M/M/2 with 1 Erlang: p0 = 1/3, P(both busy) = (1/2) / (1 - 1/2) * 1/3 = 1/3."""
    assert Queue(2, 1, 1).wait_probability(1, 0) == pytest.approx(1 / 3)
    assert Queue(2, 1, 1).wait_probability(1, 1) == pytest.approx(math.exp(-1) / 3)


@pytest.mark.parametrize(("servers", "rho"), [(10, 0.8), (100, 0.9), (1000, 0.97), (51_200, 0.995)])
def test_many_servers_wait_as_erlang_c_says(servers: int, rho: float) -> None:
    offered = servers * rho
    blocked = 1.0  # Erlang B from the textbook recursion, then C = B / (1 - rho (1 - B))
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    erlang_c = blocked / (1 - rho * (1 - blocked))
    assert Queue(servers, 1, 1).wait_probability(offered, 0) == pytest.approx(erlang_c, rel=0.005)


def test_an_overloaded_queue_always_waits() -> None:
    assert Queue(4, 1, 1).wait_probability(4, 10) == 1
    assert Queue(4, 1, 1).wait_probability(9, 10) == 1
    assert Queue(4, 1, 1).wait_probability(0, 0) == 0


@pytest.mark.parametrize(("scv", "tolerance"), [(1.0, 0.25), (4.0, 0.5)])
def test_waiting_is_as_in_a_simulated_queue(scv: float, tolerance: float) -> None:
    """8 servers at 85 %, limit of half a service time; hyperexponential gaps with the given burstiness."""
    rng = random.Random(7)
    servers, rho, limit = 8, 0.85, 0.5
    rate = servers * rho
    p = 0.5 * (1 + math.sqrt((scv - 1) / (scv + 1)))  # balanced means
    free, at, late = [0.0] * servers, 0.0, 0
    arrivals = 60_000
    for _ in range(arrivals):
        at += rng.expovariate(2 * rate * (p if rng.random() < p else 1 - p))
        start = max(at, heapq.heappop(free))
        late += start - at > limit
        heapq.heappush(free, start + rng.expovariate(1))
    assert Queue(servers, 1, scv).wait_probability(rate, limit) == pytest.approx(late / arrivals, rel=tolerance)


@given(st.integers(1, 60_000), st.floats(0.01, 0.999), st.floats(0, 60), st.floats(0.1, 60), dispersions, slowdowns)
def test_a_probability_is_between_0_and_1(
    servers: int, rho: float, limit: float, service: float, scv: float, slowdown: float
) -> None:
    assert 0 <= Queue(servers, service, scv, slowdown).wait_probability(servers * rho, limit) <= 1


@given(
    st.floats(1e-6, 0.5),
    st.integers(1, 60_000),
    st.floats(0.01, 1.1),
    st.floats(0, 6),
    st.floats(0.1, 60),
    dispersions,
    slowdowns,
)
def test_the_shortcut_and_the_probability_itself_agree(
    chance: float, servers: int, rho: float, limit: float, service: float, scv: float, slowdown: float
) -> None:
    queue, offered = Queue(servers, service, scv, slowdown), servers * rho
    exceeds = queue.wait_probability(offered, limit)
    assert queue.keeps_wait_within(offered, limit, chance) == (exceeds <= chance)
    if exceeds > 1e-6:
        assert queue.keeps_wait_within(offered, limit, exceeds * 1.001)
        assert not queue.keeps_wait_within(offered, limit, exceeds * 0.999)


@pytest.mark.parametrize("limit", [15, 54, 400])
@pytest.mark.parametrize("slowdown", [1.5, 4.0])
@pytest.mark.parametrize("scv", [1.0, 3.0])
def test_the_number_in_flight_passes_its_limit_as_often_as_allowed(limit: int, slowdown: float, scv: float) -> None:
    """Compared with the negative binomial with the same mean and variance, counted up term by term."""
    z = 2.807  # one in 400
    x = share_in_flight(limit, slowdown, scv, z)
    dispersion = scv * (1 + (slowdown - 1) * x)
    size = (limit + scv * (slowdown - 1)) * x / (dispersion - 1)
    term, below = dispersion**-size, 0.0
    for n in range(limit + 1):
        below += term
        term *= (n + size) / (n + 1) * (1 - 1 / dispersion)
    assert 1 - below == pytest.approx(1 / 400, rel=0.4)


@given(st.floats(1, 1e5), slowdowns, dispersions, st.floats(-1, 5))
def test_a_smaller_probability_allows_fewer_in_flight(limit: float, slowdown: float, scv: float, z: float) -> None:
    assert 0 <= share_in_flight(limit, slowdown, scv, z + 0.01) <= share_in_flight(limit, slowdown, scv, z) * (1 + 1e-9)


def test_a_limit_that_the_skew_alone_fills_leaves_no_room_in_flight() -> None:
    """z = 2.8: skew 1.14, and at scv 20 1.14 * 39 = 44 of the 40 that fit."""
    assert share_in_flight(40, 3, 20, 2.8) == 0
    assert share_in_flight(50, 3, 20, 2.8) > 0


def test_below_one_deviation_the_skew_does_not_count() -> None:
    """At z = 0 the mean may equal the limit: m = (16 + 2) * x = 16."""
    assert share_in_flight(16, 3, 1, 0) == pytest.approx(16 / 18)
