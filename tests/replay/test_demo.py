from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gpu_fleet.cli.app import app
from gpu_fleet.emulator import EmbeddedCloud
from gpu_fleet.replay.demo import DemoOptions, DemoResult, play, prepare
from gpu_fleet.replay.demo_traffic import TrafficOptions
from gpu_fleet.replay.static_fleet import static_fleet
from gpu_fleet.reports.demo_page import comparison, demo_page, summary
from gpu_fleet.reports.demo_picture import demo_picture
from gpu_fleet.traffic import hour, write

MINUTES = 9
OPTIONS = DemoOptions(traffic=TrafficOptions(peak_instances=4, minutes=MINUTES), boot_seconds=60, seed=3)


@pytest.fixture(scope="module")
def outcome(root: Path, small_package: None) -> DemoResult:
    """A few minutes of the generated hour, with boots of a minute."""
    return play(prepare(root, OPTIONS))


@pytest.fixture
def gpu_fleet(root: Path):
    """The command line: exit code, what was printed, and what went to stderr."""

    def run(*arguments: str):
        return CliRunner().invoke(app, ["demo", "--root", str(root), *arguments])

    return run


def test_the_scaler_runs_each_minute_and_every_request_is_accounted_for(outcome):
    ours = outcome.replay
    assert len([run for run in ours.invocations if run.trigger == "schedule"]) == MINUTES - 1
    assert ours.failures == ()
    assert ours.requests == outcome.static.requests == len(outcome.plan.traffic.trace)
    assert sum(minute.ended for minute in ours.minutes) <= ours.requests
    assert sum(ours.codes.values()) == sum(len(one.codes) for one in ours.decisions)


def test_the_same_seed_gives_the_same_run(outcome, root, small_package):
    again = play(prepare(root, OPTIONS))
    assert demo_page(again) == demo_page(outcome)


def test_static_peak_is_filled_in_its_busiest_minute_and_not_much_more(outcome):
    plan, static = outcome.plan, outcome.static
    pools = {pool.name: pool for pool in plan.service.pools}
    peak = plan.traffic.peak_rps
    assert static.count * pools[static.pool].throughput_rps * 0.8 >= peak
    assert (static.count - 1) * pools[static.pool].throughput_rps * 0.8 < peak
    hours = plan.traffic.trace.span_seconds / 3600
    assert static.cost_usd == pytest.approx(static.count * pools[static.pool].on_demand_usd_per_hour * hours)
    assert static_fleet(plan.service, plan.hardware, plan.traffic, plan.options.seed) == static


def test_more_instances_at_the_peak_are_more_traffic(root):
    small, large = (
        prepare(root, DemoOptions(traffic=TrafficOptions(peak_instances=n, minutes=50))).traffic for n in (3, 9)
    )
    assert large.peak_rps == pytest.approx(3 * small.peak_rps, rel=0.1)


def test_traffic_can_be_left_alone_and_long_traces_are_cut_and_say_so(root, tmp_path):
    trace = hour(3.0, seed=1).sample(1)
    write(trace, tmp_path / "own.csv")
    options = TrafficOptions(trace=tmp_path / "own.csv", peak_instances=0, minutes=10)
    traffic = prepare(root, DemoOptions(traffic=options)).traffic
    assert traffic.scaled_by is None
    assert traffic.left_out_minutes == 50
    assert len(traffic.trace) == sum(trace.at_seconds - trace.at_seconds[0] < 600)


def test_another_policy_reaches_the_scaler(root, small_package, tmp_path):
    policy = tmp_path / "shy.yaml"
    policy.write_text((root / "policies/chat.yaml").read_text().replace("cases:", "mode: shadow\ncases:"))
    traffic = TrafficOptions(peak_instances=4, minutes=6)
    played = play(prepare(root, DemoOptions(policy=str(policy), traffic=traffic, boot_seconds=60)))
    assert {one.outcome for one in played.replay.decisions} == {"shadow"}
    desired = {tuple(pool.desired for pool in minute.pools.values()) for minute in played.replay.minutes}
    assert len(desired) == 1


