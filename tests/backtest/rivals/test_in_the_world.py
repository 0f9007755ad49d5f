"""The rivals under the simulator, and the bound under them all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpu_fleet.backtest.bound import with_boot, without_boot
from gpu_fleet.backtest.rivals.static_peak import StaticPeak
from gpu_fleet.backtest.roster import RIVALS, make, service_with
from gpu_fleet.backtest.trace_demand import demand
from gpu_fleet.scaling.policy import LoadUnit, Request, Slo
from gpu_fleet.scaling.profile import Profile, instance_capacity
from gpu_fleet.simulator.drive import run
from gpu_fleet.simulator.world import World, WorldOptions
from gpu_fleet.traffic.trace import Trace

PROFILE = Profile(
    prefill_tokens_per_second=8000.0,
    decode_base_seconds=0.03,
    decode_seconds_per_sequence=0.001,
    kv_cache_tokens=60_000,
    compile_seconds=60.0,
    estimate=True,
    source="made up for this test",
)
SLO = Slo(ttft_seconds=2.0, tpot_seconds=0.1)
TYPICAL = Request(input_tokens=800, output_tokens=100)
CARRYING = instance_capacity(PROFILE, TYPICAL, SLO, LoadUnit.CONCURRENCY)


@pytest.fixture(scope="module")
def service(desk: Any) -> Any:
    pool = desk.pool(
        capacity=CARRYING.capacity,
        throughput_rps=CARRYING.throughput_rps,
        slowdown=CARRYING.slowdown,
        service_seconds=CARRYING.service_seconds,
        lead_seconds=120.0,
    )
    return desk.service(pool, slo=SLO.model_dump(), request=TYPICAL.model_dump())


def a_trace(seconds: float, instances: Any, seed: int = 0) -> Trace:
    """Poisson arrivals of typical requests, at a second-by-second rate that so many full instances complete."""
    random = np.random.default_rng(seed)
    rates = np.array([instances(t) for t in range(int(seconds))]) * CARRYING.throughput_rps
    counts = random.poisson(rates)
    at = np.sort(np.repeat(np.arange(len(counts)), counts) + random.uniform(0, 1, counts.sum()))
    full = np.full(len(at), 1.0)
    return Trace("made up", at, full * TYPICAL.input_tokens, full * TYPICAL.output_tokens, seconds)


def ran(service: Any, trace: Trace, contender: Any, start: int) -> Any:
    world = World(service, trace, {"l40s": PROFILE}, initial={"l40s": start}, options=WorldOptions(keep_minutes=False))
    return run(world, contender, contender.every_seconds)


@pytest.mark.parametrize("name", list(RIVALS))
def test_no_rival_that_keeps_the_slo_costs_less_than_the_bound(service: Any, name: str) -> None:
    # Two instances' worth, then five, then two: half an hour each.
    trace = a_trace(5400.0, lambda t: 4.6 if 1800 <= t < 3600 else 1.7)
    wanted = demand(service, trace.windows(60.0), {"l40s": PROFILE})
    peak = wanted.peak_rps(service, "l40s")
    least = without_boot(service, wanted)
    assert least.usd <= with_boot(service, wanted, 120.0).usd
    kept = []
    for share in (0.1, 0.3, 0.6, 0.8):
        contender = make(name, service_with(service, "l40s"), "l40s", share, peak)
        outcome = ran(service, trace, contender, start=contender.count if isinstance(contender, StaticPeak) else 3)
        if outcome.slo_attainment >= SLO.attainment:
            kept.append(outcome.cost_usd)
    assert kept, "no share kept the SLO: the test shows nothing"
    assert min(kept) >= least.usd


def test_the_capacity_that_the_bound_counts_with_is_where_the_simulator_breaks_the_slo(service: Any) -> None:
    below = ran(service, a_trace(2400.0, lambda _t: 3 * 0.8), StaticPeak(service, "l40s", 3), start=3)
    above = ran(service, a_trace(2400.0, lambda _t: 3 * 1.05), StaticPeak(service, "l40s", 3), start=3)
    assert below.slo_attainment >= SLO.attainment
    assert above.slo_attainment < 0.5
