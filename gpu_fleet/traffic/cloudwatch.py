"""Files of CloudWatch metrics: the JSON of its two reading calls, and the CSV of the console.

GetMetricData: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html
GetMetricStatistics: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html
The console's CSV is undocumented: rows of names and values (Label, Statistic, Period ...) come first, then one row a
period, its time in UTC. The reader relies on that shape, not on an exact list of names.

Several series (target groups) are added up. A load balancer publishes RequestCount only when it is not zero. If the
file also has HealthyHostCount, which a load balancer always publishes, a step with it and without RequestCount had no
requests, and a step without either is a gap. Points may come newest first, the default of GetMetricData.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import polars as pl
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from gpu_fleet.config.wording import quoted
from gpu_fleet.traffic import timestamps
from gpu_fleet.traffic.columns import known_formats
from gpu_fleet.traffic.errors import TraceError
from gpu_fleet.traffic.steps import Gaps, RateRows, as_rates
from gpu_fleet.traffic.trace import RateTrace

PREAMBLE = frozenset(
    {
        "id",
        "label",
        "full label",
        "metric",
        "metric name",
        "namespace",
        "statistic",
        "stat",
        "period",
        "unit",
        "region",
        "account",
        "account id",
    }
)
"""First cells, lower case, of the rows before the console's data."""


@dataclass(frozen=True, slots=True)
class ExportedMetric:
    """The points of one metric."""

    label: str
    points: dict[float, float]
    """Value of the period that begins at each time (seconds since the epoch)."""


def read_json(path: Path, text: str, gaps: Gaps | None) -> RateTrace:
    """Read the output of `aws cloudwatch get-metric-data` or `get-metric-statistics`. Raises TraceError."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise TraceError("", f"not JSON: {error.msg}", str(path), error.lineno, error.colno) from None
    document = _JsonDocument(path, text)
    if isinstance(data, dict) and "MetricDataResults" in data:
        series = _metric_data(document, data["MetricDataResults"])
    elif isinstance(data, dict) and "Datapoints" in data:
        series = [_metric_statistics(document, data)]
    else:
        raise TraceError("", f"JSON in an unknown format. Known formats:\n{known_formats()}", str(path), 1, 1)
    return _rates(path, series, gaps)


def is_console_csv(beginning: str) -> bool:
    """Return whether a file begins like the console's CSV, with a name of its preamble."""
    first = beginning.lstrip("\ufeff\r\n").split("\n", 1)[0]
    cells = next(csv.reader([first]), [])
    return len(cells) > 1 and cells[0].strip().rstrip(":").lower() in PREAMBLE


def read_console_csv(path: Path, text: str, gaps: Gaps | None) -> RateTrace:
    """Read the console's "Download as .csv". Raises TraceError."""
    labels: list[str] = []
    period: float | None = None
    times: list[float] = []
    columns: list[dict[float, float]] = []
    reader = csv.reader(io.StringIO(text, newline=""))
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        name = cells[0].strip().rstrip(":").lower()
        if not times and (name in PREAMBLE or not name or not name[0].isdigit()):
            if name in {"label", "full label"} and (name == "label" or not labels):
                labels = [cell.strip() for cell in cells[1:]]
            if name == "period" and len(cells) > 1:
                period = _period(path, cells[1], reader.line_num)
            continue
        at = _console_time(cells[0], path, reader.line_num)
        if at in times[-1:]:
            raise TraceError("time", f"the same time twice (got {cells[0]})", str(path), reader.line_num, 1)
        times.append(at)
        columns.extend({} for _ in range(len(cells) - 1 - len(columns)))
        column = len(cells[0]) + 2
        for points, cell in zip(columns, cells[1:], strict=False):
            if cell.strip():
                points[at] = _number(cell, path, reader.line_num, column)
            column += len(cell) + 1
    if not times:
        raise TraceError("", "no row with a time and a value", str(path), 1, 1)
    labels += [f"column {i + 2}" for i in range(len(labels), len(columns))]
    return _rates(path, [ExportedMetric(*pair) for pair in zip(labels, columns, strict=False)], gaps, period)


