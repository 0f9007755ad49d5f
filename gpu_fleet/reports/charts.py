"""The charts of the reports, as pure functions of a table: no file, no clock, no AWS.

A table is a polars frame, or a mapping of columns, with the columns that each function names. Long lines are thinned to
what a screen can show, and keep their peaks and troughs (`gpu_fleet.reports.thin`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import altair as alt
import polars as pl

from gpu_fleet.reports.chart_parts import (
    LABEL_WIDTH,
    Data,
    as_frame,
    changes_only,
    dated,
    distinct,
    empty_chart,
    finished,
    hover_line,
    inline,
    number_tooltip,
    time_axis,
    time_tooltip,
)
from gpu_fleet.reports.look import BAD, GOOD, QUIET, SERIES
from gpu_fleet.reports.page import Chart
from gpu_fleet.reports.thin import thin


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a chart."""

    column: str
    label: str
    colour: str


CAPACITY_LINES = (
    _Line("capacity", "ready capacity", SERIES[0]),
    _Line("ordered", "ready + starting", QUIET),
    _Line("forecast", "forecast", SERIES[3]),
)


def demand_and_capacity(data: Data, *, unit: str = "requests per second", title: str = "Demand and capacity") -> Chart:
    """Draw demand and capacity over time.

    Columns: at_seconds, demand, capacity (ready instances); optional: ordered (starting instances included), forecast.
    Demand is an area, so that capacity below it shows as a breach.
    """
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    lines = [line for line in CAPACITY_LINES if line.column in frame.columns]
    columns = ["demand", *(line.column for line in lines)]
    frame = thin(frame.select("at_seconds", *columns), "at_seconds", columns)
    base = alt.Chart(inline(dated(frame)))
    colours = alt.Scale(
        domain=["demand", *(line.label for line in lines)], range=[SERIES[1], *(line.colour for line in lines)]
    )
    tooltips = [
        time_tooltip(frame),
        number_tooltip("demand", "demand"),
        *(number_tooltip(line.column, line.label) for line in lines),
    ]
    layers: list[Any] = [
        base.mark_area(interpolate="linear", fillOpacity=0.35, line={"strokeWidth": 1.4})
        .encode(
            x=time_axis(frame),
            y=alt.Y("demand:Q").title(unit).axis(minExtent=LABEL_WIDTH),
            color=alt.Color("line:N").scale(colours),
        )
        .transform_calculate(line="'demand'")
    ]
    layers += [
        base.mark_line(interpolate="step-after", strokeDash=[4, 3] if line.column != "capacity" else [1, 0])
        .encode(x=time_axis(frame), y=alt.Y(f"{line.column}:Q").title(unit), color=alt.Color("line:N").scale(colours))
        .transform_calculate(line=repr(line.label))
        for line in lines
    ]
    layers.append(hover_line(base, frame, tooltips))
    return finished(alt.layer(*layers), title, 230, zoom=True)


def pools(data: Data, *, by: str = "pool", refreshes: Data | None = None, title: str = "Instances by pool") -> Chart:
    """Draw ready instances stacked by pool, or by another column; the dashed line is the desired count of all together.

    Columns: at_seconds, `by`, ready, desired: one row for each pool and time. `refreshes`: instance refreshes to mark
    from beginning to end, with the columns at_seconds, until_seconds, text.
    """
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    names = distinct(frame, by)
    changes = changes_only(frame, by, ["ready", "desired"])
    total = changes.group_by("at_seconds").agg(pl.col("desired").sum()).sort("at_seconds")
    tooltips = [
        time_tooltip(frame),
        *(number_tooltip(_escaped(name), f"{name} ready", ".0f") for name in names),
        number_tooltip("desired", "desired, all together", ".0f"),
    ]
    y = alt.Y("ready:Q").stack("zero").title("instances").axis(minExtent=LABEL_WIDTH, tickMinStep=1)
    area = _stacked_area(changes, frame, names, y, by)
    by_time = alt.Chart(inline(dated(total.join(_by_time(changes, "ready", by), on="at_seconds", how="left"))))
    desired = by_time.mark_line(interpolate="step-after", strokeDash=[4, 3], strokeWidth=1.5, color=QUIET).encode(
        x=time_axis(frame), y="desired:Q"
    )
    marks = [] if refreshes is None else _refresh_marks(as_frame(refreshes), frame)
    layers = alt.layer(area, *marks, desired, hover_line(by_time, frame, tooltips))
    return finished(layers, title, 200, zoom=True)


