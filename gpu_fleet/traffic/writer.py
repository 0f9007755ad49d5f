"""Writer of traces, as CSV that `reader` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from gpu_fleet.traffic.trace import Floats, RateTrace, Trace


def write(trace: Trace | RateTrace, path: Path | str) -> None:
    """Write `timestamp,...` in UTC if the trace has absolute times, else `at_seconds,...`.

    Steps that were not measured are omitted, so that they are gaps again when read. Raises OSError.
    """
    time, values = _times(trace.at_seconds, trace.starts_at)
    match trace:
        case Trace():
            columns = {time: values, "input_tokens": trace.input_tokens, "output_tokens": trace.output_tokens}
            frame = pl.DataFrame(columns).with_columns(pl.col("input_tokens", "output_tokens").pipe(_whole))
        case RateTrace():
            frame = pl.DataFrame({time: values, "rps": trace.rps})
            if trace.measured is not None:
                frame = frame.filter(pl.Series(trace.measured))
    frame.write_csv(Path(path))


def _whole(column: pl.Expr) -> pl.Expr:
    """Write token counts without `.0`."""
    return column.cast(pl.Int64)


def _times(at_seconds: Floats, starts_at: float | None) -> tuple[str, pl.Series]:
    if starts_at is None:
        return "at_seconds", pl.Series(at_seconds)
    moments = np.rint((at_seconds + starts_at) * 1e6).astype(np.int64)
    return "timestamp", pl.Series(moments).cast(pl.Datetime("us", "UTC")).dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
