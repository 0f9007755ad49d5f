"""The cheapest mix of instances for every amount of work, and what leaving requests out would save."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.backtest.fleet_problem import ROUNDING_SLACK, Counts, PoolLimits
from gpu_fleet.backtest.trace_demand import Floats


@dataclass(frozen=True, slots=True, eq=False)
class MixFrontier:
    """The mixes that no other dominates, by rising capacity: more capacity always costs more."""

    capacity: Floats
    """Requests a second: shape (mixes,)."""
    usd_per_second: Floats
    counts: Counts
    """Instances of each pool: shape (mixes, pools)."""

    def cheapest(self, work_rps: Floats) -> Counts:
        """Return the index of the cheapest mix that carries each amount of work; the largest if none does."""
        place = np.searchsorted(self.capacity, work_rps * (1 - ROUNDING_SLACK), side="left")
        return np.minimum(place, len(self.capacity) - 1)


def mix_frontier(pools: Sequence[PoolLimits], floor: int, peak_rps: float) -> MixFrontier:
    """Return the frontier of the mixes with at least `floor` instances.

    Pools are added one by one. After each, only the mixes that no other dominates are kept, separately for every
    number of instances up to the floor.
    """
    capacity, usd, counts = np.zeros(1), np.zeros(1), np.zeros((1, 0), dtype=np.int64)
    for pool in pools:
        added = np.arange(pool.at_least, pool.most_useful(floor, peak_rps) + 1)
        capacity = np.add.outer(capacity, added * pool.rps).ravel()
        usd = np.add.outer(usd, added * pool.usd_per_second).ravel()
        counts = np.concatenate((np.repeat(counts, len(added), axis=0), np.tile(added, len(counts))[:, None]), axis=1)
        counted = np.minimum(counts.sum(axis=1), floor)
        keep = np.concatenate([_undominated(capacity, usd, np.flatnonzero(counted == n)) for n in np.unique(counted)])
        capacity, usd, counts = capacity[keep], usd[keep], counts[keep]
    above_floor = np.flatnonzero(counts.sum(axis=1) >= floor)
    order = _undominated(capacity, usd, above_floor)[::-1]
    return MixFrontier(capacity[order], usd[order], counts[order])


def _undominated(capacity: Floats, usd: Floats, among: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the mixes for which no other has as much capacity at a lower cost, by falling capacity."""
    order = among[np.lexsort((usd[among], -capacity[among]))]
    cheapest_before = np.minimum.accumulate(np.concatenate(([np.inf], usd[order][:-1])))
    return order[usd[order] < cheapest_before * (1 - 1e-12)]


@dataclass(frozen=True, slots=True, eq=False)
class Cuts:
    """Ways to leave requests out, within one window by falling savings per request: shape (cuts,) each."""

    usd: Floats
    """Saved by each cut."""
    requests: Floats
    """Left out by each cut."""


@dataclass(frozen=True, slots=True, eq=False)
class ServedWindows:
    """Windows, each served by one mix of a frontier: shape (windows,) each."""

    choice: Counts
    """Index of the mix."""
    work_rps: Floats
    requests: Floats
    seconds: Floats


def cuts(frontier: MixFrontier, windows: ServedWindows) -> Cuts:
    """Return what leaving requests out would save.

    The cost of a window as a function of the work served is a staircase. Its lower hull is that of the frontier, up to
    the window's own point. So the first cut goes from that point to the vertex of the hull with the steepest slope,
    and the next ones along the frontier's own hull.
    """
    vertices = _lower_hull(frontier.capacity, frontier.usd_per_second)
    capacity, usd = frontier.capacity[vertices], frontier.usd_per_second[vertices]
    carried = frontier.capacity[windows.choice] >= windows.work_rps * (1 - ROUNDING_SLACK)
    busy = np.flatnonzero((windows.requests > 0) & (windows.work_rps > 0) & carried)
    if len(busy) == 0:
        return Cuts(np.empty(0), np.empty(0))
    work, cost = windows.work_rps[busy], frontier.usd_per_second[windows.choice[busy]]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (cost[:, None] - usd) / (work[:, None] - capacity)
    slope[capacity >= work[:, None]] = -np.inf
    vertex = slope.argmax(axis=1)
    saves = slope[np.arange(len(busy)), vertex] > 0
    requests_per_rps, seconds = windows.requests[busy] / work, windows.seconds[busy]
    first_usd = np.where(saves, (cost - usd[vertex]) * seconds, 0.0)
    first_requests = np.where(saves, (work - capacity[vertex]) * requests_per_rps, 0.0)
    edges = np.arange(len(capacity) - 1)
    follows = (edges < vertex[:, None]) & saves[:, None]
    next_usd = np.multiply.outer(seconds, np.diff(usd))[follows]
    next_requests = np.multiply.outer(requests_per_rps, np.diff(capacity))[follows]
    return Cuts(np.concatenate((first_usd, next_usd)), np.concatenate((first_requests, next_requests)))


def _lower_hull(x: Floats, y: Floats) -> list[int]:
    """Return the lower hull of points sorted by x. Points on its edges are kept: a cut may end at each."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2], hull[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) <= (y[i] - y[a]) * (x[b] - x[a]) * (1 + 1e-12):
                break
            hull.pop()
        hull.append(i)
    return hull


def most_saved_usd(parts: Sequence[Cuts], budget_requests: float) -> float:
    """Return the most that can be saved by leaving out `budget_requests`. The last cut is taken in part."""
    usd, requests = np.concatenate([part.usd for part in parts]), np.concatenate([part.requests for part in parts])
    useful = np.flatnonzero((usd > 0) & (requests > 0))
    order = useful[np.argsort(-usd[useful] / requests[useful], kind="stable")]
    left_out = np.cumsum(requests[order])
    whole = int(np.searchsorted(left_out, budget_requests, side="right"))
    saved = float(usd[order[:whole]].sum())
    if whole < len(order):
        rest = budget_requests - (left_out[whole - 1] if whole else 0.0)
        saved += float(usd[order[whole]] * rest / requests[order[whole]])
    return saved
