"""Lateness: the share of requests that an engine serves outside the limits on its tokens.

The batch of an engine may stay below C, the number at which the mean time per token meets its limit, and single
requests still miss it: each prompt that is read stops every answer meanwhile. An answer of 20 tokens has 2 s at a limit
of 0.1 s; on an L4 its steps take 0.8 s, and one prompt of 6,500 tokens (1.24 s) makes it late. Long answers
average over many prompts, short ones do not, and C knows only the mean.

**One answer.** For d tokens after the first an engine decodes d * step seconds, and reads the prompts that come
meanwhile and those that waited when its own had been read. The answer is late when all this exceeds d * limit. The
reading time is a sum of a random number of prompts. It is zero or gamma distributed, with the sum's mean and variance
(T. Rolski et al., "Stochastic Processes for Insurance and Finance", 1999, section 4.3, for sums over claims), by the
normal approximation of a power (E. B. Wilson, M. M. Hilferty, "The distribution of chi-square", PNAS 17, 1931).

**Lengths.** The typical request says nothing of their spread, so lengths are lognormal about its means as in Azure's
conversation trace, from which `gpu_fleet.traffic` draws the requests of a trace that knows only rates.

**Neighbours.** Alone, an engine takes every request, whatever it does. One of many under least-outstanding routing gets
a new request when one of its own has ended, and none ends while it reads: it is spared the prompts that a lone one
meets. `EngineLoad.alone` says how far.

The constants from `READ_BETWEEN` on are fitted to the simulator: `bench/bench_sizing.py` measures how
close the result is, and docs/capacity.md says so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from gpu_fleet.scaling.policy import Request, Slo
from gpu_fleet.scaling.profile import Speed, completion_rps, load_share, rate_slowdown, slots_of

PROMPT_SIGMA, ANSWER_SIGMA = 0.985, 0.859
"""Standard deviation of the logarithm of a length."""
PROMPT_MEDIAN, ANSWER_MEDIAN = 0.62, 0.71
"""Median length over the mean; the longest are cut."""
PROMPT_SECOND, PROMPT_THIRD = 2.445, 11.7
"""Moments of a prompt's length, in powers of the mean."""
STEP = 0.75
"""Of the sum over answer lengths, in standard deviations of their logarithm."""
ANSWERS = tuple(
    (ANSWER_MEDIAN * math.exp(ANSWER_SIGMA * z), STEP * math.exp(-z * z / 2) / math.sqrt(2 * math.pi))
    for z in (STEP * k - 3.75 for k in range(10))
)
"""Lengths over the mean, shortest first, with their weights."""
PROMPTS = tuple(
    (PROMPT_MEDIAN * math.exp(PROMPT_SIGMA * z), weight)
    for z, weight in ((-math.sqrt(3), 1 / 6), (0.0, 2 / 3), (math.sqrt(3), 1 / 6))
)
"""The three nodes of Gauss and Hermite."""
POWER = 0.28
"""Between a logarithm (0) and Wilson and Hilferty's cube root."""
NEGLIGIBLE = 1e-3
"""Answers longer than those that are late so seldom, of what has been added up, are not late at all."""


READ_BETWEEN = 0.3
"""Part of the prompts behind it that an engine among many gets while it reads."""
BURST_POWER = 0.74
"""How much of a burst reaches an engine although it reads: see `EngineLoad.alone`."""
BATCH_NOISE = 2.9
"""Variance of an engine's batch about its part of the pool's, over the mean."""
READING_NOISE = 1.9
"""What the spread of reading times adds to the variance of the number in flight, over share of time * its scv."""
CLUMP_SHARE = 0.4
"""Part of an engine's own clump of arrivals that its batch still holds."""
CATCHING_UP = 2.9
"""Prompts in an answer's time from which on its delay draws in others as a mean does, not as a single event."""


