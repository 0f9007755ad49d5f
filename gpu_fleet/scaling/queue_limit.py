"""The bound of an engine's queue: what a full instance reads within the time that a request may wait.

A request behind a longer queue is sure to miss the SLO, and while it waits it makes the next one late too: after a jump
an unbounded queue serves everybody, and everybody late, until it has been worked off. So the engine refuses what would
wait too long, at once, and serves the rest in time (load shedding: Google, "Site Reliability Engineering", chapter 21,
https://sre.google/sre-book/handling-overload/).

With all of its slots taken an instance completes `completion_rps(slots)` requests a second, and so admits as many: an
L40S that serves llama-3.1-8b-fp8 under the policy `chat` 7.67. The SLO gives a prompt of 4 x 1155 tokens 6.62 s, and
reading it takes 0.29 s, so a request may wait 6.33 s: 48 requests, or 56010 tokens of prompts.

The engine does not ask how long the prompt is that it refuses. The SLO may give long ones more time, so what counts is
how long a long one may wait. Bound by the typical prompt, engines refuse what they would serve in time where prompts
are longer than the policy says: of Mooncake's conversations (12035 tokens) under `chat`, 10 %.
"""

from __future__ import annotations

import math

from gpu_fleet.scaling.policy import Policy
from gpu_fleet.scaling.profile import Speed, completion_rps, slots_of

LONG_PROMPT = 4.0
"""A long prompt over the typical one: the 99th percentile over the mean, which is 3.6 in Azure's conversations and in
its code of 2023, rounded up."""


def max_wait_seconds(policy: Policy, speed: Speed) -> float | None:
    """Return how long a request may wait in the engine; None for a queue without bound.

    What the limit on the time to first token leaves beside reading the prompt, a typical or a long one, whichever may
    wait longer, unless the policy says otherwise. Where even an idle instance is too slow, no bound keeps the SLO.
    """
    if not policy.refuses:
        return None
    if policy.overload.max_wait_seconds is not None:
        return policy.overload.max_wait_seconds
    if policy.slo is None:
        return None
    slo, typical = policy.slo, policy.request.input_tokens
    seconds = max(slo.ttft_limit_seconds(i) - speed.prefill_seconds(i) for i in (typical, LONG_PROMPT * typical))
    return seconds if seconds > 0 else None


def max_queued_requests(policy: Policy, speed: Speed) -> int | None:
    """Return the most requests that may wait for one copy of the model, at least 1; None for no bound."""
    requests = _in_time(policy, speed)
    return None if requests is None else max(1, math.floor(requests))


def max_queued_tokens(policy: Policy, speed: Speed) -> int | None:
    """Return the same in tokens of prompts, of which long ones take longer; at least 1. None for no bound."""
    requests = _in_time(policy, speed)
    return None if requests is None else max(1, round(requests * policy.request.input_tokens))


def _in_time(policy: Policy, speed: Speed) -> float | None:
    """Typical requests that a full copy admits within the longest wait."""
    seconds = max_wait_seconds(policy, speed)
    if seconds is None:
        return None
    return seconds * completion_rps(speed, policy.request, slots_of(speed, policy.request))
