"""How much traffic a trace brings: by a factor, or so that its peak needs a given number of instances."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gpu_fleet.backtest.setting import Setting
from gpu_fleet.backtest.trace_demand import WINDOW_SECONDS, demand
from gpu_fleet.traffic import RateTrace, Trace, crop, peak_rps, scale_to

PEAK_INSTANCES = 24.0
"""The default scale: the busiest minute needs this many instances of the middle pool."""
BUSY_SHARE = 0.7
"""Steps below this share of a trace's highest step cannot contain its busiest minute."""


def scaled(trace: Trace | RateTrace, factor: float, seed: int = 0) -> Trace | RateTrace:
    """Return the trace with `factor` times the requests.

    A trace of single requests is cut to whole minutes; which requests are copied, and when, is drawn with the seed.
    """
    if isinstance(trace, RateTrace):
        return replace(trace, rps=trace.rps * factor)
    whole_seconds = math.floor(trace.span_seconds / WINDOW_SECONDS + 1e-9) * WINDOW_SECONDS
    if 0 < whole_seconds < trace.span_seconds:
        trace = crop(trace, 0.0, whole_seconds)  # type: ignore[assignment]  (of requests a trace of requests)
    return trace if factor == 1 else scale_to(trace, factor * peak_rps(trace), seed=seed)


def factor_for(setting: Setting, trace: Trace | RateTrace, instances: float) -> float:
    """Return the factor at which the trace's busiest minute needs `instances` instances of the middle pool.

    The minute counts with the lengths of its own prompts and answers, drawn with seed 0 where the trace has none. The
    factor is refined three times, since the busiest minute of a random draw is not that of the rates; at a few
    requests a second the result is within a tenth. Raises ValueError if `instances` is not above 0, or the trace has
    no requests.
    """
    if not 0 < instances < math.inf:
        raise ValueError(f"peak_instances: must be above 0 (got {instances})")
    pool = setting.middle
    target_rps = instances * pool.throughput_rps
    if peak_rps(trace) == 0:
        raise ValueError(f"{trace.name}: has no requests that could be scaled")
    if isinstance(trace, RateTrace):
        # Only the busy steps can contain the peak, and a fortnight of requests need not be drawn to find it.
        busy = trace.rps[trace.rps >= BUSY_SHARE * trace.rps.max()]
        at = np.arange(len(busy)) * trace.step_seconds
        trace = replace(trace, at_seconds=at, rps=busy, measured=None)
    factor = target_rps / peak_rps(trace)
    for _ in range(3):
        windows = scaled(trace, factor).windows(WINDOW_SECONDS, seed=0)
        factor *= target_rps / demand(setting.service, windows, setting.profiles).peak_rps(setting.service, pool.name)
    return factor
