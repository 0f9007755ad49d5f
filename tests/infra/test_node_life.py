"""The life of an instance: its program run for real, against an emulated AWS that refuses what AWS refuses."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambdas.scaler import activities
from tests.infra.instance_world import BUSY, IDLE, InstanceWorld, end, instance_world, until

STATE = "/latest/meta-data/autoscaling/target-lifecycle-state"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[InstanceWorld]:
    with instance_world(tmp_path) as world:
        yield world


@pytest.fixture
def serving(instance: InstanceWorld) -> InstanceWorld:
    """An instance in service, with connections that the load balancer keeps until the engine closes them."""
    instance.serve()
    assert instance.state == "InService"
    lifelike = instance.cloud.lifelike
    instance.on_stop = lambda: lifelike.lifecycle.targets.finish_drain(instance.first)
    return instance


# --- the start ----------------------------------------------------------------------------------------------------


def test_an_instance_enters_service_once_its_model_answers(instance: InstanceWorld) -> None:
    instance.health, instance.tag_answers = 503, ["", ""]
    process = instance.start("lifecycle", HEARTBEAT_SECONDS="1000")
    until(process, lambda: instance.requested.count("/health") > 3)
    assert instance.actions() == []
    instance.health = 200
    until(process, lambda: instance.state == "InService")
    process.kill()
    process.wait()
    assert instance.actions() == ["complete-lifecycle-action model-answers CONTINUE"]


def test_a_hook_that_is_refused_at_first_is_completed_later(instance: InstanceWorld) -> None:
    """The image is on the AMI: the model answers before AWS waits for the hook."""
    instance.scale(0)
    with instance.lock:
        instance.cloud.client("autoscaling").set_desired_capacity(
            AutoScalingGroupName="gpu-fleet-chat-l4", DesiredCapacity=1
        )
        instance.pass_time(2)
        instance.first = list(instance.cloud.lifelike.lifecycle.members)[-1]
    assert instance.state == "Pending"
    process = instance.start("lifecycle")
    until(process, lambda: len(instance.actions(accepted=False)) > 3)
    instance.pass_time(30)
    until(process, lambda: instance.state == "InService")
    process.kill()
    process.wait()


def test_a_throttled_call_is_repeated(instance: InstanceWorld) -> None:
    instance.refused["complete-lifecycle-action"] = 45
    process = instance.start("lifecycle", LONGEST_PAUSE_SECONDS="0.01")
    until(process, lambda: instance.state == "InService")
    process.kill()
    process.wait()


def test_a_slow_load_goes_on_beyond_the_timeout(instance: InstanceWorld) -> None:
    """The hook's timeout is 20 minutes, and the weights take 50."""
    instance.health, instance.log_lines = 503, (f"loaded {i} of 30 shards" for i in itertools.count())
    process = instance.start("lifecycle")
    for _ in range(5):
        seen = len(instance.actions())
        until(process, lambda seen=seen: len(instance.actions()) > seen)
        instance.pass_time(600)
    assert instance.state == "Pending:Wait"
    instance.health = 200
    until(process, lambda: instance.state == "InService")
    process.kill()
    process.wait()
    assert set(instance.actions()[:-1]) == {"record-lifecycle-action-heartbeat model-answers"}


def test_a_launch_without_progress_is_given_up(instance: InstanceWorld) -> None:
    instance.health, instance.container = 503, False
    said = end(instance.start("lifecycle", NO_PROGRESS_SECONDS="0.3"))
    assert "no sign of progress" in said[0]["abandoned"]
    assert instance.actions()[-1] == "complete-lifecycle-action model-answers ABANDON"
    instance.pass_time(200)
    assert instance.state == "gone"
    (event,) = instance.log()
    assert event["instance"] == instance.first
    assert "no sign of progress" in event["abandoned"]


