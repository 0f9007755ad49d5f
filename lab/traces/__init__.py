"""Recorded demand: reading it, drawing it from rates, reshaping it, describing it, making it up."""

from __future__ import annotations

from lab.traces.errors import TraceError
from lab.traces.reader import read
from lab.traces.steps import Gaps
from lab.traces.tokens import TokenLengths
from lab.traces.trace import RateTrace, Requests, Trace

__all__ = ["Gaps", "RateTrace", "Requests", "TokenLengths", "Trace", "TraceError", "read"]