def _refresh_marks(refreshes: pl.DataFrame, frame: pl.DataFrame) -> list[alt.Chart]:
    """Shade each refresh from its beginning to its end, with a line at both and its text at the top."""
    if refreshes.is_empty():
        return []
    with_end = dated(refreshes).with_columns((pl.col("until_seconds") * 1000).round().cast(pl.Int64).alias("until"))
    base = alt.Chart(inline(with_end))
    x = time_axis(frame)
    return [
        base.mark_rect(color=QUIET, opacity=0.18, clip=True).encode(x=x, x2="until:T"),
        base.mark_rule(color=QUIET, strokeWidth=1.2, clip=True).encode(x=x),
        base.mark_rule(color=QUIET, strokeWidth=1.2, clip=True).encode(x=alt.X("until:T")),
        base.mark_text(align="left", baseline="top", dx=4, dy=4, clip=True).encode(x=x, y=alt.value(0), text="text:N"),
    ]


def _escaped(name: str) -> str:
    """Return a field's name for Vega, in which a dot would lead into a nested object."""
    return name.replace(".", "\\.")


def weights(data: Data, *, title: str = "Traffic weights") -> Chart:
    """Draw the share of the traffic that each pool gets. Columns: at_seconds, pool, weight."""
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    names = distinct(frame, "pool")
    frame = changes_only(frame, "pool", ["weight"])
    tooltips = [time_tooltip(frame), *(number_tooltip(name, name, ".0f") for name in names)]
    y = alt.Y("weight:Q").stack("normalize").title("share of traffic").axis(minExtent=LABEL_WIDTH, format="%")
    area = _stacked_area(frame, frame, names, y)
    by_time = alt.Chart(inline(dated(_by_time(frame, "weight"))))
    return finished(alt.layer(area, hover_line(by_time, frame, tooltips)), title, 130, zoom=True)


def _by_time(frame: pl.DataFrame, value: str, by: str = "pool") -> pl.DataFrame:
    """Return one row for each time, with a column for each pool."""
    return frame.pivot(on=by, index="at_seconds", values=value, aggregate_function="last").sort("at_seconds")


def _stacked_area(
    changes: pl.DataFrame, frame: pl.DataFrame, names: list[str], y: alt.Y, by: str = "pool"
) -> alt.Chart:
    """Return an area of a value, stacked by pool; the time axis is that of `frame`."""
    return (
        alt.Chart(inline(dated(changes)))
        .mark_area(interpolate="step-after")
        .encode(
            x=time_axis(frame),
            y=y,
            color=alt.Color(f"{by}:N").scale(domain=names, range=list(SERIES[: len(names)])).sort(names),
            order=alt.Order("rank:Q"),
        )
        .transform_calculate(rank=f"indexof({names!r}, datum.{by})")
    )


