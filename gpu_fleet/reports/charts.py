"""The charts of the reports, as pure functions of a table: no file, no clock, no AWS.

Tables are polars frames (or mappings of columns) with the columns that each builder names. Times are `at_seconds`:
since the epoch where the values are that large, else since the trace's start, which then reads as day and time of day.
Long lines are thinned to what a screen can show; peaks and troughs stay (`gpu_fleet.reports.thin`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import altair as alt
import polars as pl

from gpu_fleet.reports.look import BAD, GOOD, QUIET, SERIES
from gpu_fleet.reports.page import Chart
from gpu_fleet.reports.thin import thin

Data: TypeAlias = pl.DataFrame | Mapping[str, Sequence[Any]]

TIME_GROUP = "time"
EPOCH_FROM_SECONDS = 1e8
"""Times from here on (1973) are dates; below, they count from the trace's start."""
LEFT = 56
"""Room for the labels of the value axis: the same in all, so that time lines stand exactly under each other."""


def demand_and_capacity(data: Data, *, unit: str = "requests per second", title: str = "Demand and capacity") -> Chart:
    """What was asked and what could be carried.

    Columns: at_seconds, demand, capacity (ready instances); where they are there, ordered (with those that boot) and
    forecast. Demand is an area, so that capacity below it shows as a breach.
    """
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    names = [
        ("capacity", "ready capacity", SERIES[0]),
        ("ordered", "ready + starting", QUIET),
        ("forecast", "forecast", SERIES[3]),
    ]
    there = [one for one in names if one[0] in frame.columns]
    columns = ["demand", *(name for name, _, _ in there)]
    frame = thin(frame.select("at_seconds", *columns), "at_seconds", columns)
    base = alt.Chart(_values(_dated(frame)))
    domain = ["demand", *(label for _, label, _ in there)]
    colour = alt.Scale(domain=domain, range=[SERIES[1], *(one for _, _, one in there)])
    tips = [
        _when(frame),
        *(_number(name, label) for name, label in [("demand", "demand"), *((n, text) for n, text, _ in there)]),
    ]
    layers: list[Any] = [
        base.mark_area(interpolate="linear", fillOpacity=0.35, line={"strokeWidth": 1.4})
        .encode(
            x=_time(frame),
            y=alt.Y("demand:Q").title(unit).axis(minExtent=LEFT),
            color=alt.Color("line:N").scale(colour),
        )
        .transform_calculate(line="'demand'")
    ]
    layers += [
        base.mark_line(interpolate="step-after", strokeDash=[4, 3] if name != "capacity" else [1, 0])
        .encode(x=_time(frame), y=alt.Y(f"{name}:Q").title(unit), color=alt.Color("line:N").scale(colour))
        .transform_calculate(line=repr(label))
        for name, label, _ in there
    ]
    layers.append(_hover(base, frame, tips))
    return _chart(alt.layer(*layers), title, 230, zoom=True)


def pools(data: Data, *, by: str = "pool", refreshes: Data | None = None, title: str = "Instances by pool") -> Chart:
    """Ready instances stacked by pool, or by another column; the dashed line is the desired count of all together.

    Columns: at_seconds, `by`, ready, desired: one row for each pool and time. `refreshes`: instance refreshes to mark
    from beginning to end, with the columns at_seconds, until_seconds, text.
    """
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    order = _order(frame, by)
    kept = _changes(frame, by, ["ready", "desired"])
    total = kept.group_by("at_seconds").agg(pl.col("desired").sum()).sort("at_seconds")
    wide = kept.pivot(on=by, index="at_seconds", values="ready", aggregate_function="last").sort("at_seconds")
    tips = [
        _when(frame),
        *(_number(_escaped(name), f"{name} ready", ".0f") for name in order),
        _number("desired", "desired, all together", ".0f"),
    ]
    area = (
        alt.Chart(_values(_dated(kept)))
        .mark_area(interpolate="step-after")
        .encode(
            x=_time(frame),
            y=alt.Y("ready:Q").stack("zero").title("instances").axis(minExtent=LEFT, tickMinStep=1),
            color=alt.Color(f"{by}:N").scale(domain=order, range=list(SERIES[: len(order)])).sort(order),
            order=alt.Order("rank:Q"),
        )
        .transform_calculate(rank=f"indexof({order!r}, datum.{by})")
    )
    both = alt.Chart(_values(_dated(total.join(wide, on="at_seconds", how="left"))))
    desired = both.mark_line(interpolate="step-after", strokeDash=[4, 3], strokeWidth=1.5, color=QUIET).encode(
        x=_time(frame), y="desired:Q"
    )
    marks = [] if refreshes is None else _refresh_marks(_frame(refreshes), frame)
    return _chart(alt.layer(area, *marks, desired, _hover(both, frame, tips)), title, 200, zoom=True)


