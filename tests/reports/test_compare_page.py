"""The pages of `gpu-fleet compare` and `gpu-fleet tune` in a browser."""

from __future__ import annotations

import numpy as np
import pytest

from gpu_fleet.backtest.compare import RunTask, TargetSource, compute
from gpu_fleet.backtest.scenario import ScenarioSpec, prepare
from gpu_fleet.backtest.setting import read_setting
from gpu_fleet.backtest.trace_scale import factor_for
from gpu_fleet.backtest.tune import SeedFigures, Trial, TuneResult, judge, pareto
from gpu_fleet.reports.compare_page import compare_page
from gpu_fleet.reports.tune_page import tune_page
from gpu_fleet.traffic import RateTrace

pytestmark = pytest.mark.browser


def test_the_page_of_a_comparison_draws_every_chart(visit, root):
    chat = read_setting(root, "chat")
    at = np.arange(15) * 60.0
    wave = RateTrace("wave", at, 5.5 - 4.5 * np.cos(at / at[-1] * 2 * np.pi), 60.0)
    scenario = prepare(ScenarioSpec(chat, wave, factor_for(chat, wave, 3), boot_seconds=60))
    runs = [
        compute(RunTask(scenario, "gpu-fleet", TargetSource.NONE, details=True)),
        compute(RunTask(scenario, "target-tracking-requests", TargetSource.TUNED, details=True)),
        compute(RunTask(scenario, "kpa", TargetSource.DEFAULT)),
    ]
    tab = visit(compare_page(chat, runs))
    drawn, there_are = map(int, tab.evaluate("document.documentElement.dataset.charts").split("/"))
    assert drawn == there_are >= 10
    assert tab.locator("tbody tr.ours").count() == 1
    assert tab.locator("section").first.locator("tbody tr").count() == 5
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert "Decisions that changed a count" in tab.content()


def test_the_page_of_a_tuning_shows_the_front_and_the_refusal(visit):
    def figures(cost, share):
        return SeedFigures((share, share), (cost, cost), (8.0, 8.0))

    trials = (
        Trial({}, figures(12.0, 0.997)),
        Trial({"burst.factor": 1.3}, figures(11.0, 0.996)),
        Trial({"burst.factor": 2.3}, figures(10.0, 0.97)),
    )
    before = figures(6.0, 0.997)
    verdict = judge(trials[1], figures(5.5, 0.99), before, 0.995)
    found = TuneResult(
        0.995, 2, (0.0, 1200.0), (1200.0, 1800.0), trials[0].train, before, trials, pareto(trials), (verdict,)
    )
    tab = visit(tune_page("chat", "wave", found, ""))
    assert tab.evaluate("document.documentElement.dataset.charts") == "1/1"
    assert "Refused: misses the SLO on the held-out part" in tab.content()
    assert tab.locator("tbody tr").count() == 3 + 2
