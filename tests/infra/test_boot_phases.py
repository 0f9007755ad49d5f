"""The phases of a boot, timed on the instance and published once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.instance.node.boot_phases import PHASES, durations
from infra.instance.node.engine_metrics import ENGINES
from tests.infra.instance_world import GROUP, InstanceWorld, instance_world, until

LOG = """\
{0}.000000000Z INFO 01-02 [model_runner.py] Starting to load model
{1}.123456789Z (Worker_TP1) INFO 01-02 [gpu_model_runner.py] Model loading took 8.5 GiB memory and 19.1 seconds
{2}.987654321Z (Worker_TP0) INFO 01-02 [gpu_model_runner.py] Model loading took 8.5 GiB memory and 20.2 seconds
"""


def test_the_phases_follow_one_another_and_add_up_to_the_whole():
    ends = {"launch": 100.0, "running": 130.0, "agent": 190.0, "image": 500.0, "weights": 589.0, "engine": 695.0}
    seconds = durations(ends)
    assert seconds == {"running": 30.0, "agent": 60.0, "image": 310.0, "weights": 89.0, "engine": 106.0}
    assert sum(seconds.values()) == ends["engine"] - ends["launch"]


def test_a_phase_whose_end_is_unknown_counts_to_the_one_after_it():
    ends = {"launch": 100.0, "running": None, "agent": 190.0, "image": 500.0, "weights": None, "engine": 695.0}
    assert durations(ends) == {"agent": 90.0, "image": 310.0, "engine": 195.0}


def test_without_the_time_of_the_launch_the_phases_begin_with_the_kernel():
    ends = {"launch": None, "running": 130.0, "agent": 190.0, "image": 500.0, "weights": 600.0, "engine": 695.0}
    assert durations(ends) == {"agent": 60.0, "image": 310.0, "weights": 100.0, "engine": 95.0}


def test_a_clock_that_was_set_back_gives_no_negative_phase():
    ends = {"launch": 100.0, "running": 90.0, "agent": 190.0, "image": 500.0, "weights": 450.0, "engine": 695.0}
    assert durations(ends) == {"agent": 90.0, "image": 310.0, "engine": 195.0}


@pytest.fixture
def booting(tmp_path: Path) -> Iterator[InstanceWorld]:
    """An instance that was launched 600 s ago, whose image was pulled 400 s ago, and which loaded its weights since."""
    with instance_world(tmp_path) as world:
        (tmp_path / "now").touch()  # by the real clock, which its program has
        now = (tmp_path / "now").stat().st_mtime
        world.launched_at = datetime.fromtimestamp(now - 600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        (tmp_path / "state").mkdir()
        for mark, ago in (("running", 570), ("agent", 510), ("image", 200)):
            (tmp_path / "state" / mark).touch()
            os.utime(tmp_path / "state" / mark, (now - ago, now - ago))
        stamps = [datetime.fromtimestamp(now - ago, UTC).strftime("%Y-%m-%dT%H:%M:%S") for ago in (180, 101, 100)]
        world.whole_log = LOG.format(*stamps)
        yield world


def published(world: InstanceWorld) -> dict[str, list[float]]:
    """Values in CloudWatch by phase."""
    cloudwatch, found = world.cloud.client("cloudwatch"), {}
    start, end = (datetime.fromtimestamp(time.time() + seconds, UTC) for seconds in (-600, 600))
    for phase in PHASES:
        answer = cloudwatch.get_metric_statistics(
            Namespace="GpuFleet", MetricName="boot_seconds", Period=60, Statistics=["Sum", "SampleCount"],
            Dimensions=[{"Name": "AutoScalingGroupName", "Value": GROUP}, {"Name": "phase", "Value": phase}],
            StartTime=start, EndTime=end,
        )  # fmt: skip
        if answer["Datapoints"]:
            found[phase] = [point["Sum"] / point["SampleCount"] for point in answer["Datapoints"]]
            assert sum(point["SampleCount"] for point in answer["Datapoints"]) == 1
    return found


def enter_service(world: InstanceWorld, **environment: str) -> None:
    process = world.start("lifecycle", **environment)
    until(process, lambda: any("put-log-events" in call for call in world.calls))
    until(process, lambda: any("put-metric-data" in call for call in world.calls))
    polls = len(world.requested)
    until(process, lambda: len(world.requested) > polls + 10)
    process.kill()
    process.wait()


def test_an_instance_publishes_its_phases_once_when_it_enters_service(booting: InstanceWorld) -> None:
    enter_service(booting, ENGINE="vllm")
    seconds = published(booting)
    assert {phase: values[0] for phase, values in seconds.items()} == {
        "running": pytest.approx(30, abs=1.5),
        "agent": pytest.approx(60, abs=0.2),
        "image": pytest.approx(310, abs=0.2),
        "weights": pytest.approx(100, abs=1.5),
        "engine": pytest.approx(100, abs=8),
    }
    assert len([call for call in booting.calls if "put-metric-data" in call]) == 1
    assert booting.log()[0]["boot_seconds"].keys() == set(PHASES)


def test_an_engine_that_does_not_log_its_weights_has_both_in_one_phase(booting: InstanceWorld) -> None:
    """The image is the user's own: no engine is known."""
    enter_service(booting)
    seconds = published(booting)
    assert "weights" not in seconds
    assert seconds["engine"][0] == pytest.approx(200, abs=8)


def test_metadata_that_does_not_tell_the_launch_leaves_its_phase_out(booting: InstanceWorld) -> None:
    booting.launched_at = ""
    enter_service(booting, ENGINE="vllm")
    assert published(booting).keys() == set(PHASES) - {"running"}


def test_a_refused_metric_does_not_keep_an_instance_from_serving(booting: InstanceWorld) -> None:
    booting.refused["put-metric-data"] = 1
    enter_service(booting)
    assert booting.state == "InService"
    assert published(booting) == {}


def test_after_a_reboot_nothing_is_published_again(booting: InstanceWorld) -> None:
    booting.serve()
    process = booting.start("lifecycle")
    polls = len(booting.requested)
    until(process, lambda: len(booting.requested) > polls + 10)
    process.kill()
    process.wait()
    assert not [call for call in booting.calls if "put-metric-data" in call]


def test_the_engines_that_log_their_weights_are_known():
    assert {engine.name for engine in ENGINES if engine.weights_loaded} == {"vllm", "sglang", "tgi"}
