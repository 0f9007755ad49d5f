"""The serving profile: how fast one instance type serves one model, and what it can carry within an SLO.

Four measured figures describe an instance under continuous batching (Agrawal et al., "Taming Throughput-Latency
Tradeoff in LLM Inference with Sarathi-Serve", OSDI'24, section 3, for the two phases):

- reading a prompt of i tokens takes  p(i) = prefill_base_seconds + i / prefill_tokens_per_second,
  and decoding stops meanwhile;
- one decoding step of a batch of b takes  d(b) = decode_base_seconds + b * decode_seconds_per_sequence
  (each step reads the weights once whatever the batch; each sequence adds its KV cache and arithmetic);
- the batch holds at most `max_sequences` sequences, and their tokens fit into `kv_cache_tokens`.

With requests of i tokens in and o out, batch b completes
    rate(b) = 1 / (o * d(b) / b + p(i)) = b / (o * decode_base + (o * decode_per_sequence + p(i)) * b)
requests per second. Capacity C is the largest b whose time per output token stays within the SLO; with
r = C * (o * decode_per_sequence + p) / (o * decode_base), load x*C completes the share x(1+r)/(1+r*x) of rate(C),
which is why a pool has a `slowdown` of 1+r (`work_share`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gpu_fleet.scaling.policy import LoadUnit, Request, Section, Slo

PositiveFloat = Annotated[float, Field(gt=0)]


class Speed(Section):
    """How fast one copy of a model serves: the four figures, and the bounds of the batch."""

    prefill_base_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time to read a prompt, whatever its length."""
    prefill_tokens_per_second: PositiveFloat
    """Prompt tokens read per second."""
    decode_base_seconds: PositiveFloat
    """Time of a decoding step, whatever the batch."""
    decode_seconds_per_sequence: Annotated[float, Field(ge=0)]
    """Time that each sequence of the batch adds to a step."""
    kv_cache_tokens: Annotated[int, Field(gt=0)]
    """Tokens of prompts and answers that fit into GPU memory beside the weights."""
    max_sequences: Annotated[int, Field(ge=1)] = 256
    """The engine's limit on the batch (vLLM: max-num-seqs)."""

    def prefill_seconds(self, input_tokens: float) -> float:
        """Return the time to read one prompt alone."""
        return self.prefill_base_seconds + input_tokens / self.prefill_tokens_per_second

    def step_seconds(self, batch: float) -> float:
        """Return the time of one decoding step, which gives each sequence of the batch one token."""
        return self.decode_base_seconds + batch * self.decode_seconds_per_sequence


class Profile(Speed):
    """One model on one instance type. Every figure has its source, or is an estimate that names its basis."""

    compile_seconds: Annotated[float, Field(ge=0)]
    """Time from loaded weights to the first answer, without a cache: the engine compiles, and captures CUDA graphs."""
    estimate: bool
    """Whether the figures are derived rather than measured on this very type."""
    source: str
    """Source of the figures: file, rows and error of the fit, or the arithmetic of the estimate."""


@dataclass(frozen=True, slots=True)
class InstanceCapacity:
    """What one instance carries within an SLO."""

    capacity: float
    """C, in the policy's load unit."""
    throughput_rps: float
    slowdown: float
    service_seconds: float
    reaches_slo: bool
    slots: float = 0.0
    """Largest batch that memory and the engine's limit allow, whatever the SLO."""
    first_token_seconds: float = 0.0
    """Time to read the typical prompt alone."""


def instance_capacity(speed: Speed, request: Request, slo: Slo | None, unit: LoadUnit) -> InstanceCapacity:
    """Return what one copy with this speed carries of such requests within the SLO (see the module's docstring)."""
    i, o = request.input_tokens, request.output_tokens
    prefill = speed.prefill_seconds(i)
    by_memory = speed.kv_cache_tokens / (i + o / 2)
    slots = batch = slots_of(speed, request)
    reaches_slo = by_memory >= 1
    if slo is not None:
        reaches_slo = reaches_slo and _seconds_per_output_token(speed, prefill, o, 1.0) <= slo.tpot_seconds
        reaches_slo = reaches_slo and prefill <= slo.ttft_limit_seconds(i)
        batch = _largest_batch(speed, prefill, o, slo.tpot_seconds, batch)
    rate = completion_rps(speed, request, batch)
    slowdown = rate_slowdown(speed, request, batch) if unit is LoadUnit.CONCURRENCY else 1.0
    capacity = batch if unit is LoadUnit.CONCURRENCY else rate
    return InstanceCapacity(capacity, rate, slowdown, batch / rate, reaches_slo, slots, prefill)


def slots_of(speed: Speed, request: Request) -> float:
    """Return the largest batch that memory and the engine's limit allow; at least 1."""
    tokens = request.input_tokens + request.output_tokens / 2
    return max(1.0, min(speed.max_sequences, speed.kv_cache_tokens / tokens))


def completion_rps(speed: Speed, request: Request, batch: float) -> float:
    """Return the requests per second that a batch completes."""
    prefill = speed.prefill_seconds(request.input_tokens)
    return 1 / (request.output_tokens * speed.step_seconds(batch) / batch + prefill)


def rate_slowdown(speed: Speed, request: Request, batch: float) -> float:
    """Return 1+r, how many times longer a request takes in this batch than alone."""
    o = request.output_tokens
    work = o * speed.decode_seconds_per_sequence + speed.prefill_seconds(request.input_tokens)
    return 1 + batch * work / (o * speed.decode_base_seconds)


def work_share(load_share: float, slowdown: float) -> float:
    """Return the share of `throughput_rps` that an instance completes at this share of its capacity C.

    x*s/(1+(s-1)*x), see the module's docstring. A share outside 0..1 is clipped.
    """
    x = min(1.0, max(0.0, load_share))
    return x * slowdown / (1 + (slowdown - 1) * x)


def load_share(work_share: float, slowdown: float) -> float:
    """Return the share of C that an instance holds at this share of `throughput_rps`: the inverse of `work_share`."""
    y = min(1.0, max(0.0, work_share))
    return y / (slowdown - (slowdown - 1) * y)


def _seconds_per_output_token(speed: Speed, prefill_seconds: float, output_tokens: float, batch: float) -> float:
    """Mean time per output token in a steady batch: the step, stretched by the prefills in between.

    While one sequence makes o tokens, each other sequence is replaced once: o steps and batch * prefill seconds.
    """
    return speed.step_seconds(batch) + batch * prefill_seconds / output_tokens


def _largest_batch(
    speed: Speed, prefill_seconds: float, output_tokens: float, limit_seconds: float, slots: float
) -> float:
    """The largest batch within the limit per output token, at most `slots`.

    The time is linear in the batch: decode_base + batch * (decode_per_sequence + prefill / o) <= limit.
    """
    per_sequence = speed.decode_seconds_per_sequence + prefill_seconds / output_tokens
    if per_sequence == 0:
        return slots
    fits = (limit_seconds - speed.decode_base_seconds) / per_sequence
    return max(1.0, min(slots, math.floor(fits)))
