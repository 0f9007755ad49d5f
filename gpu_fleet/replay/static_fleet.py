"""The static fleet that the demo compares with: what a team without an autoscaler runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpu_fleet.backtest.rivals.static_peak import instances_for
from gpu_fleet.backtest.roster import RIVALS
from gpu_fleet.replay.demo_traffic import DemoTraffic
from gpu_fleet.replay.hardware import Hardware, instance_label
from gpu_fleet.replay.replay import FINISHES_WITHIN_SECONDS
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.simulator.feed import Feed
from gpu_fleet.simulator.simulation import Simulation
from gpu_fleet.simulator.telemetry import MINUTE_SECONDS

STATIC_SHARE = RIVALS["static-peak"].default_share
"""How far the busiest minute fills a static fleet."""


@dataclass(frozen=True, slots=True)
class StaticFleet:
    """A fleet of one pool that never changes, under the replayed requests."""

    pool: str
    label: str
    """What its instances are called: the pool's name, or the types where the pool changes types in place."""
    count: int
    slo_attainment: float
    cost_usd: float
    gpu_hours: float
    requests: int
    rejected: int
    lost: int
    p50_ttft_seconds: float | None
    p95_ttft_seconds: float | None


def static_fleet(service: Service, hardware: Hardware, traffic: DemoTraffic, seed: int) -> StaticFleet:
    """Run the traffic on the cheapest fleet of one pool that the busiest minute fills to 80 %.

    Where no pool may have that many instances, on the pool that completes the most at its maximum.
    """
    pool, count = _cheapest(service, traffic.peak_rps)
    of_type, trace = hardware[pool.name][pool.types[0]], traffic.trace
    simulation = Simulation([of_type.engine], slo=service.policy.slo, seed=seed)
    for _ in range(count * of_type.copies):
        simulation.join(0)
    end = float(np.nextafter(trace.span_seconds, np.inf))
    simulation.run(end, *Feed(trace, seed).take(end))
    latest = end + FINISHES_WITHIN_SECONDS
    while simulation.in_flight and simulation.now < latest:
        simulation.run(min(latest, simulation.now + MINUTE_SECONDS))
    total = simulation.window().total
    hours = trace.span_seconds / 3600
    return StaticFleet(
        pool=pool.name,
        label=instance_label(pool),
        count=count,
        slo_attainment=1.0 if total.slo_attainment is None else total.slo_attainment,
        cost_usd=count * pool.on_demand_usd_per_hour * hours,
        gpu_hours=count * of_type.gpus * hours,
        requests=total.ended + simulation.in_flight,
        rejected=total.rejected,
        lost=total.lost + simulation.in_flight,
        p50_ttft_seconds=total.ttft.quantile(0.5),
        p95_ttft_seconds=total.ttft.quantile(0.95),
    )


def _cheapest(service: Service, peak_rps: float) -> tuple[Pool, int]:
    pools = [kind for pool in service.pools if pool.max_instances > 0 for kind in pool.kinds]
    pools = [pool for pool in pools if pool.reaches_slo] or pools
    sized = [(pool, instances_for(peak_rps, pool, STATIC_SHARE)) for pool in pools]
    fitting = [(pool, count) for pool, count in sized if count <= pool.max_instances]
    if fitting:
        pool, count = min(fitting, key=lambda one: one[1] * one[0].on_demand_usd_per_hour)
    else:
        pool, count = max(sized, key=lambda one: one[0].max_instances * one[0].throughput_rps)
    return pool, max(1, min(pool.max_instances, count))
