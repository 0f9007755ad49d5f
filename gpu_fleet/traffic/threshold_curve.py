"""The utilisation threshold that suits a history of demand: the article's question 9.2, answered by replay.

The rule replayed is simple enough to check by eye: capacity at each step is what was ordered a lead time ago, and each
order is the demand of that moment over the threshold. With the demand D, lead time L and threshold u,

    capacity(t) = D(t - L) / u        over(t) = max(0, D(t) - capacity(t))

The share of requests over capacity is sum(over) / sum(D); the cost is sum(capacity) / sum(D), in multiples of the
capacity that the demand itself takes. Before L, the first demand stands for the earlier demand.

The rule has no queue: a request over capacity counts as a breach, though it might only wait a moment. So the share is
on the careful side; but the rule knows nothing of bursts shorter than a step.
"""

from __future__ import annotations

import math
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
class OrderingRule:
    """The rule replayed. Raises ValueError for negative values."""

    lead_seconds: float
    hold_seconds: float = 0.0
    """Capacity falls no lower than the highest order of this time."""
    unit_rps: float = 0.0
    """Capacity of one instance, to order whole instances; 0: any amount."""

    def __post_init__(self) -> None:
        for name in ("lead_seconds", "hold_seconds", "unit_rps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: must not be negative (got {getattr(self, name)})")

    def capacity_rps(self, demand_rps: Floats, step_seconds: float, threshold: float) -> Floats:
        """Return the capacity at each step, in requests per second: shape as `demand_rps`."""
        ordered = demand_rps / threshold
        if self.unit_rps:
            # 1e-9: rounding must not turn a demand of exactly n instances into n + 1.
            ordered = np.ceil(ordered / self.unit_rps - 1e-9) * self.unit_rps
        ordered = _highest_within(ordered, round(self.hold_seconds / step_seconds))
        # A lead time of part of a step takes the whole step: capacity must be ready at its start.
        lag = math.ceil(self.lead_seconds / step_seconds - 1e-9)
        if lag == 0:
            return ordered
        return np.concatenate((np.full(min(lag, len(demand_rps)), ordered[0]), ordered[:-lag]))


@dataclass(frozen=True, slots=True)
class ThresholdPoint:
    """The result of one threshold."""

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
    """The curve and the recommendation."""

    points: tuple[ThresholdPoint, ...]
    target: float
    """Share of requests that may be over capacity: 1 - attainment."""
    recommended: ThresholdPoint | None
    """The highest threshold whose interval's upper end meets the target; None if there is none."""
    plain: ThresholdPoint | None
    """The highest threshold that meets the target on this very history; the next one may be less kind."""
    plain_low: float | None
    plain_high: float | None
    """90 % interval of `plain`'s threshold over the resamples; None if more than a tenth of them have none."""
    static_cost: float
    """Peak demand over mean demand: the cost of capacity for the peak at all times."""
    blocks: int
    """Blocks that the history was cut into; with few, the interval says little."""

    @property
    def static_is_cheaper(self) -> bool:
        """Whether capacity for the peak at all times costs no more than the recommendation, or there is none."""
        return self.recommended is None or self.recommended.cost >= self.static_cost


def advise(
    demand: RateTrace, rule: OrderingRule, *, attainment: float, grid: Sequence[float] = GRID, seed: int = 0
) -> ThresholdAdvice:
    """Return the curve over `grid` (rising thresholds, 0 to 1) and the recommendation.

    Raises ValueError for a history without requests or not longer than twice the lead time, and for values out of
    range.
    """
    _check(demand, rule, attainment, grid)
    rps = demand.rps
    over = np.empty((len(grid), len(rps)))
    cost = np.empty(len(grid))
    for i, threshold in enumerate(grid):
        capacity = rule.capacity_rps(rps, demand.step_seconds, threshold)
        over[i] = np.maximum(rps - capacity, 0.0)
        cost[i] = capacity.mean() / rps.mean()
    shares = over.sum(axis=1) / rps.sum()
    resampled, blocks = _resampled(over, demand, rule.lead_seconds, seed)
    low, high = np.percentile(resampled, INTERVAL, axis=0)
    points = tuple(
        ThresholdPoint(float(u), float(s), float(a), float(b), float(c))
        for u, s, a, b, c in zip(grid, shares, low, high, cost, strict=True)
    )
    target = 1 - attainment
    plain_low, plain_high = _interval_of_plain(resampled, grid, target)
    plain, recommended = _highest_within_target(shares, target), _highest_within_target(high, target)
    return ThresholdAdvice(
        points=points,
        target=target,
        recommended=None if recommended is None else points[recommended],
        plain=None if plain is None else points[plain],
        plain_low=plain_low,
        plain_high=plain_high,
        static_cost=float(rps.max() / rps.mean()),
        blocks=blocks,
    )


