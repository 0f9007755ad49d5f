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
    """The report of one run: result, parameter, observation and state."""
    world.stand()
    world.publish_requests("l4", world.now - 80, 600)
    world.run(deciding(l4=PoolTarget(4, 300)))
    return world.reports[0]


def line(reported, now=5.0):
    result, parameter, observation, state = reported
    return log.line(result, parameter.service if parameter else None, observation, state, now)


def test_a_line_carries_reasons_numbers_targets_and_writes(reported):
    fields = json.loads(json.dumps(line(reported)))
    assert fields["service_name"] == "chat"
    assert fields["mode"] == "enforce"
    assert fields["outcome"] == "applied"
    assert fields["codes"] == ["kept"]
    assert fields["sentences"] == ["Nothing changes."]
    assert fields["numbers"] == {"kept": {"ready": 1.0}}
    assert fields["targets"]["l4"]["desired"] == 4
    assert fields["signals"]["demand_rps"] == 3.0
    assert [write["operation"] for write in fields["writes"]] == ["SetDesiredCapacity", "ModifyRule"]


def test_the_record_in_a_line_is_the_whole_evaluation(reported):
    result, parameter, observation, state = reported
    record = log.record_of(json.dumps(line(reported)))
    assert record == Record(parameter.service, observation, state, 5.0, result.decision)


def test_a_bare_record_is_read_too(reported):
    record = json.dumps(line(reported)["record"])
    assert log.record_of(record) == log.record_of(json.dumps(line(reported)))


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"record": null}', '{"record": {"decision": 1}}'])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError):
        log.record_of(text)


def test_a_long_history_is_left_out_and_the_line_says_so(reported):
    result, parameter, observation, state = reported
    days = tuple(Reading(1.23456789, 1_700_000_000.0 + 300 * i) for i in range(14 * 288 * 3))
    fields = line((result, parameter, replace(observation, history_rps=days), state))
    assert fields["record_lacks"] == ["observation.history_rps"]
    assert log.record_of(json.dumps(fields)).observation == observation
    assert len(json.dumps(fields)) < 256_000


def test_a_history_that_fits_stays(reported):
    result, parameter, observation, state = reported
    days = tuple(Reading(1.5, 1_700_000_000.0 + 300 * i) for i in range(14 * 288))
    fields = line((result, parameter, replace(observation, history_rps=days), state))
    assert "record_lacks" not in fields
    assert log.record_of(json.dumps(fields)).observation.history_rps == days


def test_infinity_is_written_as_text(reported):
    result, parameter, observation, state = reported
    decision = replace(result.decision, signals=replace(result.decision.signals, ratio=float("inf")))
    fields = line((replace(result, decision=decision), parameter, observation, state))
    assert json.loads(json.dumps(fields, allow_nan=False))["signals"]["ratio"] == "inf"
    assert log.record_of(json.dumps(fields)).decision.signals.ratio is None


def test_a_service_without_a_decision_has_a_line_with_its_faults():
    fault = Fault(ErrorCode.BROKEN_PARAMETER, "no", "GetParametersByPath")
    fields = line((Result("chat", Outcome.FAILED, faults=(fault,)), None, None, State()))
    assert fields["faults"] == [{"code": "BrokenParameter", "message": "no", "during": "GetParametersByPath"}]
    assert "record" not in fields
    assert "targets" not in fields


def test_without_a_decision_there_is_no_record(reported):
    _, parameter, _, state = reported
    assert "record" not in line((Result("chat", Outcome.FAILED), parameter, Observation({}), state))
