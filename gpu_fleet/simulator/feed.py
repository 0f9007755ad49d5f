"""A source of traffic, and its requests handed out over periods of any length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK_SECONDS = 600.0


class Arrivals(Protocol):
    """Requests of one period, sorted by arrival, in seconds from the trace's start."""

    @property
    def at_seconds(self) -> Floats:
        """Arrival times [n]."""
        ...

    @property
    def input_tokens(self) -> Floats:
        """Prompt lengths [n]."""
        ...

    @property
    def output_tokens(self) -> Floats:
        """Answer lengths [n]."""
        ...


class Source(Protocol):
    """Traffic read one period after another, as from `gpu_fleet.traffic.Trace` and `RateTrace`."""

    @property
    def span_seconds(self) -> float:
        """Length of the traffic."""
        ...

    def windows(self, window_seconds: float = ..., *, seed: int = ...) -> Iterator[Arrivals]:
        """Yield consecutive periods of that length, without gaps."""
        ...


class Feed:
    """The requests of a source, in seconds from its start.

    `seed` draws the requests of a source that knows only rates.
    """

    def __init__(self, source: Source, seed: int) -> None:
        self._chunks = iter(source.windows(CHUNK_SECONDS, seed=seed))
        self._buffer: tuple[Floats, Floats, Floats] = (np.empty(0), np.empty(0), np.empty(0))
        self._read_until = 0.0

    def take(self, until: float) -> tuple[Floats, Floats, Floats]:
        """Return arrival times, prompt and answer lengths [n] of the requests before `until` not yet taken."""
        while self._read_until < until:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._read_until = np.inf
                break
            columns = (chunk.at_seconds, chunk.input_tokens, chunk.output_tokens)
            self._buffer = tuple(
                np.concatenate([old, np.asarray(new, np.float64)])
                for old, new in zip(self._buffer, columns, strict=True)
            )  # type: ignore[assignment]
            self._read_until += CHUNK_SECONDS
        stop = int(np.searchsorted(self._buffer[0], until, side="left"))
        taken = tuple(column[:stop] for column in self._buffer)
        self._buffer = tuple(column[stop:] for column in self._buffer)  # type: ignore[assignment]
        return taken  # type: ignore[return-value]
