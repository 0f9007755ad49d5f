"""The cheapest way through time over the counts of several pools, when every start of an instance costs a boot.

Dynamic programming over states; a state is one number of instances for each pool. Time is cut into runs of equal
windows, since within a run a best fleet need not change.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from gpu_fleet.backtest.fleet_problem import Counts
from gpu_fleet.backtest.trace_demand import Floats


class States(NamedTuple):
    """All counts of all pools, the last pool's varying fastest. Arrays have shape (states,) unless they say so."""

    shape: Counts
    """Possible counts of each pool: shape (pools,)."""
    capacity_rps: Floats
    instances: Counts
    """Over all pools."""
    usd_per_second: Floats


class Runs(NamedTuple):
    """Runs of windows with equal demand. Arrays have shape (runs,) unless they say so."""

    work_rps: Floats
    floor: Counts
    seconds: Floats
    boot_usd: Floats
    """Cost of starting an instance of each pool at the run's beginning: shape (runs, pools)."""


@numba.njit(cache=True)
def cheapest_path(states: States, runs: Runs) -> Counts:
    """Return the state in each run on the cheapest path: shape (runs,).

    Costs are kept at only the square root of the number of runs, and computed again block by block on the way back, so
    that memory is states times that root.
    """
    count, size = runs.work_rps.size, states.capacity_rps.size
    block_runs = max(1, int(np.sqrt(count)))
    kept = np.empty(((count + block_runs - 1) // block_runs, size))
    cost = np.zeros(size)
    for r in range(count):
        if r > 0:
            _change(cost, states.shape, runs.boot_usd[r])
        _stay(cost, states, runs, r)
        if r % block_runs == 0:
            kept[r // block_runs] = cost
    path = np.empty(count, dtype=np.int64)
    state = int(np.argmin(cost))
    path[count - 1] = state
    block = np.empty((block_runs, size))
    coordinates = np.empty(states.shape.size, dtype=np.int64)
    for b in range(kept.shape[0] - 1, -1, -1):
        first, last = b * block_runs, min(count, (b + 1) * block_runs)
        block[0] = kept[b]
        for r in range(first + 1, last):
            block[r - first] = block[r - first - 1]
            _change(block[r - first], states.shape, runs.boot_usd[r])
            _stay(block[r - first], states, runs, r)
        for r in range(min(last, count - 1), first, -1):
            # From run r - 1, whose costs are in the block, to `state` in run r.
            state = _previous_state(block[r - 1 - first], states.shape, runs.boot_usd[r], state, coordinates)
            path[r - 1] = state
    return path


@numba.njit(cache=True)
def _change(cost: Floats, shape: Counts, boot_usd: Floats) -> None:
    """Replace each state's cost by the least after any change of counts. Down is free, up costs a boot each."""
    stride = cost.size
    for axis in range(shape.size):
        size = shape[axis]
        block = stride
        stride = block // size
        for base in range(0, cost.size, block):
            for k in range(size - 2, -1, -1):
                for i in range(base + k * stride, base + (k + 1) * stride):
                    cost[i] = min(cost[i], cost[i + stride])
            for k in range(1, size):
                for i in range(base + k * stride, base + (k + 1) * stride):
                    cost[i] = min(cost[i], cost[i - stride] + boot_usd[axis])


@numba.njit(cache=True)
def _stay(cost: Floats, states: States, runs: Runs, run: int) -> None:
    """Add the price of each state during the run to its cost; infinity if the state does not carry the run."""
    for i in range(cost.size):
        if states.capacity_rps[i] < runs.work_rps[run] or states.instances[i] < runs.floor[run]:
            cost[i] = np.inf
        else:
            cost[i] += states.usd_per_second[i] * runs.seconds[run]


@numba.njit(cache=True)
def _previous_state(cost: Floats, shape: Counts, boot_usd: Floats, state: int, coordinates: Counts) -> int:
    """Return the state of the run before from which `state` is reached at the least cost.

    `coordinates` is scratch space: shape (pools,).
    """
    rest = state
    for axis in range(shape.size - 1, -1, -1):
        coordinates[axis] = rest % shape[axis]
        rest //= shape[axis]
    best, least = state, np.inf
    for i in range(cost.size):
        if cost[i] >= least:
            continue
        total, rest = cost[i], i
        for axis in range(shape.size - 1, -1, -1):
            up = coordinates[axis] - rest % shape[axis]
            rest //= shape[axis]
            if up > 0:
                total += up * boot_usd[axis]
        if total < least:
            best, least = i, total
    return best
