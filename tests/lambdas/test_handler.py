"""The Lambda's entry point."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from gpu_fleet.scaling.decision import PoolTarget
from lambdas.scaler import handler, log
from lambdas.scaler.environment import EnvironmentVariableError


@pytest.fixture
def handle(world, monkeypatch):
    """`handle(decide, event)`: call the handler at the world's time."""
    monkeypatch.setattr(handler.time, "time", lambda: world.now)

    def run(decide, event=None, context=None):
        monkeypatch.setattr(handler, "scaler", lambda: world.scaler(decide))
        return handler.handle(event or {}, context)

    return run


def decisions(text: str) -> list[dict]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [line for line in lines if line.get("message") == log.MESSAGE]


def test_a_run_counts_its_outcomes_and_logs_one_line_a_service(world, handle, deciding, capsys):
    world.stand("chat", {"l4": 2})
    world.stand("code", {"l4": 4})
    assert handle(deciding(l4=PoolTarget(4, 100))) == {"services": 2, "applied": 1, "unchanged": 1}
    lines = decisions(capsys.readouterr().out)
    assert {line["service_name"]: line["level"] for line in lines} == {"chat": "INFO", "code": "INFO"}
    assert log.record_of(json.dumps(lines[0])).now == world.now


def test_a_failed_service_does_not_fail_the_run_and_the_reply_names_it(world, handle, deciding, capsys):
    """A failed invocation would become a dead letter, though nothing was lost."""
    world.stand("chat", {"l4": 2})
    world.stand("code", {"l4": 2})
    world.put_parameter("broken", "{")
    with world.board.failing("autoscaling.SetDesiredCapacity", only="chat-l4"):
        reply = handle(deciding(l4=PoolTarget(4, 100)))
    assert reply == {
        "services": 3, "applied": 1, "failed": 2, "faults": {"broken": ["BrokenParameter"], "chat": ["Throttled"]},
    }  # fmt: skip
    assert world.desired("code") == {"l4": 4}
    levels = {line["service_name"]: line["level"] for line in decisions(capsys.readouterr().out)}
    assert levels == {"broken": "ERROR", "chat": "ERROR", "code": "INFO"}


def metrics(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines() if '"_aws"' in line]


def test_a_failure_shows_in_the_metrics_of_its_service_and_of_the_stack(world, handle, keeping, capsys):
    """This includes a broken parameter, even of a service for which the stack has no alarm."""
    world.put_parameter("broken", "{")
    handle(keeping)
    of_service, of_run = metrics(capsys.readouterr().out)
    assert (of_service["stack"], of_service["service"], of_service["errors"]) == ("gpu-fleet-test", "broken", [1.0])
    assert of_run["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["stack"]]
    assert (of_run["stack"], of_run["failed_services"]) == ("gpu-fleet-test", [1.0])


def test_a_run_without_failures_publishes_a_zero(world, handle, keeping, capsys):
    """A zero returns an alarm to OK; missing data does not."""
    world.stand("chat", {"l4": 2})
    handle(keeping)
    assert metrics(capsys.readouterr().out)[-1]["failed_services"] == [0.0]


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException"])
def test_a_run_that_cannot_read_the_services_is_a_failed_invocation(world, handle, keeping, code):
    world.stand("chat", {"l4": 2})
    with world.board.failing("ssm.GetParametersByPath", code), pytest.raises(ClientError, match=code):
        handle(keeping)


def test_a_run_without_services_succeeds(world, handle, keeping):
    assert handle(keeping) == {"services": 0}


def test_a_run_out_of_time_names_the_services_it_did_not_reach(world, handle, keeping):
    world.stand("chat", {"l4": 2})
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 500)
    assert handle(keeping, context=context)["faults"] == {"chat": ["OutOfTime"]}


def test_a_missing_variable_is_a_clear_error(monkeypatch):
    monkeypatch.delenv("SERVICES_PATH", raising=False)
    handler.scaler.cache_clear()
    with pytest.raises(EnvironmentVariableError, match="SERVICES_PATH: must be set"):
        handler.scaler()


def test_the_handler_makes_its_scaler_once(world, monkeypatch):
    monkeypatch.setenv("SERVICES_PATH", "/gpu-fleet/test/services")
    monkeypatch.setenv("STATE_TABLE", "gpu-fleet-test-state")
    monkeypatch.setenv("STACK", "gpu-fleet-test")
    handler.scaler.cache_clear()
    try:
        assert handler.scaler() is handler.scaler()
        world.stand("chat", {"l4": 2})
        assert handler.handle({}, None)["services"] == 1
    finally:
        handler.scaler.cache_clear()


def test_the_handler_imports_nothing_that_the_lambda_does_not_have_or_need():
    forbidden = ["numpy", "ruamel", "pulumi", "gpu_fleet.config", "infra", "moto", "types_boto3_autoscaling"]
    code = (
        "import sys; import lambdas.scaler.handler; "
        f"print([m for m in {forbidden!r} if any(n == m or n.startswith(m + '.') for n in sys.modules)])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"
