"""What the clairvoyant fleet must solve: pools with their limits, and the work and the floor of every window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.backtest.trace_demand import Floats, TraceDemand
from gpu_fleet.scaling.service import Pool, Service

Counts = NDArray[np.int64]

ROUNDING_SLACK = 1e-9
"""Relative slack, so that work for 3.0000000001 instances is carried by 3."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """A pool as the bound sees it."""

    name: str
    rps: float
    """0 for a pool that must not serve."""
    usd_per_second: float
    at_least: int
    at_most: int
    launch_usd: float = 0.0
    """What a launch costs beside the instance's time."""

    @property
    def worth_seconds(self) -> float:
        """Return how long an idle instance costs no more than a launch."""
        return self.launch_usd / self.usd_per_second if self.usd_per_second else 0.0

    @property
    def is_free(self) -> bool:
        """Whether the number of instances may vary."""
        return self.at_most > self.at_least

    def most_useful(self, floor: int, peak_rps: float) -> int:
        """Return the largest useful count: more than carries the peak alone, or makes the floor alone, never pays."""
        for_peak = int(instances_needed(np.array([peak_rps]), self.rps)[0]) if self.rps > 0 else 0
        return max(self.at_least, min(self.at_most, max(for_peak, floor)))


@dataclass(frozen=True, slots=True, eq=False)
class FleetProblem:
    """Which counts of these pools carry the work of every window at the least cost?"""

    pools: tuple[PoolLimits, ...]
    demand: TraceDemand
    work_rps: Floats
    """Work of each window, in the measure of the pool in which it is least: shape (windows,)."""
    floor: Counts
    """Least number of instances over all pools: shape (windows,)."""

    @classmethod
    def of(cls, service: Service, demand: TraceDemand, pools: Sequence[str] | None) -> Self:
        """Return the problem for these serving pools (default: all that reach the SLO); others keep their minimum.

        Raises ValueError for an unknown pool, and if no pool is left.
        """
        names = [pool.name for pool in service.pools]
        for name in pools or ():
            if name not in names:
                raise ValueError(f"pools: must be among {', '.join(names)} (got {name})")
        able = [p.name for p in service.pools if p.reaches_slo and p.max_instances > 0] or names
        serving = [name for name in names if name in (able if pools is None else pools)]
        if not serving:
            raise ValueError("pools: at least one is needed")
        limits = tuple(_limits(service, pool, serves=pool.name in serving) for pool in service.pools)
        work_rps = demand.work_rps[:, [names.index(name) for name in serving]].min(axis=1)
        floor = np.full(len(work_rps), service.policy.availability.min_instances, dtype=np.int64)
        if service.policy.zero.idle_seconds is not None:
            floor[demand.requests == 0] = 0
        usable = tuple(pool for pool in limits if pool.at_most > 0)
        return cls(usable, demand, work_rps, np.minimum(floor, sum(pool.at_most for pool in usable)))

    @property
    def free_pools(self) -> list[PoolLimits]:
        """The pools whose number of instances may vary."""
        return [pool for pool in self.pools if pool.is_free]

    @property
    def instance_rps(self) -> Floats:
        """Throughput of one instance of each pool: shape (pools,)."""
        return np.array([pool.rps for pool in self.pools])

    @property
    def peak_rps(self) -> float:
        """Work of the busiest window."""
        return float(self.work_rps.max(initial=0.0))

    def with_minimum_of(self, index: int) -> Self:
        """Return the problem in which the pool at this index keeps its minimum."""
        pool = self.pools[index]
        pools = (*self.pools[:index], replace(pool, at_most=pool.at_least), *self.pools[index + 1 :])
        return replace(self, pools=pools, floor=np.minimum(self.floor, sum(p.at_most for p in pools)))


def _limits(service: Service, pool: Pool, *, serves: bool) -> PoolLimits:
    usd_per_second = pool.usd_per_hour / 3600
    if not serves:
        return PoolLimits(pool.name, 0.0, usd_per_second, pool.min_instances, pool.min_instances, pool.launch_usd)
    at_most = pool.max_instances
    if pool.quota in service.vcpu_quotas:
        at_most = min(at_most, service.vcpu_quotas[pool.quota] // pool.vcpus)
    at_most = max(at_most, pool.min_instances)
    return PoolLimits(pool.name, pool.throughput_rps, usd_per_second, pool.min_instances, at_most, pool.launch_usd)


def instances_needed(work_rps: Floats, instance_rps: float) -> Counts:
    """Return the instances that carry the work of each window."""
    return np.ceil(work_rps / instance_rps * (1 - ROUNDING_SLACK)).astype(np.int64)
