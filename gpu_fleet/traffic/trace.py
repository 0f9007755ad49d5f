"""Recorded demand: every request (`Trace`), or only the requests per second (`RateTrace`).

Both hand out their requests one period after another by `windows(...)`, so that a replay need not tell them apart.
Second 0 is the trace's first moment; `starts_at` is its absolute time if the file has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.traffic.arrivals import arrivals
from gpu_fleet.traffic.tokens import ANSWERS, PROMPTS

Floats: TypeAlias = NDArray[np.float64]

WINDOW_SECONDS = 600.0
SHORTEST_BLOCK_SECONDS = 60.0
"""Shorter steps are drawn in blocks of several: a renewal process restarted every second could show no clump longer
than a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """The requests of one period, `starts_seconds` <= at < `ends_seconds` (<= in the last period)."""

    starts_seconds: float
    ends_seconds: float
    at_seconds: Floats
    """Shape (n,), sorted, from the trace's start (not the period's)."""
    input_tokens: Floats
    output_tokens: Floats

    def __len__(self) -> int:
        return len(self.at_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Every request of a period. Raises ValueError for arrays that differ in length or are out of order."""

    name: str
    at_seconds: Floats
    """Arrival, seconds from the trace's start: shape (n,), sorted, not negative."""
    input_tokens: Floats
    """Prompt lengths: shape (n,), not negative."""
    output_tokens: Floats
    """Answer lengths: shape (n,), not negative."""
    span_seconds: float = math.nan
    """Length of the recording; by default up to the last request."""
    starts_at: float | None = None
    """Second 0, in seconds since the epoch; None if the file has only relative times."""
    notes: tuple[str, ...] = ()
    """Facts that readers of results should know about this trace."""

    def __post_init__(self) -> None:
        _check_lengths(self, "at_seconds", ("input_tokens", "output_tokens"))
        if len(self.at_seconds) == 0:
            raise ValueError(f"{self.name}: a trace needs at least one request")
        for name in ("at_seconds", "input_tokens", "output_tokens"):
            values = getattr(self, name)
            if not np.isfinite(values).all() or values.min() < 0:
                raise ValueError(f"{name}: must be finite and not negative")
        if (np.diff(self.at_seconds) < 0).any():
            raise ValueError("at_seconds: must not go backwards")
        if math.isnan(self.span_seconds):
            object.__setattr__(self, "span_seconds", float(self.at_seconds[-1]))
        if self.span_seconds < self.at_seconds[-1]:
            raise ValueError(f"span_seconds: ends before the last request (got {self.span_seconds})")

    def __len__(self) -> int:
        return len(self.at_seconds)

    def windows(self, window_seconds: float = WINDOW_SECONDS, *, seed: int = 0) -> Iterator[Requests]:
        """Yield the trace in periods, as views of its arrays; periods without requests are included.

        `seed` has no effect, as nothing is drawn; `RateTrace.windows` needs it.
        """
        count = _window_count(self.span_seconds, window_seconds)
        edges = np.arange(1, count) * window_seconds
        cuts = [0, *np.searchsorted(self.at_seconds, edges, side="left").tolist(), len(self)]
        for i in range(count):
            part = slice(cuts[i], cuts[i + 1])
            yield Requests(
                i * window_seconds,
                min((i + 1) * window_seconds, self.span_seconds),
                self.at_seconds[part],
                self.input_tokens[part],
                self.output_tokens[part],
            )


@dataclass(frozen=True, slots=True, eq=False)
class RateTrace:
    """Requests per second in steps of equal length, without gaps. Raises ValueError for anything else."""

    name: str
    at_seconds: Floats
    """Start of each step: shape (n,), 0, step, 2*step ..."""
    rps: Floats
    """Mean rate of each step: shape (n,), not negative."""
    step_seconds: float
    burstiness: float = 1.0
    """Coefficient of variation of the times between requests within a step; 1 (Poisson) if unknown."""
    measured: NDArray[np.bool_] | None = None
    """Steps that were in the file; the others were filled in. None: all of them."""
    starts_at: float | None = None
    """Second 0, in seconds since the epoch; None if the file has only relative times."""
    notes: tuple[str, ...] = ()
    """Facts that readers of results should know about this trace."""

    def __post_init__(self) -> None:
        _check_lengths(self, "at_seconds", ("rps",) if self.measured is None else ("rps", "measured"))
        if len(self.rps) == 0:
            raise ValueError(f"{self.name}: a trace needs at least one step")
        if not self.step_seconds > 0:
            raise ValueError(f"step_seconds: must be above 0 (got {self.step_seconds})")
        if not self.burstiness >= 0:
            raise ValueError(f"burstiness: must not be negative (got {self.burstiness})")
        if not np.isfinite(self.rps).all() or self.rps.min() < 0:
            raise ValueError("rps: must be finite and not negative")
        grid = np.arange(len(self.rps)) * self.step_seconds
        if not np.allclose(self.at_seconds, grid, rtol=0, atol=1e-6 * self.step_seconds):
            raise ValueError("at_seconds: must be 0, step_seconds, 2 * step_seconds ...")

    def __len__(self) -> int:
        return len(self.rps)

    @property
    def span_seconds(self) -> float:
        """Length of the recording."""
        return len(self.rps) * self.step_seconds

    @property
    def expected_requests(self) -> float:
        """Mean number of requests that `sample` draws."""
        return float(self.rps.sum() * self.step_seconds)

    def windows(self, window_seconds: float = WINDOW_SECONDS, *, seed: int = 0) -> Iterator[Requests]:
        """Yield requests drawn from the rates, period by period, holding one block of steps at a time.

        The same seed gives the same requests for every window: each block of steps draws from its own generator,
        seeded with (seed, number of the block).
        """
        steps = max(1, math.ceil(SHORTEST_BLOCK_SECONDS / self.step_seconds))
        blocks = math.ceil(len(self) / steps)
        count = _window_count(self.span_seconds, window_seconds)
        drawn: list[tuple[Floats, Floats, Floats]] = []
        next_block = 0
        for i in range(count):
            ends = self.span_seconds if i == count - 1 else (i + 1) * window_seconds
            while next_block < blocks and next_block * steps * self.step_seconds < ends:
                drawn.append(self._block(next_block, steps, seed))
                next_block += 1
            parts: list[tuple[Floats, Floats, Floats]] = []
            later: list[tuple[Floats, Floats, Floats]] = []
            for at, inputs, outputs in drawn:
                cut = len(at) if i == count - 1 else int(np.searchsorted(at, ends, side="left"))
                parts.append((at[:cut], inputs[:cut], outputs[:cut]))
                if cut < len(at):
                    later.append((at[cut:], inputs[cut:], outputs[cut:]))
            drawn = later
            yield Requests(i * window_seconds, ends, *_joined(parts))

    def sample(self, seed: int = 0) -> Trace:
        """Draw all requests at once, at 24 bytes each; `windows` serves traces that do not fit into memory.

        Raises ValueError if no request was drawn.
        """
        drawn = list(self.windows(max(WINDOW_SECONDS, self.step_seconds), seed=seed))
        at, inputs, outputs = _joined([(part.at_seconds, part.input_tokens, part.output_tokens) for part in drawn])
        return Trace(self.name, at, inputs, outputs, self.span_seconds, self.starts_at, self.notes)

    def _block(self, block: int, steps: int, seed: int) -> tuple[Floats, Floats, Floats]:
        """Draw arrivals, prompts and answers of the block with that number, of `steps` steps."""
        random = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, block))))
        counts = self.rps[block * steps : (block + 1) * steps] * self.step_seconds
        starts = block * steps * self.step_seconds
        at = arrivals(counts, self.step_seconds, self.burstiness, random)
        at += starts
        # Adding the start may round the last arrival up to the block's end, which is in the next block.
        np.minimum(at, np.nextafter(starts + len(counts) * self.step_seconds, 0.0), out=at)
        return at, PROMPTS.draw(len(at), random), ANSWERS.draw(len(at), random)


def _joined(parts: list[tuple[Floats, Floats, Floats]]) -> tuple[Floats, Floats, Floats]:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return np.empty(0), np.empty(0), np.empty(0)
    at, inputs, outputs = zip(*parts, strict=True)
    return np.concatenate(at), np.concatenate(inputs), np.concatenate(outputs)


def _window_count(span_seconds: float, window_seconds: float) -> int:
    if not window_seconds > 0:
        raise ValueError(f"window_seconds: must be above 0 (got {window_seconds})")
    return max(1, math.ceil(span_seconds / window_seconds - 1e-9))


def _check_lengths(trace: object, first: str, others: tuple[str, ...]) -> None:
    expected = len(getattr(trace, first))
    for name in others:
        if len(getattr(trace, name)) != expected:
            raise ValueError(f"{name}: must be as long as {first} ({expected}) (got {len(getattr(trace, name))})")
