"""What instances carry of the requests that are seen, where those differ from the policy's typical one.

A GPU that holds 158 chats of 1,155 tokens holds 16 conversations of 12,000: capacity in requests is no property of
the GPU alone. Where the engines tell the lengths of prompts and answers, every figure of a pool is worked out anew for
their running mean (`gpu_fleet.scaling.profile.carrying`), so demand can be counted in requests as they are, and a
shift of the mix is met before it shows as a queue.
"""

from __future__ import annotations

from typing import TypeVar

from gpu_fleet.scaling.context import Context
from gpu_fleet.scaling.policy import LoadUnit, Request
from gpu_fleet.scaling.profile import carrying
from gpu_fleet.scaling.service import Alternative, Pool, Service
from gpu_fleet.scaling.state import RequestMemory

LONGER_HALF_LIFE_SECONDS, SHORTER_HALF_LIFE_SECONDS = 240.0, 600.0
"""Longer prompts and answers are believed sooner than shorter ones: they lead to capacity too early, not too late."""
TYPICAL_COUNTS = 200.0
"""The policy's typical request counts for as many requests seen: it is a guess, and a busy minute knows better."""
SHORTEST_TOKENS = 1.0

Kind = TypeVar("Kind", bound=Alternative)


def as_seen(context: Context) -> Context:
    """Set the pools' figures, and the policy's request, to the running mean of the requests seen."""
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
    kinds = tuple(at_request(kind, service, request) for kind in pool.alternatives)
    return pool.model_copy(update={"alternatives": kinds})


def at_request(kind: Kind, service: Service, request: Request) -> Kind:
    """The figures of a pool, or of types that may stand in it, for such requests; without a known speed as they are."""
    if kind.speed is None:
        return kind
    unit = service.policy.load.unit
    one = carrying(kind.speed, request, service.policy.slo, unit)
    load_copies = 1 if unit in {LoadUnit.GPU, LoadUnit.KV_CACHE} else kind.copies
    return kind.model_copy(
        update={
            "capacity": one.capacity * load_copies,
            "throughput_rps": one.throughput_rps * kind.copies,
            "slowdown": one.slowdown,
            "service_seconds": one.service_seconds,
            "slots": one.slots * kind.copies,
            "first_token_seconds": one.first_token_seconds,
            "reaches_slo": one.reaches_slo,
        }
    )


def _remember(context: Context) -> RequestMemory:
    memory, seen = context.state.requests, context.seen
    tokens_in, tokens_out = context.value(seen.input_tokens), context.value(seen.output_tokens)
    if tokens_in is None or tokens_out is None:
        return memory
    tokens = (max(SHORTEST_TOKENS, tokens_in), max(SHORTEST_TOKENS, tokens_out))
    # The mean starts from the policy's request: lengths are known of requests that have ended, and the short ones end
    # first, so the first minutes of a service say little of how short its requests are. That they are long is believed
    # by their number: 834 of 12,000 tokens in the first minute, where the policy has 1,155, make 9,900.
    typical = context.policy.request
    old = memory.tokens or (typical.input_tokens, typical.output_tokens)
    elapsed = max(0.0, min(context.now - context.state.at, 600.0))
    rate = context.value(seen.arrivals_rps) or 0.0
    keep = 0.5 ** (elapsed / LONGER_HALF_LIFE_SECONDS)
    new, known = rate * elapsed, memory.count * keep
    longer = max(1 - keep, new / (TYPICAL_COUNTS + known + new))
    shorter = 1 - 0.5 ** (elapsed / SHORTER_HALF_LIFE_SECONDS)
    mean = (_moved(old[0], tokens[0], longer, shorter), _moved(old[1], tokens[1], longer, shorter))
    return RequestMemory(mean, round(known + new, 1))


def _moved(old: float, new: float, longer: float, shorter: float) -> float:
    return round(old + (new - old) * (longer if new > old else shorter), 2)