def latency(
    data: Data,
    limit_seconds: float | None,
    *,
    span_seconds: tuple[float, float] | None = None,
    title: str = "Time to first token",
    value: str = "ttft_seconds",
    log: bool = True,
) -> Chart:
    """Draw a latency over time against its limit.

    Columns: at_seconds and `value`, in seconds, null if nothing was measured; optional: median, which is drawn beside
    it. The axis is logarithmic, since a breach is often many times the limit; zeros are then left out. `span_seconds`
    are the first and the last time of the charts above.
    """
    frame = as_frame(data)
    columns = [value, "median"] if "median" in frame.columns else [value]
    frame = frame.select("at_seconds", *columns)
    if frame[value].drop_nulls().is_empty():
        return empty_chart(title)
    frame = thin(frame, "at_seconds", columns)
    drawn = frame.filter(pl.col(value) > 0) if log else frame
    base = alt.Chart(inline(dated(drawn)))
    x = time_axis(frame, span_seconds)
    y = alt.Y(f"{value}:Q").title("seconds").axis(minExtent=LABEL_WIDTH, tickCount=5)
    layers: list[Any] = [
        base.mark_line(color=SERIES[0], interpolate="linear").encode(x=x, y=y.scale(type="log") if log else y)
    ]
    tooltips = [time_tooltip(frame), number_tooltip(value, "seconds", ".3f")]
    if "median" in columns:
        medians = alt.Chart(inline(dated(drawn.filter(pl.col("median") > 0) if log else drawn)))
        layers.append(medians.mark_line(color=QUIET, strokeWidth=1.2, interpolate="linear").encode(x=x, y="median:Q"))
        tooltips.append(number_tooltip("median", "median", ".3f"))
    if limit_seconds is not None:
        breaches = drawn.filter(pl.col(value) > limit_seconds)
        if not breaches.is_empty():  # Vega complains about an empty layer, which has no extent
            points = alt.Chart(inline(dated(breaches)))
            layers.append(points.mark_point(filled=True, size=22, color=BAD, opacity=0.9).encode(x=x, y=f"{value}:Q"))
        rule = alt.Chart(inline(pl.DataFrame({"limit": [limit_seconds]})))
        layers += [
            rule.mark_rule(color=BAD, strokeDash=[5, 4]).encode(y="limit:Q"),
            rule.mark_text(align="left", dx=4, dy=-7, color=BAD).encode(
                y="limit:Q", x=alt.value(0), text=alt.value(f"SLO {limit_seconds:g} s")
            ),
        ]
    layers.append(hover_line(base, frame, tooltips))
    return finished(alt.layer(*layers), title, 170, zoom=True)


def decisions(data: Data, *, span_seconds: tuple[float, float] | None = None, title: str = "Decisions") -> Chart:
    """Draw every decision as a mark in the row of its code; its reason shows on hover.

    Columns: at_seconds, code, sentence; optional: pool. `span_seconds` are the first and the last time of the charts
    above, with which this chart is aligned.
    """
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    frame = dated(frame)
    codes = frame.group_by("code").len().sort("len", "code", descending=[True, False])["code"].to_list()
    tooltips = [time_tooltip(frame), alt.Tooltip("code:N", title="code"), alt.Tooltip("sentence:N", title="reason")]
    if "pool" in frame.columns:
        tooltips.insert(2, alt.Tooltip("pool:N", title="pool"))
    y = (
        alt.Y("code:N")
        .sort(codes)
        .title("reason codes")
        .axis(minExtent=LABEL_WIDTH, grid=True, labels=False, ticks=False)
    )
    marks = (
        alt.Chart(inline(frame))
        .mark_point(filled=True, size=52, opacity=0.8, cursor="pointer", clip=True)
        .encode(
            x=time_axis(frame, span_seconds),
            y=y,
            color=alt.Color("code:N").sort(codes).legend(None).scale(range=list(SERIES)),
            tooltip=tooltips,
        )
    )
    # The codes are drawn inside the plot: to its left they would push it out of line with the charts above.
    labels = (
        alt.Chart(inline(pl.DataFrame({"code": codes})))
        .mark_text(align="left", dx=3, dy=-9, fontSize=10.5, opacity=0.75)
        .encode(x=alt.value(0), y=y, text="code:N")
    )
    return finished(alt.layer(marks, labels), title, max(60, 28 * len(codes)), zoom=True)


def cost_against_attainment(
    data: Data, *, target: float | None = None, bound_usd: float | None = None, title: str = "Cost against attainment"
) -> Chart:
    """Draw contenders as points: cheaper to the left, better at the top; the line at the left is the clairvoyant fleet.

    Columns: contender, cost_usd, slo_attainment (0 to 1); optional: ours (bool), and the bounds of the spread over
    seeds: cost_low_usd, cost_high_usd, attainment_low, attainment_high.
    """
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    if "ours" not in frame.columns:
        frame = frame.with_columns(pl.lit(value=False).alias("ours"))
    base = alt.Chart(inline(frame))
    x = alt.X("cost_usd:Q").title("cost, USD").scale(zero=False, nice=True, padding=24)
    y = (
        alt.Y("slo_attainment:Q")
        .title("share of requests within the SLO")
        .axis(format=".2~%", minExtent=LABEL_WIDTH)
        .scale(zero=False, nice=False, domain=_attainment_domain(frame, target))
    )
    colour = alt.condition("datum.ours", alt.value(SERIES[1]), alt.value(SERIES[0]))
    tooltips = [
        alt.Tooltip("contender:N"),
        number_tooltip("cost_usd", "cost, USD", ",.2f"),
        number_tooltip("slo_attainment", "within the SLO", ".3%"),
    ]
    layers: list[Any] = []
    if {"cost_low_usd", "cost_high_usd"} <= set(frame.columns):
        layers.append(base.mark_rule(opacity=0.6).encode(x="cost_low_usd:Q", x2="cost_high_usd:Q", y=y, color=colour))
    if {"attainment_low", "attainment_high"} <= set(frame.columns):
        layers.append(
            base.mark_rule(opacity=0.6).encode(y="attainment_low:Q", y2="attainment_high:Q", x=x, color=colour)
        )
    layers += [
        base.mark_point(filled=True, size=110, opacity=1).encode(x=x, y=y, color=colour, tooltip=tooltips),
        base.mark_text(align="left", dx=9, dy=-8, limit=190).encode(x=x, y=y, text="contender:N"),
    ]
    if target is not None:
        layers += _target_line(target)
    if bound_usd is not None:
        layers += _bound_line(bound_usd)
    return finished(alt.layer(*layers), title, 340)


