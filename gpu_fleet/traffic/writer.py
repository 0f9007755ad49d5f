"""A trace as one of the CSV files that `reader` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from gpu_fleet.traffic.trace import Floats, RateTrace, Trace


def write(trace: Trace | RateTrace, path: Path | str) -> None:
    """Writes `timestamp,...` in UTC where the trace knows when it was, else `at_seconds,...`; a step not measured is
    left out, so that it is a gap again when it is read. Raises OSError as files do.
    """
    time, texts = _times(trace.at_seconds, trace.starts_at)
    match trace:
        case Trace():
            columns = {time: texts, "input_tokens": trace.input_tokens, "output_tokens": trace.output_tokens}
            frame = pl.DataFrame(columns).with_columns(pl.col("input_tokens", "output_tokens").pipe(_whole))
        case RateTrace():
            frame = pl.DataFrame({time: texts, "rps": trace.rps})
            if trace.measured is not None:
                frame = frame.filter(pl.Series(trace.measured))
    frame.write_csv(Path(path))


def _whole(column: pl.Expr) -> pl.Expr:
    """Token counts without `.0`."""
    return column.cast(pl.Int64)


def _times(at_seconds: Floats, starts_at: float | None) -> tuple[str, pl.Series]:
    if starts_at is None:
        return "at_seconds", pl.Series(at_seconds)
    moments = np.rint((at_seconds + starts_at) * 1e6).astype(np.int64)
    return "timestamp", pl.Series(moments).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