def _highest_within(values: Floats, steps: int) -> Floats:
    """Return the running maximum over the last `steps` steps and the present one."""
    if steps == 0:
        return values
    padded = np.concatenate((np.full(steps, values[0]), values))
    return np.lib.stride_tricks.sliding_window_view(padded, steps + 1).max(axis=1)


def _highest_within_target(shares: Floats, target: float) -> int | None:
    """Return the last index before the first share above the target: a lucky one beyond a breach does not count."""
    breaches = np.flatnonzero(shares > target)
    last = len(shares) - 1 if breaches.size == 0 else int(breaches[0]) - 1
    return last if last >= 0 else None


def _interval_of_plain(resampled: Floats, grid: Sequence[float], target: float) -> tuple[float | None, float | None]:
    indices = [_highest_within_target(shares, target) for shares in resampled]
    thresholds = np.array([grid[i] for i in indices if i is not None])
    if len(thresholds) <= 0.9 * len(indices):
        return None, None
    low, high = np.percentile(thresholds, INTERVAL)
    return float(low), float(high)


def _resampled(over: Floats, demand: RateTrace, lead_seconds: float, seed: int) -> tuple[Floats, int]:
    """Return the shares over capacity on resampled histories, shape (RESAMPLES, thresholds), and the number of blocks.

    Circular block bootstrap (Politis and Romano, "A circular block-resampling procedure for stationary data", 1992):
    whole blocks are drawn with replacement, so that a burst and its consequences stay together. A block is an hour, or
    twice the lead time if that is longer, or an eighth of a history too short for eight of those.
    """
    rps = demand.rps
    count = len(rps)
    size = max(LEAST_BLOCK_SECONDS, 2 * lead_seconds) / demand.step_seconds
    size = int(max(1, min(round(size), count // LEAST_BLOCKS)))
    blocks = math.ceil(count / size)
    starts = np.random.default_rng(seed).integers(0, count, (RESAMPLES, blocks))

    def block_sums(values: Floats) -> Floats:
        """Return the sum over the block that begins at each step; the history wraps around."""
        running = np.concatenate(([0.0], np.cumsum(np.concatenate((values, values)))))
        return running[size : count + size] - running[:count]

    demanded = block_sums(rps)[starts].sum(axis=1)
    beyond = np.stack([block_sums(row)[starts].sum(axis=1) for row in over], axis=1)
    return beyond / np.maximum(demanded, np.finfo(float).tiny)[:, None], blocks


def _check(demand: RateTrace, rule: OrderingRule, attainment: float, grid: Sequence[float]) -> None:
    if not 0 < attainment < 1:
        raise ValueError(f"attainment: must be between 0 and 1 (got {attainment})")
    if not grid or any(not 0 < u <= 1 for u in grid) or list(grid) != sorted(set(grid)):
        raise ValueError("grid: thresholds must rise, above 0 and up to 1")
    if demand.rps.max() == 0:
        raise ValueError(f"{demand.name}: has no requests")
    if demand.span_seconds <= 2 * rule.lead_seconds:
        raise ValueError(
            f"{demand.name}: is {demand.span_seconds:g} s long, which tells nothing about a lead time of "
            f"{rule.lead_seconds:g} s"
        )
