"""Node signals that raise the capacity when they pass their limit (the article, 3.2.1 and 3.2.2)."""

from __future__ import annotations

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.decision import Reason
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.reasons import sizing as reasons


def raised(context: Context, fleet: Fleet, required_rps: float) -> tuple[float, tuple[Reason, ...]]:
    """Raise the capacity required in proportion to each signal over its limit, whatever the load says."""
    limits = context.policy.thresholds
    why: list[Reason] = []
    for pool, view in context.pools():
        signals = (
            ("cpu_percent", view.cpu_percent, limits.cpu_percent),
            ("memory_percent", view.memory_percent, limits.memory_percent),
            ("gpu_percent", view.gpu_percent, limits.gpu_percent),
            ("kv_cache_percent", view.kv_cache_percent, limits.kv_cache_percent),
            ("network_latency_seconds", view.network_latency_seconds, limits.network_latency_seconds),
        )
        for name, reading, limit in signals:
            value = context.value(reading)
            if limit is None or value is None or value <= limit or view.ready_count == 0:
                continue
            more = view.ready_count * fleet.worth[pool.name] * (min(2.0, value / limit) - 1)
            if fleet.standing_rps + more > required_rps:
                required_rps = fleet.standing_rps + more
                why.append(reasons.threshold_passed(pool.name, name, value, limit, required_rps))
    return required_rps, tuple(why)