def test_a_crash_loop_is_given_up_although_it_logs(instance: InstanceWorld) -> None:
    instance.health, instance.log_lines = 503, (f"Traceback {i}" for i in itertools.count())
    process = instance.start("lifecycle", CRASHES="3", CRASH_LOOP_SECONDS="0.1")
    until(process, lambda: len(instance.actions()) > 5)
    assert instance.state == "Pending:Wait"
    instance.restarts = 3
    said = end(process)
    assert said[0]["abandoned"] == "the engine has ended 3 times before it answered"
    assert instance.stopped
    (failed,) = [a for a in instance.activities() if a["StatusCode"] == "Cancelled"]
    assert "abandoned: Lifecycle Action Completed with ABANDON Result" in failed["StatusMessage"]
    seen = activities.parse(instance.activities(), instance.cloud.now)
    assert [(error.zone, error.spot, error.booted) for error in seen.capacity_errors] == [("", None, True)]


def test_a_launch_that_goes_on_for_ever_is_given_up(instance: InstanceWorld) -> None:
    """An engine that logs each minute that it waits for its other processes is as good as dead."""
    instance.health, instance.log_lines = 503, (f"still waiting {i}" for i in itertools.count())
    said = end(instance.start("lifecycle", LAUNCH_TIMEOUT_SECONDS="0.2", NO_PROGRESS_SECONDS="100"))
    assert "not healthy after" in said[0]["abandoned"]


def test_giving_up_is_repeated_until_it_is_accepted(instance: InstanceWorld) -> None:
    instance.health, instance.container = 503, False
    instance.refused["complete-lifecycle-action"] = 5
    end(instance.start("lifecycle", NO_PROGRESS_SECONDS="0.1"))
    assert instance.actions()[-1] == "complete-lifecycle-action model-answers ABANDON"


def test_an_instance_that_leaves_before_it_served_does_not_wait(instance: InstanceWorld) -> None:
    instance.health = 503
    instance.state_answers = ["Terminated"] * 1000
    process = instance.start("lifecycle")
    until(process, lambda: bool(instance.actions(accepted=False)))
    process.kill()
    process.wait()
    assert instance.actions(accepted=False)[0] == "complete-lifecycle-action drained CONTINUE"
    assert instance.requested.count("/metrics") == 0


# --- a reboot -----------------------------------------------------------------------------------------------------


def test_after_a_reboot_the_launch_is_not_completed_again(serving: InstanceWorld) -> None:
    process = serving.start("lifecycle")
    until(process, lambda: serving.requested.count(STATE) > 5)
    process.kill()
    process.wait()
    assert [call for call in serving.calls if call.startswith("aws")] == []


def test_a_hook_that_is_over_is_given_up(serving: InstanceWorld) -> None:
    """The record of the launch is lost: refusals end after some minutes, and the instance serves on."""
    (serving.folder / "state/launched").unlink()
    process = serving.start("lifecycle", LONGEST_PAUSE_SECONDS="0.01")
    until(process, (serving.folder / "state/launched").exists)
    refusals = len(serving.actions(accepted=False))
    until(process, lambda: serving.requested.count(STATE) > 5)
    process.kill()
    process.wait()
    assert len(serving.actions(accepted=False)) == refusals == 40


# --- the end ------------------------------------------------------------------------------------------------------


def test_the_end_is_told_once_aws_waits_for_it(serving: InstanceWorld) -> None:
    """AWS deregisters first, and refuses until then. The engine is stopped, so that kept connections close."""
    serving.pages = [BUSY]
    process = serving.start("lifecycle")
    until(process, lambda: serving.requested.count(STATE) > 1)
    serving.scale(0)
    assert serving.state == "Terminating"
    seen = len(serving.requested)
    until(process, lambda: serving.requested[seen:].count("/metrics") > 5)
    assert not serving.stopped
    assert serving.actions() == []
    serving.pages = [IDLE]
    assert [line["drained"] for line in end(process) if "drained" in line] == [True]
    assert serving.stopped
    assert serving.actions()[-1] == "complete-lifecycle-action drained CONTINUE"
    assert serving.state == "gone"


