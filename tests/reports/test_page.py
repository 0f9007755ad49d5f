"""The page as text: what stands in it, and what must not."""

from __future__ import annotations

import json
import math
import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpu_fleet.reports.page import Chart, Column, Figure, Figures, PageSection, Table, Text, page, table
from gpu_fleet.reports.thin import thin

BAR = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
    "mark": "bar",
    "data": {"values": [{"a": 1}]},
    "encoding": {"x": {"field": "a"}},
}


def specs(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="specs">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_library_stands_in_the_page_once_whatever_the_number_of_charts():
    one = page("t", [PageSection("s", [Chart(BAR)])])
    many = page("t", [PageSection("s", [Chart(BAR)] * 10)])
    assert len(specs(many)) == 10
    assert len(many) - len(one) < 4_000
    assert len(many) < 1_100_000


def test_a_page_without_charts_carries_no_library():
    assert len(page("t", [PageSection("s", [Text("x")])])) < 20_000


def test_no_text_can_become_markup():
    evil = '</script><img src=x onerror=alert(1)> "&'
    spec = BAR | {"data": {"values": [{"a": evil}]}}
    text = page(
        evil,
        [
            PageSection(
                evil,
                [
                    Text(evil),
                    Figures([Figure(evil, evil)]),
                    Table([Column("a", evil)], [{"a": evil}], title=evil, note=evil),
                    Chart(spec, title=evil, note=evil),
                ],
                text=evil,
            )
        ],
        subtitle=evil,
    )
    plain = page("t", [PageSection("s", [Chart(BAR)])])
    # The library has such words of its own: as many as without the evil text.
    for markup in ("<img", "</script>"):
        assert text.count(markup) == plain.count(markup)
    assert specs(text)["chart-0"]["spec"]["data"]["values"] == [{"a": evil}]


def test_the_schemas_address_and_numbers_that_are_none_are_left_out():
    text = page("t", [PageSection("s", [Chart(BAR | {"data": {"values": [{"a": math.nan}, {"a": math.inf}]}})])])
    spec = specs(text)["chart-0"]["spec"]
    assert "$schema" not in spec
    assert spec["data"]["values"] == [{"a": None}, {"a": None}]


def test_the_same_input_gives_the_same_bytes():
    sections = [PageSection("s", [Chart(BAR), Table([Column("a", "a", ".1f")], [{"a": 1.0}])])]
    assert page("t", sections) == page("t", sections)


def test_what_a_row_lacks_is_a_dash_and_never_zero():
    text = table(
        Table(
            [Column("n", "number", ".1f", "$"), Column("t", "text")],
            [{"n": None}, {"n": 1.25, "t": "x"}, {"n": math.nan}],
        )
    )
    assert text.count("\u2013") == 4
    assert "$1.2" in text
    assert "0.0" not in text


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(-1e6, 1e6)), min_size=1, max_size=400),
    st.integers(4, 60),
)
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_every_lines_extremes_and_ends(rows, points):
    frame = pl.DataFrame(
        {"x": [float(i) for i in range(len(rows))], "line": [r[0] for r in rows], "y": [r[1] for r in rows]}
    )
    kept = thin(frame, "x", ["y"], ["line"], points)
    assert kept["x"].is_sorted()
    for (name,), line in frame.group_by("line"):
        left = kept.filter(pl.col("line") == name)
        assert left["y"].max() == line["y"].max()
        assert left["y"].min() == line["y"].min()
        assert (left["x"].min(), left["x"].max()) == (line["x"].min(), line["x"].max())
        assert len(left) <= max(points, 4) + 2 or len(left) == len(line)


def test_thinning_lets_missing_values_be():
    frame = pl.DataFrame({"x": [float(i) for i in range(500)], "y": [None if i % 3 else float(i) for i in range(500)]})
    kept = thin(frame, "x", ["y"], points=50)
    assert kept["y"].max() == 498
    assert len(kept) < 120


@pytest.mark.parametrize("rows", [0, 3])
def test_a_short_line_is_left_alone(rows):
    frame = pl.DataFrame(
        {"x": [float(i) for i in range(rows)], "y": [1.0] * rows}, schema={"x": pl.Float64, "y": pl.Float64}
    )
    assert thin(frame, "x", ["y"]).equals(frame)