def _console_time(text: str, path: Path, line: int) -> float:
    times = timestamps.read(pl.Series([text]), 0.0)
    if times is None or times.seconds[0] is None or not times.since_epoch:
        raise TraceError("time", f"must be a time like 2024/05/01 12:00:00 (got {quoted(text)})", str(path), line, 1)
    return float(times.seconds[0])


def _period(path: Path, text: str, line: int) -> float:
    """Return a period such as `300`, `5 minutes` or `1 Hour` in seconds."""
    match = re.fullmatch(r"\s*(\d+)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)?\s*", text.lower())
    if match is None or int(match[1]) == 0:
        raise TraceError("Period", f"must be a time like 300 or 5 minutes (got {quoted(text)})", str(path), line, 1)
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[(match[2] or "s")[0]]


def _number(text: str, path: Path, line: int, column: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise TraceError("value", f"must be a number, not negative (got {quoted(text)})", str(path), line, column)
    return value


@dataclass(frozen=True, slots=True)
class _JsonDocument:
    """JSON that can place its values, by parsing it as YAML when an error needs it."""

    path: Path
    text: str

    def fail(self, at: Sequence[str | int], text: str) -> NoReturn:
        """Raise TraceError for the value at these keys."""
        line, column = self._place(at)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).lstrip(".")
        raise TraceError(key, text, str(self.path), line, column)

    def _place(self, at: Sequence[str | int]) -> tuple[int, int]:
        try:
            node: Node | None = YAML().compose(self.text)
        except YAMLError:  # tabs between values are valid JSON but not YAML
            return 1, 1
        for part in at:
            below = _child(node, part)
            if below is None:
                break
            node = below
        return (node.start_mark.line + 1, node.start_mark.column + 1) if node else (1, 1)


def _child(node: Node | None, part: str | int) -> Node | None:
    match node, part:
        case SequenceNode(), int():
            return node.value[part] if part < len(node.value) else None
        case MappingNode(), str():
            return next((value for key, value in node.value if key.value == part), None)
        case _:
            return None


def _metric_data(document: _JsonDocument, results: Any) -> list[ExportedMetric]:
    if not isinstance(results, list) or not results:
        document.fail(["MetricDataResults"], "must be a list with at least one result")
    by_id: dict[str, ExportedMetric] = {}
    for i, result in enumerate(results):
        at = ["MetricDataResults", i]
        if not isinstance(result, dict):
            document.fail(at, f"must be an object (got {quoted(result)})")
        if result.get("StatusCode") in {"InternalError", "Forbidden"}:
            document.fail([*at, "StatusCode"], f"CloudWatch did not return this metric (got {result['StatusCode']})")
        times, values = result.get("Timestamps"), result.get("Values")
        if not isinstance(times, list):
            document.fail([*at, "Timestamps"], "must be a list")
        if not isinstance(values, list):
            document.fail([*at, "Values"], "must be a list")
        if len(times) != len(values):
            document.fail([*at, "Values"], f"must be as many as Timestamps ({len(times)}) (got {len(values)})")
        label = str(result.get("Label") or result.get("Id") or f"result {i}")
        # A result that continues on the next page comes again under the same Id.
        series = by_id.setdefault(str(result.get("Id", i)), ExportedMetric(label, {}))
        seconds = _json_times(document, [*at, "Timestamps"], times)
        for j, (moment, value) in enumerate(zip(seconds, values, strict=True)):
            if moment in series.points:
                document.fail([*at, "Timestamps", j], f"the same time twice (got {times[j]})")
            series.points[moment] = _json_number(document, [*at, "Values", j], value)
    return list(by_id.values())


