"""Reader of recorded demand. The beginning of a file decides its format: a CSV header, or the keys of JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl

from gpu_fleet.config.wording import quoted
from gpu_fleet.traffic import cloudwatch, timestamps
from gpu_fleet.traffic.columns import RateHeader, RequestHeader, Role, TraceColumn, columns_of
from gpu_fleet.traffic.errors import TraceError
from gpu_fleet.traffic.steps import Gaps, RateRows, as_rates
from gpu_fleet.traffic.trace import Floats, RateTrace, Trace

SERVEGEN_BURSTINESS = 3.45
"""Request-weighted coefficient of variation of the times between requests in ServeGen's large model (m-large):
https://github.com/alibaba/ServeGen. Its format (t_sec,rps) gives only rates."""


def read(path: Path | str, *, gaps: Gaps | None = None) -> Trace | RateTrace:
    """Read a file: a `Trace` if it has every request, a `RateTrace` if it has rates or counts.

    `gaps` fills missing steps of a rate trace; the default is `linear`, and `zero` for a load balancer's RequestCount,
    which is published only when it is not zero
    (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html).
    Raises TraceError, with file, line and column, for a file that cannot be read or is not a trace.
    """
    path = Path(path)
    content = _utf8_content(path)
    if content.lstrip()[:1] in (b"{", b"["):
        first_line = content.lstrip().split(b"\n", 1)[0]
        if b'"input_length"' in first_line or b'"input_tokens"' in first_line:
            return _json_lines(path, content)
        return cloudwatch.read_json(path, content.decode(), gaps)
    if cloudwatch.is_console_csv(content[:4096].decode(errors="ignore")):
        return cloudwatch.read_console_csv(path, content.decode(), gaps)
    return _csv(path, content, gaps)


def _utf8_content(path: Path) -> bytes:
    """Return the bytes of a UTF-8 file without its byte order mark. Raises TraceError, also for an empty file."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TraceError("", f"cannot be read: {(error.strerror or str(error)).lower()}", str(path)) from None
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        raise TraceError("", "the file is empty", str(path), 1, 1)
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise TraceError("", f"not UTF-8 text (byte 0x{content[error.start]:02x})", str(path), line, column) from None
    return content


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a CSV file as text columns, with their places."""

    path: Path
    content: bytes
    frame: pl.DataFrame
    numbers: pl.Series
    """For each row of the frame, its number among the file's rows after the header, from 0; blank lines have no row."""

    def fail(self, row: int, column: TraceColumn, text: str) -> NoReturn:
        """Raise TraceError for a row of the frame. It reads the file again to find the line, which is slow."""
        line = _line_of_record(self.content, int(self.numbers[row]) + 1)
        at = _column_of_field(self.content, line, column.position)
        raise TraceError(column.name, text, str(self.path), line, at)


def _csv(path: Path, content: bytes, gaps: Gaps | None) -> Trace | RateTrace:
    blank_lines = len(content) - len(content.lstrip(b"\r\n"))
    head = content[blank_lines:].split(b"\n", 1)[0].decode().rstrip("\r")
    names = next(csv.reader([head]))
    try:
        header = columns_of(names)
    except ValueError as error:
        line = content.count(b"\n", 0, blank_lines) + 1
        raise TraceError("", str(error), str(path), line, 1) from None
    rows = _rows(path, content[blank_lines:], names, content.count(b"\n", 0, blank_lines))
    notes = (f"columns not read: {', '.join(name for name in header.ignored if name)}",) if any(header.ignored) else ()
    if isinstance(header, RequestHeader):
        return _request_trace(rows, header, notes)
    return _rate_trace(rows, header, notes, gaps or Gaps.LINEAR)


def _request_trace(rows: _Rows, header: RequestHeader, notes: tuple[str, ...]) -> Trace:
    seconds, since_epoch = _seconds(rows, header.time)
    starts_at = float(seconds[0]) if since_epoch else None
    if since_epoch:
        seconds = seconds - seconds[0]
    if (backwards := np.flatnonzero(np.diff(seconds) < 0)).size:
        row = int(backwards[0]) + 1
        text = f"goes backwards by {seconds[row - 1] - seconds[row]:g} s (got {_text(rows, row, header.time)})"
        rows.fail(row, header.time, text)
    if seconds[0] < 0:
        rows.fail(0, header.time, f"must not be negative (got {_text(rows, 0, header.time)})")
    inputs, outputs = _amounts(rows, header.input), _amounts(rows, header.output)
    return Trace(rows.path.stem, seconds - seconds[0], inputs, outputs, starts_at=starts_at, notes=notes)


def _rate_trace(rows: _Rows, header: RateHeader, notes: tuple[str, ...], gaps: Gaps) -> RateTrace:
    seconds, since_epoch = _seconds(rows, header.time)
    is_servegen = header.time.name == "t_sec" and header.load.name == "rps"
    if is_servegen:
        notes = (*notes, f"burstiness within a step {SERVEGEN_BURSTINESS}, as published for ServeGen's m-large")

    def fail(row: int, text: str) -> NoReturn:
        rows.fail(row, header.time, f"{text} (got {_text(rows, row, header.time)})")

    rate_rows = RateRows(
        name=rows.path.stem,
        seconds=seconds - seconds[0],
        loads=_amounts(rows, header.load),
        per_seconds=header.load.unit_seconds if header.load.role is Role.RATE else None,
        starts_at=float(seconds[0]) if since_epoch else None,
        burstiness=SERVEGEN_BURSTINESS if is_servegen else 1.0,
        notes=notes,
    )
    return as_rates(rate_rows, gaps, fail)


