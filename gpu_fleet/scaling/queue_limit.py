"""The bound of an engine's queue: what an instance can serve within the time that a request may wait.

A request behind a longer queue is sure to miss the SLO, and while it waits it makes the next one late too: after a jump
an unbounded queue serves everybody, and everybody late, until it has been worked off. So the engine refuses what would
wait too long, at once, and serves the rest in time (load shedding: Google, "Site Reliability Engineering", chapter 21,
https://sre.google/sre-book/handling-overload/).

A request waits for one of two things, and each has its limit:

- For a slot. With all of its slots taken an instance completes `completion_rps(slots)` requests a second, and so admits
  as many. An L40S that serves llama-3.1-8b-fp8 under the policy `chat` has 196 slots and completes 7.67. The SLO gives
  its typical prompt of 1155 tokens 3.155 s, and reading it takes 0.074 s, so a request may wait 3.08 s: 23 requests may
  wait, and 220 may be there in all.
- For the prompts before it, whether slots are free or not. The engine does not ask how long the prompt is that it
  refuses, and the SLO may give long ones more time: one of 4 x 1155 tokens may wait 6.33 s, in which 99314 tokens are
  read. Of the prompt that is being read the engine does not know how much is left, and counts it in full
  (https://docs.vllm.ai/en/stable/configuration/engine_args/#-max-num-queued-tokens). So a long one comes on top: 103934
  tokens.

An engine that counts both refuses nothing while it has a free slot and is in time with reading. A limit on the tokens
alone, low enough for an instance without free slots, refuses what an instance with free ones would serve in time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.profile import Speed, completion_rps, slots_of

LONG_PROMPT = 4.0
"""A long prompt over the typical one: the 99th percentile over the mean, which is 3.6 in Azure's conversations and in
its code of 2023, rounded up."""


@dataclass(frozen=True, slots=True)
class QueueLimit:
    """What one copy of the model may hold. It refuses what comes when one of the numbers is reached; None: no limit."""

    requests: int | None = None
    """Requests that wait or are in service."""
    waiting: int | None = None
    """Requests that wait."""
    prompt_tokens: int | None = None
    """Tokens of the prompts that wait or are being read."""


UNLIMITED = QueueLimit()


def max_wait_seconds(policy: Policy, speed: Speed, input_tokens: float) -> float | None:
    """Return how long a request with such a prompt may wait in the engine; None for a queue without bound.

    What the limit on the time to first token leaves beside reading the prompt, unless the policy says otherwise. Where
    even an idle instance is too slow, no bound keeps the SLO.
    """
    if not policy.refuses:
        return None
    if policy.overload.max_wait_seconds is not None:
        return policy.overload.max_wait_seconds
    if policy.slo is None:
        return None
    seconds = policy.slo.ttft_limit_seconds(input_tokens) - speed.prefill_seconds(input_tokens)
    return seconds if seconds > 0 else None


def queue_limit(policy: Policy, speed: Speed) -> QueueLimit:
    """Return what one copy of the model may hold under the policy, by each way to count (see the module's docstring).

    One request may always wait.
    """
    request = policy.request
    typical, long = request.input_tokens, LONG_PROMPT * request.input_tokens
    for_slot, for_long = (max_wait_seconds(policy, speed, tokens) for tokens in (typical, long))
    if for_slot is None:
        return UNLIMITED
    slots = slots_of(speed, request)
    waiting = max(1.0, for_slot * completion_rps(speed, request, slots))
    read_tokens = max(for_slot, for_long or 0.0) * typical / speed.prefill_seconds(typical)
    return QueueLimit(
        requests=math.floor(slots + waiting), waiting=math.floor(waiting), prompt_tokens=round(read_tokens + long)
    )
