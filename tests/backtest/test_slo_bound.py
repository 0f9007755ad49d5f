"""The clairvoyant fleet that keeps the SLO: it attains, and hindsight in its pool is no cheaper."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from gpu_fleet.backtest import rival_targets, roster, slo_bound
from gpu_fleet.backtest.clairvoyant import Clairvoyant
from gpu_fleet.backtest.rival_targets import sample, shares_for
from gpu_fleet.backtest.roster import CLAIRVOYANT, Entrant
from gpu_fleet.backtest.run import run
from gpu_fleet.backtest.scenario import ScenarioSpec, prepare
from gpu_fleet.backtest.setting import read_setting
from gpu_fleet.backtest.slo_bound import cheapest_with_slo
from gpu_fleet.backtest.trace_scale import factor_for
from gpu_fleet.traffic import RateTrace


@pytest.fixture(scope="module")
def chat(root):
    return read_setting(root, "chat")


def rates(kind: str) -> RateTrace:
    minute = np.arange(40)
    rps = {
        "wave": 5.5 - 4.5 * np.cos(minute / 39 * 4 * np.pi),
        "jumps": np.where(minute // 8 % 2 == 1, 9.0, 2.0),
        "flat": np.full(40, 6.0),
    }[kind]
    return RateTrace(kind, minute * 60.0, rps, 60.0, burstiness=2.0 if kind == "flat" else 1.0)


def scenario(chat, kind: str, seed: int = 0):
    return prepare(ScenarioSpec(chat, rates(kind), factor_for(chat, rates(kind), 4), seed, boot_seconds=120))


@pytest.fixture(scope="module")
def scenarios(chat):
    return {kind: scenario(chat, kind) for kind in ("wave", "jumps", "flat")}


@pytest.fixture(scope="module")
def fleets(scenarios):
    return {kind: cheapest_with_slo(there) for kind, there in scenarios.items()}


@pytest.mark.parametrize("kind", ["wave", "jumps", "flat"])
def test_it_attains_and_costs_more_than_the_fluid_fleet_that_pays_its_boots(scenarios, fleets, kind):
    fleet = fleets[kind]
    assert fleet.meets_slo
    assert fleet.result.requests == scenarios[kind].requests
    assert scenarios[kind].clairvoyant_usd < fleet.result.cost_usd
    assert fleet.result.cost_usd < 2.5 * scenarios[kind].clairvoyant_usd


@pytest.mark.parametrize("kind", ["wave", "jumps", "flat"])
def test_no_rival_is_cheaper_in_its_pool_with_any_target_that_attains(scenarios, fleets, kind):
    pool = fleets[kind].entrant.pool
    for rule in ("static-peak", "target-tracking-requests", "hpa"):
        for share in shares_for(scenarios[kind], rule, pool)[::2]:
            rival = run(scenarios[kind], Entrant(rule, pool, share))
            assert not rival.meets_slo or rival.result.cost_usd >= fleets[kind].result.cost_usd, (rule, share)


def test_the_same_seed_gives_the_same_fleet_and_another_seed_another_draw(chat, scenarios, fleets):
    again = cheapest_with_slo(scenario(chat, "wave"))
    assert again.entrant == fleets["wave"].entrant
    assert again.row() == fleets["wave"].row()
    assert cheapest_with_slo(scenario(chat, "wave", seed=1)).result.requests != again.result.requests


def test_it_pays_what_its_plan_says_and_the_drains(scenarios, fleets):
    fleet = fleets["wave"]
    pool = next(p for p in scenarios["wave"].setting.service.pools if p.name == fleet.entrant.pool)
    work_rps = scenarios["wave"].demand.of_pool(scenarios["wave"].setting.service, pool.name).work_rps[:, 0]
    alone = roster.service_with(scenarios["wave"].setting.service, pool.name)
    plan = Clairvoyant(alone, work_rps, fleet.entrant.share, fleet.entrant.look_minutes)
    drains = fleet.result.scale_events * 60 * pool.usd_per_hour / 3600
    assert plan.usd <= fleet.result.cost_usd <= plan.usd + drains


# --- the plan ---


def planned(chat, work, *, boot=120.0, fill=1.0, look=1.0, launch_minutes=0.0):
    alone = roster.service_with(chat.service, "l40s")
    (pool,) = alone.pools
    launch_usd = launch_minutes * pool.usd_per_hour / 60
    pool = pool.model_copy(
        update={"lead_seconds": boot, "min_instances": 0, "max_instances": 50, "launch_usd": launch_usd}
    )
    floor = alone.policy.availability.model_copy(update={"min_instances": 1})
    policy = alone.policy.model_copy(update={"availability": floor})
    service = alone.model_copy(update={"pools": (pool,), "policy": policy})
    return Clairvoyant(service, np.array(work) * pool.throughput_rps, fill, look).counts.tolist()


def test_instances_are_ordered_a_boot_ahead_and_leave_at_once(chat):
    assert planned(chat, [1, 1, 1, 1, 3, 1, 1, 1, 1]) == [1, 1, 3, 3, 3, 1, 1, 1, 1]


def test_a_boot_that_is_no_whole_number_of_minutes_is_rounded_up(chat):
    assert planned(chat, [1, 1, 1, 1, 3, 1], boot=130.0) == [1, 3, 3, 3, 3, 1]
    assert planned(chat, [1, 1, 3, 1], boot=0.0) == [1, 1, 3, 1]


def test_a_gap_no_longer_than_a_boot_is_bridged_and_a_longer_one_is_not(chat):
    assert planned(chat, [3, 1, 1, 3]) == [3, 3, 3, 3]
    assert planned(chat, [3, 1, 1, 1, 3]) == [3, 1, 3, 3, 3]
    assert planned(chat, [3, 1, 1, 1, 1, 3]) == [3, 1, 1, 3, 3, 3]


def test_a_gap_is_bridged_as_long_as_idling_costs_no_more_than_a_launch(chat):
    assert planned(chat, [3, 1, 1, 1, 1, 3], boot=0.0, launch_minutes=4.1) == [3, 3, 3, 3, 3, 3]
    assert planned(chat, [3, 1, 1, 1, 1, 1, 3], boot=0.0, launch_minutes=4.1) == [3, 1, 1, 1, 1, 1, 3]
    assert planned(chat, [3, 1, 1, 1, 3], boot=120.0, launch_minutes=1.1) == [3, 3, 3, 3, 3]


def test_a_lower_fill_orders_more_and_a_look_back_keeps_them_longer(chat):
    assert planned(chat, [1, 2, 1, 1], boot=0.0, fill=0.5) == [2, 4, 2, 2]
    assert planned(chat, [1, 2, 1, 1], boot=0.0, look=2.0) == [1, 2, 2, 1]
    assert planned(chat, [1, 2, 1, 1], boot=0.0, look=math.inf) == [2, 2, 2, 2]


def test_no_work_leaves_the_floor_and_too_much_the_maximum(chat):
    assert planned(chat, [0, 0, 99, 0], boot=60.0) == [1, 50, 50, 1]


# --- the search ---


def test_a_long_trace_is_searched_on_a_sample_and_run_whole(chat, monkeypatch):
    monkeypatch.setattr(slo_bound, "LONG_SECONDS", 0.0)
    monkeypatch.setattr(rival_targets, "SAMPLE_HOURS", 2)
    rps = np.tile([1.0, 2.0, 4.0, 3.0, 2.0, 1.0], 3)
    long = RateTrace("long", np.arange(18) * 600.0, rps, 600.0)
    there = prepare(ScenarioSpec(chat, long, factor_for(chat, long, 2), boot_seconds=60))
    found = cheapest_with_slo(there)
    assert found.meets_slo
    assert found.result.requests == there.requests
    assert math.isfinite(found.entrant.look_minutes)


def test_an_hour_of_rates_knows_the_requests_that_it_draws(chat, monkeypatch):
    """Cut out alone, an hour draws other requests than within its trace: the fleet must foresee the former."""
    monkeypatch.setattr(rival_targets, "SAMPLE_HOURS", 2)
    long = RateTrace("long", np.arange(24) * 600.0, np.full(24, 3.0), 600.0, burstiness=3.0)
    for hour in sample(prepare(ScenarioSpec(chat, long, 1.0, seed=2))):
        drawn = [len(window) for window in hour.traffic().windows(60.0, seed=2)]
        assert hour.demand.requests.tolist() == drawn


def test_where_no_fleet_attains_the_largest_is_shown_and_is_no_measure(scenarios, monkeypatch):
    monkeypatch.setattr(slo_bound, "FILLS", (0.5, 0.6))
    slo = scenarios["flat"].setting.service.policy.slo.model_copy(update={"tpot_seconds": 0.001})
    strict = scenarios["flat"].setting.service.policy.model_copy(update={"slo": slo})
    there = replace(scenarios["flat"], setting=scenarios["flat"].setting.with_policy(strict))
    found = cheapest_with_slo(there)
    assert not found.meets_slo
    assert found.entrant.rule == CLAIRVOYANT
    assert found.entrant.share == 0.5
    assert replace(found, slo_clairvoyant=found).slo_ratio is None


def test_a_clairvoyant_fleet_without_a_pool_or_a_fill_is_refused(scenarios):
    with pytest.raises(ValueError, match="needs a pool and a fill"):
        run(scenarios["flat"], Entrant(CLAIRVOYANT, "l40s"))