def _rows(path: Path, content: bytes, names: list[str], lines_before: int) -> _Rows:
    """Return the file's rows as text. Raises TraceError for a row with too many fields, and for a file without rows."""
    # Names may repeat or be empty, so columns are read by position.
    labels = [f"column_{i}" for i in range(len(names))]
    padded = b"\n" * lines_before + content
    try:
        frame = pl.read_csv(
            io.BytesIO(content),
            infer_schema=False,
            has_header=False,
            skip_rows=1,
            new_columns=labels,
            schema=dict.fromkeys(labels, pl.String),
        )
    except pl.exceptions.PolarsError as error:
        _fail_for_field_count(path, padded, len(names))
        raise TraceError("", f"not a CSV file: {str(error).splitlines()[0]}", str(path), 1, 1) from None
    numbers = pl.int_range(len(frame), eager=True)
    blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
    if blank.any():
        frame, numbers = frame.filter(~blank), numbers.filter(~blank)
    if frame.is_empty():
        raise TraceError("", "a header without rows", str(path), 1 + lines_before, 1)
    return _Rows(path, padded, frame, numbers)


def _seconds(rows: _Rows, column: TraceColumn) -> tuple[Floats, bool]:
    texts = rows.frame.to_series(column.position)
    times = timestamps.read(texts, column.unit_seconds)
    if times is None:
        _fail_for_text(rows, 0, column, "a time (a number, or like 2024-05-01 12:00:00)")
    if times.seconds.null_count():
        row = int(times.seconds.is_null().arg_max() or 0)
        _fail_for_text(rows, row, column, times.expected)
    return times.seconds.to_numpy(), times.since_epoch


def _amounts(rows: _Rows, column: TraceColumn) -> Floats:
    """Return a column of finite numbers that are not negative. Raises TraceError."""
    texts = rows.frame.to_series(column.position)
    values = texts.str.strip_chars().cast(pl.Float64, strict=False)
    bad = values.is_null() | ~values.is_finite()
    if bad.any():
        _fail_for_text(rows, int(bad.fill_null(value=True).arg_max() or 0), column, "a number")
    if (negative := values < 0).any():
        row = int(negative.arg_max() or 0)
        rows.fail(row, column, f"must not be negative (got {texts[row].strip()})")
    return values.to_numpy()


def _fail_for_text(rows: _Rows, row: int, column: TraceColumn, expected: str) -> NoReturn:
    rows.fail(row, column, f"must be {expected} (got {_text(rows, row, column)})")


def _text(rows: _Rows, row: int, column: TraceColumn) -> str:
    """Return a field as an error quotes it."""
    text = rows.frame.item(row, column.position)
    if text is None:
        return "nothing"
    text = text.strip()
    return text[:60] if text[:1].isdigit() else quoted(text)


def _fail_for_field_count(path: Path, content: bytes, expected: int) -> None:
    """Raise TraceError for the first row with more fields than the header, if there is one."""
    reader = csv.reader(io.StringIO(content.decode(), newline=""))
    for fields in reader:
        if len(fields) > expected:
            column = _column_of_field(content, reader.line_num, expected)
            text = f"a row of {len(fields)} fields under a header of {expected}"
            raise TraceError("", text, str(path), reader.line_num, column)


def _line_of_record(content: bytes, record: int) -> int:
    """Return the first line of a record, from 1. Record 0 is the header; blank lines before it do not count."""
    text = content.decode()
    if '"' not in text:
        lines_before = next(i for i, line in enumerate(text.split("\n")) if line)
        return lines_before + record + 1
    # Quoted fields may span lines.
    reader = csv.reader(io.StringIO(text, newline=""))
    number, lines_before = -1, 0
    for fields in reader:
        if number >= 0 or fields:
            number += 1
        if number == record:
            return lines_before + 1
        lines_before = reader.line_num
    return lines_before


def _column_of_field(content: bytes, line: int, field: int) -> int:
    """Return the column, from 1, of a field in a line; if the line ends before it, the column after the line's end."""
    lines = content.decode().split("\n")
    text = lines[line - 1] if line <= len(lines) else ""
    column, quoted = 1, False
    for i, character in enumerate(text):
        if field == 0:
            return column
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            field -= 1
            column = i + 2
    return column if field == 0 else len(text.rstrip("\r")) + 1


def _json_lines(path: Path, content: bytes) -> Trace:
    """Read one request per line: {"timestamp": ms, "input_length": n, "output_length": n} (Mooncake)."""
    times: list[float] = []
    inputs: list[float] = []
    outputs: list[float] = []
    for number, line in enumerate(content.decode().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise TraceError("", f"not JSON: {error.msg}", str(path), number, error.colno) from None
        for key, values in (("timestamp", times), ("input", inputs), ("output", outputs)):
            names = (key,) if key == "timestamp" else (f"{key}_length", f"{key}_tokens")
            name = next((name for name in names if isinstance(entry, dict) and name in entry), None)
            if name is None:
                raise TraceError(names[0], "is missing", str(path), number, 1)
            value = entry[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                column = line.find(f'"{name}"') + 1
                text = f"must be a number, not negative (got {quoted(value)})"
                raise TraceError(name, text, str(path), number, column)
            values.append(float(value))
        if len(times) > 1 and times[-1] < times[-2]:
            column = line.find('"timestamp"') + 1
            text = f"goes backwards by {(times[-2] - times[-1]) / 1000:g} s (got {times[-1]:g})"
            raise TraceError("timestamp", text, str(path), number, column)
    at = np.array(times) / 1000
    return Trace(path.stem, at - at[0], np.array(inputs), np.array(outputs))
