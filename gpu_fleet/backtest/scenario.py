"""A scenario: a trace at one scale, seed and boot time, with its demand and the costs that nobody can undercut."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpu_fleet.backtest import bound
from gpu_fleet.backtest.setting import Setting
from gpu_fleet.backtest.trace_demand import WINDOW_SECONDS, TraceDemand, demand
from gpu_fleet.backtest.trace_scale import scaled
from gpu_fleet.scaling.service import Service
from gpu_fleet.simulator.client_affinity import ClientPopulation
from gpu_fleet.traffic import RateTrace, Trace

MAXIMUM_FACTOR = 4.0
"""Every pool may hold this many times the instances that the peak needs: no contender fails for want of a maximum, and
a rule that overshoots shows by how much."""


@dataclass(frozen=True, slots=True, eq=False)
class ScenarioSpec:
    """A scenario whose demand and bounds are not computed yet. It can be pickled, as can the scenario."""

    setting: Setting
    trace: Trace | RateTrace
    """As it was read. Requests are scaled, or drawn from rates, in the process that runs them."""
    factor: float
    seed: int = 0
    boot_seconds: float | None = None
    """Of every pool's boots; None: each pool's phases, as catalog and profiles have them."""
    clients: ClientPopulation = field(default_factory=ClientPopulation)


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """A trace at one scale, seed and boot time, before any contender runs in it."""

    setting: Setting
    """With the boot time as each pool's lead time, and maxima that leave room for the peak."""
    trace: Trace | RateTrace
    """As it was read."""
    factor: float
    seed: int
    boot_seconds: float
    """Of the pool that takes longest."""
    clients: ClientPopulation
    """Who sends the requests, where the policy's strategy is `sticky` or `hash`."""
    demand: TraceDemand
    clairvoyant_usd: float
    """Cost of the cheapest fleet whose instances start at once."""
    clairvoyant_with_boot_usd: float
    with_boot_exact: bool
    static_usd: float
    """Cost of the cheapest fleet that carries the busiest minute all the time."""
    floor_usd: float
    """Cost of the work if any fraction of an instance could be rented: whoever serves it pays at least this."""

    @property
    def traffic_key(self) -> tuple[Any, ...]:
        """Everything that the traffic depends on."""
        return (self.trace.name, id(self.trace), self.trace.span_seconds, self.factor, self.seed)

    @property
    def requests(self) -> float:
        """Number of arrivals."""
        return float(self.demand.requests.sum())

    @property
    def span_seconds(self) -> float:
        """Length of the trace."""
        return float(self.demand.seconds.sum())

    @property
    def most_saving(self) -> float:
        """1 - mean/peak of the work, minute by minute: no autoscaler saves a larger share of static peak's cost."""
        return 1 - self.floor_usd / self.static_usd if self.static_usd else 0.0

    def traffic(self) -> Trace | RateTrace:
        """Return the trace at the scenario's scale."""
        return scaled(self.trace, self.factor, self.seed)


def prepare(spec: ScenarioSpec) -> Scenario:
    """Compute the demand and the bounds of a scenario.

    Each pool's lead time becomes its boot time, and every maximum at least `MAXIMUM_FACTOR` times the peak's need.
    """
    windows = scaled(spec.trace, spec.factor, spec.seed).windows(WINDOW_SECONDS, seed=spec.seed)
    work = demand(spec.setting.service, windows, spec.setting.profiles)
    boots = spec.setting.boots if spec.boot_seconds is None else {}
    service = _with_room(spec.setting.service, work, spec.boot_seconds)
    at_once = bound.without_boot(service, work)
    after_boot = bound.with_boot(service, work, spec.boot_seconds)
    peak_all_the_time = replace(
        work,
        seconds=np.array([work.seconds.sum()]),
        requests=work.requests.max(keepdims=True),
        work_rps=work.work_rps.max(axis=0, keepdims=True),
    )
    return Scenario(
        setting=replace(spec.setting, service=service, boots=boots),
        trace=spec.trace,
        factor=spec.factor,
        seed=spec.seed,
        boot_seconds=max(pool.lead_seconds for pool in service.pools),
        clients=spec.clients,
        demand=work,
        clairvoyant_usd=at_once.usd,
        clairvoyant_with_boot_usd=after_boot.usd,
        with_boot_exact=after_boot.exact,
        static_usd=bound.without_boot(service, peak_all_the_time).usd,
        floor_usd=_floor_usd(service, work),
    )


def _with_room(service: Service, work: TraceDemand, boot_seconds: float | None) -> Service:
    """Return the service with the boot time, if one is given, and with raised maxima."""
    pools = tuple(
        pool.model_copy(
            update={
                "lead_seconds": pool.lead_seconds if boot_seconds is None else boot_seconds,
                "max_instances": max(
                    pool.max_instances,
                    math.ceil(MAXIMUM_FACTOR * work.peak_rps(service, pool.name) / pool.throughput_rps),
                ),
            }
        )
        for pool in service.pools
    )
    return service.model_copy(update={"pools": pools})


def _floor_usd(service: Service, work: TraceDemand) -> float:
    """Return the cost of each window's work at the lowest price for a unit of it in any pool."""
    usd_per_unit = np.array([pool.usd_per_hour / 3600 / pool.throughput_rps for pool in service.pools])
    return float((work.seconds * (work.work_rps * usd_per_unit).min(axis=1)).sum())
