"""Demand as it was recorded: every request (`Trace`), or only how many a second (`RateTrace`).

Both give the same thing to whoever replays them: `windows(...)`, the requests of one stretch of time after the other.
Second 0 is the trace's first moment; `starts_at` says when that was, where the file tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpu_fleet.traffic.arrivals import arrivals
from gpu_fleet.traffic.tokens import TokenLengths

Floats: TypeAlias = NDArray[np.float64]

WINDOW_SECONDS = 600.0
SHORTEST_BLOCK_SECONDS = 60.0
"""Rates in steps shorter than this are drawn in blocks of several steps: a renewal process that starts anew each
second could show no clump longer than a second."""


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """The requests of one stretch of time, `starts_seconds` <= at < `ends_seconds` (the last window: <=)."""

    starts_seconds: float
    ends_seconds: float
    at_seconds: Floats
    """Shape (n,), sorted, from the trace's start (not the window's)."""
    input_tokens: Floats
    output_tokens: Floats

    def __len__(self) -> int:
        return len(self.at_seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """Every request of a stretch of time. Raises ValueError for arrays that differ in length or are out of order."""

    name: str
    at_seconds: Floats
    """Arrival, seconds from the trace's start: shape (n,), sorted, not negative."""
    input_tokens: Floats
    """Prompt lengths: shape (n,), not negative."""
    output_tokens: Floats
    """Answer lengths: shape (n,), not negative."""
    span_seconds: float = math.nan
    """How long was recorded; where it is not given, up to the last request."""
    starts_at: float | None = None
    """Second 0, in seconds since the epoch; None where the file tells only relative times."""
    notes: tuple[str, ...] = ()
    """What a reader of results should know about this trace."""

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

    def windows(
        self,
        window_seconds: float = WINDOW_SECONDS,
        *,
        seed: int = 0,
        burstiness: float | None = None,
        tokens: TokenLengths | None = None,
    ) -> Iterator[Requests]:
        """The trace cut into stretches, as views of its arrays: no copy. Stretches without requests come too.

        Called as `RateTrace.windows` is, so that whoever replays need not tell the two apart; `seed`, `burstiness`
        and `tokens` change nothing, since every request is known and nothing is drawn.
        """
        count = _window_count(self.span_seconds, window_seconds)
        edges = np.arange(1, count) * window_seconds
        cuts = [0, *np.searchsorted(self.at_seconds, edges, side="left").tolist(), len(self)]
        for i in range(count):
            part = slice(cuts[i], cuts[i + 1])
            yield Requests(
                i * window_seconds,
                min((i + 1) * window_seconds, self.span_seconds) if i == count - 1 else (i + 1) * window_seconds,
                self.at_seconds[part],
                self.input_tokens[part],
                self.output_tokens[part],
            )


@dataclass(frozen=True, slots=True, eq=False)
class RateTrace:
    """Requests per second in steps of equal length, without gaps. Raises ValueError for what is not that."""

    name: str
    at_seconds: Floats
    """Start of each step: shape (n,), 0, step, 2*step ..."""
    rps: Floats
    """Mean rate of each step: shape (n,), not negative."""
    step_seconds: float
    burstiness: float = 1.0
    """Coefficient of variation of the times between requests within a step; 1 (Poisson) where nothing is known."""
    tokens: TokenLengths = field(default_factory=TokenLengths)
    measured: NDArray[np.bool_] | None = None
    """Which steps were in the file; the others were filled in. None: all."""
    starts_at: float | None = None
    """Second 0, in seconds since the epoch; None where the file tells only relative times."""
    notes: tuple[str, ...] = ()
    """What a reader of results should know about this trace."""

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
        """How long was recorded."""
        return len(self.rps) * self.step_seconds

    @property
    def expected_requests(self) -> float:
        """Sum of rate times step: the mean number of requests that `sample` draws."""
        return float(self.rps.sum() * self.step_seconds)

    def windows(
        self,
        window_seconds: float = WINDOW_SECONDS,
        *,
        seed: int = 0,
        burstiness: float | None = None,
        tokens: TokenLengths | None = None,
    ) -> Iterator[Requests]:
        """Requests drawn from the rates, one stretch of time after the other; only one block is held at a time.

        The same seed gives the same requests whatever the window: each block of steps draws from its own generator,
        seeded with (seed, number of the block). `burstiness` and `tokens` stand for the trace's own where given.
        """
        cv = self.burstiness if burstiness is None else burstiness
        if not cv >= 0:
            raise ValueError(f"burstiness: must not be negative (got {cv})")
        lengths = tokens or self.tokens
        steps = max(1, math.ceil(SHORTEST_BLOCK_SECONDS / self.step_seconds))
        blocks = math.ceil(len(self) / steps)
        count = _window_count(self.span_seconds, window_seconds)
        held: list[tuple[Floats, Floats, Floats]] = []
        next_block = 0
        for i in range(count):
            ends = self.span_seconds if i == count - 1 else (i + 1) * window_seconds
            while next_block < blocks and next_block * steps * self.step_seconds < ends:
                held.append(self._block(next_block, steps, seed, cv, lengths))
                next_block += 1
            parts: list[tuple[Floats, Floats, Floats]] = []
            rest: list[tuple[Floats, Floats, Floats]] = []
            for at, inputs, outputs in held:
                cut = len(at) if i == count - 1 else int(np.searchsorted(at, ends, side="left"))
                parts.append((at[:cut], inputs[:cut], outputs[:cut]))
                if cut < len(at):
                    rest.append((at[cut:], inputs[cut:], outputs[cut:]))
            held = rest
            yield Requests(i * window_seconds, ends, *_joined(parts))

    def sample(self, seed: int = 0, burstiness: float | None = None, tokens: TokenLengths | None = None) -> Trace:
        """All requests drawn at once: 24 bytes each. For what does not fit, see `windows`.

        Raises ValueError when no request at all was drawn.
        """
        drawn = list(
            self.windows(max(WINDOW_SECONDS, self.step_seconds), seed=seed, burstiness=burstiness, tokens=tokens)
        )
        at, inputs, outputs = _joined([(part.at_seconds, part.input_tokens, part.output_tokens) for part in drawn])
        return Trace(self.name, at, inputs, outputs, self.span_seconds, self.starts_at, self.notes)

    def _block(
        self, block: int, steps: int, seed: int, burstiness: float, tokens: TokenLengths
    ) -> tuple[Floats, Floats, Floats]:
        random = np.random.Generator(np.random.SFC64(np.random.SeedSequence((seed, block))))
        counts = self.rps[block * steps : (block + 1) * steps] * self.step_seconds
        starts = block * steps * self.step_seconds
        at = arrivals(counts, self.step_seconds, burstiness, random)
        at += starts
        # Adding the start may round the last arrival up to the block's end, which belongs to the next block.
        np.minimum(at, np.nextafter(starts + len(counts) * self.step_seconds, 0.0), out=at)
        return at, *tokens.draw(len(at), random)


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
