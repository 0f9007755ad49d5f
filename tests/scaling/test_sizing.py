"""How much of an instance may be used, and how much capacity a demand needs."""

from __future__ import annotations

import heapq
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.policy import Policy, Request, Sizing, SizingMode, Slo
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.sizing import _most as highest_step
from gpu_fleet.scaling.sizing import (
    load_share,
    required_rps,
    said,
    share_in_flight,
    usable_share,
    wait_exceeds,
    wait_keeps_to,
    work_share,
)

SLO = Slo(ttft_seconds=2, attainment=0.995)
POLICY = Policy(model="m", slo=SLO)

shares = st.floats(0, 1)
slowdowns = st.floats(1, 20)
dispersions = st.floats(0.2, 20)
counts = st.integers(1, 200)


def pool(
    capacity: float = 16,
    slowdown: float = 3,
    throughput_rps: float = 2,
    slots: float = 0,
    first_token_seconds: float = 0,
) -> Pool:
    return Pool(
        name="l4",
        types=("g6.xlarge",),
        min_instances=0,
        max_instances=200,
        capacity=capacity,
        throughput_rps=throughput_rps,
        slowdown=slowdown,
        service_seconds=capacity / throughput_rps,
        slots=slots,
        first_token_seconds=first_token_seconds,
        on_demand_usd_per_hour=1,
    )


pools = st.builds(
    pool,
    capacity=st.floats(1, 256),
    slowdown=slowdowns,
    throughput_rps=st.floats(0.05, 20),
    slots=st.sampled_from([0, 1, 16, 256]),
    first_token_seconds=st.floats(0, 3),
)


def test_half_the_load_does_three_quarters_of_the_work_at_slowdown_three() -> None:
    assert work_share(0.5, 3) == pytest.approx(0.75)
    assert load_share(0.75, 3) == pytest.approx(0.5)


def test_shares_beyond_the_whole_are_clipped() -> None:
    assert work_share(1.7, 3) == load_share(1.7, 3) == 1
    assert work_share(-0.1, 3) == load_share(-0.1, 3) == 0


@given(shares, slowdowns)
def test_load_share_undoes_work_share(x: float, slowdown: float) -> None:
    assert load_share(work_share(x, slowdown), slowdown) == pytest.approx(x, abs=1e-9)


def test_one_server_waits_as_by_hand() -> None:
    """M/M/1 at rho 0.8: P(wait > t) = rho * exp(-(1-rho) t / service)."""
    assert wait_exceeds(1, 0.8, 0, 2, 1) == pytest.approx(0.8)
    assert wait_exceeds(1, 0.8, 6, 2, 1) == pytest.approx(0.8 * math.exp(-0.2 * 6 / 2))


def test_two_servers_wait_as_by_hand() -> None:
    """M/M/2 with 1 Erlang: p0 = 1/3, P(both busy) = (1/2) / (1 - 1/2) * 1/3 = 1/3."""
    assert wait_exceeds(2, 1, 0, 1, 1) == pytest.approx(1 / 3)
    assert wait_exceeds(2, 1, 1, 1, 1) == pytest.approx(math.exp(-1) / 3)


@pytest.mark.parametrize(("servers", "rho"), [(10, 0.8), (100, 0.9), (1000, 0.97), (51_200, 0.995)])
def test_many_servers_wait_as_erlang_c_says(servers: int, rho: float) -> None:
    offered = servers * rho
    blocked = 1.0  # Erlang B from the textbook recursion, then C = B / (1 - rho (1 - B))
    for k in range(1, servers + 1):
        blocked = offered * blocked / (k + offered * blocked)
    erlang_c = blocked / (1 - rho * (1 - blocked))
    assert wait_exceeds(servers, offered, 0, 1, 1) == pytest.approx(erlang_c, rel=0.005)


def test_a_service_that_is_asked_for_more_than_it_has_always_waits() -> None:
    assert wait_exceeds(4, 4, 10, 1, 1) == 1
    assert wait_exceeds(4, 9, 10, 1, 1) == 1
    assert wait_exceeds(4, 0, 0, 1, 1) == 0