def _metric_statistics(document: _JsonDocument, data: dict[str, Any]) -> ExportedMetric:
    points: dict[float, float] = {}
    entries = data["Datapoints"]
    if not isinstance(entries, list) or not entries:
        document.fail(["Datapoints"], "must be a list with at least one point")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or "Timestamp" not in entry:
            document.fail(["Datapoints", i], "must be an object with a Timestamp")
        if "Sum" not in entry:
            document.fail(["Datapoints", i], "has no Sum: export with --statistics Sum, which counts requests")
    seconds = _json_times(document, ["Datapoints"], [entry["Timestamp"] for entry in entries])
    for i, (moment, entry) in enumerate(zip(seconds, entries, strict=True)):
        if moment in points:
            document.fail(["Datapoints", i, "Timestamp"], f"the same time twice (got {entry['Timestamp']})")
        points[moment] = _json_number(document, ["Datapoints", i, "Sum"], entry["Sum"])
    return ExportedMetric(str(data.get("Label") or "RequestCount"), points)


def _json_times(document: _JsonDocument, at: Sequence[str | int], values: Sequence[Any]) -> list[float]:
    if not values:
        return []
    texts = pl.Series([str(value) for value in values], dtype=pl.String)
    times = timestamps.read(texts, 0.0)
    if times is None or not times.since_epoch:
        document.fail([*at, 0], f"must be a time like 2024-05-01T12:00:00Z (got {quoted(values[0])})")
    if times.seconds.null_count():
        i = int(times.seconds.is_null().arg_max() or 0)
        document.fail([*at, i], f"must be {times.expected} (got {quoted(values[i])})")
    return times.seconds.to_list()


def _json_number(document: _JsonDocument, at: Sequence[str | int], value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        document.fail(at, f"must be a number, not negative (got {quoted(value)})")
    return float(value)


def _rates(
    path: Path, series: Sequence[ExportedMetric], gaps: Gaps | None, period_seconds: float | None = None
) -> RateTrace:
    def labelled(word: str) -> list[ExportedMetric]:
        return [metric for metric in series if word in re.sub(r"[^a-z]", "", metric.label.lower())]

    heartbeats, request_counts = labelled("healthyhostcount"), labelled("requestcount")
    others = [metric for metric in series if metric not in heartbeats]
    counts = request_counts or others
    if len(counts) > 1 and not request_counts:
        labels = ", ".join(metric.label for metric in others)
        raise TraceError("", f"several metrics, none named RequestCount ({labels}): keep one", str(path), 1, 1)
    points: dict[float, float] = {}
    for metric in counts:
        for at, value in metric.points.items():
            points[at] = points.get(at, 0.0) + value
    if not points:
        raise TraceError("", "no requests: RequestCount has no point", str(path), 1, 1)
    notes = [f"sum of {len(counts)} metrics"] if len(counts) > 1 else []
    if unread := [metric.label for metric in others if metric not in counts]:
        notes.append(f"metrics not read: {', '.join(unread)}")
    silent_steps = sorted({at for metric in heartbeats for at in metric.points} - points.keys())
    if silent_steps:
        points |= dict.fromkeys(silent_steps, 0.0)
        notes.append(f"{len(silent_steps)} steps with HealthyHostCount but no RequestCount: no requests")
    elif gaps is None and request_counts and not heartbeats:
        gaps = Gaps.ZERO
    times = np.array(sorted(points))

    def fail(row: int, text: str) -> NoReturn:
        moment = np.datetime64(round(float(times[row]) * 1000), "ms")
        raise TraceError(str(moment), text, str(path), 1, 1)

    rows = RateRows(
        name=path.stem,
        seconds=times - times[0],
        loads=np.array([points[at] for at in times]),
        step_seconds=period_seconds,
        starts_at=float(times[0]),
        notes=tuple(notes),
    )
    return as_rates(rows, gaps or Gaps.LINEAR, fail)
