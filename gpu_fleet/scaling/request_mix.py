"""Capacity for the measured requests, where they differ from the policy's typical one.

A GPU that holds 158 chats of 1,155 tokens holds 16 conversations of 12,000: capacity in requests is no property of
the GPU alone. Where the engines report the lengths of prompts and answers, every figure of a pool is computed for their
running mean (`gpu_fleet.scaling.profile.instance_capacity`). So demand can be counted in requests as they are, and the
fleet meets a shift of the mix before a queue shows it.
"""

from __future__ import annotations

from typing import TypeVar

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.policy import Request
from gpu_fleet.scaling.profile import instance_capacity
from gpu_fleet.scaling.service import Alternative, Pool, Service
from gpu_fleet.scaling.state import RequestMemory

LONGER_HALF_LIFE_SECONDS, SHORTER_HALF_LIFE_SECONDS = 240.0, 600.0
"""The mean follows longer prompts and answers faster than shorter ones: capacity comes too early, not too late."""
TYPICAL_COUNTS = 200.0
"""Weight of the policy's typical request, in measured requests: it is a guess, and a busy minute outweighs it."""
SHORTEST_TOKENS = 1.0
MOST_ELAPSED_SECONDS = 600.0
"""A longer pause between two runs counts as this long."""

AlternativeT = TypeVar("AlternativeT", bound=Alternative)


def as_seen(context: Context) -> Context:
    """Set pool figures and the policy's request to the running mean of the measured requests."""
    service, memory = context.service, _remember(context)
    if memory.tokens is None:
        return context
    request = Request(input_tokens=memory.tokens[0], output_tokens=memory.tokens[1])
    pools = tuple(_pool_at_request(pool, service, request) for pool in service.pools)
    policy = service.policy.model_copy(update={"request": request})
    return context.of(service.model_copy(update={"pools": pools, "policy": policy})).remember(requests=memory)


def _pool_at_request(pool: Pool, service: Service, request: Request) -> Pool:
    pool = at_request(pool, service, request)
    if not pool.alternatives:
        return pool
    alternatives = tuple(at_request(alternative, service, request) for alternative in pool.alternatives)
    return pool.model_copy(update={"alternatives": alternatives})


def at_request(types: AlternativeT, service: Service, request: Request) -> AlternativeT:
    """Return the pool or alternative with its figures for such requests; unchanged where its speed is unknown."""
    if types.speed is None:
        return types
    unit = service.policy.load.unit
    copy = instance_capacity(types.speed, request, service.policy.slo, unit)
    return types.model_copy(
        update={
            "capacity": copy.capacity * types.copies,
            "throughput_rps": copy.throughput_rps * types.copies,
            "slowdown": copy.slowdown,
            "service_seconds": copy.service_seconds,
            "slots": copy.slots * types.copies,
            "first_token_seconds": copy.first_token_seconds,
            "reaches_slo": copy.reaches_slo,
        }
    )


def _remember(context: Context) -> RequestMemory:
    """Move the running means towards the lengths that were measured.

    The means start at the policy's request. Lengths are measured of requests that have ended, and the short ones end
    first, so the first minutes of a service say little about short requests. Long ones count by their number: 834
    requests of 12,000 tokens in the first minute, where the policy says 1,155, move the mean to 9,900.
    """
    memory, seen, typical = context.state.requests, context.seen, context.policy.request
    input_tokens, output_tokens = context.value(seen.input_tokens), context.value(seen.output_tokens)
    if input_tokens is None or output_tokens is None:
        return memory
    mean_input, mean_output = memory.tokens or (typical.input_tokens, typical.output_tokens)
    elapsed = max(0.0, min(context.now - context.state.at, MOST_ELAPSED_SECONDS))
    rate = context.value(seen.arrivals_rps) or 0.0
    keep = 0.5 ** (elapsed / LONGER_HALF_LIFE_SECONDS)
    arrived, remembered = rate * elapsed, memory.count * keep
    longer = max(1 - keep, arrived / (TYPICAL_COUNTS + remembered + arrived))
    shorter = 1 - 0.5 ** (elapsed / SHORTER_HALF_LIFE_SECONDS)

    def moved(mean: float, tokens: float) -> float:
        tokens = max(SHORTEST_TOKENS, tokens)
        return round(mean + (tokens - mean) * (longer if tokens > mean else shorter), 2)

    means = (moved(mean_input, input_tokens), moved(mean_output, output_tokens))
    return RequestMemory(means, round(remembered + arrived, 1))