@pytest.mark.parametrize(("scv", "tolerance"), [(1.0, 0.25), (4.0, 0.5)])
def test_waiting_is_as_in_a_simulated_queue(scv: float, tolerance: float) -> None:
    """8 servers at 85 %, limit of half a service time; gaps from a hyperexponential with the burstiness asked for."""
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
    assert wait_exceeds(servers, rate, limit, 1, scv) == pytest.approx(late / arrivals, rel=tolerance)


@given(st.integers(1, 60_000), st.floats(0.01, 0.999), st.floats(0, 60), st.floats(0.1, 60), dispersions, slowdowns)
def test_a_chance_is_a_chance(
    servers: int, rho: float, limit: float, service: float, scv: float, slowdown: float
) -> None:
    assert 0 <= wait_exceeds(servers, servers * rho, limit, service, scv, slowdown) <= 1


@given(
    st.floats(1e-6, 0.5),
    st.integers(1, 60_000),
    st.floats(0.01, 1.1),
    st.floats(0, 6),
    st.floats(0.1, 60),
    dispersions,
    slowdowns,
)
def test_whether_waiting_keeps_to_a_chance_is_told_as_the_chance_itself_tells(
    chance: float, servers: int, rho: float, limit: float, service: float, scv: float, slowdown: float
) -> None:
    queue = (servers, servers * rho, limit, service, scv, slowdown)
    exceeds = wait_exceeds(*queue)
    assert wait_keeps_to(chance, *queue) == (exceeds <= chance)
    if exceeds > 1e-6:
        assert wait_keeps_to(exceeds * 1.001, *queue)
        assert not wait_keeps_to(exceeds * 0.999, *queue)


@pytest.mark.parametrize("limit", [15, 54, 400])
@pytest.mark.parametrize("slowdown", [1.5, 4.0])
@pytest.mark.parametrize("scv", [1.0, 3.0])
def test_the_number_in_flight_passes_its_limit_as_often_as_is_allowed(limit: int, slowdown: float, scv: float) -> None:
    """Held against the negative binomial with the same mean and variance, counted up term by term."""
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
def test_a_greater_chance_of_too_many_in_flight_allows_more_of_them(
    limit: float, slowdown: float, scv: float, z: float
) -> None:
    assert 0 <= share_in_flight(limit, slowdown, scv, z + 0.01) <= share_in_flight(limit, slowdown, scv, z) * (1 + 1e-9)


@pytest.mark.parametrize("instances", [1, 3, 8])
def test_the_batch_stays_below_its_limit_at_the_usable_share(instances: int) -> None:
    """A pool whose requests go to the instance with the fewest: its time above C is about the budget."""
    policy = Policy(model="m", slo=SLO, sizing=Sizing(wait_budget=0.02))
    one = pool(capacity=12, slowdown=3)
    share = usable_share(one, policy, instances, scv=1)
    above = _time_above(one, instances, share, random.Random(3))
    assert 0.002 <= above <= 0.023


def _time_above(one: Pool, instances: int, share: float, rng: random.Random) -> float:
    """Share of time that an instance spends above C, under Poisson arrivals and exponential lengths."""
    capacity, s = one.capacity, one.slowdown
    rates = [one.throughput_rps * (b / capacity) * s / (1 + (s - 1) * b / capacity) for b in range(200)]
    arrivals = instances * share * one.throughput_rps
    batches = [0] * instances
    above = total = 0.0
    for event in range(60_000):
        speeds = [rates[b] for b in batches]
        everything = arrivals + sum(speeds)
        if event > 3000:
            total += instances / everything
            above += sum(b > capacity for b in batches) / everything
        chosen = rng.choices(range(instances + 1), [*speeds, arrivals])[0]
        if chosen == instances:
            batches[batches.index(min(batches))] += 1
        else:
            batches[chosen] -= 1
    return above / total


