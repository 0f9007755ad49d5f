"""The gauges that each instance's agent publishes every 10 seconds, from the simulation."""

from __future__ import annotations

from gpu_fleet.replay.engine_fleet import EngineFleet
from gpu_fleet.simulator.pool_window import PoolWindow, Window
from gpu_fleet.simulator.simulation import Gauges
from gpu_fleet.simulator.telemetry import FINE_SECONDS

InstanceGauges = dict[str, float]
"""Values by metric name."""


def engine_gauges(sample: Gauges, window: Window, fleet: EngineFleet) -> dict[str, InstanceGauges]:
    """Return the gauges by instance id: sums over the copies on an instance, and means of their tokens and caches.

    The simulation knows latency and GPU use only by pool: each instance publishes its pool's.
    """
    gauges: dict[str, InstanceGauges] = {}
    ended_before: dict[str, float] = {}
    of_pool = [_pool_gauges(pool) for pool in window.pools]
    columns = (
        *(sample.running, sample.waiting, sample.kv_share),
        *(sample.ended, sample.late, sample.input_tokens, sample.output_tokens),
    )
    for number, index, *values in zip(sample.instance, sample.pool, *columns, strict=True):
        owner = fleet.owner(int(number))
        if owner is None:
            continue
        running, waiting, kv_share, ended, late, input_tokens, output_tokens = map(float, values)
        id_ = owner.machine.id
        own = gauges.setdefault(id_, {})
        _add(own, "requests_running", running)
        _add(own, "requests_waiting", waiting)
        _add(own, "finished_rps", ended / FINE_SECONDS)
        _add(own, "judged_requests", ended)
        _add(own, "late_requests", late)
        _add(own, "kv_cache_percent", 100 * kv_share / owner.hardware.copies)
        if ended:
            before = ended_before.get(id_, 0.0)
            ended_before[id_] = before + ended
            for name, value in (("input_tokens", input_tokens), ("output_tokens", output_tokens)):
                own[name] = (own.get(name, 0.0) * before + value * ended) / ended_before[id_]
        own.update(of_pool[int(index)])
    return gauges


def _pool_gauges(pool: PoolWindow) -> InstanceGauges:
    values = {"gpu_percent": pool.busy_percent, "ttft_p95_seconds": pool.ttft.quantile(0.95)}
    return {name: value for name, value in values.items() if value is not None}


def _add(gauges: InstanceGauges, name: str, value: float) -> None:
    gauges[name] = gauges.get(name, 0.0) + value
