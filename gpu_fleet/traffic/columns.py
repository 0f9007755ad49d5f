"""Meaning of a CSV file's columns by their names. The header decides, never the file's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpu_fleet.config.wording import suggestion


class Role(StrEnum):
    """Meaning of a column."""

    TIME = "time"
    COUNT = "count"
    """Requests in the step that begins at the row's time."""
    RATE = "rate"
    """Requests per unit of time."""
    INPUT = "input tokens"
    OUTPUT = "output tokens"


@dataclass(frozen=True, slots=True)
class TraceColumn:
    """One column that is read."""

    position: int
    """From 0."""
    name: str
    """As typed."""
    role: Role
    unit_seconds: float = 1.0
    """Of a numeric time: seconds in its unit, or 0 if its size decides (see `timestamps.read`).
    Of a rate: the time it counts over (60 for requests per minute)."""


@dataclass(frozen=True, slots=True)
class RequestHeader:
    """The columns of a file with one row per request."""

    time: TraceColumn
    input: TraceColumn
    output: TraceColumn
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateHeader:
    """The columns of a file with one row per step."""

    time: TraceColumn
    load: TraceColumn
    ignored: tuple[str, ...] = ()


KNOWN_NAMES: dict[str, tuple[Role, float]] = {
    "timestamp": (Role.TIME, 0.0),
    "time": (Role.TIME, 0.0),
    "datetime": (Role.TIME, 0.0),
    "arrived_at": (Role.TIME, 0.0),
    "timestamp_ms": (Role.TIME, 0.001),
    "time_ms": (Role.TIME, 0.001),
    "t_sec": (Role.TIME, 1.0),
    "timestamp_seconds": (Role.TIME, 1.0),
    "at_seconds": (Role.TIME, 1.0),
    "seconds": (Role.TIME, 1.0),
    "minute": (Role.TIME, 60.0),
    "count": (Role.COUNT, 1.0),
    "value": (Role.COUNT, 1.0),
    "requests": (Role.COUNT, 1.0),
    "request_count": (Role.COUNT, 1.0),
    "requestcount": (Role.COUNT, 1.0),
    "rps": (Role.RATE, 1.0),
    "qps": (Role.RATE, 1.0),
    "requests_per_second": (Role.RATE, 1.0),
    "rpm": (Role.RATE, 60.0),
    "requests_per_minute": (Role.RATE, 60.0),
    "contexttokens": (Role.INPUT, 1.0),
    "input_tokens": (Role.INPUT, 1.0),
    "prompt_tokens": (Role.INPUT, 1.0),
    "request_tokens": (Role.INPUT, 1.0),
    "input_length": (Role.INPUT, 1.0),
    "num_prefill_tokens": (Role.INPUT, 1.0),
    "generatedtokens": (Role.OUTPUT, 1.0),
    "output_tokens": (Role.OUTPUT, 1.0),
    "completion_tokens": (Role.OUTPUT, 1.0),
    "response_tokens": (Role.OUTPUT, 1.0),
    "output_length": (Role.OUTPUT, 1.0),
    "num_decode_tokens": (Role.OUTPUT, 1.0),
}
"""Role and unit of each column name (lower case, spaces as underscores)."""

FORMATS = (
    ("timestamp,count", "requests of each step, as CloudWatch counts them; also value, requests, request_count (NAB)"),
    ("timestamp,rps", "requests per second of each step; also qps, requests_per_second"),
    ("timestamp,input_tokens,output_tokens", "every request; also prompt_tokens,completion_tokens"),
    ("TIMESTAMP,ContextTokens,GeneratedTokens", "every request: Azure LLM inference dataset"),
    ("timestamp_ms,input_tokens,output_tokens", "every request: Mooncake, as CSV"),
    ("Timestamp,Model,Request tokens,Response tokens,...", "every request: BurstGPT"),
    ("minute,rpm", "requests per minute of each step: Azure LLM inference dataset 2024, read off its plot"),
    ("t_sec,rps", "requests per second of each step: ServeGen"),
    ('{"MetricDataResults": ...}', "CloudWatch: aws cloudwatch get-metric-data"),
    ('{"Datapoints": ...}', "CloudWatch: aws cloudwatch get-metric-statistics"),
    ("Label,... / Statistic,... / Period,...", "CloudWatch: the console's Download as .csv"),
)
"""The formats that are read: a header or the beginning of a file, and its meaning."""


def columns_of(names: Sequence[str]) -> RequestHeader | RateHeader:
    """Return the columns of a header. Raises ValueError for missing or duplicate columns, listing the known formats."""
    columns: dict[Role, TraceColumn] = {}
    ignored: list[str] = []
    for position, name in enumerate(names):
        key = _key(name)
        if key not in KNOWN_NAMES:
            ignored.append(name.strip())
            continue
        role, unit_seconds = KNOWN_NAMES[key]
        if role in columns:
            raise ValueError(f"two columns for the {role}: {columns[role].name} and {name.strip()}; keep one")
        columns[role] = TraceColumn(position, name.strip(), role, unit_seconds)
    time, load = columns.get(Role.TIME), columns.get(Role.COUNT) or columns.get(Role.RATE)
    inputs, outputs = columns.get(Role.INPUT), columns.get(Role.OUTPUT)
    if Role.COUNT in columns and Role.RATE in columns:
        raise ValueError(f"both a count and a rate: {columns[Role.COUNT].name} and {columns[Role.RATE].name}; keep one")
    if time and inputs and outputs and not load:
        return RequestHeader(time, inputs, outputs, tuple(ignored))
    if time and load and not inputs and not outputs:
        return RateHeader(time, load, tuple(ignored))
    if load and (inputs or outputs):
        raise ValueError(f"both a load ({load.name}) and token counts: a row is either a step or a request")
    raise ValueError(_unknown(names))


def known_formats() -> str:
    """Return the formats that are read, one per line, for an error or a help text."""
    width = max(len(header) for header, _ in FORMATS)
    return "\n".join(f"  {header:<{width}}  {meaning}" for header, meaning in FORMATS)


def _key(name: str) -> str:
    return name.strip().strip('"').lower().replace(" ", "_").replace("-", "_")


def _unknown(names: Sequence[str]) -> str:
    hints = [
        f"{name.strip()}: {hint}"
        for name in names
        if _key(name) not in KNOWN_NAMES and (hint := suggestion(_key(name), KNOWN_NAMES)).startswith("did you mean")
    ]
    hint = f" ({'; '.join(hints)})" if hints else ""
    return f"unknown header {','.join(names)[:120]}{hint}. Known formats:\n{known_formats()}"