@given(pools, counts, counts, dispersions)
def test_more_instances_never_lower_the_share(one: Pool, a: int, b: int, scv: float) -> None:
    assert usable_share(one, POLICY, min(a, b), scv) <= usable_share(one, POLICY, max(a, b), scv) + 2 / 1024


@given(pools, counts, dispersions, dispersions)
def test_burstier_arrivals_never_raise_the_share(one: Pool, instances: int, a: float, b: float) -> None:
    calm, wild = min(a, b), max(a, b)
    assert usable_share(one, POLICY, instances, wild) <= usable_share(one, POLICY, instances, calm) + 2 / 1024


@given(pools, counts, dispersions)
def test_the_share_is_never_nothing_and_never_more_than_all(one: Pool, instances: int, scv: float) -> None:
    assert 0 < usable_share(one, POLICY, instances, scv) <= 1


@given(pools, counts)
def test_arrivals_more_even_than_poisson_earn_nothing(one: Pool, instances: int) -> None:
    assert usable_share(one, POLICY, instances, 0.1) == usable_share(one, POLICY, instances, 1)


def test_no_instance_is_sized_as_the_first() -> None:
    assert usable_share(pool(), POLICY, 0, 1) == usable_share(pool(), POLICY, 1, 1)


def test_pooling_pays() -> None:
    assert usable_share(pool(), POLICY, 1, 1, 0.0025) == pytest.approx(0.557, abs=0.01)
    assert usable_share(pool(), POLICY, 10, 1, 0.0025) == pytest.approx(0.864, abs=0.01)


def test_of_what_the_slo_allows_to_fail_half_may_wait_and_half_may_come_when_no_forecast_saw_it() -> None:
    assert POLICY.wait_budget == pytest.approx(0.0025)
    assert 1 - POLICY.forecast_confidence == pytest.approx(0.0025)


def test_target_utilization_is_load_and_becomes_work() -> None:
    """80 % of C at slowdown 3 is 0.8*3/(1+2*0.8) = 92.3 % of the work."""
    plain = Policy(model="m")
    assert usable_share(pool(), plain, 3, 1) == pytest.approx(0.923, abs=0.001)
    lower = Policy(model="m", sizing=Sizing(target_utilization=0.5))
    assert usable_share(pool(), lower, 3, 1) == pytest.approx(0.75)


def test_mode_threshold_wins_over_an_slo() -> None:
    policy = Policy(model="m", slo=SLO, sizing=Sizing(mode=SizingMode.THRESHOLD))
    assert usable_share(pool(slowdown=1), policy, 1, 50) == pytest.approx(0.8)


def test_a_smaller_wait_budget_needs_more_room() -> None:
    strict = Policy(model="m", slo=SLO, sizing=Sizing(wait_budget=0.0001))
    lax = Policy(model="m", slo=SLO, sizing=Sizing(wait_budget=0.1))
    assert usable_share(pool(), strict, 4, 1) < usable_share(pool(), POLICY, 4, 1) < usable_share(pool(), lax, 4, 1)


def test_a_higher_attainment_needs_more_room() -> None:
    strict = Policy(model="m", slo=Slo(ttft_seconds=2, attainment=0.9999))
    assert usable_share(pool(), strict, 4, 1) < usable_share(pool(), POLICY, 4, 1)


def test_a_longer_time_to_first_token_lets_requests_wait_for_slots() -> None:
    """An image model makes one picture at a time: those who may wait 40 s share an instance that others need alone."""
    image = pool(capacity=1, slowdown=1, throughput_rps=0.1, slots=1)
    patient = Policy(model="m", slo=Slo(ttft_seconds=40))
    assert usable_share(image, POLICY, 4, 1) < 0.2
    assert usable_share(image, patient, 4, 1) > 0.35


