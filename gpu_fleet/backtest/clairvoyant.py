"""A fleet of one pool that follows the future demand: what a perfect forecast would order.

The count that must be ready in a minute is the work of that minute divided by what the instances carry at a given fill
(share of their capacity). An instance is ordered a boot before the first minute that needs it, and leaves as soon as no
minute needs it within the time in which keeping it costs no more than another launch: a boot, and what else a launch
costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from gpu_fleet.backtest.fleet_problem import Counts, instances_needed
from gpu_fleet.backtest.rivals.rival_pool import RivalPool, newest_not_ready_first
from gpu_fleet.backtest.trace_demand import WINDOW_SECONDS, Floats
from gpu_fleet.scaling.decision import PoolTarget
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.world import START

Values = TypeVar("Values", Floats, Counts)


class Clairvoyant:
    """Sets the counts of a plan that was made from the whole trace. It looks at nothing that happens.

    `work_rps` is the work of each minute, in typical requests a second of the service's only pool. A minute's instances
    must carry the busiest of the last `look_minutes` minutes, itself included, since what arrives at a minute's end is
    served in the next. With infinity they carry the trace's busiest minute all the time.
    """

    name = "clairvoyant"
    every_seconds = WINDOW_SECONDS

    def __init__(self, service: Service, work_rps: Floats, fill: float, look_minutes: float) -> None:
        (pool,) = service.pools
        self.service = service
        self._group = RivalPool.of(service, pool.name, newest_not_ready_first, can_sleep=True)
        ahead = look_minutes if math.isinf(look_minutes) else 0
        needed = instances_needed(_busiest(work_rps, 1 - look_minutes, ahead), pool.throughput_rps * fill)
        boot = math.ceil(pool.lead_seconds / WINDOW_SECONDS)
        ordered = _busiest(_closed(needed, boot + _worth_minutes(pool)), 0, boot)
        self.counts: Counts = np.clip(ordered, self._group.at_least, self._group.at_most).astype(np.int64)
        """Instances that run or boot in each minute. A run should start with the first of them, ready."""

    @property
    def usd(self) -> float:
        """Cost of the plan, without the seconds in which released instances finish their requests."""
        pool, launches = self._group.pool, np.maximum(np.diff(self.counts), 0).sum()
        return float(self.counts.sum()) * WINDOW_SECONDS * pool.usd_per_hour / 3600 + launches * pool.launch_usd

    def decide(self, service: Service, observation: Observation, now: float) -> Mapping[str, PoolTarget]:
        """Return the count of the minute that begins."""
        minute = min(round((now - START) / WINDOW_SECONDS), len(self.counts) - 1)
        return self._group.targets(service, observation, int(self.counts[minute]), now)


def _worth_minutes(pool: Pool) -> int:
    """Return the minutes for which an idle instance costs no more than what its launch costs beside its hours."""
    return int(60 * pool.launch_usd / pool.usd_per_hour) if pool.usd_per_hour else 0


def _closed(counts: Counts, minutes: int) -> Counts:
    """Return the counts with every dip filled that is no longer."""
    return -_busiest(-_busiest(counts, 0, minutes), -minutes, 0) if minutes else counts


def _busiest(values: Values, first: float, last: float) -> Values:
    """Return the greatest value of the minutes from `first` to `last`, both counted from each minute."""
    reach = len(values) - 1
    before, after = int(min(-first, reach)), int(min(last, reach))
    padded = np.pad(values, (before, after), mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, before + after + 1).max(axis=1)
