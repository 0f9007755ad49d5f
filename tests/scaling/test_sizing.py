"""How much work an instance may carry, and how much work a demand requires."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_fleet.scaling.policy import Policy, Request, Sizing, SizingMode, Slo
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.sizing import _highest_step as highest_step
from gpu_fleet.scaling.sizing import reason, required_rps, usable_share

SLO = Slo(ttft_seconds=2, attainment=0.995)


POLICY = Policy(model="m", slo=SLO)


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


@pytest.mark.parametrize("instances", [1, 3, 8])
def test_the_batch_stays_below_its_limit_at_the_usable_share(instances: int) -> None:
    """With least-outstanding routing, the time above C is about the budget."""
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
def test_the_share_is_above_0_and_at_most_1(one: Pool, instances: int, scv: float) -> None:
    assert 0 < usable_share(one, POLICY, instances, scv) <= 1


@given(pools, counts)
def test_arrivals_more_even_than_poisson_earn_nothing(one: Pool, instances: int) -> None:
    assert usable_share(one, POLICY, instances, 0.1) == usable_share(one, POLICY, instances, 1)


def test_a_pool_without_instances_is_sized_as_for_one() -> None:
    assert usable_share(pool(), POLICY, 0, 1) == usable_share(pool(), POLICY, 1, 1)


def test_pooling_pays() -> None:
    assert usable_share(pool(), POLICY, 1, 1, 0.0025) == pytest.approx(0.557, abs=0.01)
    assert usable_share(pool(), POLICY, 10, 1, 0.0025) == pytest.approx(0.864, abs=0.01)


def test_waiting_and_forecast_each_get_half_of_the_share_that_may_fail() -> None:
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
    """An image model makes one picture at a time: requests that may wait 40 s can share an instance."""
    image = pool(capacity=1, slowdown=1, throughput_rps=0.1, slots=1)
    patient = Policy(model="m", slo=Slo(ttft_seconds=40))
    assert usable_share(image, POLICY, 4, 1) < 0.2
    assert usable_share(image, patient, 4, 1) > 0.35


def test_long_prompts_with_a_longer_limit_may_wait_longer() -> None:
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


def test_a_prompt_that_takes_longer_than_the_limit_leaves_no_room() -> None:
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


def test_where_no_step_holds_the_lowest_counts() -> None:
    assert highest_step(lambda _: False, 16) == 1
    assert highest_step(lambda _: False, 1) == 1


def test_the_reason_gives_the_required_work_with_the_measured_figures() -> None:
    known = reason(POLICY, 12.0, (1.5, 0.5, 0.75), {"l4": 1.8})
    assert known.code == "sizing.slo"
    assert known.numbers == {"required_rps": 12, "U": 1.5, "T": 0.5, "R": 0.75}
    assert "U 1.50, T 0.50, R 0.75" in known.sentence
    assert "l4 1.80" in known.sentence


def test_a_reason_has_no_number_for_a_queue_that_was_not_measured() -> None:
    known = reason(POLICY, 12.0, (1.5, None, 0.75), {})
    assert known.numbers == {"required_rps": 12, "U": 1.5, "R": 0.75}
    assert "(U 1.50, R 0.75)" in known.sentence


def test_the_backlog_of_two_instances_requires_no_more_than_these_two_can_do() -> None:
    """These requests belong to those instances, and no new instance can take them over."""
    assert required_rps(11, 12_000, 9.4, POLICY) == pytest.approx(20.4)
    assert required_rps(11, 12_000, 0, POLICY) == 11