def _refresh_marks(refreshes: pl.DataFrame, frame: pl.DataFrame) -> list[alt.Chart]:
    """Shade each refresh from its beginning to its end, with a line at both and its text at the top."""
    if refreshes.is_empty():
        return []
    dated = _dated(refreshes).with_columns((pl.col("until_seconds") * 1000).round().cast(pl.Int64).alias("until"))
    base = alt.Chart(_values(dated))
    x = _time(frame)
    return [
        base.mark_rect(color=QUIET, opacity=0.18, clip=True).encode(x=x, x2="until:T"),
        base.mark_rule(color=QUIET, strokeWidth=1.2, clip=True).encode(x=x),
        base.mark_rule(color=QUIET, strokeWidth=1.2, clip=True).encode(x=alt.X("until:T")),
        base.mark_text(align="left", baseline="top", dx=4, dy=4, clip=True).encode(x=x, y=alt.value(0), text="text:N"),
    ]


def weights(data: Data, *, title: str = "Traffic weights") -> Chart:
    """Share of the traffic that each pool is given. Columns: at_seconds, pool, weight."""
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    order = _order(frame, "pool")
    frame = _changes(frame, "pool", ["weight"])
    wide = frame.pivot(on="pool", index="at_seconds", values="weight", aggregate_function="last").sort("at_seconds")
    tips = [_when(frame), *(_number(name, name, ".0f") for name in order)]
    area = (
        alt.Chart(_values(_dated(frame)))
        .mark_area(interpolate="step-after")
        .encode(
            x=_time(frame),
            y=alt.Y("weight:Q").stack("normalize").title("share of traffic").axis(minExtent=LEFT, format="%"),
            color=alt.Color("pool:N").scale(domain=order, range=list(SERIES[: len(order)])).sort(order),
            order=alt.Order("rank:Q"),
        )
        .transform_calculate(rank=f"indexof({order!r}, datum.pool)")
    )
    return _chart(alt.layer(area, _hover(alt.Chart(_values(_dated(wide))), frame, tips)), title, 130, zoom=True)


def latency(
    data: Data,
    limit_seconds: float | None,
    *,
    span_seconds: tuple[float, float] | None = None,
    title: str = "Time to first token",
    value: str = "ttft_seconds",
    log: bool = True,
) -> Chart:
    """A latency over time against its limit. Columns: at_seconds and `value`, in seconds; null where nothing was seen;
    where it is there, median, which is drawn beside it.

    The axis is logarithmic, since a breach is often many times the limit; zeros are then not shown. `span_seconds`
    are the first and the last time of the charts above.
    """
    frame = _frame(data)
    with_median = "median" in frame.columns
    columns = [value, "median"] if with_median else [value]
    frame = frame.select("at_seconds", *columns)
    if frame[value].drop_nulls().is_empty():
        return _nothing(title)
    frame = thin(frame, "at_seconds", columns)
    shown = frame.filter(pl.col(value) > 0) if log else frame
    base = alt.Chart(_values(_dated(shown)))
    axis = alt.Y(f"{value}:Q").title("seconds").axis(minExtent=LEFT, tickCount=5)
    line = base.mark_line(color=SERIES[0], interpolate="linear").encode(
        x=_time(frame, span_seconds), y=axis.scale(type="log") if log else axis
    )
    layers: list[Any] = [line]
    if with_median:
        known = alt.Chart(_values(_dated(shown.filter(pl.col("median") > 0) if log else shown)))
        layers.append(
            known.mark_line(color=QUIET, strokeWidth=1.2, interpolate="linear").encode(
                x=_time(frame, span_seconds), y="median:Q"
            )
        )
    breaches = shown.filter(pl.col(value) > limit_seconds) if limit_seconds is not None else shown.clear()
    if not breaches.is_empty():  # of no points Vega would complain that they have no extent
        points = alt.Chart(_values(_dated(breaches)))
        layers.append(
            points.mark_point(filled=True, size=22, color=BAD, opacity=0.9).encode(
                x=_time(frame, span_seconds), y=f"{value}:Q"
            )
        )
    if limit_seconds is not None:
        rule = alt.Chart(_values(pl.DataFrame({"limit": [limit_seconds]})))
        layers += [
            rule.mark_rule(color=BAD, strokeDash=[5, 4]).encode(y="limit:Q"),
            rule.mark_text(align="left", dx=4, dy=-7, color=BAD).encode(
                y="limit:Q", x=alt.value(0), text=alt.value(f"SLO {limit_seconds:g} s")
            ),
        ]
    tips = [_when(frame), _number(value, "seconds", ".3f")]
    tips += [_number("median", "median", ".3f")] if with_median else []
    layers.append(_hover(base, frame, tips))
    return _chart(alt.layer(*layers), title, 170, zoom=True)