def test_the_command_shows_what_it_creates_and_ends_with_table_and_report(gpu_fleet, small_package, tmp_path):
    report, picture = tmp_path / "sub" / "demo.html", tmp_path / "demo.svg"
    done = gpu_fleet("--minutes", "3", "--peak-instances", "2", "--report", str(report), "--picture", str(picture))
    assert done.exit_code == 0, done.output
    for text in ("gpu-fleet:index:Network", "aws:autoscaling:Group", "created", "Traffic:", "within the SLO"):
        assert text in done.output
    assert "decisions by reason code" in done.output
    assert str(report) in done.output
    assert report.read_text().startswith("<!doctype html>")
    assert picture.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trace", "missing.csv"], "missing.csv: cannot be read: no such file or directory"),
        (["--stack", "missing"], "Pulumi.missing.yaml: no such stack file; there is dev, local, prod, vertical"),
        (["--policy", "missing"], "--policy: must be one of batch, chat, chat-in-place, training (got missing)"),
        (["--policy", "missing.yaml"], "missing.yaml: no such file"),
        (["--policy", "training"], "--policy: must be of a workload that serves requests (got training)"),
        (["--service", "missing"], "--service: must be one that serves requests: chat (got missing)"),
        (["--stack", "prod", "--service", "fine-tuning"], "--service: must be one that serves requests: chat"),
        (["--picture", "demo.gif"], "demo.gif: must end in .svg or .png"),
        (["--report", "/dev/null/demo.html"], "/dev/null/demo.html: cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_creates_nothing(gpu_fleet, monkeypatch, arguments, message):
    monkeypatch.setattr(EmbeddedCloud, "open", lambda _: pytest.fail("something was created"))
    done = gpu_fleet("--report", "/dev/full", *arguments)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:40,1,1\n",
            "goes backwards",
        ),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,many,1\n", "ContextTokens"),
        (
            "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47,1,1\n",
            "at least a minute",
        ),
        ("", ""),
    ],
)
def test_a_broken_trace_names_its_file_and_creates_nothing(gpu_fleet, monkeypatch, tmp_path, text, message):
    monkeypatch.setattr(EmbeddedCloud, "open", lambda _: pytest.fail("something was created"))
    trace = tmp_path / "broken.csv"
    trace.write_text(text)
    done = gpu_fleet("--trace", str(trace), "--report", str(tmp_path / "demo.html"))
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(str(trace))
    assert message in done.stderr


def test_the_summary_says_what_happened(outcome):
    text = summary(outcome)
    assert f"ran {len(outcome.replay.invocations)} times" in text
    assert f"{outcome.replay.slo_attainment:.2%}" in text
    assert "No request was lost." in text
    assert {row.measure for row in comparison(outcome)} >= {"within the SLO", "cost", "GPU hours", "requests lost"}


def test_the_picture_is_drawn_without_a_browser(outcome):
    svg = demo_picture(outcome, ".svg").decode()
    assert "Demand and capacity" in svg
    assert svg.count("<path") > 10
    assert len(svg) < 300_000
    assert demo_picture(outcome, ".png").startswith(b"\x89PNG")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_draws_in_a_browser_and_asks_nobody(outcome, tmp_path, scheme):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs chromium on the PATH (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    path = tmp_path / "demo.html"
    path.write_text(demo_page(outcome), encoding="utf-8")
    requested: list[str] = []
    messages: list[str] = []
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=chromium, args=flags)
        tab = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme=scheme).new_page()
        tab.on("request", lambda request: requested.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.goto(path.as_uri())
        tab.wait_for_function("document.documentElement.dataset.charts !== undefined")
        assert tab.evaluate("document.documentElement.dataset.charts") == "6/6"
        for number in range(6):
            shapes = tab.locator(f"#chart-{number} svg [class*=mark-] path")
            assert shapes.count() > 0, number
        marks = tab.locator("#chart-5 svg .mark-symbol path")
        assert marks.count() == sum(len(one.codes) for one in outcome.replay.decisions)
        marks.first.hover()
        tab.locator("#vg-tooltip-element").wait_for(state="visible")
        shown = tab.locator("#vg-tooltip-element").inner_text()
        assert any(sentence in shown for one in outcome.replay.decisions for sentence in one.sentences)
        text = tab.inner_text("main")
        browser.close()
    assert [url for url in requested if not url.startswith(("file://", "data:", "blob:"))] == []
    assert messages == []
    assert summary(outcome) in text
    assert "SLO" in text
