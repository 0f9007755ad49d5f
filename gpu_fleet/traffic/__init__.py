"""Recorded demand: read, draw from rates, reshape, describe and generate it."""

from __future__ import annotations

from gpu_fleet.traffic.errors import TraceError
from gpu_fleet.traffic.generator import Shape, generate, hour
from gpu_fleet.traffic.reader import read
from gpu_fleet.traffic.reshape import crop, peak_rps, scale_to, to_rates
from gpu_fleet.traffic.statistics import Statistics, describe
from gpu_fleet.traffic.steps import Gaps
from gpu_fleet.traffic.trace import RateTrace, Requests, Trace
from gpu_fleet.traffic.writer import write

__all__ = [
    "Gaps",
    "RateTrace",
    "Requests",
    "Shape",
    "Statistics",
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
