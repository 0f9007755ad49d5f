"""Single arrivals drawn from rates: a gamma renewal process.

The times between requests are gamma distributed with the coefficient of variation `burstiness` (shape 1/burstiness^2):
1 is Poisson traffic, above 1 the requests come in clumps, 0 is a metronome. It is the arrival model of ServeGen
(Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model Serving in Production",
2025, https://arxiv.org/abs/2505.09999), which finds production traffic burstier than Poisson. Counted over
times much longer than a clump, the process has an index of dispersion (variance/mean of counts) of burstiness^2
(Cox and Lewis, "The Statistical Analysis of Series of Events", 1966, section 4.3).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

METRONOME = 1e-3
"""Below this coefficient of variation all gaps are equal."""


def arrivals(
    counts: NDArray[np.float64], step_seconds: float, burstiness: float, random: np.random.Generator
) -> NDArray[np.float64]:
    """Draw arrival times in seconds from the start of the first step, sorted.

    `counts` are the expected requests of consecutive steps. The process runs in operational time, in which its rate
    is 1 (the running sum of `counts`), and is mapped back, so that each step has exactly its expected number. The
    first gap is drawn as an observer at a random time sees it (length-biased, then cut at a uniform point): a fresh
    gap would leave the start too empty.
    """
    total = float(counts.sum())
    if total <= 0:
        return np.empty(0)
    points = _unit_rate_points(total, burstiness, random)
    if len(counts) == 1:
        return points * (step_seconds / total)
    edges = np.concatenate(([0.0], np.cumsum(counts)))
    times = np.arange(len(edges)) * step_seconds
    # A step without requests is a single point of operational time: np.interp could take either end of it.
    rising = np.concatenate(([True], np.diff(edges) > 0))
    starts = np.maximum.accumulate(np.where(rising[1:], times[:-1], -1.0))
    step = np.searchsorted(edges, points, side="right") - 1
    step = np.minimum(step, len(counts) - 1)
    return starts[step] + (points - edges[step]) / counts[step] * step_seconds


def _unit_rate_points(length: float, burstiness: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Draw the points of the stationary renewal process of rate 1 on [0, length)."""
    if burstiness < METRONOME:
        return np.arange(random.random(), length, 1.0)
    shape = 1.0 / burstiness**2
    first = random.random() * float(random.standard_gamma(shape + 1.0)) / shape
    last = first
    pieces = [np.array([first])]
    while last < length:
        missing = length - last
        # Mean + 3 standard deviations of the missing count: a second round is rare.
        count = math.ceil(missing + 3 * burstiness * math.sqrt(missing) + burstiness**2 + 1)
        gaps = random.standard_exponential(count) if burstiness == 1 else random.standard_gamma(shape, count) / shape
        np.cumsum(gaps, out=gaps)
        gaps += last
        pieces.append(gaps)
        last = float(gaps[-1])
    points = np.concatenate(pieces)
    return points[: np.searchsorted(points, length, side="left")]
