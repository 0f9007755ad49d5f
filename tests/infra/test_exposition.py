"""Prometheus' text format, by its grammar."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.instance.node.exposition import MetricSample, parse


@pytest.mark.parametrize(
    ("line", "sample"),
    [
        ("up 1", MetricSample({}, 1.0)),
        ("  up\t 1 1764091200000", MetricSample({}, 1.0)),
        ("up{} 2", MetricSample({}, 2.0)),
        ('up{a="b"}3', MetricSample({"a": "b"}, 3.0)),
        ('up{ a = "b" , c="d", } -1.5e3 17', MetricSample({"a": "b", "c": "d"}, -1500.0)),
        ('up{profile="x",le="0.5"} 4', MetricSample({"profile": "x", "le": "0.5"}, 4.0)),
        (r'up{path="C:\\DIR\\",msg="a \"b\"\nc"} 1', MetricSample({"path": "C:\\DIR\\", "msg": 'a "b"\nc'}, 1.0)),
        ('up{model="a,le=\\"9\\"}{b=\'",le="1"} 5', MetricSample({"model": 'a,le="9"}{b=\'', "le": "1"}, 5.0)),
        ("up +Inf", MetricSample({}, math.inf)),
        ('up{a="b"} 1 # {trace_id="x"} 0.67', MetricSample({"a": "b"}, 1.0)),
    ],
)
def test_a_sample_is_read_by_the_grammar(line: str, sample: MetricSample) -> None:
    assert parse(f"# HELP up Up.\n# TYPE up gauge\n{line}\n\n") == {"up": [sample]}


@pytest.mark.parametrize("line", ["up x", "up NaN", 'up{a="b} 1', "up{a=b} 1", "up{ 1", "up", 'up{a="b",,} 1'])
def test_a_sample_that_cannot_be_read_is_unknown_and_not_missing(line: str) -> None:
    page = parse(f'{line}\nup{{engine="1"}} 4\n')
    assert len(page["up"]) == 2
    assert math.isnan(page["up"][0].value)


def test_what_is_no_sample_is_left_out() -> None:
    assert parse("# a comment {\n\n<html>\n\x00\n# EOF\n") == {}


LABELS = st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True), st.text(), max_size=4)


@given(LABELS, st.floats(allow_nan=False))
def test_whatever_the_labels_hold_they_are_read_as_they_were_written(labels: dict[str, str], value: float) -> None:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    inner = ",".join(f'{name}="{escaped(text)}"' for name, text in labels.items())
    assert parse(f"m{{{inner}}} {value!r}\n") == {"m": [MetricSample(labels, value)]}


@given(st.text())
def test_no_text_is_refused(text: str) -> None:
    parse(text)