def test_long_prompts_that_are_allowed_more_time_may_wait_longer() -> None:
    slow = pool(first_token_seconds=1.5, throughput_rps=0.4)
    short = Policy(model="m", slo=Slo(ttft_seconds=2))
    allowed = Policy(
        model="m", slo=Slo(ttft_seconds=2, ttft_seconds_per_1000_input_tokens=1), request=Request(input_tokens=8000)
    )
    assert usable_share(slow, short, 4, 1) < usable_share(slow, allowed, 4, 1)


def test_prompts_that_take_long_to_read_leave_less_room() -> None:
    assert usable_share(pool(first_token_seconds=0.4), POLICY, 4, 1) < usable_share(pool(), POLICY, 4, 1)


def test_copies_of_the_model_on_one_instance_read_side_by_side() -> None:
    """Eight copies do eight times the work; one reader could not read the prompts of half of it."""
    one = pool(first_token_seconds=0.3)
    eight = pool(capacity=128, throughput_rps=16, first_token_seconds=0.3).model_copy(update={"copies": 8})
    alone = eight.model_copy(update={"copies": 1})
    assert usable_share(eight, POLICY, 4, 1) >= usable_share(one, POLICY, 4, 1)
    assert usable_share(alone, POLICY, 4, 1) < 0.2


def test_a_prompt_that_takes_longer_than_the_limit_leaves_none() -> None:
    assert usable_share(pool(first_token_seconds=3), POLICY, 4, 1) < 0.01


def test_a_batch_that_memory_limits_cannot_pass_its_limit() -> None:
    assert usable_share(pool(slots=16), POLICY, 4, 1) > usable_share(pool(slots=64), POLICY, 4, 1)


def test_the_backlog_drains_within_its_time() -> None:
    assert required_rps(10, 0, 50, POLICY) == 10
    assert required_rps(10, 240, 50, POLICY) == 12
    hurried = Policy(model="m", sizing=Sizing(drain_backlog_seconds=30))
    assert required_rps(10, 240, 50, hurried) == 18


def test_negative_demand_and_backlog_count_as_none() -> None:
    assert required_rps(-3, -50, 50, POLICY) == 0


@pytest.mark.parametrize("most", [1, 2, 3, 7, 15, 16])
def test_the_highest_step_that_holds_is_found(most: int) -> None:
    assert highest_step(lambda step: step <= most, 16) == most


def test_where_no_step_holds_the_lowest_is_taken() -> None:
    assert highest_step(lambda _: False, 16) == 1
    assert highest_step(lambda _: False, 1) == 1


def test_a_limit_that_the_skew_alone_fills_leaves_nothing_in_flight() -> None:
    """z = 2.8: skew 1.14, and at scv 20 1.14 * 39 = 44 of the 40 that fit."""
    assert share_in_flight(40, 3, 20, 2.8) == 0
    assert share_in_flight(50, 3, 20, 2.8) > 0


def test_below_one_deviation_the_skew_is_not_counted() -> None:
    """At z = 0 the mean may stand at the limit: m = (16 + 2) * x = 16."""
    assert share_in_flight(16, 3, 1, 0) == pytest.approx(16 / 18)


def test_what_must_be_carried_is_told_with_what_was_measured() -> None:
    known = said(POLICY, 12.0, (1.5, 0.5, 0.75), {"l4": 1.8})
    assert known.code == "sizing.slo"
    assert known.numbers == {"required_rps": 12, "U": 1.5, "T": 0.5, "R": 0.75}
    assert "U 1.50, T 0.50, R 0.75" in known.sentence
    assert "l4 1.80" in known.sentence


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_what_was_not_measured_is_not_told_as_a_number(missing: int) -> None:
    u, t, r = (None if n == missing else 1.0 for n in range(3))
    assert said(POLICY, 12.0, (u, t, r), {}).numbers == {"required_rps": 12}


def test_what_waits_at_two_instances_asks_for_no_more_than_these_two_can_do() -> None:
    """It has been handed to them, and no new instance can take it over."""
    assert required_rps(11, 12_000, 9.4, POLICY) == pytest.approx(20.4)
    assert required_rps(11, 12_000, 0, POLICY) == 11
