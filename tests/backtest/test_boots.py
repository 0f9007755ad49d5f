"""Backtests boot by phases and pay for launches, path by path."""

from __future__ import annotations

import numpy as np
import pytest

from bench.bench_boot import markdown, measure, on_path
from gpu_fleet.backtest.roster import Entrant
from gpu_fleet.backtest.run import run
from gpu_fleet.backtest.scenario import ScenarioSpec, prepare
from gpu_fleet.backtest.setting import Setting, read_setting
from gpu_fleet.backtest.trace_scale import factor_for
from gpu_fleet.config.boot_paths import BOOT_PATHS
from gpu_fleet.config.yaml_files import read_library
from gpu_fleet.traffic import RateTrace

NAT, *_, LOCAL, BAKED = BOOT_PATHS


@pytest.fixture(scope="module")
def chat(root) -> Setting:
    return read_setting(root, "chat")


@pytest.fixture(scope="module")
def rises() -> RateTrace:
    """Quiet and busy quarters of an hour, so that each rise launches anew."""
    minute = np.arange(90)
    return RateTrace("rises", minute * 60.0, np.where(minute // 15 % 2 == 1, 9.0, 2.0), 60.0)


def test_without_a_boot_time_each_pool_boots_by_its_own_phases(chat, rises):
    there = prepare(ScenarioSpec(chat, rises, factor_for(chat, rises, 3)))
    assert there.setting.boots == chat.boots
    leads = {pool.name: pool.lead_seconds for pool in there.setting.service.pools}
    assert leads == {name: pytest.approx(boot.seconds, abs=0.1) for name, boot in chat.boots.items()}
    assert there.boot_seconds == max(leads.values())


def test_a_given_boot_time_holds_for_every_pool(chat, rises):
    there = prepare(ScenarioSpec(chat, rises, factor_for(chat, rises, 3), boot_seconds=120))
    assert {pool.lead_seconds for pool in there.setting.service.pools} == {120}
    assert there.setting.boots == {}


def test_a_run_pays_for_each_launch_and_static_peak_for_none(root, chat, rises):
    through_nat = on_path(chat, BOOT_PATHS[NAT], read_library(root))
    there = prepare(ScenarioSpec(through_nat, rises, factor_for(chat, rises, 3)))
    (price,) = {round(pool.launch_usd, 2) for pool in there.setting.service.pools}
    for rule, pool, launches in (("gpu-fleet", None, True), ("static-peak", "l40s", False)):
        result = run(there, Entrant(rule, pool, 0.8 if pool else None)).result
        assert bool(result.launches) == launches
        assert result.launch_usd == pytest.approx(result.launches * price, rel=0.01)
        prices = {p.name: p.usd_per_hour for p in there.setting.service.pools}
        hours_usd = sum(prices[name] * hours for name, hours in result.machine_hours.items())
        assert result.cost_usd == pytest.approx(hours_usd + result.launch_usd)


def test_a_path_changes_the_boots_and_the_launch_price_and_nothing_else(root, chat):
    known = read_library(root)
    nat, baked = (on_path(chat, BOOT_PATHS[name], known) for name in (NAT, BAKED))
    assert on_path(chat, BOOT_PATHS[LOCAL], known).boots == chat.boots
    for before, after in zip(nat.service.pools, baked.service.pools, strict=True):
        assert after.lead_seconds < 0.5 * before.lead_seconds
        assert after.launch_usd < 0.02
        assert before.launch_usd > 0.9
        same = {"lead_seconds": 0.0, "launch_usd": 0.0}
        assert before.model_copy(update=same) == after.model_copy(update=same)


def test_the_benchmark_measures_each_path(root, chat, rises, monkeypatch):
    monkeypatch.setattr("bench.bench_boot.BOOT_PATHS", {name: BOOT_PATHS[name] for name in (NAT, BAKED)})
    spec = ScenarioSpec(chat, rises, factor_for(chat, rises, 3))
    nat, baked = measure([spec], read_library(root), ["gpu-fleet"], jobs=1)
    assert (nat.path, baked.path) == (NAT, BAKED)
    assert nat.boot_seconds > baked.boot_seconds
    assert nat.usd > baked.usd
    table = markdown([nat, baked], 1.5)
    assert f"| {NAT} | gpu-fleet | 653 |" in table
