"""Requests that an engine serves outside the limits, against the simulator's own count."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.backtest.setting import read_setting
from gpu_fleet.scaling.lateness import EngineModel, late_share
from gpu_fleet.scaling.profile import Speed
from gpu_fleet.scaling.service import Pool
from gpu_fleet.scaling.sizing import TAIL_BUDGET, usable_share

ROOT = Path(__file__).resolve().parents[2]
SETTING = read_setting(ROOT, "chat")
POLICY = SETTING.service.policy
STRICT = POLICY.wait_budget

SIMULATED = [
    # pool, instances, variance/mean, budget, share of throughput in the simulator (bench/bench_sizing.py, mix conv~)
    ("l4", 1, 1.0, STRICT, 0.364),
    ("l4", 4, 1.0, STRICT, 0.523),
    ("l4", 16, 1.0, STRICT, 0.579),
    ("l4", 4, 4.0, STRICT, 0.352),
    ("l4", 32, 11.9, STRICT, 0.494),
    ("l4", 8, 1.0, TAIL_BUDGET, 0.787),
    ("l40s", 1, 1.0, STRICT, 0.751),
    ("l40s", 8, 1.0, STRICT, 0.908),
    ("l40s", 32, 1.0, STRICT, 0.924),
    ("l40s", 1, 4.0, STRICT, 0.527),
    ("l40s", 4, 11.9, STRICT, 0.651),
    ("l40s", 8, 11.9, STRICT, 0.777),
    ("l40s", 8, 11.9, TAIL_BUDGET, 0.892),
    ("h100", 1, 1.0, STRICT, 0.957),
    ("h100", 2, 4.0, STRICT, 0.944),
    ("h100", 2, 11.9, STRICT, 0.836),
]


def pool(name: str) -> Pool:
    return next(each for each in SETTING.service.pools if each.name == name)


def speed(name: str) -> Speed:
    known = pool(name).speed
    assert known is not None
    return known


def engine(name: str, peers: int = 1, scv: float = 1.0) -> EngineModel:
    assert POLICY.slo is not None
    return EngineModel(POLICY.request, POLICY.slo, speed(name), pool(name).capacity, peers, scv)


@pytest.mark.parametrize(("name", "instances", "scv", "budget", "simulated"), SIMULATED)
def test_the_usable_share_is_the_one_at_which_the_simulator_misses_the_budget(
    name: str, instances: int, scv: float, budget: float, simulated: float
) -> None:
    assert usable_share(pool(name), POLICY, instances, scv, budget) == pytest.approx(simulated, rel=0.05)


@settings(deadline=None)
@given(st.sampled_from(["l4", "l40s", "h100"]), st.integers(1, 64), st.floats(1, 16), st.floats(0.02, 1), st.data())
def test_more_traffic_never_makes_fewer_requests_late(
    name: str, peers: int, scv: float, share: float, data: st.DataObject
) -> None:
    one, less = engine(name, peers, scv), data.draw(st.floats(0.01, share))
    assert late_share(one, less * one.throughput_rps) <= late_share(one, share * one.throughput_rps) + 1e-4


@settings(deadline=None)
@given(st.sampled_from(["l4", "l40s", "h100"]), st.integers(1, 64), st.integers(1, 64), st.floats(1, 16))
def test_more_instances_never_lower_the_share(name: str, a: int, b: int, scv: float) -> None:
    few, many = (usable_share(pool(name), POLICY, count, scv) for count in sorted((a, b)))
    assert few <= many + 0.005


@settings(deadline=None)
@given(st.sampled_from(["l4", "l40s", "h100"]), st.integers(1, 64), st.floats(1, 16), st.floats(1, 16))
def test_burstier_arrivals_never_raise_the_share(name: str, instances: int, a: float, b: float) -> None:
    calm, wild = (usable_share(pool(name), POLICY, instances, scv) for scv in sorted((a, b)))
    assert wild <= calm + 0.005


def test_an_engine_at_its_throughput_serves_all_of_its_requests_late() -> None:
    assert late_share(engine("l4"), engine("l4").throughput_rps) == 1.0


def test_an_engine_without_requests_serves_none_late() -> None:
    assert late_share(engine("l4"), 0.0) == 0.0


def test_answers_of_one_token_have_no_time_per_token() -> None:
    one_token = engine("l4")
    one_token = one_token._replace(
        request=one_token.request.model_copy(update={"output_tokens": 1.0}),
        slo=one_token.slo.model_copy(update={"ttft_seconds": 1000.0}),
    )
    assert late_share(one_token, 0.1) < 1e-6


def test_a_lone_pool_of_two_copies_is_a_pool_of_two_engines() -> None:
    single = pool("l40s")
    double = single.model_copy(
        update={"copies": 2, "throughput_rps": 2 * single.throughput_rps, "capacity": 2 * single.capacity}
    )
    assert usable_share(double, POLICY, 1, 1.0) == pytest.approx(usable_share(single, POLICY, 2, 1.0), abs=0.003)
