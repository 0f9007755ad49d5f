"""The clairvoyant fleet, by hand, against brute force, and never above what any fleet that carries the demand costs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.backtest import bound
from gpu_fleet.backtest.bound import cost_usd, with_boot, without_boot
from gpu_fleet.backtest.trace_demand import TraceDemand, WindowMeans, demand, demand_of_means, full_rate_rps
from gpu_fleet.scaling.policy import LoadUnit, Policy, Request, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.traffic.trace import Trace

DEAR = {"throughput_rps": 3.0, "on_demand_usd_per_hour": 7.2}
CHEAP = {"throughput_rps": 1.0, "on_demand_usd_per_hour": 3.6}
"""$0.002 a second for 3 requests a second, and $0.001 for 1."""


def a_pool(name: str, **values: Any) -> Pool:
    base = {"types": ("t",), "min_instances": 0, "max_instances": 9, "capacity": 10.0}
    return Pool.model_validate(base | {"name": name} | values)


def a_service(*pools: Pool, least: int = 0, quotas: dict[str, int] | None = None, **policy: Any) -> Service:
    values = {"model": "m", "availability": {"min_instances": least}} | policy
    return Service(name="chat", policy=Policy.model_validate(values), pools=pools, vcpu_quotas=quotas or {})


def of_rates(service: Service, rates: list[float], last_seconds: float = 60.0) -> TraceDemand:
    seconds = np.full(len(rates), 60.0)
    seconds[-1] = last_seconds
    return demand_of_means(service, WindowMeans(seconds, np.array(rates) * seconds, 1000.0, 200.0))


def counts(fleet: bound.CheapestFleet, pool: str) -> list[int]:
    return fleet.counts[pool].tolist()


CHEAP_ONLY = a_service(a_pool("cheap", **CHEAP))
BOTH = a_service(a_pool("cheap", **CHEAP), a_pool("dear", **DEAR))


def test_each_minute_has_the_fewest_instances_that_carry_it() -> None:
    fleet = without_boot(CHEAP_ONLY, of_rates(CHEAP_ONLY, [0.0, 0.1, 1.0, 1.1, 4.0]))
    assert counts(fleet, "cheap") == [0, 1, 1, 2, 4]
    assert fleet.usd == pytest.approx(8 * 60 * 0.001)
    assert fleet.billed_seconds == {"cheap": 480.0}


def test_rounding_of_floats_costs_no_instance() -> None:
    rates = [3 * 0.1 * 10 / 3 * k for k in range(1, 8)]  # 1.0000000000000002 and the like
    assert counts(without_boot(CHEAP_ONLY, of_rates(CHEAP_ONLY, rates)), "cheap") == [1, 2, 3, 4, 5, 6, 7]


def test_pools_are_mixed_where_that_is_cheaper() -> None:
    # 4 a second: one of each, 0.003; two dear 0.004; four cheap 0.004. 2 a second: two cheap, or one dear: 0.002 both.
    fleet = without_boot(BOTH, of_rates(BOTH, [4.0, 3.0, 1.0]))
    assert (counts(fleet, "cheap"), counts(fleet, "dear")) == ([1, 0, 1], [1, 1, 0])
    assert fleet.usd == pytest.approx(60 * (0.003 + 0.002 + 0.001))


def test_a_short_last_window_is_billed_by_the_second() -> None:
    fleet = without_boot(CHEAP_ONLY, of_rates(CHEAP_ONLY, [1.0, 1.0], last_seconds=7.0))
    assert fleet.usd == pytest.approx(67 * 0.001)


def test_a_gap_is_bridged_when_it_is_no_longer_than_the_boot() -> None:
    rates = [1.0] + [0.0] * 5 + [1.0]
    wanted = of_rates(CHEAP_ONLY, rates)
    kept = with_boot(CHEAP_ONLY, wanted, 300.0)  # the gap is 300 s
    assert counts(kept, "cheap") == [1] * 7
    assert kept.usd == pytest.approx(420 * 0.001)
    again = with_boot(CHEAP_ONLY, wanted, 240.0)
    assert counts(again, "cheap") == [1, 0, 0, 0, 0, 0, 1]
    assert again.usd == pytest.approx((120 + 240) * 0.001)


def test_a_gap_is_bridged_when_an_idle_instance_costs_no_more_than_its_launch() -> None:
    """At 0.06 USD a minute, a launch of 0.19 USD pays three."""
    service = a_service(a_pool("cheap", launch_usd=0.19, **CHEAP))
    for idle, kept in ((3, 2), (4, 1)):
        wanted = of_rates(service, [2, *[1] * idle, 2])
        fleet = with_boot(service, wanted, 0.0)
        assert counts(fleet, "cheap") == [2, *[kept] * idle, 2]
        assert fleet.usd == pytest.approx(0.06 * (idle * kept + 4) + (0.19 if kept == 1 else 0.0))
        assert without_boot(service, wanted).usd == pytest.approx(0.06 * (idle + 4))


def test_the_first_minutes_fleet_is_there_and_a_later_order_is_paid_from_the_traces_beginning_at_most() -> None:
    assert with_boot(CHEAP_ONLY, of_rates(CHEAP_ONLY, [2.0, 2.0]), 300.0).usd == pytest.approx(240 * 0.001)
    # One more at 120: ordered at -180, of which 120 s lie in the trace.
    late = with_boot(CHEAP_ONLY, of_rates(CHEAP_ONLY, [0.0, 0.0, 1.0]), 300.0)
    assert late.usd == pytest.approx((120 + 60) * 0.001)


def test_levels_bridge_their_own_gaps() -> None:
    # Level 2 is idle for 60 s (kept: boot is 120), level 3 for 180 s (booted again).
    fleet = with_boot(CHEAP_ONLY, of_rates(CHEAP_ONLY, [3.0, 2.0, 1.0, 2.0, 3.0]), 120.0)
    assert counts(fleet, "cheap") == [3, 2, 2, 2, 3]
    assert fleet.usd == pytest.approx((12 * 60 + 120) * 0.001)


def test_the_default_boot_is_each_pools_own() -> None:
    service = a_service(a_pool("cheap", lead_seconds=240.0, **CHEAP))
    rates = of_rates(service, [1.0] + [0.0] * 5 + [1.0])
    assert with_boot(service, rates).usd == with_boot(service, rates, 240.0).usd


def test_a_pool_is_kept_through_a_dip_that_another_pool_would_serve_cheaper_without_boot() -> None:
    # 3, 1, 3 a second: without boot dear, cheap, dear: 0.002 + 0.001 + 0.002. Booting 300 s costs more than it saves.
    wanted = of_rates(BOTH, [3.0, 1.0, 3.0])
    assert without_boot(BOTH, wanted).usd == pytest.approx(60 * 0.005)
    fleet = with_boot(BOTH, wanted, 300.0)
    assert counts(fleet, "dear") == [1, 1, 1]
    assert fleet.usd == pytest.approx(180 * 0.002)


def test_the_floor_and_the_pools_minima_hold_for_the_clairvoyant() -> None:
    service = a_service(a_pool("cheap", **CHEAP), a_pool("dear", **DEAR | {"min_instances": 1}), least=3)
    wanted = of_rates(service, [0.0, 6.0])
    assert counts(without_boot(service, wanted), "dear") == [1, 2]
    assert counts(without_boot(service, wanted), "cheap") == [2, 1]
    # With boot the second dear one stands from the beginning, in the place of a cheap one: 60 s of 0.001 more, no boot.
    assert counts(with_boot(service, wanted, 300.0), "dear") == [2, 2]
    assert counts(with_boot(service, wanted, 300.0), "cheap") == [1, 1]
    alone = a_service(a_pool("cheap", **CHEAP), least=2)
    assert counts(with_boot(alone, of_rates(alone, [0.0, 1.0]), 60.0), "cheap") == [2, 2]


def test_a_service_that_may_sleep_has_no_floor_without_requests() -> None:
    service = a_service(a_pool("cheap", **CHEAP), least=2, zero={"idle_seconds": 600})
    assert counts(without_boot(service, of_rates(service, [0.0, 0.5])), "cheap") == [0, 2]


def test_a_pool_that_misses_the_slo_carries_nothing_but_its_minimum_is_paid() -> None:
    service = a_service(a_pool("dear", **DEAR), a_pool("cheap", reaches_slo=False, **CHEAP | {"min_instances": 1}))
    for fleet in (without_boot(service, of_rates(service, [1.0])), with_boot(service, of_rates(service, [1.0]), 60.0)):
        assert (counts(fleet, "cheap"), counts(fleet, "dear")) == ([1], [1])
        assert fleet.usd == pytest.approx(60 * 0.003)


def test_demand_beyond_every_maximum_is_told_and_not_hidden() -> None:
    service = a_service(a_pool("cheap", quota="G", vcpus=4, **CHEAP), quotas={"G": 11})  # two instances of 4 vCPUs
    fleet = without_boot(service, of_rates(service, [2.0, 3.0]))
    assert (counts(fleet, "cheap"), fleet.short_windows) == ([2, 2], 1)
    assert with_boot(service, of_rates(service, [2.0, 3.0]), 60.0).short_windows == 1


def test_it_can_be_held_to_one_pool() -> None:
    wanted = of_rates(BOTH, [4.0, 1.0])
    assert counts(without_boot(BOTH, wanted, pools=["dear"]), "dear") == [2, 1]
    assert counts(with_boot(BOTH, wanted, 60.0, pools=["cheap"]), "cheap") == [4, 1]


def test_requests_that_may_fail_are_left_out_where_they_save_most() -> None:
    # 1.1, 2.5 and 3 a second: the tenth in the first minute (6 requests) costs a whole instance. 396 requests in all;
    # 6 / 396 pays for just that; half of it for half of that.
    wanted = of_rates(CHEAP_ONLY, [1.1, 2.5, 3.0])
    whole = without_boot(CHEAP_ONLY, wanted).usd
    assert whole - without_boot(CHEAP_ONLY, wanted, may_fail=6 / 396).usd == pytest.approx(60 * 0.001)
    assert whole - without_boot(CHEAP_ONLY, wanted, may_fail=3 / 396).usd == pytest.approx(30 * 0.001)
    # 30 more go for the half of the second minute, then 60 for a whole instance of any.
    assert whole - without_boot(CHEAP_ONLY, wanted, may_fail=36 / 396).usd == pytest.approx(120 * 0.001)
    assert whole - without_boot(CHEAP_ONLY, wanted, may_fail=96 / 396).usd == pytest.approx(180 * 0.001)


# Against brute force. An instance is an interval of windows, billed from its order to its end, in any pool.


def cheapest_by_trying_all(service: Service, wanted: TraceDemand, boot: float, most: int) -> float:
    windows = len(wanted.seconds)
    starts = np.concatenate(([0.0], np.cumsum(wanted.seconds)))
    kinds = [
        (pool, first, last)
        for pool in service.pools
        for first in range(windows)
        for last in range(first + 1, windows + 1)
    ]
    best = math.inf
    for number in range(most + 1):
        for fleet in itertools.combinations_with_replacement(kinds, number):
            carried, standing, usd = np.zeros(windows), np.zeros(windows), 0.0
            for pool, first, last in fleet:
                carried[first:last] += pool.throughput_rps
                standing[first:last] += 1
                usd += (starts[last] - max(0.0, starts[first] - boot)) * pool.usd_per_hour / 3600
            enough = standing.min() >= service.policy.availability.min_instances
            if enough and (carried >= wanted.work_rps[:, 0] - 1e-9).all():
                best = min(best, usd)
    return best


TENTHS = st.integers(0, 20).map(lambda n: n / 10)
"""At most two cheap instances at a time, so at most four orders in four windows: those are all tried."""
BOOTS = st.sampled_from([0.0, 30.0, 60.0, 100.0, 120.0, 180.0, 600.0])


@settings(max_examples=40, deadline=None)
@given(st.lists(TENTHS, min_size=1, max_size=4), BOOTS, st.integers(0, 1), st.sampled_from([10.0, 60.0]))
def test_one_pool_with_boot_is_what_trying_all_finds(rates: list[float], boot: float, least: int, last: float) -> None:
    service = a_service(a_pool("cheap", **CHEAP), least=least)
    wanted = of_rates(service, rates, last)
    assert with_boot(service, wanted, boot).usd == pytest.approx(cheapest_by_trying_all(service, wanted, boot, 4))


@settings(max_examples=30, deadline=None)
@given(st.lists(TENTHS, min_size=1, max_size=3), BOOTS, st.integers(0, 2))
def test_two_pools_with_boot_are_what_trying_all_finds(rates: list[float], boot: float, least: int) -> None:
    service = a_service(a_pool("cheap", **CHEAP), a_pool("dear", **DEAR | {"throughput_rps": 2.2}), least=least)
    wanted = of_rates(service, rates)
    fleet = with_boot(service, wanted, boot)
    assert fleet.exact
    assert fleet.usd == pytest.approx(cheapest_by_trying_all(service, wanted, boot, 4))
    assert without_boot(service, wanted).usd == pytest.approx(cheapest_by_trying_all(service, wanted, 0.0, 4))


@settings(max_examples=60, deadline=None)
@given(st.lists(TENTHS, min_size=1, max_size=5), st.floats(0, 0.5))
def test_with_failures_it_is_at_or_just_below_what_trying_all_finds(rates: list[float], may_fail: float) -> None:
    wanted = of_rates(CHEAP_ONLY, rates)
    allowed = may_fail * wanted.requests.sum()
    best = math.inf
    for standing in itertools.product(range(3), repeat=len(rates)):
        lost = (np.maximum(wanted.work_rps[:, 0] - np.array(standing), 0) * 60).sum()
        if lost <= allowed + 1e-9:
            best = min(best, sum(standing) * 60 * 0.001)
    usd = without_boot(CHEAP_ONLY, wanted, may_fail=may_fail).usd
    assert best - 60 * 0.001 <= usd + 1e-9  # one window's last cut is taken in part
    assert usd <= best + 1e-9


RATES = st.lists(st.integers(0, 12_000).map(lambda n: n / 1000), min_size=1, max_size=40)
EXTRA = st.lists(st.integers(0, 3), min_size=40, max_size=40)


@settings(max_examples=60, deadline=None)
@given(RATES, EXTRA, EXTRA, BOOTS)
def test_no_fleet_that_carries_the_demand_costs_less(
    rates: list[float], more_dear: list[int], more_cheap: list[int], boot: float
) -> None:
    wanted = of_rates(BOTH, rates)
    dear = np.minimum(np.array(more_dear[: len(rates)]), 9)
    cheap = np.ceil(np.maximum(wanted.work_rps[:, 0] - 3 * dear, 0)).astype(np.int64) + more_cheap[: len(rates)]
    if cheap.max() > 9:
        return
    fleet = {"cheap": cheap, "dear": dear}
    assert without_boot(BOTH, wanted).usd <= cost_usd(BOTH, wanted, fleet, 0.0) + 1e-9
    assert with_boot(BOTH, wanted, boot).usd <= cost_usd(BOTH, wanted, fleet, boot) + 1e-9


@settings(max_examples=60, deadline=None)
@given(RATES, EXTRA, BOOTS, st.sampled_from([0.0, 0.01, 0.2]))
def test_no_fleet_that_pays_for_its_launches_costs_less(
    rates: list[float], more: list[int], boot: float, launch_usd: float
) -> None:
    for pools in (("cheap",), ("cheap", "dear")):
        keys = {"cheap": CHEAP, "dear": DEAR}
        service = a_service(*(a_pool(name, launch_usd=launch_usd, **keys[name]) for name in pools))
        wanted = of_rates(service, rates)
        cheap = np.ceil(wanted.work_rps[:, 0]).astype(np.int64) + more[: len(rates)]
        if cheap.max() > 9:
            return
        fleet = {"cheap": cheap, "dear": np.zeros_like(cheap)}
        best = with_boot(service, wanted, boot)
        assert best.usd <= cost_usd(service, wanted, {name: fleet[name] for name in pools}, boot) + 1e-9
        assert cost_usd(service, wanted, best.counts, boot) == pytest.approx(best.usd)
        assert without_boot(service, wanted).usd <= best.usd + 1e-9


@settings(max_examples=60, deadline=None)
@given(RATES, BOOTS)
def test_its_own_counts_carry_the_demand_and_cost_what_it_says(rates: list[float], boot: float) -> None:
    wanted = of_rates(BOTH, rates)
    for fleet, lead in ((without_boot(BOTH, wanted), 0.0), (with_boot(BOTH, wanted, boot), boot)):
        carried = fleet.counts["cheap"] * 1.0 + fleet.counts["dear"] * 3.0
        assert (carried >= wanted.work_rps[:, 0] * (1 - 1e-6)).all()
        assert cost_usd(BOTH, wanted, fleet.counts, lead) == pytest.approx(fleet.usd)
    assert without_boot(BOTH, wanted).usd <= with_boot(BOTH, wanted, boot).usd + 1e-9
    assert (
        with_boot(BOTH, wanted, boot).usd
        <= min(
            with_boot(BOTH, wanted, boot, pools=[name]).usd
            for name in ("cheap", "dear")
            if name == "dear" or max(rates) <= 9
        )
        + 1e-9
    )


@settings(max_examples=40, deadline=None)
@given(RATES)
def test_more_boot_never_costs_less_and_more_failures_never_more(rates: list[float]) -> None:
    wanted = of_rates(BOTH, rates)
    by_boot = [round(with_boot(BOTH, wanted, boot).usd, 9) for boot in (0.0, 60.0, 300.0, 900.0)]
    assert by_boot == sorted(by_boot)
    assert by_boot[0] == pytest.approx(without_boot(BOTH, wanted).usd)
    by_failures = [round(without_boot(BOTH, wanted, may_fail=share).usd, 9) for share in (0.0, 0.005, 0.05, 0.5)]
    assert by_failures == sorted(by_failures, reverse=True)
    assert by_failures[-1] >= -1e-9


def test_too_many_counts_are_told_and_answered_by_fewer_pools(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = of_rates(BOTH, [4.0, 1.0, 4.0, 2.0])
    exact = with_boot(BOTH, wanted, 60.0)
    monkeypatch.setattr(bound, "MOST_WORK", 1)
    fewer = with_boot(BOTH, wanted, 60.0)
    assert not fewer.exact
    assert fewer.usd == min(with_boot(BOTH, wanted, 60.0, pools=[name]).usd for name in ("cheap", "dear"))
    assert fewer.usd >= exact.usd


# The measure of work.


PROFILE = Profile(
    prefill_base_seconds=0.02,
    prefill_tokens_per_second=8000.0,
    decode_base_seconds=0.02,
    decode_seconds_per_sequence=0.0005,
    kv_cache_tokens=100_000,
    compile_seconds=60.0,
    estimate=True,
    source="made up for this test",
)
SLO = Slo(ttft_seconds=2.0, tpot_seconds=0.08)


@settings(deadline=None)
@given(st.floats(10, 20_000), st.floats(1, 2000), st.booleans())
def test_an_instance_carries_what_the_models_own_formula_says_up_to_the_rounding_of_the_batch(
    inputs: float, outputs: float, with_slo: bool
) -> None:
    slo = SLO if with_slo else None
    model = instance_capacity(PROFILE, Request(input_tokens=inputs, output_tokens=outputs), slo, LoadUnit.CONCURRENCY)
    here = float(full_rate_rps(PROFILE, slo, inputs, outputs))
    assert here >= model.throughput_rps * (1 - 1e-12)
    prefill = PROFILE.prefill_seconds(inputs)
    one_more = model.capacity + 1
    assert here <= 1 / (outputs * PROFILE.step_seconds(one_more) / one_more + prefill) * (1 + 1e-12)


def profiled() -> Service:
    values = instance_capacity(PROFILE, Request(), SLO, LoadUnit.CONCURRENCY)
    pool = a_pool("cheap", **CHEAP | {"throughput_rps": values.throughput_rps})
    return a_service(pool, slo=SLO.model_dump())


def test_long_answers_and_long_prompts_are_more_work() -> None:
    service = profiled()
    rate = np.array([60.0] * 4)
    mixes = (np.array([1000.0, 1000.0, 4000.0, 100.0]), np.array([200.0, 400.0, 200.0, 20.0]))
    work = demand_of_means(service, WindowMeans(np.full(4, 60.0), rate, *mixes), {"cheap": PROFILE}).work_rps[:, 0]
    assert work[0] == pytest.approx(1.0, rel=0.02)  # one typical request a second, but for the batch's rounding
    assert work[0] < work[1]
    assert work[0] < work[2]
    assert work[3] < work[0]


def test_a_window_without_requests_asks_for_nothing() -> None:
    nothing = demand_of_means(profiled(), WindowMeans(np.full(1, 60.0), np.zeros(1), 0.0, 0.0), {"cheap": PROFILE})
    assert nothing.work_rps.tolist() == [[0.0]]


def test_a_traces_windows_become_demand() -> None:
    service = profiled()
    trace = Trace(
        "t", np.array([0.0, 30.0, 59.0, 130.0]), np.full(4, 1000.0), np.array([100.0, 200.0, 300.0, 200.0]), 150.0
    )
    wanted = demand(service, trace.windows(60.0), {"cheap": PROFILE})
    assert wanted.seconds.tolist() == [60.0, 60.0, 30.0]
    assert wanted.requests.tolist() == [3.0, 0.0, 1.0]
    assert wanted.work_rps[:, 0] == pytest.approx([0.05, 0.0, 1 / 30], rel=0.02)
    assert wanted.peak_rps(service, "cheap") == wanted.work_rps.max()


def test_two_pools_share_a_window_in_the_measure_that_asks_least() -> None:
    # A pool that reads prompts four times as fast has less to do with long ones; the bound takes the lesser of both.
    fast = PROFILE.model_copy(update={"prefill_tokens_per_second": 32_000.0})
    both = {"cheap": PROFILE, "dear": fast}
    service = a_service(
        *(
            a_pool(
                n,
                **kind
                | {"throughput_rps": instance_capacity(both[n], Request(), SLO, LoadUnit.CONCURRENCY).throughput_rps},
            )
            for n, kind in (("cheap", CHEAP), ("dear", DEAR))
        ),
        slo=SLO.model_dump(),
    )
    wanted = demand_of_means(service, WindowMeans(np.full(1, 60.0), np.array([600.0]), 8000.0, 200.0), both)
    assert wanted.work_rps[0, 1] < wanted.work_rps[0, 0]
    fleet = without_boot(service, wanted)
    carried = sum(fleet.counts[p.name][0] * p.throughput_rps for p in service.pools)
    assert wanted.work_rps[0, 1] <= carried * (1 + 1e-9)


def test_what_cannot_be_is_said() -> None:
    wanted = of_rates(BOTH, [1.0])
    with pytest.raises(ValueError, match=r"pools: must be among cheap, dear \(got h100\)"):
        without_boot(BOTH, wanted, pools=["h100"])
    with pytest.raises(ValueError, match=r"pools: at least one is needed"):
        without_boot(BOTH, wanted, pools=[])
    with pytest.raises(ValueError, match=r"may_fail: must be 0 or more and below 1 \(got 1.5\)"):
        without_boot(BOTH, wanted, may_fail=1.5)
    with pytest.raises(ValueError, match=r"boot_seconds: must not be negative \(got -1.0\)"):
        with_boot(BOTH, wanted, -1.0)
    with pytest.raises(ValueError, match="seconds: every window must be longer than 0"):
        demand_of_means(BOTH, WindowMeans(np.zeros(1), np.zeros(1), 1.0, 1.0))
    with pytest.raises(ValueError, match="profiles: dear is missing"):
        demand_of_means(BOTH, WindowMeans(np.full(1, 60.0), np.ones(1), 1.0, 1.0), {"cheap": PROFILE})


def test_a_fortnight_of_minutes_and_its_saving_is_below_mean_over_peak() -> None:
    random = np.random.default_rng(1)
    minutes = np.arange(20_160)
    rates = 8 * (1 + 0.8 * np.sin(minutes / 1440 * 2 * math.pi)) * random.uniform(0.8, 1.2, len(minutes))
    service = a_service(a_pool("cheap", **CHEAP | {"max_instances": 40}))
    wanted = of_rates(service, rates.tolist())
    free, paid = without_boot(service, wanted), with_boot(service, wanted, 300.0)
    static = math.ceil(rates.max()) * len(minutes) * 60 * 0.001
    assert rates.mean() / math.ceil(rates.max()) <= free.usd / static < paid.usd / static < 1
