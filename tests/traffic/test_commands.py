"""`gpu-fleet trace` and `gpu-fleet thresholds` as a user calls them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.cli.trace import sparkline
from gpu_fleet.traffic import RateTrace, Trace, generate, read, write


@pytest.fixture
def call():
    def _call(*arguments, code: int = 0):
        outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert outcome.exit_code == code, outcome.output
        return outcome

    return _call


@pytest.fixture(scope="module")
def week(tmp_path_factory):
    path = tmp_path_factory.mktemp("trace") / "week.csv"
    write(generate(seed=1), path)
    return path


def test_describe_shows_the_bound_and_the_rhythm(call, week):
    text = " ".join(call("trace", "describe", week).stdout.split())
    assert "saving that no autoscaler can exceed" in text
    assert "same time last day correlation 0.8" in text
    assert "strong" in text


def test_describe_as_json_holds_every_figure(call, week):
    figures = json.loads(call("trace", "describe", week, "--format", "json").stdout)
    assert figures["most_saving"] == pytest.approx(
        1 - figures["peaks"][0]["mean_rps"] / figures["peaks"][0]["peak_rps"]
    )
    assert figures["rhythms"]["day"] > 0.8


@pytest.mark.parametrize("name", ["trace describe", "thresholds --trace"])
def test_a_broken_trace_is_refused_with_its_place_and_exit_code_1(call, tmp_path, name):
    path = tmp_path / "bad.csv"
    path.write_text("t_sec,rps\n0,1\n60,x\n")
    outcome = call(*name.split(), path, code=1)
    assert f"{path}:3:4: rps: must be a number" in outcome.stderr
    assert "Traceback" not in outcome.output


def test_a_report_is_written_in_addition_to_the_table(call, week, tmp_path):
    page = tmp_path / "new" / "page.html"
    call("trace", "describe", week, "--report", page)
    assert page.read_text().count("<section") >= 3


def test_thresholds_prints_a_recommendation_and_uses_the_policys_target(call, week, tmp_path, root, monkeypatch):
    monkeypatch.chdir(root)
    text = call("thresholds", "--trace", week, "--policy", "chat", "--report", tmp_path / "t.html").stdout
    assert "of requests over capacity" in text
    assert "The policy's" in text
    figures = json.loads(call("thresholds", "--trace", week, "--attainment", "0.9", "--format", "json").stdout)
    assert figures["target"] == pytest.approx(0.1)
    assert figures["recommended"]["over_high"] <= 0.1


def test_thresholds_as_json_is_valid_without_a_recommendation(call, tmp_path):
    path = tmp_path / "spikes.csv"
    values = np.tile([0.0] * 20 + [10.0] * 5, 20)
    write(RateTrace("spikes", np.arange(500) * 60.0, values, 60.0), path)
    figures = json.loads(call("thresholds", "--trace", path, "--format", "json").stdout)
    assert figures["recommended"] is None
    assert figures["plain_low"] is None


def test_a_trace_too_short_for_the_lead_time_is_refused(call, tmp_path):
    path = tmp_path / "short.csv"
    write(RateTrace("short", np.arange(5) * 60.0, np.ones(5), 60.0), path)
    assert f"{path}: short: is 300 s long" in call("thresholds", "--trace", path, code=1).stderr


def test_a_missing_policy_is_named(call, week):
    outcome = call("thresholds", "--trace", week, "--policy", "nope.yaml", code=1)
    assert "nope.yaml" in outcome.stderr


def test_generated_files_can_be_read(call, tmp_path):
    rates, requests = tmp_path / "a.csv", tmp_path / "b.csv"
    call("trace", "generate", "-o", rates, "--days", 1, "--peak-rps", 5)
    assert read(rates).rps.max() == pytest.approx(5)
    call("trace", "generate", "-o", requests, "--hour", "--requests", "--peak-rps", 3, "--seed", 4)
    assert isinstance(read(requests), Trace)


def test_generate_names_the_invalid_option(call, tmp_path):
    path = tmp_path / "a.csv"
    assert (
        "--night-share: must be from 0 to 1" in call("trace", "generate", "-o", path, "--night-share", 3, code=1).stderr
    )
    assert not path.exists()


def test_the_formats_are_listed(call):
    assert "TIMESTAMP,ContextTokens,GeneratedTokens" in call("trace", "formats").stdout


def test_a_sparkline_keeps_a_lone_peak():
    rps = np.ones(1000)
    rps[777] = 100
    line = sparkline(RateTrace("t", np.arange(1000) * 60.0, rps, 60.0), 50)
    assert len(line) == 50
    assert line[38] == "█"
    assert line.count("█") == 1


def test_a_sparkline_of_silence_is_flat():
    assert set(sparkline(RateTrace("t", np.arange(10) * 60.0, np.zeros(10), 60.0), 50)) == {"▁"}


def test_gaps_can_be_refused_from_the_command_line(call, tmp_path):
    path = tmp_path / "gappy.csv"
    path.write_text("t_sec,rps\n0,1\n60,2\n180,4\n")
    assert "1 missing step" in call("trace", "describe", path).stdout
    assert f"{path}:4:1: t_sec: a gap of 60 s" in call("trace", "describe", path, "--gaps", "refuse", code=1).stderr
