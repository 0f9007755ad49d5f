"""The serving profile: how fast one instance type serves one model, and what it can carry within an SLO.

An instance under continuous batching is described by four measured figures (Agrawal et al., "Taming
Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI'24, section 3, for the two phases):

- reading a prompt of i tokens takes  p(i) = prefill_base_seconds + i / prefill_tokens_per_second
  and decoding stands still meanwhile;
- one decoding step of a batch of b takes  d(b) = decode_base_seconds + b * decode_seconds_per_sequence
  (weights are read once a step whatever the batch, each sequence adds its KV cache and arithmetic);
- at most `max_sequences` sequences are in the batch, and their tokens fit into `kv_cache_tokens`.

With requests of i tokens in and o out, batch b completes
    rate(b) = 1 / (o * d(b) / b + p(i)) = b / (o * decode_base + (o * decode_per_sequence + p(i)) * b)
requests per second. Capacity C is the largest b whose time per output token stays within the SLO; with
r = C * (o * decode_per_sequence + p) / (o * decode_base), load x*C completes the share x(1+r)/(1+r*x) of rate(C),
which is why a pool carries `slowdown` = 1+r.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from gpu_fleet.scaling.policy import LoadUnit, Request, Section, Slo

PositiveFloat = Annotated[float, Field(gt=0)]


class Speed(Section):
    """How fast one copy of a model serves: the four figures, and what bounds the batch."""

    prefill_base_seconds: Annotated[float, Field(ge=0)] = 0.0
    """Time to read a prompt, whatever its length."""
    prefill_tokens_per_second: PositiveFloat
    """Prompt tokens read per second."""
    decode_base_seconds: PositiveFloat
    """Time of a decoding step, whatever the batch."""
    decode_seconds_per_sequence: Annotated[float, Field(ge=0)]
    """What each sequence of the batch adds to a step."""
    kv_cache_tokens: Annotated[int, Field(gt=0)]
    """Tokens of prompts and answers that fit into the memory beside the weights."""
    max_sequences: Annotated[int, Field(ge=1)] = 256
    """The engine's limit of the batch (vLLM: max-num-seqs)."""

    def prefill_seconds(self, input_tokens: float) -> float:
        """Time to read one prompt alone."""
        return self.prefill_base_seconds + input_tokens / self.prefill_tokens_per_second

    def step_seconds(self, batch: float) -> float:
        """Time of one decoding step, which gives each sequence of the batch one token."""
        return self.decode_base_seconds + batch * self.decode_seconds_per_sequence


class Profile(Speed):
    """One model on one instance type. Every figure has its source, or says that it is an estimate and from what."""

    load_seconds: PositiveFloat
    """From container start to a model that answers."""
    estimate: bool
    """Whether the figures are derived and not measured on this very type."""
    source: str
    """Where the figures come from: file, rows and error of the fit, or the arithmetic of the estimate."""


@dataclass(frozen=True, slots=True)
class Carrying:
    """What one instance carries within an SLO."""

    capacity: float
    """C, in the load unit asked for."""
    throughput_rps: float
    slowdown: float
    service_seconds: float
    reaches_slo: bool
    slots: float = 0.0
    """Largest batch that memory and the engine's limit allow, whatever the SLO."""
    first_token_seconds: float = 0.0
    """Time to read the typical prompt alone."""


def carrying(profile: Speed, request: Request, slo: Slo | None, unit: LoadUnit) -> Carrying:
    """What an instance with this profile carries of such requests within the SLO (see the module's text)."""
    i, o = request.input_tokens, request.output_tokens
    prefill = profile.prefill_seconds(i)
    by_memory = profile.kv_cache_tokens / (i + o / 2)
    slots = batch = max(1.0, min(profile.max_sequences, by_memory))
    reaches = by_memory >= 1
    if slo is not None:
        reaches = reaches and _tpot(profile, prefill, o, 1.0) <= slo.tpot_seconds
        reaches = reaches and prefill <= slo.ttft_limit_seconds(i)
        batch = _largest_batch(profile, prefill, o, slo.tpot_seconds, batch)
    rate = 1 / (o * profile.step_seconds(batch) / batch + prefill)
    r = batch * (o * profile.decode_seconds_per_sequence + prefill) / (o * profile.decode_base_seconds)
    capacity, slowdown = {
        LoadUnit.CONCURRENCY: (batch, 1 + r),
        LoadUnit.REQUESTS: (rate, 1.0),
        LoadUnit.TOKENS: (rate * (i + o), 1.0),
        LoadUnit.GPU: (100.0, 1.0),
        LoadUnit.KV_CACHE: (100.0 * min(1.0, batch / by_memory), 1 + r),
    }[unit]
    return Carrying(capacity, rate, slowdown, batch / rate, reaches, slots, prefill)


def _tpot(profile: Speed, prefill: float, output_tokens: float, batch: float) -> float:
    """Mean time per output token in a steady batch: the step, stretched by the prefills in between.

    While o tokens of one sequence are made, each other sequence is replaced once: batch * prefill seconds stand
    between o steps.
    """
    return profile.step_seconds(batch) + batch * prefill / output_tokens


def _largest_batch(profile: Speed, prefill: float, output_tokens: float, limit: float, most: float) -> float:
    """`_tpot` is linear in the batch: base + batch * (per_sequence + prefill / o) <= limit."""
    per_sequence = profile.decode_seconds_per_sequence + prefill / output_tokens
    if per_sequence == 0:
        return most
    fits = (limit - profile.decode_base_seconds) / per_sequence
    return max(1.0, min(most, math.floor(fits)))