def decisions(data: Data, *, span_seconds: tuple[float, float] | None = None, title: str = "Decisions") -> Chart:
    """Every decision as a mark in the row of its code, with its reason on hover.

    Columns: at_seconds, code, sentence; where it is there, pool. `span_seconds` are the first and the last time of
    the charts above, where this one shall stand exactly under them.
    """
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    frame = _dated(frame)
    order = frame.group_by("code").len().sort("len", "code", descending=[True, False])["code"].to_list()
    tips = [_when(frame), alt.Tooltip("code:N", title="code"), alt.Tooltip("sentence:N", title="reason")]
    if "pool" in frame.columns:
        tips.insert(2, alt.Tooltip("pool:N", title="pool"))
    y = alt.Y("code:N").sort(order).title("reason codes").axis(minExtent=LEFT, grid=True, labels=False, ticks=False)
    marks = (
        alt.Chart(_values(frame))
        .mark_point(filled=True, size=52, opacity=0.8, cursor="pointer", clip=True)
        .encode(
            x=_time(frame, span_seconds),
            y=y,
            color=alt.Color("code:N").sort(order).legend(None).scale(range=list(SERIES)),
            tooltip=tips,
        )
    )
    # The codes stand inside the plot: at its left they would push it out of line with the charts above.
    names = (
        alt.Chart(_values(pl.DataFrame({"code": order})))
        .mark_text(align="left", dx=3, dy=-9, fontSize=10.5, opacity=0.75)
        .encode(x=alt.value(0), y=y, text="code:N")
    )
    return _chart(alt.layer(marks, names), title, max(60, 28 * len(order)), zoom=True)


