"""Which utilisation threshold suits a history of demand: the article's question 9.2, answered by replaying it.

The rule that is replayed is as plain as can be, so that the answer can be checked by eye: at each step the capacity
that stands is what was ordered a lead time ago, and what is ordered is the demand of that moment over the threshold
(what stands at `threshold` utilisation is just what was asked for). With the demand D, lead time L and threshold u,

    capacity(t) = D(t - L) / u        over(t) = max(0, D(t) - capacity(t))

The share of requests over capacity is sum(over) / sum(D); the cost is sum(capacity) / sum(D), in multiples of the
capacity that the demand itself takes. With `hold_seconds` capacity goes down only to the highest that was ordered
within that time; with `unit_rps` it comes in whole instances. Before L, the first demand stands for what came before.

The rule has no queue: a request over capacity is counted as a breach, where in truth it might wait a moment. So the
share is on the careful side, while the rule knows nothing of bursts shorter than a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpu_fleet.traffic.trace import Floats, RateTrace

GRID = tuple(round(0.05 + 0.01 * i, 2) for i in range(96))
"""5 % to 100 %."""
RESAMPLES = 400
LEAST_BLOCK_SECONDS = 3600.0
LEAST_BLOCKS = 8
INTERVAL = (5.0, 95.0)
"""Percentiles of the resamples that bound the interval."""


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """What one threshold would have done."""

    threshold: float
    over: float
    """Share of requests over capacity."""
    over_low: float
    over_high: float
    """90 % interval of that share over block-bootstrap resamples of the history."""
    cost: float
    """Mean capacity, in multiples of the mean demand."""


@dataclass(frozen=True, slots=True)
class ThresholdAdvice:
    """The curve, and what follows from it."""

    points: tuple[ThresholdPoint, ...]
    target: float
    """Share of requests that may be over capacity: 1 - attainment."""
    recommended: ThresholdPoint | None
    """The highest threshold whose interval's upper end keeps to the target; None where none does."""
    plain: ThresholdPoint | None
    """The highest that kept to the target on this very history: the next one may be less kind."""
    plain_low: float | None
    plain_high: float | None
    """90 % interval of `plain`'s threshold over the resamples; None where more than a tenth of them have none."""
    static_cost: float
    """Peak demand over mean demand: what capacity for the peak, all the time, costs."""
    blocks: int
    """Stretches that the history was cut into: with few, the interval says little."""

    @property
    def static_is_cheaper(self) -> bool:
        """Whether capacity for the peak, all the time, costs no more than what is recommended, or nothing is."""
        return self.recommended is None or self.recommended.cost >= self.static_cost


def answer(
    demand: RateTrace,
    *,
    attainment: float,
    lead_seconds: float,
    hold_seconds: float = 0.0,
    unit_rps: float = 0.0,
    grid: Sequence[float] = GRID,
    seed: int = 0,
) -> ThresholdAdvice:
    """The curve over `grid` (thresholds, 0 to 1, rising) and the recommendation. Pure.

    Raises ValueError for a history without requests or not longer than the lead time, and for values out of range.
    """
    _check(demand, attainment, lead_seconds, hold_seconds, unit_rps, grid)
    rps = demand.rps
    over = np.empty((len(grid), len(rps)))
    cost = np.empty(len(grid))
    for i, threshold in enumerate(grid):
        capacity = follow(rps, demand.step_seconds, threshold, lead_seconds, hold_seconds, unit_rps)
        over[i] = np.maximum(rps - capacity, 0.0)
        cost[i] = capacity.mean() / rps.mean()
    shares = over.sum(axis=1) / rps.sum()
    resampled, blocks = _resampled(over, rps, demand.step_seconds, lead_seconds, seed)
    low, high = np.percentile(resampled, INTERVAL, axis=0)
    points = tuple(
        ThresholdPoint(float(u), float(s), float(a), float(b), float(c))
        for u, s, a, b, c in zip(grid, shares, low, high, cost, strict=True)
    )
    target = 1 - attainment
    plain = [_highest(one, target) for one in resampled]
    known = np.array([grid[i] for i in plain if i is not None])
    spread = np.percentile(known, INTERVAL) if len(known) > 0.9 * len(plain) else None
    best, safe = _highest(shares, target), _highest(high, target)
    return ThresholdAdvice(
        points,
        target,
        None if safe is None else points[safe],
        None if best is None else points[best],
        None if spread is None else float(spread[0]),
        None if spread is None else float(spread[1]),
        float(rps.max() / rps.mean()),
        blocks,
    )


