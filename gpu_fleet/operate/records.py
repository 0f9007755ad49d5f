"""Decision records as users have them: a file with one record, or JSON lines of a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.yaml_files import read_text
from gpu_fleet.scaling import record
from gpu_fleet.scaling.record import Record


def read_records(path: Path) -> list[Record]:
    """Every decision record of a file, in its order.

    The file may be one record, JSON lines of the scaler's log (a record alone, or under `record`; whatever stands
    before the first brace is a time stamp of `aws logs tail`), or what `aws logs filter-log-events` prints. Lines
    without a decision are passed over. Raises DocumentError with every line that is broken, and for a file without any
    record.
    """
    text = read_text(path, str(path))
    whole = _object(text)
    messages = list(enumerate(text.splitlines(), 1))
    if whole is not None:
        events = whole.get("events")
        messages = [(1, text)]
        if isinstance(events, list):
            messages = [
                (i, str(event.get("message", ""))) for i, event in enumerate(events, 1) if isinstance(event, dict)
            ]
    lines: list[tuple[int, dict[str, Any]]] = []
    problems: list[Problem] = []
    for number, message in messages:
        start = message.find("{")
        if start < 0:
            continue
        value = _object(message[start:])
        if value is None:
            problems.append(Problem(str(path), number, start + 1, "", "must be one JSON object to a line"))
        else:
            lines.append((number, value))
    if problems:
        raise DocumentError(problems)
    records: list[Record] = []
    for number, value in lines:
        if value.get("record_lacks") == ["everything"]:
            problems.append(Problem(str(path), number, 1, "", "holds no record: it was too long for the log"))
            continue
        inner = value.get("record", value)
        if not isinstance(inner, dict) or "decision" not in inner:
            continue
        try:
            records.append(record.load(Record, json.dumps(inner)))
        except ValueError as error:
            first = str(error).splitlines()
            said = " ".join(line.strip() for line in first[:4])
            problems.append(Problem(str(path), number, 1, "", f"must be a decision record: {said}"))
    if problems:
        raise DocumentError(problems)
    if not records:
        raise DocumentError([Problem(str(path), 0, 0, "", "holds no decision record")])
    return records


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