def cost_against_attainment(
    data: Data, *, target: float | None = None, bound_usd: float | None = None, title: str = "Cost against attainment"
) -> Chart:
    """Contenders as points: cheaper is left, better is up; the line at the left is the clairvoyant fleet.

    Columns: contender, cost_usd, slo_attainment (0 to 1); where they are there, ours (bool), and the bounds of the
    spread over seeds cost_low_usd, cost_high_usd, attainment_low, attainment_high.
    """
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    if "ours" not in frame.columns:
        frame = frame.with_columns(pl.lit(value=False).alias("ours"))
    base = alt.Chart(_values(frame))
    x = alt.X("cost_usd:Q").title("cost, USD").scale(zero=False, nice=True, padding=24)
    shares = [name for name in ("slo_attainment", "attainment_low", "attainment_high") if name in frame.columns]
    seen = [float(value) for name in shares for value in frame[name].drop_nulls()] + ([target] if target else [])
    low, high = min(seen, default=0.0), max(seen, default=1.0)
    room = max(0.12 * (high - low), 0.0005)
    y = (
        alt.Y("slo_attainment:Q")
        .title("share of requests within the SLO")
        .axis(format=".2~%", minExtent=LEFT)
        .scale(zero=False, nice=False, domain=[max(0.0, low - room), min(1.0, high + room)])
    )
    colour = alt.condition("datum.ours", alt.value(SERIES[1]), alt.value(SERIES[0]))
    tips = [
        alt.Tooltip("contender:N"),
        _number("cost_usd", "cost, USD", ",.2f"),
        _number("slo_attainment", "within the SLO", ".3%"),
    ]
    layers: list[Any] = []
    if {"cost_low_usd", "cost_high_usd"} <= set(frame.columns):
        layers.append(base.mark_rule(opacity=0.6).encode(x="cost_low_usd:Q", x2="cost_high_usd:Q", y=y, color=colour))
    if {"attainment_low", "attainment_high"} <= set(frame.columns):
        layers.append(
            base.mark_rule(opacity=0.6).encode(y="attainment_low:Q", y2="attainment_high:Q", x=x, color=colour)
        )
    layers += [
        base.mark_point(filled=True, size=110, opacity=1).encode(x=x, y=y, color=colour, tooltip=tips),
        base.mark_text(align="left", dx=9, dy=-8, limit=190).encode(x=x, y=y, text="contender:N"),
    ]
    if target is not None:
        line = alt.Chart(_values(pl.DataFrame({"target": [target]})))
        layers.append(line.mark_rule(color=BAD, strokeDash=[5, 4]).encode(y="target:Q"))
        text = f"SLO {target:.4g}" if target >= 1 else f"SLO {target * 100:.4g} %"
        layers.append(
            line.mark_text(align="right", dx=-4, dy=-7, color=BAD).encode(
                y="target:Q", x=alt.value("width"), text=alt.value(text)
            )
        )
    if bound_usd is not None:
        line = alt.Chart(_values(pl.DataFrame({"bound": [bound_usd]})))
        layers.append(
            line.mark_rule(color=GOOD, strokeWidth=1.5).encode(
                x="bound:Q", tooltip=[_number("bound", "clairvoyant fleet, USD", ",.2f")]
            )
        )
        layers.append(
            line.mark_text(align="left", dx=5, dy=-4, color=GOOD, baseline="bottom").encode(
                x="bound:Q", y=alt.value("height"), text=alt.value("clairvoyant")
            )
        )
    return _chart(alt.layer(*layers), title, 340)


def rate(data: Data, *, title: str = "Rate", unit: str = "requests per second") -> Chart:
    """A trace's rate over time. Columns: at_seconds, rps; null where nothing was measured."""
    frame = thin(_frame(data).select("at_seconds", "rps"), "at_seconds", ["rps"])
    if frame.is_empty():
        return _nothing(title)
    base = alt.Chart(_values(_dated(frame)))
    area = base.mark_area(
        color=SERIES[0], fillOpacity=0.25, line={"color": SERIES[0], "strokeWidth": 1.2}, interpolate="step-after"
    ).encode(x=_time(frame), y=alt.Y("rps:Q").title(unit).axis(minExtent=LEFT))
    return _chart(alt.layer(area, _hover(base, frame, [_when(frame), _number("rps", unit)])), title, 220, zoom=True)


def histogram(data: Data, *, title: str, unit: str = "tokens") -> Chart:
    """Counts in bins, on a logarithmic axis. Columns: low, high, count."""
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    base = alt.Chart(_values(frame))
    tips = [_number("low", "from", ",.0f"), _number("high", "to", ",.0f"), _number("count", "requests", ",.0f")]
    bars = base.mark_rect(color=SERIES[0], fillOpacity=0.75).encode(
        x=alt.X("low:Q").title(unit).scale(type="log", nice=False).axis(format="~s", tickCount=8),
        x2="high:Q",
        y=alt.Y("count:Q").title("requests").axis(minExtent=LEFT),
        y2=alt.Y2Datum(0),
        tooltip=tips,
    )
    return _chart(bars, title, 150)


