"""Prometheus' text format, by its grammar: https://prometheus.io/docs/instrumenting/exposition_formats/."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

_LABEL = r'[a-zA-Z_]\w*\s*=\s*"(?:[^"\\\n]|\\.)*"'
_SAMPLE = re.compile(
    rf"\s*([a-zA-Z_:][\w:]*)\s*(?:\{{\s*((?:{_LABEL}\s*,\s*)*(?:{_LABEL})?)\s*\}}\s*|\s)([^\s{{}}]+)(?:\s.*)?",
    re.ASCII,
)
_PAIR = re.compile(r'([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\\n]|\\.)*)"', re.ASCII)
_NAME = re.compile(r"\s*([a-zA-Z_:][\w:]*)", re.ASCII)
_ESCAPE = re.compile(r"\\(.)")


class MetricSample(NamedTuple):
    """One line."""

    labels: dict[str, str]
    value: float
    """NaN where the line could not be read: what it counts is unknown, not zero."""


def parse(text):
    """Return the samples by name: a page. Comments, and lines that are no samples, are left out; a sample that cannot
    be read has the value NaN.
    """
    page: dict[str, list[MetricSample]] = {}
    for line in text.split("\n"):
        sample, name = _SAMPLE.fullmatch(line), _NAME.match(line)
        if sample:
            page.setdefault(sample[1], []).append(MetricSample(_labels(sample[2] or ""), _number(sample[3])))
        elif name:
            page.setdefault(name[1], []).append(MetricSample({}, math.nan))
    return page


def _labels(text):
    return {name: _ESCAPE.sub(_unescaped, value) for name, value in _PAIR.findall(text)}


def _unescaped(escape):
    return "\n" if escape[1] == "n" else escape[1]


def _number(text):
    try:
        return float(text)
    except ValueError:
        return math.nan
