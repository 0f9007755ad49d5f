"""The decision log."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation, Reading
from gpu_fleet.scaling.record import Record
from gpu_fleet.scaling.state import State
from lambdas.scaler import log
from lambdas.scaler.result import ErrorCode, Fault, Outcome, Result


@pytest.fixture
def reported(world, deciding):
    """What one run tells: result, parameter, observation and state."""
    world.stand()
    world.publish_requests("l4", world.now - 80, 600)
    world.run(deciding(l4=PoolTarget(4, 300)))
    return world.reports[0]


def line(reported, now=5.0):
    result, parameter, observation, state = reported
    return log.line(result, parameter.service if parameter else None, observation, state, now)


def test_a_line_carries_reasons_numbers_targets_and_writes(reported):
    told = json.loads(json.dumps(line(reported)))
    assert told["service_name"] == "chat"
    assert told["mode"] == "enforce"
    assert told["outcome"] == "applied"
    assert told["codes"] == ["kept"]
    assert told["sentences"] == ["Nothing changes."]
    assert told["numbers"] == {"kept": {"ready": 1.0}}
    assert told["targets"]["l4"]["desired"] == 4
    assert told["signals"]["demand_rps"] == 3.0
    assert [write["operation"] for write in told["writes"]] == ["SetDesiredCapacity", "ModifyRule"]


def test_the_record_in_a_line_is_the_whole_evaluation(reported):
    result, parameter, observation, state = reported
    record = log.record_of(json.dumps(line(reported)))
    assert record == Record(parameter.service, observation, state, 5.0, result.decision)


def test_a_bare_record_is_read_too(reported):
    record = json.dumps(line(reported)["record"])
    assert log.record_of(record) == log.record_of(json.dumps(line(reported)))


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"record": null}', '{"record": {"decision": 1}}'])
def test_what_is_no_line_is_refused(text):
    with pytest.raises(ValueError):
        log.record_of(text)


def test_a_long_history_is_left_out_and_said(reported):
    result, parameter, observation, state = reported
    days = tuple(Reading(1.23456789, 1_700_000_000.0 + 300 * i) for i in range(14 * 288 * 3))
    told = line((result, parameter, replace(observation, history_rps=days), state))
    assert told["record_lacks"] == ["observation.history_rps"]
    assert log.record_of(json.dumps(told)).observation == observation
    assert len(json.dumps(told)) < 256_000


def test_a_history_that_fits_stays_so_that_the_decision_can_be_made_again(reported):
    result, parameter, observation, state = reported
    days = tuple(Reading(1.5, 1_700_000_000.0 + 300 * i) for i in range(14 * 288))
    told = line((result, parameter, replace(observation, history_rps=days), state))
    assert "record_lacks" not in told
    assert log.record_of(json.dumps(told)).observation.history_rps == days


def test_infinity_does_not_break_a_line(reported):
    result, parameter, observation, state = reported
    endless = replace(result.decision, signals=replace(result.decision.signals, ratio=float("inf")))
    told = line((replace(result, decision=endless), parameter, observation, state))
    assert json.loads(json.dumps(told, allow_nan=False))["signals"]["ratio"] == "inf"
    assert log.record_of(json.dumps(told)).decision.signals.ratio is None


def test_a_service_that_was_not_decided_on_is_told_with_its_faults():
    fault = Fault(ErrorCode.BROKEN_PARAMETER, "no", "GetParametersByPath")
    told = line((Result("chat", Outcome.FAILED, faults=(fault,)), None, None, State()))
    assert told["faults"] == [{"code": "BrokenParameter", "message": "no", "during": "GetParametersByPath"}]
    assert "record" not in told
    assert "targets" not in told


def test_an_observation_alone_makes_no_record(reported):
    _, parameter, _, state = reported
    assert "record" not in line((Result("chat", Outcome.FAILED), parameter, Observation({}), state))