class EngineModel(NamedTuple):
    """One copy of the model among others like it, the typical request and the limits; a tuple, as a key of a cache."""

    request: Request
    slo: Slo
    speed: Speed
    capacity: float
    """C: the batch whose mean time per token just meets the limit, or the largest that memory allows."""
    peers: int
    """Engines of the pool, this one included."""
    scv: float
    """Variance of the pool's arrivals over their mean."""

    @property
    def throughput_rps(self) -> float:
        """Requests per second that the batch C completes."""
        return completion_rps(self.speed, self.request, self.capacity)


class EngineLoad:
    """What one engine meets at a rate below its throughput."""

    def __init__(self, engine: EngineModel, rate_rps: float) -> None:
        self.engine, self.rate_rps = engine, rate_rps
        request, speed, peers, scv = engine.request, engine.speed, engine.peers, engine.scv
        self.prompt_seconds = speed.prefill_seconds(request.input_tokens)
        self.reading = rate_rps * self.prompt_seconds
        """Share of the time."""
        spare = 1 - self.reading
        burst = scv**BURST_POWER
        self.alone = burst / (peers - 1 + burst)
        """1: prompts come whatever the engine does. 0: one comes when an answer has ended."""
        self.scv = 1 + (scv - 1) / peers
        """Of the engine's own arrivals: a part of the stream that is dealt out keeps that part of its burstiness."""
        self.wait_seconds = self.reading / spare * self.prompt_seconds * (PROMPT_SECOND - 1 + self.scv) / 2
        """Mean wait for the prompts before it, by Kingman's formula."""
        third = rate_rps * self.prompt_seconds**3 * PROMPT_THIRD / 3 / spare
        self.wait_second = 2 * self.wait_seconds**2 + third
        """Second moment of the wait (Takacs, for M/G/1)."""
        self._fill()

    def _fill(self) -> None:
        """Mean and variance of the batch, as `queueing.share_in_flight` has them for the pool."""
        engine, peers = self.engine, self.engine.peers
        slowdown = rate_slowdown(engine.speed, engine.request, engine.capacity)
        share = load_share(self.rate_rps / engine.throughput_rps, slowdown)
        bend = (slowdown - 1) * share
        noise = engine.scv + READING_NOISE * self.reading * (PROMPT_SECOND - 1)
        mean = share * engine.capacity + noise * bend / peers
        self.batch_variance = mean * (noise * (1 + bend) / peers + BATCH_NOISE)
        seen = mean + self.alone + CLUMP_SHARE * (self.scv - 1)
        self.batch = min(seen, max(slots_of(engine.speed, engine.request), engine.capacity))
        self.refill = self.alone + (1 - self.alone) * max(0.0, self.batch - 1) / self.batch
        """Prompts that come while an answer runs, of the mean: its own end brings none."""
        kept = self.alone + (1 - self.alone) * READ_BETWEEN
        second = self.wait_second + 2 * self.wait_seconds * self.prompt_seconds
        self.behind_seconds = (self.prompt_seconds + self.wait_seconds * kept) * kept
        """Mean time in which prompts come that wait when its own has been read."""
        variance = kept**2 * second + kept * PROMPT_SECOND * self.prompt_seconds**2 - self.behind_seconds**2
        self.behind_variance = (self.reading * self.refill) ** 2 * variance
        """Of the time that reading those takes."""
        self.fixed_seconds = engine.speed.decode_base_seconds
        self.shared_seconds = engine.speed.decode_seconds_per_sequence
        self.token_seconds = (self.fixed_seconds + self.batch * self.shared_seconds) / (1 - self.reading)
        """Mean time of a token, with the prompts read in between."""

    def late_answers(self) -> float:
        """Share of the answers whose tokens come too slowly; none where every answer is a single token."""
        late = 0.0
        if self.engine.request.output_tokens <= 1:
            return late
        for over_mean, weight in ANSWERS:
            tokens = over_mean * self.engine.request.output_tokens - 1
            if tokens >= 0.5:
                part = weight * self._late(max(1.0, tokens))
                late += part
                if part < NEGLIGIBLE * late:
                    break
        return late

    def _late(self, tokens: float) -> float:
        """Probability that an answer of so many tokens after the first is late."""
        limit, usual = tokens * self.engine.slo.tpot_seconds, tokens * self.token_seconds
        # A lone engine that falls behind gets more prompts before the limit is reached: where there are few, at the
        # mean rate, since one long prompt has made it late; where there are many, at random like those before.
        more, random = (limit - usual) * self.alone, 1.0
        if usual < limit:
            meanwhile = self.rate_rps * (usual + self.behind_seconds) * self.refill
            random = meanwhile / (meanwhile + CATCHING_UP)
        room = limit - tokens * self.fixed_seconds - max(0.0, self.reading * more * (1 - random))
        seconds = usual + more * random + self.behind_seconds
        count, count_variance = self._prompts(self.rate_rps * seconds * self.refill)
        if room <= 0 or count <= 0:
            return 1.0 if room <= 0 else 0.0
        prompt, any_prompt = self.prompt_seconds, 1 - _none(count, count_variance)
        read, variance = count * prompt, prompt**2 * (count * (PROMPT_SECOND - 1) + count_variance)
        mean, step = read / any_prompt, tokens * self.shared_seconds
        variance = (variance + self.behind_variance + read**2) / any_prompt - mean**2 + step**2 * self.batch_variance
        return any_prompt * _above(room, mean + step * self.batch, variance)

    def _prompts(self, expected: float) -> tuple[float, float]:
        """Mean and variance of the number that come after a request, where `expected` come in a time like it.

        Bursty arrivals come in clumps, so more follow an arrival than a time of that length sees: in the long run
        (scv - 1) / 2 more (D. R. Cox, "Renewal Theory", 1962, section 4). The way there is fitted.
        """
        over = self.scv - 1
        u = expected / self.scv
        mean = expected + over / 2 * (u + 0.03) / (u + 0.09)
        return mean, mean * (1 + over * (u + 0.12) / (u + 0.67))

    def late_first_tokens(self) -> float:
        """Share of the requests that wait too long for the prompts before theirs."""
        slo, speed = self.engine.slo, self.engine.speed
        mean = self.wait_seconds / self.reading
        poisson = self.prompt_seconds * PROMPT_SECOND / 2 / (1 - self.reading)  # the mean, of those that wait
        third = self.prompt_seconds**2 * PROMPT_THIRD / 3 / (1 - self.reading)
        spread = (2 * self.reading * poisson**2 + third) / poisson**2 - 1
        spread = 1 + (spread - 1) * (PROMPT_SECOND / (self.scv + PROMPT_SECOND - 1)) ** 2
        late = 0.0
        for over_mean, weight in PROMPTS:
            tokens = over_mean * self.engine.request.input_tokens
            limit = slo.ttft_limit_seconds(tokens) - speed.prefill_seconds(tokens)
            late += weight * (_above(limit, mean, spread * mean**2) if limit > 0 else 1.0)
        return self.alone * self.reading * late


def late_share(engine: EngineModel, rate_rps: float) -> float:
    """Return the share of requests outside the limits at a rate; 1 from the engine's throughput on."""
    if rate_rps >= engine.throughput_rps:
        return 1.0
    if rate_rps <= 0:
        return 0.0
    load = EngineLoad(engine, rate_rps)
    return min(1.0, load.late_answers() + load.late_first_tokens())


def _none(mean: float, variance: float) -> float:
    """Probability of none: Poisson, or negative binomial where the variance is above the mean."""
    over = variance / mean - 1
    return math.exp(-mean if over < 1e-3 else -mean * math.log1p(over) / over)


def _above(limit: float, mean: float, variance: float) -> float:
    """Probability that a sum above 0 is above the limit: its power is about normal."""
    relative = variance / mean**2
    z = ((limit / mean) ** POWER - 1 + POWER * (1 - POWER) / 2 * relative) / (POWER * math.sqrt(relative))
    return 0.5 * math.erfc(z * math.sqrt(0.5))
