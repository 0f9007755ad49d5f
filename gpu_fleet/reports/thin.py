"""Thinning of time lines: fewer points that look the same, since peaks and troughs stay."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

MOST_POINTS = 1200
"""Points of a line: about one for each pixel of a wide screen."""


def thin(
    frame: pl.DataFrame, x: str, values: Sequence[str], by: Sequence[str] = (), points: int = MOST_POINTS
) -> pl.DataFrame:
    """Return the frame itself if no line has more than `points` rows, else the rows that matter, sorted by `x`.

    Each line (one combination of `by`) is cut into stretches of equal length along `x`. Each stretch keeps the rows in
    which one of `values` is lowest or highest, and each line its first and last row. Values in between are lost,
    extremes never.
    """
    if frame.is_empty() or not values:
        return frame
    longest = frame.group_by(by).len()["len"].max() if by else len(frame)
    if not isinstance(longest, int) or longest <= points:
        return frame
    stretches = max(1, points // (2 * len(values)))
    low, high = float(frame[x].min()), float(frame[x].max())  # type: ignore[arg-type]  (polars: any number)
    stretch = ((pl.col(x) - low) / ((high - low) or 1.0) * stretches).floor().clip(upper_bound=stretches - 1)
    numbered = frame.with_row_index("__row").with_columns(stretch.alias("__stretch"))
    keys = [*by, "__stretch"]
    extremes = [
        pl.col("__row").get(pick)
        for value in values
        for pick in (pl.col(value).arg_min().fill_null(0), pl.col(value).arg_max().fill_null(0))
    ]
    kept = [numbered.group_by(keys).agg(extreme.alias("__row"))["__row"] for extreme in extremes]
    ends = (numbered.group_by(by) if by else numbered.group_by(pl.lit(0))).agg(
        pl.col("__row").first().alias("first"), pl.col("__row").last().alias("last")
    )
    rows = pl.concat([*kept, ends["first"], ends["last"]]).unique().sort()
    return frame[rows].sort(x, maintain_order=True)