def test_an_engine_whose_connections_do_not_close_waits_for_the_load_balancer(serving: InstanceWorld) -> None:
    """The hook is refused for the whole deregistration delay, and then completed."""
    serving.on_stop = lambda: None
    serving.scale(0)
    process = serving.start("lifecycle")
    until(process, lambda: len(serving.actions(accepted=False)) > 10)
    serving.pass_time(1400)
    assert serving.state == "Terminating"
    serving.pass_time(200)
    end(process)
    assert serving.actions()[-1] == "complete-lifecycle-action drained CONTINUE"


def test_a_deleted_group_ends_the_tries(serving: InstanceWorld) -> None:
    serving.on_stop = lambda: None
    serving.scale(0)
    process = serving.start("lifecycle")
    until(process, lambda: len(serving.actions(accepted=False)) > 2)
    with serving.lock:
        serving.cloud.client("autoscaling").delete_auto_scaling_group(
            AutoScalingGroupName="gpu-fleet-chat-l4", ForceDelete=True
        )
    end(process)


def test_idle_moments_between_requests_do_not_end_a_drain(serving: InstanceWorld) -> None:
    serving.pages = [IDLE, BUSY, IDLE, BUSY, IDLE, BUSY, IDLE, IDLE, IDLE]
    serving.scale(0)
    process = serving.start("lifecycle", IDLE_SECONDS="0.015")
    end(process)
    assert serving.requested.count("/metrics") >= 8


def test_a_drain_ends_at_its_limit_and_leaves_the_engine_serving(serving: InstanceWorld) -> None:
    serving.pages = [BUSY]
    serving.scale(0)
    process = serving.start("lifecycle", MAX_DRAIN_SECONDS="0.2")
    until(process, lambda: len(serving.actions(accepted=False)) > 2)
    assert not serving.stopped
    serving.pass_time(1600)
    assert [line["drained"] for line in end(process) if "drained" in line] == [False]


def test_heartbeats_keep_a_long_drain_open(serving: InstanceWorld) -> None:
    """The load balancer has let go, and a request still runs: the hook's own timeout is 10 minutes."""
    serving.pages = [BUSY]
    serving.scale(0)
    serving.pass_time(1510)
    assert serving.state == "Terminating:Wait"
    with serving.lock:  # its own program sends heartbeats here, not the emulator's
        serving.cloud.lifelike.lifecycle.members[serving.first].answers = False
    process = serving.start("lifecycle", HEARTBEAT_SECONDS="0")
    for _ in range(5):
        seen = len(serving.actions())
        until(process, lambda seen=seen: len(serving.actions()) > seen)
        serving.pass_time(400)
    assert serving.state == "Terminating:Wait"
    serving.pages = [IDLE]
    end(process)


def test_an_engine_that_does_not_answer_is_busy_for_a_while(serving: InstanceWorld) -> None:
    serving.health, serving.pages = 200, ["\x00not metrics\n"]
    serving.listening = lambda: False  # type: ignore[method-assign]
    serving.scale(0)
    process = serving.start("lifecycle", UNKNOWN_SECONDS="1000", MAX_DRAIN_SECONDS="0.3")
    until(process, lambda: "complete-lifecycle-action drained CONTINUE" in serving.actions(accepted=False))
    process.kill()
    assert '"drained": false' in process.communicate()[0]
    process = serving.start("lifecycle", UNKNOWN_SECONDS="0.1")
    said = end(process)
    assert next(line["taken_for"] for line in said if "taken_for" in line) == "idle"


