"""Times as files write them: seconds since the epoch, milliseconds, or a date with a time of day."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

MILLISECONDS_FROM = 1e11
"""A number from here on is in milliseconds: in seconds it would be the year 5138."""
EPOCH_FROM = 1e8
"""A number of seconds from here on (1973) counts from the epoch, below it from the trace's start."""

# With %z polars reads both Z and +02:00. Times without a zone are UTC, as CloudWatch writes them.
DATE_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%dT%H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M:%S%.f%#z",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y/%m/%d %H:%M",
    "%m/%d/%Y %H:%M:%S%.f",
    "%m/%d/%Y %H:%M",
)


@dataclass(frozen=True, slots=True)
class Times:
    """Times in seconds (float64; null for a text that is not a time)."""

    seconds: pl.Series
    since_epoch: bool
    expected: str
    """The form of the first value, for an error about a later one."""


def read(texts: pl.Series, unit_seconds: float) -> Times | None:
    """Parse the texts as times, all in the form of the first; None if the first is not a time.

    `unit_seconds` is the unit of a number; with 0 its size decides: seconds, or milliseconds from `MILLISECONDS_FROM`.
    """
    texts = texts.str.strip_chars()
    first = texts.drop_nulls().head(1)
    if first.is_empty():
        return None
    number = first.cast(pl.Float64, strict=False)[0]
    if number is not None:
        unit = unit_seconds or (0.001 if abs(number) >= MILLISECONDS_FROM else 1.0)
        numbers = texts.cast(pl.Float64, strict=False)
        # The text `nan` parses as a float but is not a time.
        seconds = numbers.fill_nan(None) * unit
        return Times(seconds, unit_seconds == 0 and abs(number) * unit >= EPOCH_FROM, "a number")
    for form in DATE_FORMATS:
        zone = "UTC" if "z" in form else None
        if first.str.to_datetime(form, strict=False, time_unit="ns", time_zone=zone)[0] is None:
            continue
        moments = texts.str.to_datetime(form, strict=False, time_unit="ns", time_zone=zone)
        whole = moments.dt.epoch("s").cast(pl.Float64)
        parts = moments.dt.nanosecond().cast(pl.Float64) / 1e9
        return Times(whole + parts, since_epoch=True, expected=f"a time like {first[0]}")
    return None
