"""The edge of the Lambda."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lambdas.scaler import handler, log
from lambdas.scaler.environment import EnvironmentVariableError
from scaling.decision import PoolTarget


@pytest.fixture
def handle(world, monkeypatch):
    """`handle(decide, event)` in the world's time."""
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


def test_a_failure_fails_the_invocation_after_all_were_served(world, handle, deciding, capsys):
    world.stand("chat", {"l4": 2})
    world.stand("code", {"l4": 2})
    world.put("broken", "{")
    with (
        world.board.failing("autoscaling.SetDesiredCapacity", only="chat-l4"),
        pytest.raises(handler.ServicesFailedError, match="2 of 3 services: broken: BrokenParameter; chat: Throttled"),
    ):
        handle(deciding(l4=PoolTarget(4, 100)))
    assert world.desired("code") == {"l4": 4}
    levels = {line["service_name"]: line["level"] for line in decisions(capsys.readouterr().out)}
    assert levels == {"broken": "ERROR", "chat": "ERROR", "code": "INFO"}


def test_errors_are_counted_in_the_metrics_too(world, handle, keeping, capsys):
    world.put("broken", "{")
    with pytest.raises(handler.ServicesFailedError):
        handle(keeping)
    metrics = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(metric["service"], metric["errors"]) for metric in metrics] == [("broken", [1.0])]


def test_a_run_without_services_is_a_good_run(world, handle, keeping):
    assert handle(keeping) == {"services": 0}


def test_a_run_that_is_out_of_time_says_so(world, handle, keeping):
    world.stand("chat", {"l4": 2})
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 500)
    with pytest.raises(handler.ServicesFailedError, match="chat: OutOfTime"):
        handle(keeping, context=context)


def test_a_missing_variable_is_a_clear_error(monkeypatch):
    monkeypatch.delenv("SERVICES_PATH", raising=False)
    handler.scaler.cache_clear()
    with pytest.raises(EnvironmentVariableError, match="SERVICES_PATH: must be set"):
        handler.scaler()


def test_the_handler_makes_its_own_scaler_once(world, monkeypatch):
    monkeypatch.setenv("SERVICES_PATH", "/gpu-fleet/test/services")
    monkeypatch.setenv("STATE_TABLE", "gpu-fleet-test-state")
    handler.scaler.cache_clear()
    try:
        assert handler.scaler() is handler.scaler()
        world.stand("chat", {"l4": 2})
        assert handler.handle({}, None)["services"] == 1
    finally:
        handler.scaler.cache_clear()


def test_the_handler_imports_nothing_that_the_lambda_does_not_have_or_need():
    forbidden = ["numpy", "ruamel", "pulumi", "lab", "infra", "moto", "types_boto3_autoscaling"]
    code = (
        "import sys; import lambdas.scaler.handler; "
        f"print([m for m in {forbidden!r} if any(n == m or n.startswith(m + '.') for n in sys.modules)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