def test_metrics_without_a_gauge_that_we_know_are_busy_and_told_once(serving: InstanceWorld) -> None:
    serving.pages = ["process_cpu_seconds_total 12\n"]
    serving.scale(0)
    process = serving.start("lifecycle", MAX_DRAIN_SECONDS="0.3")
    until(process, lambda: bool(serving.actions(accepted=False)))
    serving.pass_time(1600)
    said = end(process)
    assert len([line for line in said if "unknown_metrics" in line]) == 1
    assert [line["drained"] for line in said if "drained" in line] == [False]
    assert "no count of requests that we know" in serving.log()[0]["unknown_metrics"]


def test_a_stopped_engine_is_idle(serving: InstanceWorld) -> None:
    serving.container = False
    serving.scale(0)
    assert [line["drained"] for line in end(serving.start("lifecycle")) if "drained" in line] == [True]


def test_a_training_node_finishes_its_job_and_takes_no_other(serving: InstanceWorld) -> None:
    serving.scale(0)
    process = serving.start("lifecycle", WORKLOAD="training")
    until(process, lambda: serving.stopped)
    looks = len(serving.calls)
    until(process, lambda: len(serving.calls) > looks + 5)
    assert not [action for action in serving.actions() if action.startswith("complete")]
    serving.container = False
    assert [line["drained"] for line in end(process) if "drained" in line] == [True]


def test_a_job_is_not_lost_because_docker_does_not_answer(serving: InstanceWorld) -> None:
    serving.container = None
    serving.scale(0)
    process = serving.start("lifecycle", WORKLOAD="training", UNKNOWN_SECONDS="1000", MAX_DRAIN_SECONDS="1000")
    looks = len(serving.calls)
    until(process, lambda: len(serving.calls) > looks + 20)
    assert not [action for action in serving.actions(accepted=False) if action.startswith("complete")]
    process.kill()
    process.wait()
    end(serving.start("lifecycle", WORKLOAD="training", UNKNOWN_SECONDS="0.1"))


# --- a frozen engine ----------------------------------------------------------------------------------------------

HELD = "vllm:num_requests_running 3\nvllm:generation_tokens_total 100\nvllm:prompt_tokens_total 900\n"


def test_a_frozen_engine_is_replaced(serving: InstanceWorld) -> None:
    """Health is 200 and requests are held, but no counter moves. Its drain does not wait for them either."""
    serving.pages = [HELD]
    process = serving.start("lifecycle", STALL_SECONDS="0.2")
    until(process, lambda: serving.state.startswith("Terminating"))
    said = end(process)
    assert serving.stopped
    assert "none of its counters has moved" in serving.log()[0]["unhealthy"]
    assert [line["drained"] for line in said if "drained" in line] == [False]
    assert serving.actions()[-1] == "complete-lifecycle-action drained CONTINUE"
    serving.pass_time(30)
    with serving.lock:
        assert len(serving.cloud.client("autoscaling").describe_auto_scaling_instances()["AutoScalingInstances"]) == 1


def test_a_refused_report_of_a_frozen_engine_is_repeated(serving: InstanceWorld) -> None:
    serving.pages, serving.refused["set-instance-health"] = [HELD], 3
    process = serving.start("lifecycle", STALL_SECONDS="0.1")
    until(process, lambda: serving.state == "Terminating")
    process.kill()
    process.wait()
    assert len(serving.log()) == 1


@pytest.mark.parametrize(
    ("page", "environment"),
    [
        (HELD.replace("running 3", "running 0"), {}),
        ("vllm:num_requests_running 3\n", {}),
        ("jobs_running 1\nrequests_finished_total 3\n", {"WORKLOAD": "training"}),
    ],
    ids=["idle", "without counters", "a training worker"],
)
def test_an_engine_that_may_be_working_is_left_alone(serving: InstanceWorld, page: str, environment: dict) -> None:
    serving.pages = [page]
    process = serving.start("lifecycle", STALL_SECONDS="0", **environment)
    polls = len(serving.requested)
    until(process, lambda: len(serving.requested) > polls + 40)
    process.kill()
    process.wait()
    assert serving.state == "InService"
