"""The parts that charts share: tables, time axes, tooltips and zooming.

Times are `at_seconds`: large values count from the epoch; smaller ones count from the trace's start, and then read as
day and time of day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from gpu_fleet.reports.page import Chart
from gpu_fleet.reports.thin import thin

Data: TypeAlias = pl.DataFrame | Mapping[str, Sequence[Any]]

TIME_GROUP = "time"
EPOCH_FROM_SECONDS = 1e8
"""Times from here on (1973) are dates; smaller ones count from the trace's start."""
DAY_SECONDS = 86_400
LABEL_WIDTH = 56
"""Room for the labels of the value axis, the same in all charts, so that time lines are exactly aligned."""
DAY_LABEL = "'day ' + (1 + floor(datum.value / 86400000))"


def empty_chart(title: str) -> Chart:
    """Return the chart of a table without rows: its title, and a sentence."""
    return Chart({}, title, note="Nothing to show.")


def as_frame(data: Data) -> pl.DataFrame:
    """Return the table as a polars frame."""
    return data if isinstance(data, pl.DataFrame) else pl.DataFrame(data, strict=False)


def distinct(frame: pl.DataFrame, column: str) -> list[str]:
    """Return the values of a column in the order of their first rows."""
    return frame[column].unique(maintain_order=True).to_list()


def dated(frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with `at` in milliseconds, as Vega counts time, and values to the 5 digits of a chart."""
    floats = [name for name, dtype in frame.schema.items() if dtype.is_float() and name != "at_seconds"]
    return frame.select(
        (pl.col("at_seconds") * 1000).round().cast(pl.Int64).alias("at"),
        *(pl.col(name).round_sig_figs(5) for name in floats),
        pl.all().exclude("at_seconds", *floats),
    )


def changes_only(frame: pl.DataFrame, by: str, values: Sequence[str]) -> pl.DataFrame:
    """Return the rows of the times at which a value of any line changes, of the step before and of both ends, thinned.

    Stacked areas need every line at every time, so a time is kept for all lines or for none.
    """
    columns = [pl.col(name) for name in values]
    changed = pl.any_horizontal(
        *(column.ne_missing(column.shift(1).over(by)) for column in columns),
        *(column.ne_missing(column.shift(-1).over(by)) for column in columns),
    )
    first_or_last = pl.col("at_seconds").is_in([frame["at_seconds"].min(), frame["at_seconds"].max()])
    times = thin(frame.filter(changed | first_or_last), "at_seconds", values, [by])["at_seconds"].unique()
    return frame.filter(pl.col("at_seconds").is_in(times.implode()))


def inline(frame: pl.DataFrame) -> alt.Data:
    """Return the rows as data that is written into the chart itself."""
    return alt.Data(values=frame.to_dicts())


def _is_date(frame: pl.DataFrame) -> bool:
    if "at" in frame.columns:
        return (frame["at"].max() or 0) >= EPOCH_FROM_SECONDS * 1000  # type: ignore[operator]  (polars: any number)
    return (frame["at_seconds"].max() or 0) >= EPOCH_FROM_SECONDS  # type: ignore[operator]


def _span_seconds(frame: pl.DataFrame) -> float:
    times = frame["at"] / 1000 if "at" in frame.columns else frame["at_seconds"]
    return float(times.max() or 0) - float(times.min() or 0)  # type: ignore[arg-type]


def time_axis(frame: pl.DataFrame, span_seconds: tuple[float, float] | None = None) -> alt.X:
    """Return the time axis: dates in UTC, or day and time of day from the trace's start."""
    scale: dict[str, Any] = {"domain": [round(end * 1000) for end in span_seconds]} if span_seconds else {}
    axis = alt.X("at:T").title(None).scale(type="utc", nice=False, **scale)
    if _is_date(frame):
        midnight = "utchours(datum.value) + utcminutes(datum.value) === 0"
        label = f"utcFormat(datum.value, {midnight} ? '%b %-d' : '%H:%M')"
        return axis.axis(labelExpr=label, tickCount=8)
    if _span_seconds(frame) <= DAY_SECONDS:
        return axis.axis(format="%-H:%M", tickCount=8)
    label = f"utchours(datum.value) === 0 ? {DAY_LABEL} : utcFormat(datum.value, '%-H:%M')"
    return axis.axis(labelExpr=label, tickCount=8)


def time_tooltip(frame: pl.DataFrame) -> alt.Tooltip:
    """Return the tooltip of the time."""
    form = "%Y-%m-%d %H:%M:%S UTC" if _is_date(frame) else "%H:%M:%S"
    if not _is_date(frame) and _span_seconds(frame) > DAY_SECONDS:
        form = "day %-j, %H:%M"
    return alt.Tooltip("utcyearmonthdatehoursminutesseconds(at):T", title="at", format=form)


def number_tooltip(name: str, title: str, form: str = ",.2f") -> alt.Tooltip:
    """Return the tooltip of a number."""
    return alt.Tooltip(f"{name}:Q", title=title, format=form)


def hover_line(base: alt.Chart, frame: pl.DataFrame, tooltips: list[alt.Tooltip]) -> alt.Chart:
    """Return a vertical line at the time nearest to the pointer, with all values of that time."""
    near = alt.selection_point(
        name="near", nearest=True, on="pointerover", encodings=["x"], empty=False, clear="pointerout"
    )
    return (
        base.mark_rule(strokeWidth=1)
        .encode(x=time_axis(frame), opacity=alt.condition(near, alt.value(0.8), alt.value(0)), tooltip=tooltips)
        .add_params(near)
    )


def finished(chart: Any, title: str, height: int, *, zoom: bool = False) -> Chart:
    """Return the chart as wide as the page.

    With `zoom` its time axis is dragged with the mouse and zoomed with shift and the wheel (the bare wheel scrolls the
    page); a double click resets it.
    """
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    spec = sized.to_dict(validate=True)
    if not zoom:
        return Chart(spec, title)
    zooming = {
        "name": "zoom",
        "select": {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"},
        "bind": "scales",
    }
    # In a layered chart the parameter belongs to one of the layers.
    place = spec["layer"][0] if "layer" in spec else spec
    place["params"] = [*place.get("params", []), zooming]
    return Chart(spec, title, group=TIME_GROUP)
