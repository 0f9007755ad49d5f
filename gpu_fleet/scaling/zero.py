"""Sleeping when no requests come, and waking with the first one.

A sleeping service has no targets, so the load balancer answers 503 and counts it; that count is the waking signal.
Until the first instance is ready, clients get 503 (docs/operations.md, Sleeping and waking).
"""

from __future__ import annotations

from dataclasses import replace

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.demand import Demand
from gpu_fleet.scaling.service import Service
from gpu_fleet.scaling.state import ZeroMemory


def may_sleep(service: Service) -> bool:
    """Whether the policy lets the service scale to zero."""
    return service.policy.zero.idle_seconds is not None and service.may_be_empty


def sleep_or_wake(context: Context, demand: Demand) -> ZeroMemory:
    """Decide whether the service sleeps.

    Only a measured zero counts as idle: a service whose metrics are missing neither falls asleep nor wakes.
    """
    memory, now = context.state.zero, context.now
    idle_seconds = context.policy.zero.idle_seconds
    if idle_seconds is None or not may_sleep(context.service) or _requests_come(context, demand):
        return ZeroMemory()
    if not demand.idle:
        return replace(memory, idle_since=None) if demand.rps is not None else memory
    since = memory.idle_since if memory.idle_since is not None else now
    return ZeroMemory(asleep=memory.asleep or now - since >= idle_seconds, idle_since=since)


def _requests_come(context: Context, demand: Demand) -> bool:
    readings = (context.seen.rejected_rps, context.seen.burst_rps)
    return bool(demand.rps) or any((context.value(reading) or 0.0) > 0 for reading in readings)