def follow(
    rps: Floats,
    step_seconds: float,
    threshold: float,
    lead_seconds: float,
    hold_seconds: float = 0.0,
    unit_rps: float = 0.0,
) -> Floats:
    """Capacity at each step under the rule, in requests per second. Shape as `rps`."""
    ordered = rps / threshold
    if unit_rps:
        # 1e-9: a demand of just n instances' worth is n instances, not n + 1 for a rounding error.
        ordered = np.ceil(ordered / unit_rps - 1e-9) * unit_rps
    ordered = _highest_within(ordered, round(hold_seconds / step_seconds))
    # A lead of part of a step takes the whole step: what is not there at its start is not there.
    lag = int(np.ceil(lead_seconds / step_seconds - 1e-9))
    if lag == 0:
        return ordered
    return np.concatenate((np.full(min(lag, len(rps)), ordered[0]), ordered[:-lag]))


def _highest_within(values: Floats, steps: int) -> Floats:
    """The running maximum over the last `steps` steps and the present one."""
    if steps == 0:
        return values
    padded = np.concatenate((np.full(steps, values[0]), values))
    return np.lib.stride_tricks.sliding_window_view(padded, steps + 1).max(axis=1)


def _highest(shares: Floats, target: float) -> int | None:
    """The highest place up to which every share keeps to the target: a lucky one beyond a breach does not count."""
    kept = np.flatnonzero(shares > target)
    last = len(shares) - 1 if kept.size == 0 else int(kept[0]) - 1
    return last if last >= 0 else None


def _resampled(over: Floats, rps: Floats, step_seconds: float, lead_seconds: float, seed: int) -> tuple[Floats, int]:
    """Shares over capacity on resampled histories: shape (RESAMPLES, thresholds), and the number of blocks.

    Circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992):
    whole stretches are drawn with replacement, so that a burst and what follows from it stay together. A block is an
    hour, or twice the lead time where that is longer, or an eighth of a history too short for eight of those.
    """
    count = len(rps)
    size = max(LEAST_BLOCK_SECONDS, 2 * lead_seconds) / step_seconds
    size = int(max(1, min(round(size), count // LEAST_BLOCKS)))
    blocks = -(-count // size)
    starts = np.random.default_rng(seed).integers(0, count, (RESAMPLES, blocks))

    # Sums over a block that begins anywhere, from running sums over the history laid end to end twice.
    def sums(values: Floats) -> Floats:
        running = np.concatenate(
            (np.zeros((*values.shape[:-1], 1)), np.cumsum(np.concatenate((values, values), axis=-1), axis=-1)), axis=-1
        )
        return running[..., size : count + size] - running[..., :count]

    demand = sums(rps)[starts].sum(axis=1)
    beyond = np.stack([sums(one)[starts].sum(axis=1) for one in over], axis=1)
    return beyond / np.maximum(demand, np.finfo(float).tiny)[:, None], blocks


def _check(
    demand: RateTrace,
    attainment: float,
    lead_seconds: float,
    hold_seconds: float,
    unit_rps: float,
    grid: Sequence[float],
) -> None:
    if not 0 < attainment < 1:
        raise ValueError(f"attainment: must be between 0 and 1 (got {attainment})")
    for name, value in (("lead_seconds", lead_seconds), ("hold_seconds", hold_seconds), ("unit_rps", unit_rps)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: must not be negative (got {value})")
    if not grid or any(not 0 < u <= 1 for u in grid) or list(grid) != sorted(set(grid)):
        raise ValueError("grid: thresholds must rise, above 0 and up to 1")
    if demand.rps.max() == 0:
        raise ValueError(f"{demand.name}: has no requests")
    if demand.span_seconds <= 2 * lead_seconds:
        raise ValueError(
            f"{demand.name}: is {demand.span_seconds:g} s long, which tells nothing about a lead time of "
            f"{lead_seconds:g} s"
        )
