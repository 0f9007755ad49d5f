"""One run of a policy or a rival: the traffic's height, a start that is alike for all, and what nobody can beat."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gpu_fleet.backtest import roster
from gpu_fleet.backtest.roster import Entrant
from gpu_fleet.backtest.run import ImpossibleError, SloOutOfReach, check_possible, run
from gpu_fleet.backtest.scenario import MAXIMUM_FACTOR, ScenarioSpec, prepare
from gpu_fleet.backtest.setting import read_setting
from gpu_fleet.backtest.start import own_start, rival_start
from gpu_fleet.backtest.trace_demand import WindowMeans, demand, demand_of_means
from gpu_fleet.backtest.trace_scale import factor_for, scaled
from gpu_fleet.cli.app import app
from gpu_fleet.config.document import DocumentError
from gpu_fleet.config.engines import QueueOption
from gpu_fleet.config.policy_files import policy_library
from gpu_fleet.traffic import RateTrace, Trace, write


@pytest.fixture(scope="module")
def chat(root):
    return read_setting(root, "chat")


def wave(minutes: int = 20, high: float = 10.0) -> RateTrace:
    """A rise and a fall."""
    at = np.arange(minutes) * 60.0
    return RateTrace("wave", at, high * (0.55 - 0.45 * np.cos(at / at[-1] * 2 * np.pi)), 60.0)


@pytest.fixture(scope="module")
def small(chat):
    """About three instances of the middle pool at the peak."""
    return prepare(ScenarioSpec(chat, wave(), factor_for(chat, wave(), 3), boot_seconds=120))


def test_the_middle_pool_is_that_of_middle_throughput(chat):
    assert chat.middle.name == "l40s"
    two = chat.service.model_copy(update={"pools": chat.service.pools[:2]})
    assert replace(chat, service=two).middle.name == "l40s"
    one = chat.service.model_copy(update={"pools": chat.service.pools[2:]})
    assert replace(chat, service=one).middle.name == "h100"


def test_a_pool_that_cannot_keep_the_slo_is_not_the_middle(chat):
    slow = [pool.model_copy(update={"reaches_slo": pool.name != "l40s"}) for pool in chat.service.pools]
    service = chat.service.model_copy(update={"pools": tuple(slow)})
    assert replace(chat, service=service).middle.name == "h100"


@pytest.mark.parametrize(("instances", "within"), [(3.0, 0.1), (24.0, 0.02)])
def test_the_busiest_minute_needs_as_many_instances_as_asked(chat, instances, within):
    factor = factor_for(chat, wave(), instances)
    work = demand(chat.service, scaled(wave(), factor).windows(60.0, seed=0), chat.profiles)
    assert work.peak_rps(chat.service, "l40s") / chat.middle.throughput_rps == pytest.approx(instances, rel=within)


def test_single_requests_are_counted_by_their_own_lengths(chat):
    random = np.random.default_rng(0)
    at = np.sort(random.uniform(0, 1200, 3000))
    short = Trace("short", at, np.full(3000, 200.0), np.full(3000, 50.0), 1200.0)
    long = Trace("long", at, np.full(3000, 6000.0), np.full(3000, 400.0), 1200.0)
    # The same arrivals, but each takes more of an instance: fewer of them fill as many instances.
    assert factor_for(chat, long, 6) < 0.5 * factor_for(chat, short, 6)


def test_a_part_of_a_minute_at_the_end_is_left_out():
    trace = Trace("t", np.array([0.0, 10, 70, 119, 125]), np.ones(5), np.ones(5), 125.0)
    assert scaled(trace, 1.0).span_seconds == 120
    assert len(scaled(trace, 1.0)) == 4


def test_maxima_leave_room_and_every_lead_time_is_the_boot_time(small):
    for pool in small.setting.service.pools:
        assert pool.lead_seconds == 120
        assert pool.max_instances * pool.throughput_rps >= MAXIMUM_FACTOR * small.demand.peak_rps(
            small.setting.service, pool.name
        )


def test_the_bounds_stand_in_their_order(small):
    assert 0 < small.clairvoyant_usd <= small.clairvoyant_with_boot_usd
    assert small.floor_usd <= small.static_usd
    assert 0 < small.most_saving < 1


def test_all_start_with_the_same_work_in_instances(small):
    service = small.setting.service
    first = small.demand.work_rps[:5].mean(axis=0)
    for number, pool in enumerate(service.pools):
        alone = roster.service_with(service, pool.name)
        count = rival_start(alone, small.demand.of_pool(service, pool.name))[pool.name]
        assert (count - 1) * pool.throughput_rps * 0.9 < 1.2 * first[number] <= count * pool.throughput_rps * 0.9
    mixed = own_start(service, small.demand)
    carried = sum(mixed[p.name] * p.throughput_rps for p in service.pools)
    assert 1.2 * first.min() <= carried <= 2 * 1.2 * first.max()


def test_the_policy_starts_on_the_class_that_suits_the_requests_not_on_that_which_is_cheapest_to_fill(small):
    """With prompts of 12,000 tokens an L40S may be filled to a third, lest a short one waits too long behind them."""
    service, windows = small.setting.service, small.demand.seconds
    long = demand_of_means(service, WindowMeans(windows, windows * 20.0, 12_000.0, 340.0), small.setting.profiles)
    short = replace(long, input_tokens=0 * windows + 1_155.0, output_tokens=0 * windows + 211.0)
    assert own_start(service, long)["h100"] > 0
    assert own_start(service, short)["h100"] == 0
    assert own_start(service, short)["l40s"] > 0


def test_where_nobody_asks_at_first_the_policy_starts_at_its_minima(small):
    nobody = replace(small.demand, requests=small.demand.requests * 0)
    assert own_start(small.setting.service, nobody) == {p.name: p.min_instances for p in small.setting.service.pools}


def test_the_same_run_twice_is_the_same(small):
    assert run(small, Entrant("gpu-fleet")).row() == run(small, Entrant("gpu-fleet")).row()


@pytest.mark.parametrize("rule", [roster.OURS, *roster.RIVALS])
def test_every_contender_runs_every_request_is_accounted_for_and_nobody_does_the_impossible(small, rule):
    pool = None if rule == roster.OURS else "l40s"
    found = run(small, Entrant(rule, pool))
    assert found.result.requests == small.requests
    assert found.result.cost_usd > 0
    if found.saving is not None:
        assert found.saving <= found.most_saving + 0.01
    assert set(found.result.machine_hours) <= ({"l40s"} if pool else {"l4", "l40s", "h100"})


def test_a_saving_above_one_minus_mean_over_peak_is_a_mistake(small):
    honest = run(small, Entrant("static-peak", "l40s", 0.5))
    assert honest.meets_slo
    cheap = replace(honest.result, cost_usd=0.9 * small.floor_usd)
    with pytest.raises(ImpossibleError, match="1 - mean/peak"):
        check_possible(replace(honest, result=cheap))
    # Whoever misses the SLO has not done the work, and has saved nothing.
    check_possible(replace(honest, result=replace(cheap, slo_attainment=0.9)))


def test_static_peak_stands_from_the_first_minute_at_its_count(small):
    found = run(small, Entrant("static-peak", "l40s", 0.5), details=True)
    assert found.result.series is not None
    assert set(found.result.series.ready[0].tolist()) == {found.result.series.ready[0][0]}
    assert found.result.scale_events == 0


def test_a_run_that_cannot_reach_the_slo_is_broken_off(small):
    with pytest.raises(SloOutOfReach):
        run(small, Entrant("target-tracking", "l40s", 1.0), give_up=True)


def test_details_hold_each_minute_and_why_counts_changed(small):
    found = run(small, Entrant("gpu-fleet"), details=True)
    assert found.result.series is not None
    assert len(found.result.series.at) == 20
    assert found.work_rps is not None
    assert found.work_rps.max() == small.demand.peak_rps(small.setting.service, "l40s")
    assert found.decisions
    assert all(note.code and note.sentence for note in found.decisions)


@pytest.mark.parametrize(
    ("image", "refuses", "options"),
    [
        ("vllm/vllm-openai:v0.29.0", True, (QueueOption.VLLM_REQUESTS, QueueOption.VLLM_TOKENS)),
        ("lmsysorg/sglang:v0.5.20", True, (QueueOption.SGLANG_WAITING,)),
        ("vllm/vllm-openai:v0.28.0", False, ()),
    ],
)
def test_the_engines_bound_what_the_stacks_image_counts(root, tmp_path, image, refuses, options):
    (tmp_path / "policies").symlink_to(root / "policies")
    (tmp_path / "Pulumi.yaml").symlink_to(root / "Pulumi.yaml")
    text = (root / "Pulumi.local.yaml").read_text()
    text = text.replace("vllm/vllm-openai:v0.29.0", image).replace("load: stream", "load: copy")  # vLLM alone streams
    (tmp_path / "Pulumi.local.yaml").write_text(text)
    found = read_setting(tmp_path, "chat")
    assert found.service.policy.refuses is refuses
    assert found.queue_options == options
    assert any("any number of requests waits" in note for note in found.notes) is not refuses


def test_a_policy_file_of_another_name_stands_on_the_service_that_serves_the_same_model(root, tmp_path):
    path = tmp_path / "bolder.yaml"
    path.write_text((root / "policies" / "chat.yaml").read_text().partition("cases:")[0] + "burst: {factor: 1.9}\n")
    found = read_setting(root, str(path))
    assert found.policy_name == "bolder"
    assert found.service.policy.burst.factor == 1.9
    assert [pool.name for pool in found.service.pools] == ["l4", "l40s", "h100"]
    assert any("has the policy chat" in note for note in found.notes)


@pytest.mark.parametrize(
    ("policy", "stack", "service", "said"),
    [
        ("nope", "local", None, "no such policy; there is"),
        ("nope.yaml", "local", None, "nope.yaml: no such file"),
        ("training", "local", None, "workload: must be inference"),
        ("chat", "nowhere", None, "no such stack file"),
        ("chat", "local", "other", r"must have other \(got chat\)"),
    ],
)
def test_what_is_not_there_is_named(root, policy, stack, service, said):
    with pytest.raises(DocumentError, match=said):
        read_setting(root, policy, stack, service)


def test_a_wrong_policy_file_is_told_with_its_place(root, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("model: llama-3.1-8b-fp8\nburst: {factor: 0}\n")
    with pytest.raises(DocumentError, match=r"bad\.yaml:2:9: burst\.factor"):
        policy_library(root, str(path))


def test_backtest_prints_a_table_writes_a_page_and_speaks_json(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    path = tmp_path / "wave.csv"
    write(wave(), path)
    call = ["backtest", "chat", "--trace", str(path), "--peak-instances", "2", "--jobs", "1"]
    shown = CliRunner().invoke(app, [*call, "--report", str(tmp_path / "page.html")])
    assert shown.exit_code == 0, shown.output
    assert "gpu-fleet" in shown.stdout
    assert "clairvoyant fleet" in shown.stdout
    assert Path(tmp_path / "page.html").read_text().count("<section") == 3
    assert "clairvoyant fleet, keeps the SLO" in shown.stdout
    without = CliRunner().invoke(app, [*call, "--no-bound", "--format", "json"]).stdout
    assert '"contender": "gpu-fleet"' in without
    assert '"slo_clairvoyant_usd": null' in without
