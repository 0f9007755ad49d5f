"""Short ways to build the model's inputs; every test says only what matters to it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gpu_fleet.scaling import feedback, forecast, headroom
from gpu_fleet.scaling.observation import Instance, Observation, Phase, PoolObservation, Reading
from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.service import Pool, Service
from gpu_fleet.scaling.state import Hindsight, State

NOW = 1_700_000_000.0


def policy(**changes: Any) -> Policy:
    """A policy with an SLO, by default one that leaves nothing to chance in a test."""
    base: dict[str, Any] = {
        "model": "llama-3.1-8b",
        "slo": {"ttft_seconds": 2, "tpot_seconds": 0.1},
        "forecast": {"method": "none"},
        "learning": {"enabled": False},
    }
    return Policy.model_validate(base | changes)


def pool(name: str = "l4", **changes: Any) -> Pool:
    """A pool whose instances carry 20 requests at a time, 2 a second."""
    base: dict[str, Any] = {
        "name": name,
        "types": ("g6.xlarge",),
        "min_instances": 1,
        "max_instances": 20,
        "capacity": 20.0,
        "throughput_rps": 2.0,
        "slowdown": 1.0,
        "service_seconds": 10.0,
        "on_demand_usd_per_hour": 0.8,
        "lead_seconds": 300.0,
        "zones": ("a", "b"),
    }
    return Pool.model_validate(base | changes)


def service(*pools: Pool, quotas: dict[str, int] | None = None, **changes: Any) -> Service:
    """A service of these pools, or of one."""
    return Service(name="chat", policy=policy(**changes), pools=pools or (pool(),), vcpu_quotas=quotas or {})


def learnt(rps: float) -> State:
    """What days of such a load, forecast without a miss, leave in the state: the windows are empty, nothing else is."""
    days = headroom.HALF_LIFE_SECONDS / math.log(2) * rps
    late = tuple(days if level < 1 else 0.0 for level in headroom.LEVELS)
    peaks = [f"peak_{window:.0f}" for window in forecast.PEAKS_SECONDS]
    names = ["none", f"trend_{forecast.TREND_SECONDS:.0f}", *peaks]
    hindsight = dict.fromkeys(names, Hindsight(late, weight=days, said=days))
    return remembered(hindsight=hindsight, allowance=feedback.MOST)


def instances(
    count: int, phase: Phase = Phase.READY, prefix: str = "i", since: float = NOW - 7200, **changes: Any
) -> tuple[Instance, ...]:
    """`count` instances, spread over two zones."""
    return tuple(
        Instance(id=f"{prefix}-{n}", type="g6.xlarge", zone="ab"[n % 2], phase=phase, since=since, **changes)
        for n in range(count)
    )


def pool_seen(
    ready: int = 2,
    *,
    starting: int = 0,
    unhealthy: int = 0,
    load: float | None = 0.0,
    at: float = NOW,
    starting_since: float | None = None,
    instance_loads: Iterable[float] | None = None,
    **changes: Any,
) -> PoolObservation:
    """A pool with this many instances and this total load; None for a load that was not seen."""
    nodes = instances(ready)
    if instance_loads is not None:
        nodes = tuple(replace(i, load=Reading(x, at)) for i, x in zip(nodes, instance_loads, strict=True))
    nodes += instances(starting, Phase.STARTING, "s", since=at - 60 if starting_since is None else starting_since)
    nodes += instances(unhealthy, Phase.UNHEALTHY, "u")
    base: dict[str, Any] = {
        "desired": ready + starting + unhealthy,
        "min_size": 0,
        "max_size": 200,
        "weight": 100,
        "instances": nodes,
        "load": None if load is None else Reading(load, at),
        "running": None if load is None else Reading(load, at),
        "waiting": None if load is None else Reading(0.0, at),
    }
    return PoolObservation(**base | changes)


def seen(
    at: float = NOW, arrivals: float | None = None, pools: dict[str, PoolObservation] | None = None, **changes: Any
) -> Observation:
    """An observation; arrivals in requests per second, None where they were not seen."""
    return Observation(
        pools=pools if pools is not None else {"l4": pool_seen(at=at)},
        arrivals_rps=None if arrivals is None else Reading(arrivals, at),
        **changes,
    )


PARTS = {
    "stepped_at": ("guard", "stepped_at"), "required": ("guard", "required"),
    "loads_wanted_since": ("guard", "loads_wanted_since"),
    "series": ("forecast", "series"), "highest": ("forecast", "highest"), "pending": ("forecast", "pending"),
    "hindsight": ("forecast", "hindsight"), "season": ("forecast", "season"),
    "season_wanted": ("forecast", "season_wanted"),
    "request_weight": ("demand", "request_weight"), "queue": ("demand", "queue"), "counted": ("demand", "counted"),
    "answers": ("demand", "answers"), "answered": ("demand", "answered"), "answered_at": ("demand", "answered_at"),
    "dispersion": ("demand", "dispersion"), "dispersed_at": ("demand", "dispersed_at"),
    "dispersed_seconds": ("demand", "dispersed_seconds"),
    "allowance": ("feedback", "allowance"), "measured_at": ("feedback", "measured_at"), "moved_at": ("mix", "moved_at"),
    "asleep": ("zero", "asleep"), "idle_since": ("zero", "idle_since"), "idle_nodes": ("training", "idle_nodes"),
    "request": ("requests", "tokens"), "request_count": ("requests", "count"), "burst": ("burst", "last"),
    "learning_reset": ("learning", "reset"),
}  # fmt: skip
"""Short names of what the parts of a state remember: part and field."""


def changed(state: State, **values: Any) -> State:
    """The state with some of what it remembers changed: changed(state, asleep=True, at=NOW)."""
    for name, value in values.items():
        part, field = PARTS.get(name, ("", name))
        new = value if not part else replace(getattr(state, part), **{field: value})
        state = replace(state, **{part or name: new})
    return state


def remembered(**values: Any) -> State:
    """A state that remembers just this: remembered(at=NOW - 60, idle_since=NOW - 6000)."""
    return changed(State(), **values)