def threshold_curve(
    data: Data,
    *,
    target: float,
    recommended: float | None,
    current: float | None = None,
    title: str = "Threshold against breach and cost",
) -> Chart:
    """For each utilisation threshold: share of requests beyond capacity (with its interval), and cost.

    Columns: threshold (0 to 1), over, over_low, over_high (shares), cost (multiples of the demand's own capacity).
    `target` is the share that may be over capacity.
    """
    frame = _frame(data)
    if frame.is_empty():
        return _nothing(title)
    base = alt.Chart(_values(frame))
    x = alt.X("threshold:Q").title("utilisation threshold").axis(format=".0%").scale(nice=False)
    # Beyond a few times what is allowed, how much worse a threshold is no longer matters; the axis ends there.
    most = min(max(8 * target, 0.01), max(1e-6, *(float(value) for value in frame["over_high"]))) if len(frame) else 1.0
    scale = alt.Scale(domain=[0, max(most, 1.5 * target)], nice=False, clamp=False)
    y = (
        alt.Y("over:Q")
        .title("requests over capacity")
        .axis(format=".2~%", minExtent=LEFT, titleColor=SERIES[0])
        .scale(scale)
    )
    tips = [
        _number("threshold", "threshold", ".0%"),
        _number("over", "requests over capacity", ".3%"),
        _number("over_low", "90 % interval from", ".3%"),
        _number("over_high", "to", ".3%"),
        _number("cost", "cost, times the demand", ".2f"),
    ]
    limit = alt.Chart(_values(pl.DataFrame({"target": [target]})))
    near = alt.selection_point(
        name="near", nearest=True, on="pointerover", fields=["threshold"], empty=False, clear="pointerout"
    )
    breach = alt.layer(
        base.mark_line(color=SERIES[0], clip=True).encode(x=x, y=y),
        base.mark_area(color=SERIES[0], fillOpacity=0.18, clip=True).encode(x=x, y="over_low:Q", y2="over_high:Q"),
        limit.mark_rule(color=BAD, strokeDash=[5, 4]).encode(y="target:Q"),
        limit.mark_text(align="left", dx=4, dy=-7, color=BAD).encode(
            y="target:Q", x=alt.value(0), text=alt.value(f"allowed: {target * 100:.3g} %")
        ),
        base.mark_rule(strokeWidth=12, opacity=0).encode(x=x, tooltip=tips).add_params(near),
        base.mark_point(filled=True, size=50, color=SERIES[0], clip=True).encode(
            x=x, y="over:Q", opacity=alt.condition(near, alt.value(1), alt.value(0))
        ),
    )
    cost = base.mark_line(color=SERIES[1], strokeDash=[6, 3]).encode(
        x=x, y=alt.Y("cost:Q").title("cost, times the demand").axis(titleColor=SERIES[1], grid=False).scale(zero=False)
    )
    marks: list[Any] = [breach, cost]
    for value, label, colour, level in ((recommended, "recommended", GOOD, 10), (current, "policy now", QUIET, 26)):
        if value is not None:
            line = alt.Chart(_values(pl.DataFrame({"threshold": [value]})))
            marks.append(line.mark_rule(color=colour, strokeWidth=1.5).encode(x=x))
            marks.append(
                line.mark_text(color=colour, align="left", dx=5).encode(
                    x=x, y=alt.value(level), text=alt.value(f"{label} {value * 100:.0f} %")
                )
            )
    return _chart(alt.layer(*marks).resolve_scale(y="independent"), title, 300)


def _nothing(title: str) -> Chart:
    """What stands for a chart of no rows: its title, and a sentence."""
    return Chart({}, title, note="Nothing to show.")


def _frame(data: Data) -> pl.DataFrame:
    return data if isinstance(data, pl.DataFrame) else pl.DataFrame(data, strict=False)


def _order(frame: pl.DataFrame, column: str) -> list[str]:
    return frame[column].unique(maintain_order=True).to_list()


def _dated(frame: pl.DataFrame) -> pl.DataFrame:
    """With `at` in milliseconds, as charts count time; values to the 5 digits that a chart can show."""
    floats = [name for name, kind in frame.schema.items() if kind.is_float() and name != "at_seconds"]
    return frame.select(
        (pl.col("at_seconds") * 1000).round().cast(pl.Int64).alias("at"),
        *(pl.col(name).round_sig_figs(5) for name in floats),
        pl.all().exclude("at_seconds", *floats),
    )