def _attainment_domain(frame: pl.DataFrame, target: float | None) -> list[float]:
    """Return the ends of the attainment axis, with some room around the points and the target."""
    columns = [name for name in ("slo_attainment", "attainment_low", "attainment_high") if name in frame.columns]
    values = [float(value) for name in columns for value in frame[name].drop_nulls()] + ([target] if target else [])
    low, high = min(values, default=0.0), max(values, default=1.0)
    room = max(0.12 * (high - low), 0.0005)
    return [max(0.0, low - room), min(1.0, high + room)]


def _target_line(target: float) -> list[Any]:
    line = alt.Chart(inline(pl.DataFrame({"target": [target]})))
    text = f"SLO {target:.4g}" if target >= 1 else f"SLO {target * 100:.4g} %"
    return [
        line.mark_rule(color=BAD, strokeDash=[5, 4]).encode(y="target:Q"),
        line.mark_text(align="right", dx=-4, dy=-7, color=BAD).encode(
            y="target:Q", x=alt.value("width"), text=alt.value(text)
        ),
    ]


def _bound_line(bound_usd: float) -> list[Any]:
    line = alt.Chart(inline(pl.DataFrame({"bound": [bound_usd]})))
    tooltip = [number_tooltip("bound", "clairvoyant fleet, USD", ",.2f")]
    return [
        line.mark_rule(color=GOOD, strokeWidth=1.5).encode(x="bound:Q", tooltip=tooltip),
        line.mark_text(align="left", dx=5, dy=-4, color=GOOD, baseline="bottom").encode(
            x="bound:Q", y=alt.value("height"), text=alt.value("clairvoyant")
        ),
    ]


def rate(data: Data, *, title: str = "Rate", unit: str = "requests per second") -> Chart:
    """Draw a trace's rate over time. Columns: at_seconds, rps; null if nothing was measured."""
    frame = thin(as_frame(data).select("at_seconds", "rps"), "at_seconds", ["rps"])
    if frame.is_empty():
        return empty_chart(title)
    base = alt.Chart(inline(dated(frame)))
    area = base.mark_area(
        color=SERIES[0], fillOpacity=0.25, line={"color": SERIES[0], "strokeWidth": 1.2}, interpolate="step-after"
    ).encode(x=time_axis(frame), y=alt.Y("rps:Q").title(unit).axis(minExtent=LABEL_WIDTH))
    tooltips = [time_tooltip(frame), number_tooltip("rps", unit)]
    return finished(alt.layer(area, hover_line(base, frame, tooltips)), title, 220, zoom=True)


def histogram(data: Data, *, title: str, unit: str = "tokens") -> Chart:
    """Draw counts in bins, on a logarithmic axis. Columns: low, high, count."""
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    tooltips = [
        number_tooltip("low", "from", ",.0f"),
        number_tooltip("high", "to", ",.0f"),
        number_tooltip("count", "requests", ",.0f"),
    ]
    bars = (
        alt.Chart(inline(frame))
        .mark_rect(color=SERIES[0], fillOpacity=0.75)
        .encode(
            x=alt.X("low:Q").title(unit).scale(type="log", nice=False).axis(format="~s", tickCount=8),
            x2="high:Q",
            y=alt.Y("count:Q").title("requests").axis(minExtent=LABEL_WIDTH),
            y2=alt.Y2Datum(0),
            tooltip=tooltips,
        )
    )
    return finished(bars, title, 150)


