"""Recorded demand: reading it, drawing it from rates, reshaping it, describing it, making it up."""

from __future__ import annotations

from lab.traces.errors import TraceError
from lab.traces.generator import Shape, generate, hour
from lab.traces.reader import read
from lab.traces.reshape import crop, peak_rps, scale_to, to_rates
from lab.traces.statistics import Statistics, describe
from lab.traces.steps import Gaps
from lab.traces.tokens import TokenLengths
from lab.traces.trace import RateTrace, Requests, Trace
from lab.traces.writer import write

__all__ = [
    "Gaps",
    "RateTrace",
    "Requests",
    "Shape",
    "Statistics",
    "TokenLengths",
    "Trace",
    "TraceError",
    "crop",
    "describe",
    "generate",
    "hour",
    "peak_rps",
    "read",
    "scale_to",
    "to_rates",
    "write",
]
