"""Decision records in a user's files: one record, or JSON lines of a log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpu_fleet.config.document import DocumentError, Problem
from gpu_fleet.config.yaml_files import read_text
from gpu_fleet.scaling import record
from gpu_fleet.scaling.record import Record


def read_records(path: Path) -> list[Record]:
    """Return every decision record of a file, in its order.

    The file may be one record, JSON lines of the scaler's log (a record alone or under `record`; text before the first
    brace is a time stamp of `aws logs tail`), or the output of `aws logs filter-log-events`. Lines without a decision
    are skipped. Raises DocumentError with every broken line, and for a file without a record.
    """
    file = str(path)
    problems: list[Problem] = []
    records: list[Record] = []
    for line, value in _objects(read_text(path, file), file):
        if value.get("record_lacks") == ["everything"]:
            problems.append(Problem(file, line, 1, "", "holds no record: it was too long for the log"))
            continue
        written = value.get("record", value)
        if not isinstance(written, dict) or "decision" not in written:
            continue
        try:
            records.append(record.load(Record, json.dumps(written)))
        except ValueError as error:
            reason = " ".join(text.strip() for text in str(error).splitlines()[:4])
            problems.append(Problem(file, line, 1, "", f"must be a decision record: {reason}"))
    if problems:
        raise DocumentError(problems)
    if not records:
        raise DocumentError([Problem(file, 0, 0, "", "holds no decision record")])
    return records


def _objects(text: str, file: str) -> list[tuple[int, dict[str, Any]]]:
    """Return each JSON object of the text with its line. Raises DocumentError with every line that is not one."""
    objects: list[tuple[int, dict[str, Any]]] = []
    problems: list[Problem] = []
    for line, message in _messages(text):
        start = message.find("{")
        if start < 0:
            continue
        value = _json_object(message[start:])
        if value is None:
            problems.append(Problem(file, line, start + 1, "", "must be one JSON object to a line"))
        else:
            objects.append((line, value))
    if problems:
        raise DocumentError(problems)
    return objects


def _messages(text: str) -> list[tuple[int, str]]:
    """Return the log messages in the text, each with its line (in `aws logs filter-log-events`: the event's number)."""
    whole = _json_object(text)
    if whole is None:
        return list(enumerate(text.splitlines(), 1))
    events = whole.get("events")
    if not isinstance(events, list):
        return [(1, text)]
    return [(i, str(event.get("message", ""))) for i, event in enumerate(events, 1) if isinstance(event, dict)]


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
