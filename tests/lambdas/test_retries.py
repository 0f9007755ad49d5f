"""Retries by botocore: three attempts for errors that may pass, with time limits."""

from __future__ import annotations

import botocore.endpoint
import pytest

from gpu_fleet.emulator.faults import api_call_will_fail, api_call_will_time_out
from gpu_fleet.scaling.decision import PoolTarget
from lambdas.scaler.clients import CONFIG


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Skip botocore's pauses between attempts, which its own tests cover."""
    monkeypatch.setattr(botocore.endpoint.time, "sleep", lambda _: None)


@pytest.fixture
def more(deciding):
    return deciding(l4=PoolTarget(4, 100))


@pytest.mark.parametrize("times", [1, 2])
def test_a_throttled_write_is_retried(world, more, times):
    world.stand(pools={"l4": 2})
    with api_call_will_fail("autoscaling", "SetDesiredCapacity", "Throttling", times=times):
        assert world.run(more)["chat"].outcome == "applied"
    assert world.desired() == {"l4": 4}


def test_a_write_that_stays_throttled_fails_after_three_attempts(world, more):
    world.stand(pools={"l4": 2})
    with api_call_will_fail("autoscaling", "SetDesiredCapacity", "Throttling", times=None) as fault:
        result = world.run(more)["chat"]
    assert fault.fired == 3
    assert [fault.code for fault in result.faults] == ["Throttled"]


def test_an_invalid_call_is_not_retried(world, more):
    world.stand(pools={"l4": 2})
    with api_call_will_fail("autoscaling", "SetDesiredCapacity", "ValidationError", times=None) as fault:
        result = world.run(more)["chat"]
    assert fault.fired == 1
    assert [fault.code for fault in result.faults] == ["AwsError"]


def test_a_service_that_does_not_answer_is_unreachable_and_stops_no_other(world, more):
    world.stand("chat", {"l4": 2})
    with api_call_will_time_out("cloudwatch", "GetMetricData", times=None):
        result = world.run(more)["chat"]
    assert [fault.code for fault in result.faults] == ["Unreachable"]
    assert result.outcome == "applied"


def test_one_call_can_take_no_more_than_a_third_of_a_minute():
    attempts = CONFIG.retries["total_max_attempts"]
    assert attempts * (CONFIG.connect_timeout + CONFIG.read_timeout) <= 21
