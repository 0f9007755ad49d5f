"""Times as they stand in files: seconds since the epoch, milliseconds, or a date and a time of day."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

MILLISECONDS_FROM = 1e11
"""A bare number from here on counts milliseconds: as seconds it would be the year 5138."""
EPOCH_FROM = 1e8
"""A bare number of seconds from here on (1973) is since the epoch; below, it is since the trace's start."""

# With %z the polars engine reads Z as well as +02:00; times without a zone are taken as UTC, as CloudWatch writes them.
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
    """Seconds (float64, null where a text was not a time), and whether they count from the epoch."""

    seconds: pl.Series
    since_epoch: bool
    expected: str
    """What the first value showed the form to be, for an error about a later one."""


def read(texts: pl.Series, unit_seconds: float) -> Times | None:
    """The texts as times, all in the form of the first; None where the first is no time at all.

    `unit_seconds` is the unit of a number; 0 lets its size decide: seconds, or milliseconds from `MILLISECONDS_FROM`.
    """
    texts = texts.str.strip_chars()
    first = texts.drop_nulls().head(1)
    if first.is_empty():
        return None
    number = first.cast(pl.Float64, strict=False)[0]
    if number is not None:
        unit = unit_seconds or (0.001 if abs(number) >= MILLISECONDS_FROM else 1.0)
        numbers = texts.cast(pl.Float64, strict=False)
        # fill_nan: the text `nan` reads as a float, and is no time.
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