def _changes(frame: pl.DataFrame, by: str, values: Sequence[str]) -> pl.DataFrame:
    """The rows of those times at which a value of any line changes (and the step before, and the ends), thinned.

    Stacked areas need every line at every time, so times are kept for all lines or for none.
    """
    value = [pl.col(name) for name in values]
    changed = pl.any_horizontal(
        *(one.ne_missing(one.shift(1).over(by)) for one in value),
        *(one.ne_missing(one.shift(-1).over(by)) for one in value),
    )
    first_or_last = pl.col("at_seconds").is_in([frame["at_seconds"].min(), frame["at_seconds"].max()])
    times = thin(frame.filter(changed | first_or_last), "at_seconds", values, [by])["at_seconds"].unique()
    return frame.filter(pl.col("at_seconds").is_in(times.implode()))


def _values(frame: pl.DataFrame) -> alt.Data:
    """Rows written into the chart itself."""
    return alt.Data(values=frame.to_dicts())


def _is_date(frame: pl.DataFrame) -> bool:
    if "at" in frame.columns:
        return (frame["at"].max() or 0) >= EPOCH_FROM_SECONDS * 1000  # type: ignore[operator]  (polars: any number)
    return (frame["at_seconds"].max() or 0) >= EPOCH_FROM_SECONDS  # type: ignore[operator]


def _span_seconds(frame: pl.DataFrame) -> float:
    times = frame["at"] / 1000 if "at" in frame.columns else frame["at_seconds"]
    return float(times.max() or 0) - float(times.min() or 0)  # type: ignore[arg-type]


DAY_LABEL = "'day ' + (1 + floor(datum.value / 86400000))"


def _time(frame: pl.DataFrame, span_seconds: tuple[float, float] | None = None) -> alt.X:
    """The time axis: dates in UTC, or day and time of day from the trace's start."""
    scale: dict[str, Any] = {"domain": [round(end * 1000) for end in span_seconds]} if span_seconds else {}
    axis = alt.X("at:T").title(None).scale(type="utc", nice=False, **scale)
    if _is_date(frame):
        midnight = "utchours(datum.value) + utcminutes(datum.value) === 0"
        label = f"utcFormat(datum.value, {midnight} ? '%b %-d' : '%H:%M')"
        return axis.axis(labelExpr=label, tickCount=8)
    if _span_seconds(frame) <= 86_400:
        return axis.axis(format="%-H:%M", tickCount=8)
    label = f"utchours(datum.value) === 0 ? {DAY_LABEL} : utcFormat(datum.value, '%-H:%M')"
    return axis.axis(labelExpr=label, tickCount=8)


def _when(frame: pl.DataFrame) -> alt.Tooltip:
    form = "%Y-%m-%d %H:%M:%S UTC" if _is_date(frame) else "%H:%M:%S"
    if not _is_date(frame) and _span_seconds(frame) > 86_400:
        form = "day %-j, %H:%M"
    return alt.Tooltip("utcyearmonthdatehoursminutesseconds(at):T", title="at", format=form)


def _escaped(name: str) -> str:
    """A field's name for Vega, in which a dot would lead into a nested object."""
    return name.replace(".", "\\.")


def _number(name: str, title: str, form: str = ",.2f") -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", title=title, format=form)


def _hover(base: alt.Chart, frame: pl.DataFrame, tips: list[alt.Tooltip]) -> alt.Chart:
    """An upright line at the time nearest to the pointer, with all values of that time."""
    near = alt.selection_point(
        name="near", nearest=True, on="pointerover", encodings=["x"], empty=False, clear="pointerout"
    )
    return (
        base.mark_rule(strokeWidth=1)
        .encode(x=_time(frame), opacity=alt.condition(near, alt.value(0.8), alt.value(0)), tooltip=tips)
        .add_params(near)
    )


def _chart(chart: Any, title: str, height: int, *, zoom: bool = False) -> Chart:
    """As wide as the page. Time lines are dragged with the mouse and zoomed with shift and the wheel (the bare wheel
    scrolls the page); a double click shows all again.
    """
    sized = chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )
    if not zoom:
        return Chart(sized.to_dict(validate=True), title)
    spec = sized.to_dict(validate=True)
    zooming = {
        "name": "zoom",
        "select": {"type": "interval", "encodings": ["x"], "zoom": "wheel![event.shiftKey]"},
        "bind": "scales",
    }
    # In a layered chart the parameter belongs to one of the layers.
    place = spec["layer"][0] if "layer" in spec else spec
    place["params"] = [*place.get("params", []), zooming]
    return Chart(spec, title, group=TIME_GROUP)
