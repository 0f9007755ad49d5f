"""Node signals that call for more instances when they pass their limit (the article, 3.2.1 and 3.2.2)."""

from __future__ import annotations

from gpu_fleet.scaling.decision import Reason, Step
from gpu_fleet.scaling.demand import current, ready_count
from gpu_fleet.scaling.fleet import Fleet
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service


def raised(
    service: Service, seen: Observation, fleet: Fleet, required: float, now: float
) -> tuple[float, list[Reason]]:
    """The capacity required, raised by signals over their limit: in proportion, whatever the load says."""
    limits = service.policy.thresholds
    stale = service.policy.load.stale_after_seconds
    reasons: list[Reason] = []
    for pool in service.pools:
        view = seen.pools[pool.name]
        signals = (
            ("cpu_percent", view.cpu_percent, limits.cpu_percent),
            ("memory_percent", view.memory_percent, limits.memory_percent),
            ("gpu_percent", view.gpu_percent, limits.gpu_percent),
            ("kv_cache_percent", view.kv_cache_percent, limits.kv_cache_percent),
            ("network_latency_seconds", view.network_latency_seconds, limits.network_latency_seconds),
        )
        for name, reading, limit in signals:
            value = current(reading, now, stale)
            if limit is None or value is None or value <= limit or ready_count(view) == 0:
                continue
            needed = fleet.standing_rps + ready_count(view) * fleet.worth[pool.name] * (min(2.0, value / limit) - 1)
            if needed > required:
                text = (
                    f"{pool.name}: {name} is {value:.3g}, over its limit of {limit:.3g}: {needed:.2f} rps are wanted."
                )
                numbers = {"value": value, "limit": limit}
                reasons.append(Reason(Step.SIZING, "sizing.threshold", text, numbers))
                required = needed
    return required, reasons