def threshold_curve(
    data: Data,
    *,
    target: float,
    recommended: float | None,
    current: float | None = None,
    title: str = "Threshold against breach and cost",
) -> Chart:
    """Draw the share of requests beyond capacity, with its interval, and the cost of each utilisation threshold.

    Columns: threshold (0 to 1), over, over_low, over_high (shares), cost (multiples of the demand's own capacity).
    `target` is the share that may be over capacity.
    """
    frame = as_frame(data)
    if frame.is_empty():
        return empty_chart(title)
    base = alt.Chart(inline(frame))
    x = alt.X("threshold:Q").title("utilisation threshold").axis(format=".0%").scale(nice=False)
    cost = base.mark_line(color=SERIES[1], strokeDash=[6, 3]).encode(
        x=x, y=alt.Y("cost:Q").title("cost, times the demand").axis(titleColor=SERIES[1], grid=False).scale(zero=False)
    )
    layers: list[Any] = [_breach_curve(base, frame, x, target), cost]
    if recommended is not None:
        layers += _threshold_line(x, recommended, _Line("threshold", "recommended", GOOD), label_y=10)
    if current is not None:
        layers += _threshold_line(x, current, _Line("threshold", "policy now", QUIET), label_y=26)
    return finished(alt.layer(*layers).resolve_scale(y="independent"), title, 300)


def _breach_curve(base: alt.Chart, frame: pl.DataFrame, x: alt.X, target: float) -> Any:
    """Return the curve of requests over capacity with its interval and the allowed share."""
    # A breach of several times the allowed share is bad enough, however bad; the axis ends there.
    most = min(max(8 * target, 0.01), max(1e-6, *(float(value) for value in frame["over_high"])))
    y = (
        alt.Y("over:Q")
        .title("requests over capacity")
        .axis(format=".2~%", minExtent=LABEL_WIDTH, titleColor=SERIES[0])
        .scale(alt.Scale(domain=[0, max(most, 1.5 * target)], nice=False, clamp=False))
    )
    tooltips = [
        number_tooltip("threshold", "threshold", ".0%"),
        number_tooltip("over", "requests over capacity", ".3%"),
        number_tooltip("over_low", "90 % interval from", ".3%"),
        number_tooltip("over_high", "to", ".3%"),
        number_tooltip("cost", "cost, times the demand", ".2f"),
    ]
    limit = alt.Chart(inline(pl.DataFrame({"target": [target]})))
    near = alt.selection_point(
        name="near", nearest=True, on="pointerover", fields=["threshold"], empty=False, clear="pointerout"
    )
    return alt.layer(
        base.mark_line(color=SERIES[0], clip=True).encode(x=x, y=y),
        base.mark_area(color=SERIES[0], fillOpacity=0.18, clip=True).encode(x=x, y="over_low:Q", y2="over_high:Q"),
        limit.mark_rule(color=BAD, strokeDash=[5, 4]).encode(y="target:Q"),
        limit.mark_text(align="left", dx=4, dy=-7, color=BAD).encode(
            y="target:Q", x=alt.value(0), text=alt.value(f"allowed: {target * 100:.3g} %")
        ),
        base.mark_rule(strokeWidth=12, opacity=0).encode(x=x, tooltip=tooltips).add_params(near),
        base.mark_point(filled=True, size=50, color=SERIES[0], clip=True).encode(
            x=x, y="over:Q", opacity=alt.condition(near, alt.value(1), alt.value(0))
        ),
    )


def _threshold_line(x: alt.X, value: float, line: _Line, *, label_y: int) -> list[Any]:
    """Return a vertical line at a threshold, and its label."""
    base = alt.Chart(inline(pl.DataFrame({line.column: [value]})))
    return [
        base.mark_rule(color=line.colour, strokeWidth=1.5).encode(x=x),
        base.mark_text(color=line.colour, align="left", dx=5).encode(
            x=x, y=alt.value(label_y), text=alt.value(f"{line.label} {value * 100:.0f} %")
        ),
    ]
