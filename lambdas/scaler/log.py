"""The log: one JSON line for each decision and for each of EC2's notices about an instance of the stack.

A decision's line has fields to search for, and the record from which the decision can be computed again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from gpu_fleet.scaling import record
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.record import Record
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State
from lambdas.scaler.notices import SENTENCES, Answered
from lambdas.scaler.result import Result

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

MAX_RECORD_BYTES = 200_000
"""A log event holds 256 KB: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/cloudwatch_limits_cwl.html"""

MESSAGE = "decision"
NOTICE = "notice"


def write(
    logger: Logger, result: Result, service: Service | None, observation: Observation | None, state: State, now: float
) -> None:
    """Log one service's turn, as an error if something failed."""
    fields = line(result, service, observation, state, now)
    (logger.error if result.failed else logger.info)(MESSAGE, extra=fields)


def write_notice(logger: Logger, answered: Answered, now: float) -> None:
    """Log the answer to EC2's notice about an instance, as an error if something failed."""
    fields = notice_line(answered, now)
    (logger.error if answered.result.failed else logger.info)(NOTICE, extra=fields)


def notice_line(answered: Answered, now: float) -> dict[str, Any]:
    """Return the fields of a notice's line. Fields that a decision also has keep their names."""
    return {
        **_outcome_fields(answered.result, answered.parameter.service, now),
        "notice": answered.notice.kind.value,
        "instance": answered.notice.instance_id,
        "pool": answered.pool,
        "codes": [answered.verdict.value],
        "sentences": [SENTENCES[answered.verdict]],
    }


def _outcome_fields(result: Result, service: Service | None, now: float) -> dict[str, Any]:
    return {
        "service_name": result.service,
        "mode": service.policy.mode.value if service else None,
        "outcome": result.outcome.value,
        "at": now,
        "writes": [asdict(write) for write in result.writes],
        "faults": [asdict(fault) for fault in result.faults],
    }


def line(
    result: Result, service: Service | None, observation: Observation | None, state: State, now: float
) -> dict[str, Any]:
    """Return the fields of a decision's line. All values are plain JSON; infinity and NaN become text."""
    fields = _outcome_fields(result, service, now)
    decision = result.decision
    if decision is not None:
        fields |= {
            "codes": list(decision.codes),
            "sentences": [reason.sentence for reason in decision.reasons],
            "numbers": {reason.code: dict(reason.numbers) for reason in decision.reasons if reason.numbers},
            "signals": asdict(decision.signals),
            "targets": {pool: asdict(target) for pool, target in decision.targets.items()},
            "held": decision.held,
        }
    fields = _finite(fields)
    if decision is not None and observation is not None and service is not None:
        fields |= _record_fields(Record(service, observation, state, now, decision))
    return fields


def record_of(text: str | bytes) -> Record:
    """Return the record in one line of the log (or a bare record). Raises ValueError if there is none."""
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not a line of the decision log: {error}") from error
    recorded = parsed.get("record", parsed) if isinstance(parsed, dict) else None
    if not recorded or "decision" not in recorded:
        raise ValueError("not a line of the decision log: has no key record")
    return record.load(Record, json.dumps(recorded))


def _record_fields(evaluation: Record) -> dict[str, Any]:
    text = record.dump(evaluation)
    if len(text) <= MAX_RECORD_BYTES:
        return {"record": json.loads(text)}
    # Only the history can be this long: 14 days of 5-minute readings are 4032, about 150 KB.
    short = record.dump(replace(evaluation, observation=replace(evaluation.observation, history_rps=())))
    if len(short) <= MAX_RECORD_BYTES:
        return {"record": json.loads(short), "record_lacks": ["observation.history_rps"]}
    return {"record_lacks": ["everything"]}


def _finite(value: Any) -> Any:
    """Replace non-finite numbers by text: JSON has no infinity, which is R of a service without instances."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case Mapping():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case _:
            return value
