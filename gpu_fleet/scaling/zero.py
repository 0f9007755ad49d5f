"""Sleeping when nobody asks, and waking with the first request.

A sleeping service has no targets, so the load balancer answers 503 and counts it; that count is the waking signal.
Until the first instance is ready, clients get 503 (docs/operations.md, Sleeping and waking).
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.demand import Demand, current
from gpu_fleet.scaling.observation import Observation
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import State


def may_sleep(service: Service) -> bool:
    """Whether the policy lets the service go down to nothing."""
    return service.policy.zero.idle_seconds is not None and all(p.min_instances == 0 for p in service.pools)


def sleep_or_wake(service: Service, seen: Observation, demand: Demand, state: State, now: float) -> State:
    """The state with `asleep` and `idle_since` as they follow from what was seen.

    Only a measured zero counts as idle: a service whose metrics are missing neither falls asleep nor wakes.
    """
    idle_seconds = service.policy.zero.idle_seconds
    if idle_seconds is None or not may_sleep(service):
        return replace(state, asleep=False, idle_since=None)
    if _asked(service, seen, demand, now):
        return replace(state, asleep=False, idle_since=None)
    if not demand.idle:
        return replace(state, idle_since=None) if demand.rps is not None else state
    since = state.idle_since if state.idle_since is not None else now
    return replace(state, idle_since=since, asleep=state.asleep or now - since >= idle_seconds)


def _asked(service: Service, seen: Observation, demand: Demand, now: float) -> bool:
    stale = service.policy.load.stale_after_seconds
    readings = (seen.rejected_rps, seen.burst_rps)
    return bool(demand.rps) or any((current(r, now, stale) or 0.0) > 0 for r in readings)
